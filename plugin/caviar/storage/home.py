"""The home directory: one place below which everything that a run writes stands."""

import dataclasses
import os
import re
import tempfile
from pathlib import Path

from ..errors import StorageError
from .addresses import absolute_address, sqlite_path, sqlite_url
from .places import Place, check_reachable, check_writable, parse_files
from .remote import RemotePath


@dataclasses.dataclass(frozen=True, kw_only=True)
class Home:
    """The paths below a home directory; nothing is created until ``prepare_home``.

    Attributes:
        path: The directory, absolute.
        storage: The address of Optuna's storage; by default ``optuna.db`` in the home.
        tracking_uri: The address of MLflow's tracking store; by default ``mlflow.db`` in the home.
        files: Where checkpoints, networks, artifacts, reports and champions stand; by default the home.
    """

    path: Path
    files: Place
    storage: str = dataclasses.field(repr=False)  # both may hold a password
    tracking_uri: str = dataclasses.field(repr=False)

    @property
    def mlflow_artifacts(self) -> Path:
        """Where MLflow's runs keep their files."""
        return self.path / "mlartifacts"

    @property
    def checkpoints(self) -> Place:
        """Where running trials keep what they need to go on."""
        return self.files / "checkpoints"

    @property
    def networks(self) -> Place:
        """Where the best networks of each study are saved."""
        return self.files / "networks"

    @property
    def timings(self) -> Path:
        """Where workers tell where their time went."""
        return self.path / "timings"

    @property
    def champions(self) -> Place:
        """Where each study's champion stands."""
        return self.files / "champions"

    @property
    def artifacts(self) -> Place:
        """Where optuna-dashboard finds the files that belong to studies and trials."""
        return self.files / "artifacts"

    @property
    def reports(self) -> Place:
        """Where the reports on the studies stand."""
        return self.files / "reports"

    @property
    def worker_logs(self) -> Path:
        """Where a worker that was started in the background writes what it says."""
        return self.path / "reports"

    @property
    def locks(self) -> Path:
        """Where processes of this machine lock what only one of them may make."""
        return self.path / "champions"

    def report_files(self, study: str) -> tuple[Place, Place]:
        """Return where the report on a study stands: the page, and the same as data."""
        name = re.sub(r"[^\w.-]", "_", study)
        return self.reports / f"{name}.html", self.reports / f"{name}.json"

    @property
    def directories(self) -> tuple[Path, ...]:
        """Everything above on this machine's disks, each made when it is first needed."""
        of_trials = (self.mlflow_artifacts, self.checkpoints, self.networks, self.timings, self.artifacts)
        places = (*of_trials, self.reports, self.champions, self.worker_logs, self.locks)
        return tuple(dict.fromkeys(place for place in places if isinstance(place, Path)))


def locate_home(
    path: Path, *, storage: str | None = None, tracking_uri: str | None = None, files: str | None = None
) -> Home:
    """Return a home's paths and addresses, without touching the disk; the addresses given replace the home's own.

    Raises:
        StorageError: If both databases are one SQLite file: Optuna and MLflow break each other's tables; or fsspec
            cannot open ``files``.
    """
    home = address_home(path, storage=storage, tracking_uri=tracking_uri, files=files)
    check_reachable(home.files)
    shared = shared_file(home)
    if shared is not None:
        raise StorageError(
            f"Optuna and MLflow cannot share the file {shared}: each would take the other's tables for its own. "
            "Give --storage and --tracking-uri different files."
        )
    return home


def address_home(
    path: Path, *, storage: str | None = None, tracking_uri: str | None = None, files: str | None = None
) -> Home:
    """Return a home's paths and addresses, sound or not; to be looked at, not to be used.

    All are absolute: the user's code may change the working directory at any time.

    Raises:
        StorageError: If ``files`` is no address at all.
    """
    path = path.absolute()
    return Home(
        path=path,
        files=parse_files(files) if files else path,
        storage=absolute_address(storage) if storage else sqlite_url(path / "optuna.db"),
        tracking_uri=absolute_address(tracking_uri) if tracking_uri else sqlite_url(path / "mlflow.db"),
    )


def shared_file(home: Home) -> Path | None:
    """Return the SQLite file that both of a home's addresses name, or None where they name different ones."""
    shared = sqlite_path(home.storage)
    return shared if shared is not None and sqlite_path(home.tracking_uri) == shared else None


def prepare_home(home: Home, *, study: str | None = None) -> None:
    """Create the home directory, if it is missing, and check that it, and where its files are, can be written.

    Raises:
        StorageError: If it cannot, or the directory of the study, if one is named, cannot.
    """
    try:
        home.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home.path) as probe:
            probe.write(b"optuna-caviar")
    except OSError as error:
        raise StorageError(
            f"The home directory {home.path} cannot be written: {error.strerror}. "
            "Make it writable, or name another with --home or CAVIAR_HOME."
        ) from error
    if isinstance(home.files, RemotePath):
        check_writable(home.files)
    elif home.files != home.path:
        try:
            home.files.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=home.files) as probe:
                probe.write(b"optuna-caviar")
        except OSError as error:
            raise StorageError(
                f"{home.files} cannot be written: {error.strerror}. Make it writable, or name another with --files or "
                "CAVIAR_FILES."
            ) from error
    for directory in unusable_directories(home, study=study):
        raise StorageError(
            f"{directory} must be a directory that can be written, and is not. "
            "Move it away or make it writable, or name another home with --home or CAVIAR_HOME."
        )


def unusable_directories(home: Home, *, study: str | None = None) -> list[Path]:
    """Return what stands where a home, and a study in it, would have directories, and cannot be written as one."""
    wanted: list[Place] = [*home.directories, *([home.networks / study] if study else [])]
    return [
        path
        for path in wanted
        if isinstance(path, Path)
        and os.path.lexists(path)
        and not (path.is_dir() and os.access(path, os.W_OK | os.X_OK))
    ]
