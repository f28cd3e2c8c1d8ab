"""What comes from outside: killed processes, the dashboard's buttons, deleted studies, full disks, locked databases."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from caviar.attributes import STUDY_UID
from caviar.spec import read_spec
from caviar.storage.studies import archive_study, create_study

from .processes import Watch, running, running_here, wait_until, write_study
from .test_storm import assert_sound


@pytest.fixture
def home(prepared_home: Path) -> Path:
    return prepared_home


@pytest.fixture
def watch(home: Path) -> Watch:
    return Watch(home)


def curves(watch: Watch) -> list[dict[str, list[float]]]:
    return [trial.user_attrs["curves"] for trial in watch.trials()]


@pytest.mark.slow
def test_a_killed_trial_goes_on_from_its_checkpoint_on_the_same_curve(
    tmp_path: Path, home: Path, watch: Watch, tracking_template: Path
) -> None:
    file = write_study(tmp_path, trials=1, epochs=60, lease_s=1, checkpoint_s=0, trainer="solo")
    with running("run", file, "--home", home, warm=True) as process:
        wait_until(lambda: watch.reported() >= 10)
        (victim,) = watch.holders().values()
        os.kill(victim, signal.SIGSTOP)  # its successor must not find the checkpoint whole
        newest = max((home / "checkpoints").rglob("*.ckpt"))
        newest.write_bytes(newest.read_bytes()[:-100])
        os.kill(victim, signal.SIGKILL)
        (begun,) = watch.runs()
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    assert "is torn" in ended.stderr
    assert f"Worker {victim} died, killed by SIGKILL" in ended.stderr
    assert_sound(watch, budget=1)
    (run,) = watch.runs()
    assert run.info.run_id == begun.info.run_id
    (trial,) = watch.trials()
    assert list(trial.intermediate_values) == list(range(60))

    (tmp_path / "straight").mkdir()
    shutil.copy(tracking_template, tmp_path / "straight")
    with running_here("run", file, "--home", tmp_path / "straight") as process:
        assert process.finish().exit_code == 0
    (continued,), (straight,) = curves(watch), curves(Watch(tmp_path / "straight"))
    assert continued.keys() == straight.keys()
    for metric, curve in straight.items():
        assert continued[metric] == pytest.approx(curve, abs=1e-6)
    assert not list((home / "checkpoints").rglob("*.ckpt"))


@pytest.mark.slow
def test_a_study_deleted_while_it_runs_ends_the_run_with_a_line(tmp_path: Path, home: Path, watch: Watch) -> None:
    file = write_study(tmp_path, trials=2, epochs=10000)
    with running_here("run", file, "--home", home) as process:
        wait_until(lambda: watch.reported() >= 5)
        optuna.delete_study(study_name="toy", storage=watch.url)
        ended = process.finish()
    assert ended.exit_code == 1
    assert "Error: The study was deleted while it ran" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["solo", "fleet"])
def test_a_trial_failed_in_the_dashboard_is_replaced_and_a_locked_database_waited_for(
    tmp_path: Path, home: Path, watch: Watch, trainer: str
) -> None:
    file = write_study(tmp_path, trials=3, epochs=50, lease_s=1, trainer=trainer, dataset="many_blobs")
    with running("run", file, "--home", home, "--storage", f"{watch.url}?timeout=0.3", warm=True) as process:
        wait_until(lambda: watch.reported() >= 1)
        dashboard = RDBStorage(watch.url)
        wait_until(lambda: watch.reported() >= 5)
        held = min(wait_until(watch.holders))  # a worker between two trials holds none
        dashboard.set_trial_state_values(held, TrialState.FAIL)
        with contextlib.closing(sqlite3.connect(home / "optuna.db", timeout=60)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            locked_at = time.monotonic()
            wait_until(lambda: process.ended() or "Trying again" in process.stderr())
            wait_until(lambda: process.ended() or time.monotonic() > locked_at + 1.5)  # longer than the lease
            connection.rollback()
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    assert "ended from outside" in ended.stderr
    assert "database is locked" in ended.stderr
    assert "Trying again" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert_sound(watch, budget=3)
    assert watch.count(TrialState.FAIL) == 1
    assert len(watch.trials()) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk to be filled")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["solo", "fleet"])
def test_a_full_disk_ends_the_run_with_a_line_and_the_next_run_goes_on(
    tmp_path: Path, small_disk: Path, trainer: str
) -> None:
    file = write_study(
        tmp_path, trials=2, epochs=50, lease_s=1, checkpoint_s=0.5, trainer=trainer, dataset="many_blobs"
    )
    home = small_disk / "runs"
    watch = Watch(home)
    with running_here("run", file, "--home", home) as process:
        wait_until(lambda: watch.reported() >= 5)
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
            while True:
                out.write(bytes(4096))
        ended = process.finish()
    assert ended.exit_code == 1, ended.stderr
    assert "full" in ended.stderr
    assert "What is done is kept" in ended.stderr
    assert "Traceback" not in ended.stderr
    filler.unlink()
    with running_here("run", file, "--home", home) as process:
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    assert_sound(watch, budget=2)


@pytest.mark.slow
def test_a_run_whose_study_gave_its_name_away_ends_and_leaves_the_other_alone(
    tmp_path: Path, home: Path, watch: Watch
) -> None:
    file = write_study(tmp_path, trials=2, epochs=10000, trainer="solo")
    with running_here("run", file, "--home", home) as process:
        wait_until(lambda: watch.reported() >= 5)
        (victim,) = watch.holders().values()
        archive_study(watch.storage, "toy")
        other = create_study(watch.storage, read_spec(file), attributes={STUDY_UID: "another"})
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        ended = process.finish()
    assert ended.exit_code == 1
    assert "Error: The study 'toy' that this command was begun with was archived" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert other.trials == []


@pytest.mark.slow
def test_workers_of_a_killed_run_hand_back_and_end(tmp_path: Path, home: Path, watch: Watch) -> None:
    file = write_study(tmp_path, trials=2, workers=2, epochs=10000)
    with running("run", file, "--home", home, warm=True) as process:
        wait_until(lambda: len(watch.holders()) == 2)
        wait_until(lambda: all(trial.intermediate_values for trial in watch.trials()))  # before, there is no checkpoint
        workers = list(watch.holders().values())
        process.send(signal.SIGKILL)
        process.finish()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert watch.count(TrialState.WAITING) == 2
    assert watch.deaths() == 0
    for trial in watch.trials():
        assert list((home / "checkpoints").glob(f"*/{trial.number}/*.ckpt"))
