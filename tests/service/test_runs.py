"""Runs that the service starts: detached, one a study, and found again."""

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from caviar.errors import SpecError
from caviar.service.runs import MARK, RunInfo, RunRefusedError, Runs, UnknownRunError
from caviar.storage.home import Home, locate_home

TEXT = 'name = "toy"\n[data]\ndataset = "digits"\n'
#: What stands for `python -m caviar`: waits for SIGTERM, then says how it ended.
PROGRAM = """#!{python}
import signal, sys, os
with open({seen!r}, "w") as file:
    file.write("\\n".join([*sys.argv[1:], os.environ["CAVIAR_STORAGE"], str(os.getsid(0) == os.getpid())]))
def end(*_):
    print("toy: 1/4\\rtoy: 2/4", file=sys.stderr)
    print("Error: it was stopped", file=sys.stderr)
    os._exit(3)
signal.signal(signal.SIGTERM, end)
os.rename({seen!r}, {seen!r} + ".done")
while True:
    signal.pause()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return locate_home(tmp_path / "home")


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace Python by a program that only waits; return where it writes its arguments once it is ready."""
    program, seen = tmp_path / "python", tmp_path / "seen"
    program.write_text(PROGRAM.format(python=sys.executable, seen=str(seen)))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return tmp_path / "seen.done"


@pytest.fixture
def runs(home: Home) -> Iterator[Runs]:
    runs = Runs(home)
    yield runs
    for child in runs._children.values():
        child.kill()
        child.wait()


def wait_for_end(runs: Runs, run: RunInfo) -> RunInfo:
    deadline = time.monotonic() + 20
    while (now := runs.get(run.id)).is_running:
        assert time.monotonic() < deadline, "it did not end"
        time.sleep(0.02)
    return now


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_a_run_is_a_session_of_its_own_and_gets_addresses_by_its_environment(
    runs: Runs, home: Home, seen: Path
) -> None:
    run = runs.start(TEXT, settings=["search.trials=3"], fresh=True)
    wait_for(seen)
    *arguments, storage, leads = seen.read_text().splitlines()
    file = runs.directory / f"{run.id}.toml"
    assert arguments == ["-m", "caviar", "run", str(file), "--set", "search.trials=3", "--fresh"]
    assert (storage, leads) == (home.storage, "True")
    assert file.read_text() == TEXT == runs.study_file(run.id)
    assert (run.study, run.verb, run.is_running) == ("toy", "run", True)


def test_a_run_is_stopped_and_its_end_is_kept(runs: Runs, home: Home, seen: Path) -> None:
    run = runs.start(TEXT)
    wait_for(seen)
    runs.stop(run.id)
    ended = wait_for_end(runs, run)
    assert (ended.exit_code, ended.error) == (3, "it was stopped")
    assert ended.stop_asked_at is not None
    assert ended.ended_at is not None
    assert run.began_at <= ended.stop_asked_at <= ended.ended_at
    assert runs.log(run.id) == "toy: 2/4\nError: it was stopped"
    assert Runs(home).list() == [ended], "another service reads the same"


def test_there_are_never_two_runs_of_one_study(runs: Runs, home: Home, seen: Path) -> None:
    run = runs.start(TEXT)
    with pytest.raises(RunRefusedError, match="'toy' is running already"):
        Runs(home).start(TEXT)
    with pytest.raises(RunRefusedError, match="running already"):
        runs.start_champion("toy")
    wait_for(seen)
    runs.stop(run.id)
    wait_for_end(runs, run)
    again = runs.start(TEXT)
    assert [one.id for one in runs.list(study="toy")] == [again.id, run.id]


def test_no_more_runs_start_than_may(home: Home, seen: Path, runs: Runs) -> None:
    runs.start(TEXT)
    with pytest.raises(RunRefusedError, match="1 runs are running"):
        Runs(home, most=1).start(TEXT.replace("toy", "other"))


def test_a_restarted_service_finds_a_run_and_stops_it(runs: Runs, home: Home, seen: Path) -> None:
    run = runs.start(TEXT)
    wait_for(seen)
    restarted = Runs(home)
    (found,) = restarted.list()
    assert found == run
    restarted.stop(run.id)
    ended = wait_for_end(restarted, run)  # the exit code goes to its parent, which is still there in this test
    assert (ended.exit_code, ended.error) == (None, "it was stopped")


def test_a_run_whose_service_died_before_it_noted_the_process_is_found(runs: Runs, home: Home, seen: Path) -> None:
    run = runs.start(TEXT)
    wait_for(seen)
    record = runs.directory / f"{run.id}.json"
    record.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(run, pid=None))))
    restarted = Runs(home)
    assert restarted.get(run.id).is_running
    restarted.stop(run.id)
    wait_for_end(restarted, run)


def test_whoever_looks_at_a_run_that_is_just_starting_does_not_take_it_for_ended(
    runs: Runs, home: Home, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page looks while the record has no process yet, and is slower than the start."""
    spawn, looked = Runs._spawn, threading.Event()
    other = Runs(home)

    def look() -> list[RunInfo]:
        found = other.list()
        looked.set()
        return found

    def start_slowly(self: Runs, run: RunInfo, arguments: Sequence[str]) -> Any:
        page = pool.submit(look)
        looked.wait(0.5)
        pages.append(page)
        return spawn(self, run, arguments)

    pages: list[Any] = []
    monkeypatch.setattr(Runs, "_spawn", start_slowly)
    with ThreadPoolExecutor(1) as pool:
        run = runs.start(TEXT)
        assert pages[0].result() == [run]
    assert runs.list() == [run]


def test_an_end_that_was_noted_is_kept(runs: Runs, seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pages see a run end at once, of which one learns the exit code."""
    run = runs.start(TEXT)
    wait_for(seen)
    runs.stop(run.id)
    ended = wait_for_end(runs, run)
    assert runs._looked_at(run) == ended
    assert ended.exit_code == 3


def test_a_process_id_that_was_given_away_is_not_taken_for_a_run(runs: Runs, seen: Path) -> None:
    run = runs.start(TEXT)
    assert run.pid is not None
    psutil.Process(run.pid).kill()
    wait_for_end(runs, run)
    record = runs.directory / f"{run.id}.json"
    record.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(run, pid=os.getpid()))))
    assert MARK not in os.environ
    assert not runs.get(run.id).is_running


def test_a_champions_run_names_its_study(runs: Runs, seen: Path) -> None:
    run = runs.start_champion("digits", top=3, seeds=4)
    wait_for(seen)
    assert seen.read_text().splitlines()[2:-2] == ["champion", "digits", "--top", "3", "--seeds", "4"]
    assert runs.study_file(run.id) is None


@pytest.mark.parametrize("run_id", ["", "nothing", "../../etc/passwd", "toy~20261127T000000~abcdef", "a/b", "\0"])
def test_an_unknown_run_is_refused(runs: Runs, run_id: str) -> None:
    with pytest.raises(UnknownRunError, match="There is no run"):
        runs.get(run_id)


@pytest.mark.parametrize("text", ["name = ", 'name = "toy"', 'name = "../toy"\n[data]\ndataset = "digits"\n'])
def test_a_wrong_study_file_starts_nothing(runs: Runs, text: str) -> None:
    with pytest.raises(SpecError):
        runs.start(text)
    assert runs.list() == []


def test_a_broken_record_is_passed_over(runs: Runs) -> None:
    runs.directory.mkdir(parents=True)
    (runs.directory / "toy~20261127T000000~abcdef.json").write_text("{")
    assert runs.list() == []
