"""Where workers run, as the supervisor sees it: in processes of this machine, or as actors of a Ray cluster."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, TypeVar

from ..data.dataset import DatasetFacts
from ..spec import StudySpec
from ..storage.home import Home

#: Seconds that the current epoch may take after a worker was asked to leave; then the trial is handed back as it was at
#: its last checkpoint. Well below the 30 s that Kubernetes and the supervisor wait before they kill.
GRACE_S = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What a worker is told, plain enough to be sent to another process.

    Attributes:
        home: Where the study lives.
        study: Its name.
        spec: Its study file, with the budget and the time limit of this run.
        threads: TensorFlow's threads for one operation.
        uid: The study's identity, or None for whichever study has the name.
        max_trials: Trials after which a fresh worker takes its place, or None for what the trainer bears.
        trial: The number of the one trial to run, or None for all that the study has left.
        deadline_s: When no new trial starts any more, by ``time.monotonic``, or None.
        grace_s: Seconds that the current epoch may take after the worker was asked to leave.
        neighbors: Workers that share the worker's machine, itself included, or None if all of the study's do.
    """

    home: Home
    study: str
    spec: StudySpec
    threads: int
    uid: str | None = None
    max_trials: int | None = None
    trial: int | None = None
    deadline_s: float | None = None
    grace_s: float = GRACE_S
    neighbors: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Died:
    """A worker's end that it did not choose; ``how`` follows "it died" in a sentence.

    If the whole machine went away, ``with_machine``, the network and the data are not to blame.
    """

    worker: str
    how: str
    with_machine: bool = False


#: Nothing is left to do; it has run its share of trials, and a fresh worker should take its place; it died.
Ending: TypeAlias = Literal["done", "recycle"] | Died


class RunningWorker(Protocol):
    """A worker that was given its order."""

    def ending(self) -> Ending | None:
        """Return how it ended, or None while it works.

        Raises:
            CaviarError: The worker's own, if it refused to go on.
        """

    def ask_to_leave(self, *, at_once: bool = False) -> None:
        """Ask it to hand its trials back after the current epoch, or at once, and to end."""

    def end_by(self, deadline_s: float) -> None:
        """Wait for its end until then, by ``time.monotonic``; kill it if it has not ended."""


WorkerT = TypeVar("WorkerT", bound=RunningWorker)


class Engine(Protocol[WorkerT]):
    """Starts workers, and tells when one has ended."""

    def get_ready(self, spec: StudySpec, *, threads: int, n_workers: int) -> DatasetFacts:
        """Have workers load what a study needs before it is created, and return what they know of its data.

        Raises:
            CaviarError: If the data cannot be loaded.
        """

    def start(self, order: WorkOrder) -> WorkerT:
        """Give an order to a worker that is ready or, if there is none, to a new one.

        Raises:
            FatalError: If no worker can be started.
        """

    def wait(self, workers: Sequence[WorkerT], *, timeout_s: float) -> None:
        """Wait until one of some workers has ended, or for so long."""
