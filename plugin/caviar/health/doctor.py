"""Looking a home over: storage, tracking, disk and studies; what is wrong, what to do, and mending what is safe."""

import dataclasses
import datetime
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import optuna
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial

from ..attributes import ENVIRONMENT, STUDY_UID
from ..errors import CaviarError, StorageError
from ..record.environment import environment_versions
from ..record.inspection import missing_numbers, mlflow_revisions, read_run_statuses
from ..record.tracking import masked_uri
from ..spec import StudySpec
from ..storage.checkpoints import CheckpointStore
from ..storage.database import masked_url, new_owner, open_storage
from ..storage.filesystems import can_be_written, nearest_existing, network_file_system, room_at
from ..storage.handing_back import hand_back_expired
from ..storage.home import Home, shared_file, sqlite_path
from ..storage.inspection import SqliteFacts, read_schema_versions, read_sqlite_facts, reading_storage
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec, study_name
from ..storage.overview import RunningTrial, read_running
from ..storage.studies import stored_spec
from ..worker.mirroring import sync_trials, trials_with_runs
from ..worker.opening import open_checkpoints, open_mirror
from . import diagnosis, study_findings
from .diagnosis import Finding
from .mending import switch_to_wal, upgrade_optuna_schema

#: Seconds within which a worker records a trial in MLflow after it has ended it. Mostly it takes some 50 ms, but its
#: first record imports mlflow and opens the store: over 5 s where several workers load a small machine.
_RECORDING_S = 15.0

_Mend = Callable[[], object]
_ENVIRONMENTS_FAULTS = (CaviarError, OSError, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, StorageInternalError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _StudyState:
    """What was read of a study, at one time, before anything is mended; its storage is closed since."""

    name: str
    uid: str
    study_id: int
    spec: StudySpec
    environment: Mapping[str, str]
    checkpoints: CheckpointStore
    checkpointed: Sequence[int]
    running: Sequence[RunningTrial]
    trials: Sequence[FrozenTrial]


def examine(
    home: Home,
    study: str | None = None,
    *,
    fix: bool = False,
    mounts: str | None = None,
    min_free_bytes: int = diagnosis.MIN_FREE_BYTES,
) -> list[Finding]:
    """Look a home over and return what is not as it should be, the ground first.

    Without ``fix`` nothing is written, and no file that was not there is left. What is broken becomes a finding.

    Args:
        home: The home, whose addresses may be unsound (`address_home`).
        study: A study's name or file to look at alone; by default all are looked at.
        fix: Whether what is safe to mend is mended.
        mounts: What ``/proc/mounts`` holds; by default read there.
        min_free_bytes: Below this a disk counts as nearly full.

    Returns:
        The findings; none for a sound home.

    Raises:
        SpecError: If ``study`` is a file that cannot be read.
    """
    examination = _Examination(home, None if study is None else study_name(study), fix=fix)
    examination.look_at_disks(mounts=mounts, min_free_bytes=min_free_bytes)
    if examination.look_at_storage(mounts=mounts):
        tracked = examination.look_at_tracking(mounts=mounts)
        for state in examination.read_studies():
            examination.look_at_study(state, tracked=tracked)
    else:
        examination.look_at_tracking(mounts=mounts)
    return examination.findings


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Tell whether no problem is left."""
    return all(finding.fixed or finding.severity == "note" for finding in findings)


def doctor_report(findings: Sequence[Finding]) -> dict[str, object]:
    """Return the findings ready for JSON: ``healthy``, and ``findings`` with every attribute of each."""
    return {"healthy": is_healthy(findings), "findings": [dataclasses.asdict(finding) for finding in findings]}


def doctor_lines(findings: Sequence[Finding], home: Home) -> list[str]:
    """Return the findings in words, and a last line that sums up."""
    lines = []
    for finding in findings:
        lines.append(f"{'fixed' if finding.fixed else finding.severity}: {finding.subject}: {finding.message}")
        if not finding.fixed:
            lines.append(f"  {finding.remedy}")
    problems = [finding for finding in findings if finding.severity == "problem" and not finding.fixed]
    if problems:
        fixable = sum(finding.fixable for finding in problems)
        hint = f"; --fix mends {fixable} of them" if fixable else ""
        return [*lines, f"{len(problems)} problem{'' if len(problems) == 1 else 's'} left{hint}."]
    return [*lines, f"All is well with {masked_url(home.storage)} and {masked_uri(home.tracking_uri)}."]


class _Examination:
    """One look at a home; what is found is mended at once, where that is asked for and safe, and looked at no more."""

    def __init__(self, home: Home, study: str | None, *, fix: bool) -> None:
        self.findings: list[Finding] = []
        self._home = home
        self._study = study
        self._fix = fix

    def look_at_disks(self, *, mounts: str | None, min_free_bytes: int) -> None:
        """Look at the home's directory, and at every file system that something is written to."""
        home = self._home
        if not home.path.exists():
            self._add(diagnosis.missing_home(home.path))
        writable = can_be_written(home.path) and nearest_existing(home.path).is_dir()
        self._add(diagnosis.judge_access(home.path, what="The home directory", writable=writable))
        files = [path for path in (sqlite_path(home.storage), sqlite_path(home.tracking_uri)) if path is not None]
        seen: set[int] = set()
        for place in (home.path, *(path.parent for path in files)):
            try:
                room = room_at(place)
            except OSError as error:
                reason = f"Its free space cannot be told: {error.strerror}."
                self._add(Finding(subject=str(place), severity="problem", message=reason, remedy="Look at the disk."))
                continue
            if room.device not in seen:
                seen.add(room.device)
                self._add(diagnosis.judge_room(place, room, min_free_bytes=min_free_bytes))
        for path in dict.fromkeys(files):
            self._add(diagnosis.judge_network(path, network_file_system(path, mounts=mounts)))

    def look_at_storage(self, *, mounts: str | None) -> bool:
        """Look at Optuna's database, and tell whether studies can be read from it."""
        home = self._home
        shared = shared_file(home)
        if shared is not None:
            self._add(diagnosis.judge_shared(shared))
        path = sqlite_path(home.storage)
        if path is not None:
            facts = self._look_at_file(path, what="The study database")
            if facts is None or not facts.tables:
                return False
            alien = diagnosis.judge_optuna_tables(path, facts)
            if alien is not None and shared is None:
                self._add(alien)
            if alien is not None and not {"studies", "trials", "version_info"} <= facts.tables:
                return False
            self._look_at_journal(path, facts, mounts=mounts)
        subject = masked_url(home.storage)
        try:
            versions = read_schema_versions(home.storage)
        except StorageError as error:
            self._add(diagnosis.unreachable_storage(subject, str(error)))
            return False
        if versions is None:
            self._add(diagnosis.no_database(subject, study=self._study))
            return False
        outdated = diagnosis.judge_optuna_schema(subject, versions)
        upgrade = (lambda: upgrade_optuna_schema(home.storage, label=versions.current)) if versions.known else None
        return self._add(outdated, upgrade)

    def look_at_tracking(self, *, mounts: str | None) -> bool:
        """Look at MLflow's store, and tell whether it can be read."""
        home, subject = self._home, masked_uri(self._home.tracking_uri)
        path = sqlite_path(home.tracking_uri)
        if path is None:
            try:
                read_run_statuses(home.tracking_uri, study_name="caviar doctor", study_uid="")
            except StorageError as error:
                self._add(
                    Finding(
                        subject=subject,
                        severity="problem",
                        message=f"MLflow cannot be reached: {error}.",
                        remedy="Trials go on without it. Start it, or correct --tracking-uri; then caviar sync.",
                    )
                )
                return False
            return True
        if shared_file(home) is not None:
            return False
        if not path.exists() or path.stat().st_size == 0:
            return True  # no trials are shown there, which is said where there are some
        facts = self._look_at_file(path, what="MLflow's database")
        if facts is None:
            return False
        alien = diagnosis.judge_mlflow_tables(path, facts)
        if alien is not None:
            return self._add(alien)
        self._look_at_journal(path, facts, mounts=mounts)
        revisions = mlflow_revisions()
        if revisions is None:
            return True
        head, known = revisions
        return self._add(
            diagnosis.judge_mlflow_schema(
                str(path), facts.revision, head=head, known=known, tracking_uri=home.tracking_uri
            )
        )

    def read_studies(self) -> list[_StudyState]:
        """Read the studies that were made from study files, and say what cannot be read."""
        states: list[_StudyState] = []
        try:
            with reading_storage(self._home.storage) as storage:
                names = optuna.get_all_study_names(storage)
                if self._study is not None and self._study not in names:
                    self._add(study_findings.unknown_study(self._study, names))
                for name in names:
                    if self._study in (None, name):
                        state = self._read_study(storage, name)
                        states += [state] if state is not None else []
        except StorageError as error:
            self._add(diagnosis.unreachable_storage(masked_url(self._home.storage), str(error)))
        return states

    def look_at_study(self, state: _StudyState, *, tracked: bool) -> None:
        """Look at a study's running trials, versions, checkpoints and, if MLflow can be read, at what it shows."""
        search = state.spec.search
        for finding in study_findings.judge_running(state.name, state.running, lease_s=search.lease_s):
            self._add(finding, lambda: self._hand_back(state))
        self._add(study_findings.judge_versions(state.name, state.environment, environment_versions()))
        settled = study_findings.settled_trials(
            state.trials,
            state.running,
            lease_s=search.lease_s,
            now=datetime.datetime.now(),  # noqa: DTZ005  (Optuna's times)
        )
        self._look_at_checkpoints(state, settled)
        if tracked:
            self._look_for_missing(state, settled)

    def _look_at_file(self, path: Path, *, what: str) -> SqliteFacts | None:
        """Look at an SQLite file; None where it cannot be read."""
        if not path.exists() or path.stat().st_size == 0:
            self._add(diagnosis.no_database(str(path), study=self._study))
            return None
        beside = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
        for file in (*(file for file in beside if file.exists()), path.parent):
            self._add(diagnosis.judge_access(file, what=what, writable=can_be_written(file)))
        try:
            facts = read_sqlite_facts(path)
        except StorageError as error:
            self._add(diagnosis.judge_unreadable(path, str(error)))
            return None
        if not self._add(diagnosis.judge_soundness(path, facts)):
            return None
        return facts

    def _look_at_journal(self, path: Path, facts: SqliteFacts, *, mounts: str | None) -> None:
        if network_file_system(path, mounts=mounts) is None:  # WAL needs shared memory, which hosts do not share
            self._add(diagnosis.judge_journal(path, facts), lambda: switch_to_wal(path))

    def _read_study(self, storage: LeasedStorage, name: str) -> _StudyState | None:
        study = optuna.load_study(study_name=name, storage=storage)
        try:
            spec = stored_spec(study)
            environment = json.loads(study.user_attrs.get(ENVIRONMENT, "{}"))
        except (CaviarError, ValueError, TypeError) as error:
            self._add(study_findings.unreadable_study(name, str(error)))
            return None
        if spec is None:
            if self._study is not None:
                self._add(study_findings.foreign_study(name))
            return None
        # In this order: a checkpoint or a lease that is there while its trial is read as finished is a leftover.
        checkpoints = open_checkpoints(self._home, study)
        checkpointed = checkpoints.numbers()
        running = read_running(storage, study._study_id)
        return _StudyState(
            name=name,
            uid=study.user_attrs.get(STUDY_UID, ""),
            study_id=study._study_id,
            spec=spec,
            environment=environment,
            checkpoints=checkpoints,
            checkpointed=checkpointed,
            running=running,
            trials=study.get_trials(deepcopy=False),
        )

    def _look_at_checkpoints(self, state: _StudyState, settled: Sequence[FrozenTrial]) -> None:
        over = {trial.number for trial in settled}
        left = [number for number in state.checkpointed if number in over]

        def remove() -> None:
            for number in left:
                state.checkpoints.remove(number)

        self._add(study_findings.judge_checkpoints(state.name, left), remove)

    def _look_for_missing(self, state: _StudyState, settled: Sequence[FrozenTrial]) -> None:
        now, recent = datetime.datetime.now(), datetime.timedelta(seconds=_RECORDING_S)  # noqa: DTZ005  (Optuna's times)
        fresh = {t.number for t in settled if t.datetime_complete and abs(now - t.datetime_complete) < recent}
        deadline = time.monotonic() + _RECORDING_S
        while True:
            try:
                statuses = read_run_statuses(self._home.tracking_uri, study_name=state.name, study_uid=state.uid)
            except StorageError as error:
                self._add(
                    Finding(
                        subject=masked_uri(self._home.tracking_uri),
                        severity="problem",
                        message=f"MLflow's runs of the study {state.name!r} cannot be read: {error}.",
                        remedy=f"Once it can be reached again: `caviar sync {state.name}`.",
                    )
                )
                return
            numbers = missing_numbers(trials_with_runs(settled), statuses)
            if fresh.isdisjoint(numbers) or time.monotonic() >= deadline:
                break
            time.sleep(0.2)  # a worker between two trials, holding none, may be recording the one before
        self._add(study_findings.judge_missing(state.name, numbers), lambda: self._sync(state.name))

    def _hand_back(self, state: _StudyState) -> None:
        storage = open_storage(self._home.storage, owner=new_owner())
        try:
            search = state.spec.search
            hand_back_expired(storage, state.study_id, lease_s=search.lease_s, retries=search.retries)
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def _sync(self, name: str) -> None:
        _, study = open_existing(self._home, name)
        spec = required_spec(study)
        mirror = open_mirror(self._home, study, spec)
        _, failed = sync_trials(
            mirror, study.get_trials(deepcopy=False), space=spec.space, metric=spec.objective.metric
        )
        if failed:
            raise StorageError(f"{failed} trials could not be recorded: MLflow is down.")

    def _add(self, finding: Finding | None, mend: _Mend | None = None) -> bool:
        """Note a finding, mended where that is wanted and can be; tell whether nothing stands in the way now."""
        if finding is None:
            return True
        finding = dataclasses.replace(finding, fixable=mend is not None)
        if mend is not None and self._fix:
            try:
                mend()
            except _ENVIRONMENTS_FAULTS as error:
                finding = dataclasses.replace(finding, message=f"{finding.message} It could not be mended: {error}")
            else:
                finding = dataclasses.replace(finding, fixed=True)
        if finding not in self.findings:
            self.findings.append(finding)
        return finding.fixed
