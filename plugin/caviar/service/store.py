"""The service's one way to Optuna's database, opened when it is first needed and kept open."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

import optuna

from ..commands.studies import list_studies
from ..errors import FatalError, UnknownStudyError
from ..storage.addresses import sqlite_path
from ..storage.database import new_owner, open_storage
from ..storage.home import Home, prepare_home
from ..storage.leased_storage import LeasedStorage
from ..storage.studies import check_still_there, open_study

_T = TypeVar("_T")

_MOST_STUDIES: Final = 100


class Store:
    """Keeps the database and the studies that were asked for last open: finished trials are read once.

    All methods may be called from any thread.

    Args:
        home: Where the studies live.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._storage: LeasedStorage | None = None
        self._opened: tuple[int, int] | None = None  # which file
        self._studies: OrderedDict[str, optuna.Study] = OrderedDict()
        self._lock = threading.Lock()

    def storage(self, *, create: bool = False) -> LeasedStorage | None:
        """Return the database; None if there is none yet and it shall not be created.

        Raises:
            StorageError: If it cannot be opened.
        """
        with self._lock:
            there = self._file()
            if self._storage is not None and there != self._opened:
                self._storage.close()  # whoever has it still must not write to a file that is gone
                self._storage = None
                self._studies.clear()
            if self._storage is None:
                if not create and there is None:
                    return None
                if create:
                    prepare_home(self.home)
                self._storage = open_storage(self.home.storage, owner=new_owner(), create=create)
                self._opened = self._file()
            return self._storage

    def _file(self) -> tuple[int, int] | None:
        """Return which file the database is, as (device, inode), or None if there is none; a server is always there."""
        path = sqlite_path(self.home.storage)
        try:
            found = None if path is None else path.stat()
        except FileNotFoundError:
            return None
        if found is None:
            return (0, 0)
        return (found.st_dev, found.st_ino) if found.st_size else None

    def studies(self) -> list[dict[str, Any]]:
        """Return every study, as ``list_studies`` does; none before the first."""
        storage = self.storage()
        return [] if storage is None else list_studies(storage)

    def study(self, name: str) -> tuple[LeasedStorage, optuna.Study]:
        """Return a study that still has this name.

        Raises:
            UnknownStudyError: If there is none.
        """
        storage = self.storage()
        if storage is None:
            raise UnknownStudyError(f"There is no study {name!r}: there are no studies yet.")
        with self._lock:
            known = self._studies.get(name)
        if known is not None:
            try:
                check_still_there(storage, known)
            except FatalError:  # deleted, archived or replaced
                known = None
        study = open_study(storage, name) if known is None else known
        with self._lock:
            self._studies[name] = study
            self._studies.move_to_end(name)
            if len(self._studies) > _MOST_STUDIES:
                self._studies.popitem(last=False)
        return storage, study

    def read(self, name: str, make: Callable[[LeasedStorage, optuna.Study], _T]) -> _T:
        """Return what a function makes of a study that has this name.

        Raises:
            UnknownStudyError: If there is none, or it is deleted or renamed meanwhile.
        """
        storage, study = self.study(name)
        try:
            return make(storage, study)
        except (KeyError, FatalError):  # Optuna's and ours for what is no longer there
            try:
                check_still_there(storage, study)
            except FatalError as error:
                raise UnknownStudyError(f"The study {name!r} was just deleted or renamed.") from error
            raise

    def close(self) -> None:
        """Close the database's connections."""
        with self._lock:
            if self._storage is not None:
                self._storage.close()
