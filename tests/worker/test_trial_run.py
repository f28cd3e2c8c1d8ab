import math
from collections.abc import Callable

import optuna
import pytest

from caviar.metrics import direction_of
from caviar.search.seeds import trial_seed
from caviar.worker.trial_run import Decision, TrialRun, decide, worst_case

NAN = float("nan")


class AlwaysPrune(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return True


def begin(
    metric: str = "val_accuracy",
    *,
    pruner: optuna.pruners.BasePruner | None = None,
    reported: frozenset[int] = frozenset(),
) -> tuple[TrialRun, Callable[[], optuna.trial.FrozenTrial]]:
    study = optuna.create_study(direction=direction_of(metric).optuna, pruner=pruner or optuna.pruners.NopPruner())
    return TrialRun(study.ask(), metric=metric, n_classes=10, reported=reported), lambda: study.trials[0]


def metrics(val_accuracy: float, val_loss: float) -> dict[str, float]:
    return {"accuracy": 0.5, "loss": 1.0, "val_accuracy": val_accuracy, "val_loss": val_loss}


@pytest.mark.parametrize(("metric", "best_epoch"), [("val_accuracy", 1), ("val_loss", 2)])
def test_every_epoch_is_reported_and_the_best_one_kept(metric: str, best_epoch: int) -> None:
    run, frozen = begin(metric)
    for epoch in (metrics(0.5, 1.0), metrics(0.9, 0.8), metrics(0.8, 0.6)):
        assert run.record(epoch)
    assert run.best_epoch == best_epoch
    assert run.best_value == run.curves[metric][best_epoch]
    assert frozen().intermediate_values == dict(enumerate(run.curves[metric]))
    run.store()
    assert frozen().user_attrs["curves"]["loss"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("metric", "worst"), [("val_accuracy", 0.0), ("val_loss", 10 * math.log(10))])
def test_a_diverged_trial_reports_the_worst_case_and_ends(metric: str, worst: float) -> None:
    run, frozen = begin(metric)
    assert run.record(metrics(0.5, 1.0))
    assert not run.record({**metrics(0.1, NAN), "loss": float("inf")})
    assert frozen().intermediate_values[1] == worst == worst_case(metric, n_classes=10)
    run.store()
    assert frozen().user_attrs["diverged"] is True
    assert all(math.isfinite(value) for curve in run.curves.values() for value in curve)
    assert run.best_epoch == 0


def test_the_pruner_ends_a_trial() -> None:
    run, _ = begin(pruner=AlwaysPrune())
    assert not run.record(metrics(0.5, 1.0))
    assert not run.diverged


def test_steps_reported_before_are_not_reported_again_and_only_the_last_is_judged() -> None:
    run, frozen = begin(pruner=AlwaysPrune(), reported=frozenset({0, 1, 2}))
    assert run.record(metrics(0.5, 1.0))
    assert run.record(metrics(0.6, 1.0))
    assert not run.record(metrics(0.7, 1.0))  # the run before may have died between the report and the judgement
    assert frozen().intermediate_values == {}
    assert not run.record(metrics(0.8, 1.0))
    assert frozen().intermediate_values == {3: 0.8}


def test_a_restored_run_reports_what_its_worker_died_before_reporting_and_nothing_twice() -> None:
    run, frozen = begin(reported=frozenset({0}))
    curves = {name: [value, value] for name, value in metrics(0.5, 1.0).items()}
    run.restore({"curves": curves, "train_seconds": 1.0})
    assert frozen().intermediate_values == {1: 0.5}
    run.begin_again()
    for _ in range(3):
        assert run.record(metrics(0.6, 1.0))
    assert frozen().intermediate_values == {1: 0.5, 2: 0.6}


def test_seeds_differ_by_study_trial_and_purpose_and_stay_the_same() -> None:
    seeds = {trial_seed(seed, number, purpose) for seed in (0, 1) for number in range(50) for purpose in ("a", "b")}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert trial_seed(0, 0, "training") == trial_seed(0, 0, "training")


@pytest.mark.parametrize(
    ("epochs", "pruned", "parked", "expected"),
    [
        (1, False, False, Decision.GO_ON),
        (1, False, True, Decision.PARK),
        (1, True, False, Decision.PRUNE),
        (1, True, True, Decision.PRUNE),
        (4, False, False, Decision.COMPLETE),
        (4, False, True, Decision.COMPLETE),
        (4, True, False, Decision.PRUNE),
        (5, False, False, Decision.COMPLETE),
    ],
)
def test_each_trial_gets_one_decision_after_an_epoch(
    epochs: int, pruned: bool, parked: bool, expected: Decision
) -> None:
    assert decide(epochs=epochs, max_epochs=4, pruned=pruned, parked=parked) is expected
