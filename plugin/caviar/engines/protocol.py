"""What a supervisor and its worker processes tell each other: four messages, and the code that a worker exits with.

A worker that gets ready sends the facts of its data, or refuses. It is told to load the data in its turn, and given its
order. From then on it sends nothing but a refusal: all else stands in the study's database.
"""

import contextlib
import dataclasses
import enum
from multiprocessing.connection import Connection
from typing import TypeAlias, final

from ..data.dataset import DatasetFacts
from ..errors import CaviarError
from ..spec import StudySpec
from ..storage.home import Home


class WorkerExit(enum.IntEnum):
    """How a worker process ends. Any other code is a death, even 0: the network's own code may have exited with it."""

    DONE = 74
    RECYCLE = 75  # it has run its share of trials: a fresh process takes its place
    REFUSED = 76  # it sent a refusal first
    STOPPED = 77  # a signal asked it to leave: its trials were handed back


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What a worker is told."""

    home: Home  # where the study lives
    study: str  # its name
    spec: StudySpec  # its study file, with the budget and the time limit of this run
    threads: int  # TensorFlow's threads for one operation
    uid: str | None = None  # the study's identity; None for whichever study has the name
    max_trials: int | None = None  # then a fresh worker takes its place; None for what the trainer bears
    deadline_s: float | None = None  # by ``time.monotonic``: no new trial starts any more
    # Seconds that the current epoch may take after the worker was asked to leave; then the trial is handed back as it
    # was at its last checkpoint. Well below the 30 s that Kubernetes and the supervisor wait before they kill.
    grace_s: float = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadData:
    """The first worker has loaded the data, so the others can load it too: it may have had to be made."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a worker ends: one of the classes of ``errors``, which hold nothing but their message."""

    kind: type[CaviarError]
    message: str

    @classmethod
    def of(cls, error: CaviarError) -> "Refusal":
        """Return the refusal that passes an error on."""
        known = next(kind for kind in type(error).__mro__ if kind.__module__ == CaviarError.__module__)
        return cls(kind=known, message=str(error))

    def error(self) -> CaviarError:
        """Return the error that was passed on."""
        return self.kind(self.message)


Message: TypeAlias = DatasetFacts | LoadData | WorkOrder | Refusal


@final
class Channel:
    """One end of the pipe between the supervisor and a worker."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Message) -> None:
        """Send a message. If the other process has ended, nothing happens: how it ended says more."""
        with contextlib.suppress(OSError):
            self._connection.send(message)

    def receive(self) -> Message | None:
        """Wait for the next message; None if the other process has ended."""
        try:
            message: Message = self._connection.recv()
        except (EOFError, OSError):
            return None
        return message

    def close(self) -> None:
        """Close this end."""
        self._connection.close()
