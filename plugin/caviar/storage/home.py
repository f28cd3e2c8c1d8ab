"""The home directory: one place below which everything that a run writes stands."""

import dataclasses
import os
import re
import tempfile
from pathlib import Path

from ..errors import StorageError
from .addresses import absolute_address, sqlite_path, sqlite_url


@dataclasses.dataclass(frozen=True, kw_only=True)
class Home:
    """The paths below a home directory; nothing is created until ``prepare_home``.

    Attributes:
        path: The directory, absolute.
        storage: The address of Optuna's storage; by default ``optuna.db`` in the home.
        tracking_uri: The address of MLflow's tracking store; by default ``mlflow.db`` in the home.
    """

    path: Path
    storage: str = dataclasses.field(repr=False)  # both may hold a password
    tracking_uri: str = dataclasses.field(repr=False)

    @property
    def mlflow_artifacts(self) -> Path:
        """Where MLflow's runs keep their files."""
        return self.path / "mlartifacts"

    @property
    def checkpoints(self) -> Path:
        """Where running trials keep what they need to go on."""
        return self.path / "checkpoints"

    @property
    def networks(self) -> Path:
        """Where the best networks of each study are saved."""
        return self.path / "networks"

    @property
    def timings(self) -> Path:
        """Where workers tell where their time went."""
        return self.path / "timings"

    @property
    def champions(self) -> Path:
        """Where each study's champion stands."""
        return self.path / "champions"

    @property
    def artifacts(self) -> Path:
        """Where optuna-dashboard finds the files that belong to studies and trials."""
        return self.path / "artifacts"

    @property
    def reports(self) -> Path:
        """Where the reports on the studies stand."""
        return self.path / "reports"

    def report_files(self, study: str) -> tuple[Path, Path]:
        """Return where the report on a study stands: the page, and the same as data."""
        name = re.sub(r"[^\w.-]", "_", study)
        return self.reports / f"{name}.html", self.reports / f"{name}.json"

    @property
    def directories(self) -> tuple[Path, ...]:
        """Everything above, each made when it is first needed."""
        of_trials = (self.mlflow_artifacts, self.checkpoints, self.networks, self.timings, self.artifacts)
        return (*of_trials, self.reports, self.champions)


def locate_home(path: Path, *, storage: str | None = None, tracking_uri: str | None = None) -> Home:
    """Return a home's paths and addresses, without touching the disk; the addresses given replace the home's own.

    Raises:
        StorageError: If both addresses are one SQLite file: Optuna and MLflow break each other's tables.
    """
    home = address_home(path, storage=storage, tracking_uri=tracking_uri)
    shared = shared_file(home)
    if shared is not None:
        raise StorageError(
            f"Optuna and MLflow cannot share the file {shared}: each would take the other's tables for its own. "
            "Give --storage and --tracking-uri different files."
        )
    return home


def address_home(path: Path, *, storage: str | None = None, tracking_uri: str | None = None) -> Home:
    """Return a home's paths and addresses, sound or not; to be looked at, not to be used.

    All are absolute: the user's code may change the working directory at any time.
    """
    path = path.absolute()
    return Home(
        path=path,
        storage=absolute_address(storage) if storage else sqlite_url(path / "optuna.db"),
        tracking_uri=absolute_address(tracking_uri) if tracking_uri else sqlite_url(path / "mlflow.db"),
    )


def shared_file(home: Home) -> Path | None:
    """Return the SQLite file that both of a home's addresses name, or None where they name different ones."""
    shared = sqlite_path(home.storage)
    return shared if shared is not None and sqlite_path(home.tracking_uri) == shared else None


def prepare_home(home: Home, *, study: str | None = None) -> None:
    """Create the home directory, if it is missing, and check that it and what stands below it can be written.

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
    for directory in unusable_directories(home, study=study):
        raise StorageError(
            f"{directory} must be a directory that can be written, and is not. "
            "Move it away or make it writable, or name another home with --home or CAVIAR_HOME."
        )


def unusable_directories(home: Home, *, study: str | None = None) -> list[Path]:
    """Return what stands where a home, and a study in it, would have directories, and cannot be written as one."""
    wanted = (*home.directories, *([home.networks / study] if study else []))
    return [
        path for path in wanted if os.path.lexists(path) and not (path.is_dir() and os.access(path, os.W_OK | os.X_OK))
    ]
