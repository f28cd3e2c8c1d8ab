import pytest

from caviar.insight.cost import measure_cost, panda_or_caviar
from caviar.insight.rows import drawn_parameters, trial_rows
from caviar.insight.words import duration

from .synthetic import make_spec, make_study


def test_pruning_saves_the_epochs_not_trained_without_the_start() -> None:
    spec = make_spec()
    rows = trial_rows(
        make_study(spec, n_complete=4, n_pruned=6).get_trials(), drawn_parameters(spec.space), metric="val_accuracy"
    )
    cost = measure_cost(rows, epochs=10)
    assert (cost.epochs_trained, cost.epochs_saved) == (4 * 10 + 6 * 3, 6 * 7)
    assert cost.share_saved == pytest.approx(42 / 100)
    assert cost.start_up_s == pytest.approx(1.0)  # the trials take 1 s and 0.1 s an epoch
    assert cost.seconds_saved == pytest.approx(6 * 7 * 0.1)
    assert cost.full_trial_s == pytest.approx(2.0)
    assert (cost.busy_s, cost.lanes) == (2.0, 10.0)  # all ten at the same two seconds


def test_a_study_without_trials_costs_nothing() -> None:
    cost = measure_cost([], epochs=10)
    assert (cost.epochs_trained, cost.seconds_saved, cost.full_trial_s, cost.lanes) == (0, 0, None, None)


def test_trials_of_one_length_count_all_their_time_to_their_epochs() -> None:
    spec = make_spec()
    study = make_study(spec, n_complete=0, n_pruned=3)
    cost = measure_cost(trial_rows(study.get_trials(), drawn_parameters(spec.space), metric="val_accuracy"), epochs=10)
    assert cost.start_up_s == 0
    assert cost.seconds_saved == pytest.approx(3 * 7 * 1.3 / 3)


def test_what_a_zoom_copied_cost_nothing_here() -> None:
    spec = make_spec()
    study = make_study(spec, n_complete=2, n_pruned=0)
    for trial in (trials := study.get_trials()):
        trial.user_attrs["parent_trial"] = trial.number
    cost = measure_cost(trial_rows(trials, drawn_parameters(spec.space), metric="val_accuracy"), epochs=10)
    assert (cost.epochs_trained, cost.seconds_trained) == (0, 0.0)


@pytest.mark.parametrize(
    ("trial_s", "trials", "approach", "words"),
    [
        (2.0, 100, "caviar", "Train many in parallel"),
        (1000.0, 100, "caviar", "lower the budget"),
        (20000.0, 10, "panda", "babysit one model"),
    ],
)
def test_panda_or_caviar_is_a_matter_of_time(trial_s: float, trials: int, approach: str, words: str) -> None:
    said, reason = panda_or_caviar(trial_s, trials, cores=2)
    assert said == approach
    assert words in reason


def test_durations_are_said_as_a_person_would() -> None:
    assert [duration(seconds) for seconds in (0.44, 48, 720, 11000)] == ["0.4 s", "48 s", "12 min", "3.1 h"]
