"""Never lose a trial, never run one too many: with real processes, some of them killed."""

from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from .processes import Watch, kill_holders, running, running_here, write_study


def assert_sound(watch: Watch, *, budget: int) -> None:
    """Everything that must hold of a study that has ended, whatever happened to its workers."""
    assert watch.finished() == budget
    assert watch.count(TrialState.RUNNING, TrialState.WAITING) == 0
    numbers = [trial.number for trial in watch.trials()]
    assert numbers == list(range(len(numbers)))
    assert watch.runs_by_trial() == Counter(numbers)
    assert watch.integrity() == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(("trainer", "budget", "epochs", "deaths"), [("fleet", 40, 100, 6), ("solo", 20, 3, 4)])
def test_a_storm_of_kills_leaves_exactly_the_budget(
    tmp_path: Path, prepared_home: Path, trainer: str, budget: int, epochs: int, deaths: int
) -> None:
    home = prepared_home
    # A sampler that learns has few trials in hand, so that there is progress between two kills.
    file = write_study(tmp_path, trials=budget, workers=4, epochs=epochs, lease_s=2, sampler="tpe", trainer=trainer)
    watch = Watch(home)
    with running("run", file, "--home", home, warm=True) as process:
        killed = kill_holders(watch, process, every=4)
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(killed) >= deaths
    assert watch.deaths() >= deaths
    assert_sound(watch, budget=budget)
    assert all(
        len(trial.intermediate_values) == epochs for trial in watch.trials() if trial.state == TrialState.COMPLETE
    )
    assert not list((home / "checkpoints").rglob("*.ckpt"))


@pytest.mark.slow
def test_six_workers_and_a_second_person_run_a_fresh_study_once_and_a_larger_budget_adds_the_rest(
    tmp_path: Path,
) -> None:
    file, home = write_study(tmp_path, trials=40, workers=6, epochs=1, lease_s=5), tmp_path / "runs"
    watch = Watch(home)
    with (
        running("run", file, "--home", home, warm=True) as one,
        running("run", file, "--home", home, "--workers", "1", warm=True) as other,
    ):
        for ended in (one.finish(), other.finish()):
            assert ended.exit_code == 0, ended.stderr
            assert "Traceback" not in ended.stderr
    assert optuna.get_all_study_names(watch.url) == ["toy"]
    assert_sound(watch, budget=40)
    assert len(watch.trials()) == 40
    with running_here("run", file, "--home", home) as again:
        assert "all 40 trials are done, so nothing was run" in again.finish().stderr
    with running_here("run", file, "--home", home, "--trials", "60", "--workers", "2") as more:
        assert more.finish().exit_code == 0
    assert_sound(watch, budget=60)
    assert len(watch.trials()) == 60
