"""Runs that the service starts: processes of their own, which survive it and are found again when it restarts.

Each has three files below ``<home>/service/runs``, named by its id: the study file, a log, and a record. Its process
carries the id in its environment, so that a process id that was given away again is never taken for it.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from filelock import FileLock

from ..atomic_write import write_whole
from ..spec import parse_spec
from ..storage.home import Home, prepare_home
from ..storage.places import address_of
from ..study_file import parse_table
from .answers import Conflict, NotThere
from .mounting import without_mlflow

#: The variable in a run's environment that names it.
MARK: Final = "CAVIAR_SERVICE_RUN"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}~\d{8}T\d{6}~[0-9a-f]{6}")
_ERROR: Final = re.compile(r"^Error: (.+)", re.MULTILINE)
_LOG_TAIL_BYTES: Final = 65_536
_KEPT: Final = 200  # records; older ones of runs that have ended are removed


class RunRefusedError(Conflict):
    """A run cannot start now: its study is running already, or too many runs are."""


class UnknownRunError(NotThere):
    """There is no run of this id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run that the service started.

    Attributes:
        id: Names it.
        study: The study that it works on.
        verb: ``run`` or ``champion``.
        began_at: UTC, ISO 8601.
        pid: Its process; None if the service died while it started it.
        ended_at: UTC, ISO 8601: when it was seen to have ended. None while it runs.
        exit_code: What it ended with; None while it runs, and where it ended while the service was down.
        error: What its log ended with, if that was an error.
        stop_asked_at: UTC, ISO 8601: when it was first asked to end; None if nobody did.
    """

    id: str
    study: str
    verb: str
    began_at: str
    pid: int | None = None
    ended_at: str | None = None
    exit_code: int | None = None
    error: str | None = None
    stop_asked_at: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process was there when this was read."""
        return self.ended_at is None


class Runs:
    """The runs of a home.

    Args:
        home: Where they run.
        most: How many may run at once.

    Example:
        >>> Runs(home).start(Path("studies/digits.toml").read_text())  # doctest: +SKIP
    """

    def __init__(self, home: Home, *, most: int = 4) -> None:
        self._home = home
        self._most = most
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # only a parent learns an exit code
        self._lock = FileLock(self.directory / ".lock")  # for whoever writes a record, in this process or another one

    @property
    def directory(self) -> Path:
        """Where records and logs stand."""
        return self._home.path / "service" / "runs"

    def start(self, text: str, *, settings: Sequence[str] = (), fresh: bool = False) -> RunInfo:
        """Start ``caviar run`` on a study file.

        Args:
            text: The study file; whoever got it from the network has checked what it names.
            settings: Values that replace the file's, as ``--set`` takes them.
            fresh: Whether a study of this name is archived first.

        Raises:
            SpecError: If the file is not valid.
            RunRefusedError: If the study is running already, or too many runs are.
        """
        study = parse_spec(parse_table(text)).name
        options = [argument for setting in settings for argument in ("--set", setting)]
        return self._begin(study, "run", [*options, *(["--fresh"] if fresh else [])], text=text)

    def start_champion(self, study: str, *, top: int = 5, seeds: int = 5, fresh: bool = False) -> RunInfo:
        """Start ``caviar champion`` on a study.

        Raises:
            RunRefusedError: If the study is running already, or too many runs are.
        """
        options = ["--top", str(top), "--seeds", str(seeds), *(["--fresh"] if fresh else [])]
        return self._begin(study, "champion", [study, *options], text=None)

    def list(self, *, study: str | None = None) -> list[RunInfo]:
        """Return all runs, or those of a study, the latest first."""
        found = (self._read(path) for path in self.directory.glob("*.json"))
        runs = [self._looked_at(run) for run in found if run is not None and study in (None, run.study)]
        return sorted(runs, key=lambda run: (run.began_at, run.id), reverse=True)

    def get(self, run_id: str) -> RunInfo:
        """Return a run.

        Raises:
            UnknownRunError: If there is none of this id.
        """
        run = self._read(self.directory / f"{run_id}.json") if _ID.fullmatch(run_id) else None
        if run is None:
            raise UnknownRunError(f"There is no run {run_id[:200]!r}.")
        return self._looked_at(run)

    def stop(self, run_id: str) -> RunInfo:
        """Ask a run to end after the current epoch; its trials go on when the study is run again.

        Raises:
            UnknownRunError: If there is none of this id.
        """
        run = self.get(run_id)
        if run.is_running:
            with self._lock:
                run = self._read(self._record(run)) or run
                process = _find_process(run) if run.is_running else None
                if process is not None:
                    self._write(dataclasses.replace(run, stop_asked_at=run.stop_asked_at or _now()))
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.terminate()
        return self.get(run_id)

    def study_file(self, run_id: str) -> str | None:
        """Return the study file that a run was started with; None for a champion's run."""
        path = self.directory / f"{self.get(run_id).id}.toml"
        return path.read_text("utf-8") if path.exists() else None

    def log(self, run_id: str) -> str:
        """Return the end of what a run has printed, of a progress bar only its last state."""
        return _log_tail(self.directory / f"{self.get(run_id).id}.log")

    def _begin(self, study: str, verb: str, arguments: Sequence[str], *, text: str | None) -> RunInfo:
        prepare_home(self._home)
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock:
            runs = self.list()
            running = [run for run in runs if run.is_running]
            if any(run.study == study for run in running):
                raise RunRefusedError(f"The study {study!r} is running already. Wait for its run to end, or stop it.")
            if len(running) >= self._most:
                raise RunRefusedError(f"{len(running)} runs are running, which is the limit. Wait for one to end.")
            self._forget([run for run in runs if not run.is_running][_KEPT:])
            now = datetime.datetime.now(datetime.UTC)
            run_id = f"{study}~{now:%Y%m%dT%H%M%S}~{secrets.token_hex(3)}"
            run = RunInfo(id=run_id, study=study, verb=verb, began_at=now.isoformat(timespec="milliseconds"))
            if text is not None:
                file = self.directory / f"{run_id}.toml"
                write_whole(file, text)
                arguments = [str(file), *arguments]
            self._write(run)  # first, so that one whose service dies now is found by its mark
            self._children[run.id] = process = self._spawn(run, arguments)
            run = dataclasses.replace(run, pid=process.pid)
            self._write(run)
        return run

    def _spawn(self, run: RunInfo, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        environment = {**without_mlflow(os.environ), MARK: run.id, "CAVIAR_HOME": str(self._home.path)}
        # Addresses may hold passwords, which a command line would show to every user of the machine.
        environment |= {"CAVIAR_STORAGE": self._home.storage, "MLFLOW_TRACKING_URI": self._home.tracking_uri}
        environment["CAVIAR_FILES"] = address_of(self._home.files)
        with (self.directory / f"{run.id}.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603  (a verb of ours, without a shell)
                [sys.executable, "-m", "caviar", run.verb, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home.path,
                env=environment,
                start_new_session=True,  # what ends the service, such as Ctrl-C, does not reach it
            )

    def _looked_at(self, run: RunInfo) -> RunInfo:
        """Return a run as it is now; an end that was not known yet is written down."""
        if not run.is_running or self._is_alive(run):
            return run
        with self._lock:  # and once more: somebody else may be starting it, or may have noted its end
            now = self._read(self._record(run))
            if now is None or not now.is_running or self._is_alive(now):
                return now or run
            child = self._children.pop(run.id, None)
            found = _ERROR.findall(_log_tail(self.directory / f"{run.id}.log"))
            ended = dataclasses.replace(
                now,
                ended_at=_now(),
                exit_code=None if child is None else child.returncode,
                error=found[-1] if found else None,
            )
            self._write(ended)
        return ended

    def _is_alive(self, run: RunInfo) -> bool:
        child = self._children.get(run.id)
        return _find_process(run) is not None if child is None else child.poll() is None

    def _read(self, path: Path) -> RunInfo | None:
        try:
            table: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
            return RunInfo(**table)
        except (OSError, ValueError, TypeError):  # removed meanwhile, or no record of ours
            return None

    def _record(self, run: RunInfo) -> Path:
        return self.directory / f"{run.id}.json"

    def _write(self, run: RunInfo) -> None:
        write_whole(self._record(run), json.dumps(dataclasses.asdict(run), indent=1))

    def _forget(self, runs: Sequence[RunInfo]) -> None:
        for run in runs:
            for suffix in ("json", "toml", "log"):
                (self.directory / f"{run.id}.{suffix}").unlink(missing_ok=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _find_process(run: RunInfo) -> psutil.Process | None:
    """Return a run's process, or None if it has ended. Its workers carry its mark too, but none is its parent."""
    if run.pid is not None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(run.pid)
            return process if _mark_of(process) == run.id else None
        return None
    marked = {process.pid: process for process in psutil.process_iter() if _mark_of(process) == run.id}
    return next((process for process in marked.values() if _parent_of(process) not in marked), None)


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _parent_of(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.Error:
        return None


def _log_tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(_shown_lines(text))


def _shown_lines(text: str) -> Iterator[str]:
    """Yield lines as a terminal would show them: what comes after a carriage return stands over what came before."""
    for line in text.split("\n"):
        parts = [part for part in line.split("\r") if part.strip()]
        if parts:
            yield parts[-1]
