"""A look at a study's data in a process of the fork server, which has TensorFlow, so that this one need not load it."""

import dataclasses
import json
import multiprocessing
import sys
from multiprocessing.connection import Connection
from typing import Any, Final

from ..data.dataset import DatasetFacts, load_dataset
from ..errors import CaviarError, DataError, SpecError
from ..search.quiet import import_tensorflow_quietly
from ..search.supervisor import WorkerRefusedError
from ..spec import DataSpec

_ERRORS: Final[dict[str, type[CaviarError]]] = {error.__name__: error for error in (DataError, SpecError)}


class DataLook:
    """Loads a data set in another process, from now on.

    Args:
        data: What to load.
        seed: The study's.
    """

    def __init__(self, data: DataSpec, *, seed: int) -> None:
        self._name = data.dataset
        self._connection, writer = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_look, args=(data, seed, writer, list(sys.path)), name="caviar-data", daemon=True
        )
        self._process.start()
        writer.close()

    def facts(self) -> DatasetFacts:
        """Wait until it is loaded, and return what is known of it.

        Raises:
            DataError: If it cannot be loaded.
            SpecError: If the study file's values for it are not allowed.
        """
        try:
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except EOFError:
            self._process.join()
            raise DataError(
                f"The data set {self._name!r} could not be loaded: the process that tried ended with exit code "
                f"{self._process.exitcode}. Look for a lack of memory (`dmesg`), or try a smaller one."
            ) from None
        finally:
            self._connection.close()
        self._process.join()
        if "error" in answer:
            known = _ERRORS.get(answer["error"])
            if known is None:
                raise WorkerRefusedError(answer["message"], exit_code=answer["exit_code"])
            raise known(answer["message"])
        return DatasetFacts(**{**answer, "feature_shape": tuple(answer["feature_shape"])})


def _look(data: DataSpec, seed: int, connection: Connection, path: list[str]) -> None:
    sys.path[:] = path
    import_tensorflow_quietly()
    try:
        dataset = load_dataset(data.dataset, validation_fraction=data.validation_fraction, seed=seed)
        answer: dict[str, Any] = dataclasses.asdict(DatasetFacts.of(dataset))
    except CaviarError as error:
        answer = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    connection.send_bytes(json.dumps(answer).encode())
