from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from caviar.champion.candidates import pick_candidates

SPACE: dict[str, Any] = {
    "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
    "batch_norm": CategoricalDistribution(["none", "before_activation"]),
}


def trials(*rows: tuple[float, float, str]) -> list[FrozenTrial]:
    made = []
    for number, (value, rate, placement) in enumerate(rows):
        params = {"learning_rate": rate, "batch_norm": placement}
        trial = create_trial(value=value, params=params, distributions=SPACE)
        trial.number = number
        made.append(trial)
    return made


def test_near_duplicates_are_told_apart_on_the_parameters_scale() -> None:
    given = trials((0.9, 0.1, "none"), (0.89, 0.105, "none"), (0.88, 0.1, "before_activation"), (0.8, 0.5, "none"))
    assert [trial.number for trial in pick_candidates(given, SPACE, n=3, maximize=True)] == [0, 2, 3]
    assert [trial.number for trial in pick_candidates(given, SPACE, n=2, maximize=False)] == [3, 2]


def test_of_equal_ones_the_lowest_number_comes_first() -> None:
    given = trials((0.9, 0.1, "none"), (0.9, 0.9, "none"))
    assert [trial.number for trial in pick_candidates(given, SPACE, n=5, maximize=True)] == [0, 1]
