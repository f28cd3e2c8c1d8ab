"""Workers' processes that get ready before their study is there; the first one tells what is known of the data.

They come from the fork server, which has TensorFlow, so that the process that supervises them need not load it.
"""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from ..data.dataset import Dataset, DatasetFacts
from ..data.loading import load_study_dataset
from ..errors import CaviarError, DataError, FatalError, SpecError
from ..imports import describe_error
from ..packing.calibration import load_or_calibrate, prices_path
from ..spec import StudySpec
from ..storage.database import import_database_code
from .supervisor import WorkerRefusedError, describe_death
from .worker_process import WorkOrder, be_worker, prepare_devices, start_process

_ERRORS: Final[dict[str, type[CaviarError]]] = {error.__name__: error for error in (DataError, SpecError)}


class ReadyWorkers:
    """Processes that load what a study's workers need, and wait for their order.

    The first loads the data. The others measure the machine's prices meanwhile, where these are not known, and load the
    data after it: it may have to be made.

    Args:
        spec: The study file.
        threads: TensorFlow's for one operation, of each.
        n_workers: How many, at least 1.
    """

    def __init__(self, spec: StudySpec, *, threads: int, n_workers: int) -> None:
        self._data = spec.data
        self._ready = [
            start_process(_get_ready, spec, threads, place == 0, name="caviar-ready") for place in range(n_workers)
        ]

    def facts(self) -> DatasetFacts:
        """Wait until the data is loaded, and return what is known of it; to be called once, before any order.

        Raises:
            DataError: If it cannot be loaded.
            SpecError: If the study file's values for it are not allowed.
            WorkerRefusedError: If it raised another error of ours.
        """
        process, connection = self._ready[0]
        try:
            answer: dict[str, Any] = json.loads(connection.recv_bytes())
        except EOFError:
            process.join()
            raise DataError(
                f"The data set {self._data.dataset!r} could not be loaded: the process that tried ended "
                f"{describe_death(process.exitcode)}. If its function does not do so, look for a lack of memory "
                "(`dmesg`), or try a smaller one."
            ) from None
        if "error" in answer:
            known = _ERRORS.get(answer["error"])
            if known is None:
                raise WorkerRefusedError(answer["message"], exit_code=answer["exit_code"])
            raise known(answer["message"])
        for _, other in self._ready[1:]:
            with contextlib.suppress(OSError):  # it died, and its exit code will say how
                other.send_bytes(b"load")
        return DatasetFacts(**{**answer, "feature_shape": tuple(answer["feature_shape"])})

    def take(self, order: WorkOrder) -> tuple[BaseProcess, Connection] | None:
        """Give a ready process its order, and return it with its connection; None when none is left."""
        if not self._ready:
            return None
        process, connection = self._ready.pop(0)
        with contextlib.suppress(OSError):
            connection.send(order)
        return process, connection

    def dismiss(self) -> None:
        """End the processes that were given no order."""
        for process, _ in self._ready:
            process.terminate()
        for process, connection in self._ready:
            process.join()
            connection.close()
        self._ready = []


@contextlib.contextmanager
def ready_workers(spec: StudySpec, *, threads: int, n_workers: int) -> Iterator[ReadyWorkers]:
    """Have workers get ready, and leave none behind that was given no order."""
    workers = ReadyWorkers(spec, threads=threads, n_workers=n_workers)
    try:
        yield workers
    finally:
        workers.dismiss()


def _get_ready(spec: StudySpec, threads: int, is_first: bool, connection: Connection) -> None:
    try:
        prepare_devices(threads=threads)
        if not is_first:  # the first one warns of what is odd about the data
            logging.getLogger("caviar.data").setLevel(logging.ERROR)
        dataset = _look(spec, connection) if is_first else None
    except BaseException as error:
        if not is_first:  # the supervisor hears it from the first
            raise
        _refuse(spec, connection, error)
        return
    import_database_code()
    if spec.trains_in_fleets and not is_first:
        load_or_calibrate(prices_path(threads=threads))
    try:
        if not is_first:
            connection.recv_bytes()
            dataset = load_study_dataset(spec)
        order: WorkOrder = connection.recv()
    except (EOFError, OSError, CaviarError):  # the supervisor has died, or knows
        return
    be_worker(order, connection, dataset)


def _look(spec: StudySpec, connection: Connection) -> Dataset:
    """Load the data, and tell what is known of it."""
    dataset = load_study_dataset(spec)
    with contextlib.suppress(OSError):  # the supervisor was interrupted meanwhile
        connection.send_bytes(json.dumps(dataclasses.asdict(DatasetFacts.of(dataset))).encode())
    return dataset


def _refuse(spec: StudySpec, connection: Connection, error: BaseException) -> None:
    """Tell why there will be no data."""
    if not isinstance(error, CaviarError):
        error = FatalError(f"The data set {spec.data.dataset!r} could not be loaded: {describe_error(error)}.")
    answer = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    with contextlib.suppress(OSError):  # the supervisor was interrupted meanwhile
        connection.send_bytes(json.dumps(answer).encode())
