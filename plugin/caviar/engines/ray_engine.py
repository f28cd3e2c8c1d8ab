"""The engine of Ray: workers are actors, which Ray places over a cluster and restarts.

Nodes come and go in mid-study. A worker for which there is no room waits. When an actor dies, or its node does, Ray
restarts it where there is room; its worker's end is told to the supervisor, which gives the order again. How much is
left to do stands in the study's storage alone, so an order that is given twice runs no trial too many.
"""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from ..data.dataset import DatasetFacts
from ..errors import FatalError
from ..spec import SearchSpec, StudySpec, spec_table
from ..storage.home import Home
from .engine import Died, Ending, WorkOrder
from .protocol import Refusal
from .ray_actor import CALLS, WorkerActor
from .ray_cluster import check_shared_storage, joined_cluster
from .ray_messages import Answer, Begun, Ended, Gone, order_text, read_answer

_logger = logging.getLogger(__name__)

#: Seconds without room for a worker after which that is said.
_PATIENCE_S: Final = 15.0
#: Seconds without an answer after which an actor that should leave, or has nothing left to do, is given up: it died,
#: and there is no room to restart it. More than a worker's grace.
_SILENCE_S: Final = 20.0
#: Seconds between two looks at which nodes are there.
_LOOK_S: Final = 1.0


@final
class RayWorker:
    """A worker in an actor: first it waits for a place, then it works."""

    def __init__(self, engine: "RayEngine", actor: Any, order: WorkOrder) -> None:
        self._engine = engine
        self._actor = actor
        self._deadline_s = order.deadline_s
        self._begun: Begun | None = None
        self._over = False
        self._asked = False
        self._ping: tuple[Any, float] | None = None
        self.since_s = time.monotonic()
        #: What Ray will have next of it: that it has begun, and then how it ended.
        self.news = actor.begin.remote(order_text(order))

    @property
    def waits(self) -> bool:
        """Whether it has no place yet."""
        return self._begun is None and not self._over

    def ending(self) -> Ending | None:
        """Return how it ended, or None while it works or waits; raises the error that it refused with.

        One that waits has nothing to do any more once another found nothing left, or the time is up.
        """
        if self._over:
            return "done"
        answer = self._hear()
        if answer is None and self._begun is not None and not self._engine.is_there(self._begun.node):
            answer = Gone()  # Ray restarts the actor where there is room, which may take long
        if answer is None:
            late = self._deadline_s is not None and time.monotonic() >= self._deadline_s
            unneeded = self._asked or self._engine.nothing_left
            if (self.waits and (late or unneeded)) or (unneeded and self._is_silent()):
                self._dismiss()
                return "done"
            return None
        assert self._begun is not None
        if self._asked:
            self._dismiss()
        match answer:
            case Ended(ending="done"):
                self._engine.nothing_left = True
                self._dismiss()
                return "done"
            case Ended():
                ending: Ending = "recycle"
            case Died():
                place = self._begun.worker.partition(" on ")[2]
                ending = Died(worker=f"{answer.worker} on {place}", how=answer.how)
            case _:
                ending = self._engine.judge(self._begun)
        if not self._over:
            self._over = True
            self._engine.take_back(self._actor)
        return ending

    def ask_to_leave(self, *, at_once: bool = False) -> None:
        """Ask it to leave, and dismiss it if it has no place yet."""
        if self._over:
            return
        self._asked = True
        if self._begun is None:
            self._hear()
        if self._begun is None:
            self._dismiss()
        else:
            self._actor.leave.remote(at_once)

    def end_by(self, deadline_s: float) -> None:
        """Wait for its end until then; kill it if it has not ended."""
        if not self._over and self._begun is not None:
            self._engine.hears(self.news, timeout_s=max(0.0, deadline_s - time.monotonic()))
        self._dismiss()

    def _hear(self) -> Answer | None:
        """Return how it ended, or None; on the way, note that it has begun."""
        if not self._engine.hears(self.news, timeout_s=0.0):
            return None
        answer = self._engine.read(self.news)
        if isinstance(answer, Refusal):
            self._dismiss()
            raise answer.error()
        if not isinstance(answer, Begun):
            return answer
        self._begun = answer
        self.news = self._actor.ending.remote(answer.token)
        return None

    def _is_silent(self) -> bool:
        """Tell whether its actor, which answers at once while it lives, has not done so for long."""
        now_s = time.monotonic()
        if self._ping is None or self._engine.hears(self._ping[0], timeout_s=0.0):
            self._ping = self._actor.__ray_ready__.remote(), now_s
        return now_s - self._ping[1] > _SILENCE_S

    def _dismiss(self) -> None:
        waited, self._over = self.waits, True
        self._engine.dismiss(self._actor, call=self.news if waited else None)


@final
class RayEngine:
    """Starts workers in actors; a context that leaves none behind.

    Args:
        search: What Ray reserves for each worker.
        home: Where the study lives; refused on entering if the cluster's hosts cannot share it.
    """

    def __init__(self, search: SearchSpec, home: Home) -> None:
        self._search = search
        self._home = home
        self._stack = contextlib.ExitStack()
        self._ray: Any = None
        self._host: str | None = None
        self._actors: list[Any] = []
        self._free: list[Any] = []
        self._said = False
        self._nodes: set[str] = set()
        self._looked_s = -_LOOK_S
        #: Whether a worker found nothing left to do.
        self.nothing_left = False

    def __enter__(self) -> "RayEngine":
        with contextlib.ExitStack() as stack:
            self._ray = stack.enter_context(joined_cluster())
            self._host = check_shared_storage(self._home, self._ray.nodes())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for actor in list(self._actors):
                self.dismiss(actor)

    def get_ready(self, spec: StudySpec, *, threads: int, n_workers: int) -> DatasetFacts:
        """Have actors load TensorFlow, and one of them the data; return what that one knows of it."""
        self._free = [self._make_actor() for _ in range(n_workers)]
        placed = {actor.__ray_ready__.remote(): actor for actor in self._free}
        found, _ = self._ray.wait(list(placed), num_returns=1, timeout=_PATIENCE_S)
        if not found:
            self._say_waiting(n_workers, n_workers)
            found, _ = self._ray.wait(list(placed), num_returns=1)
        first = placed[found[0]]
        self._free.sort(key=lambda actor: actor is not first)
        answer = self.read(first.get_ready.remote(json.dumps(spec_table(spec)), threads))
        if isinstance(answer, Refusal):
            raise answer.error()
        assert isinstance(answer, DatasetFacts)
        return answer

    def start(self, order: WorkOrder) -> RayWorker:
        """Give an order to an actor that is free or, if there is none, to a new one."""
        self.nothing_left = False  # it may have to go on with what another left
        return RayWorker(self, self._free.pop(0) if self._free else self._make_actor(), order)

    def wait(self, workers: Sequence[RayWorker], *, timeout_s: float) -> None:
        """Wait until there is news of one of the workers, or for so long."""
        self._ray.wait([worker.news for worker in workers], num_returns=1, timeout=timeout_s)
        long_ago_s = time.monotonic() - _PATIENCE_S
        waiting = [worker for worker in workers if worker.waits and worker.since_s < long_ago_s]
        if waiting and not self._said:
            self._say_waiting(len(waiting), len(workers))

    def hears(self, news: Any, *, timeout_s: float) -> bool:
        """Tell whether an answer has come, at the latest after so many seconds."""
        ready, _ = self._ray.wait([news], num_returns=1, timeout=timeout_s)
        return bool(ready)

    def read(self, news: Any) -> Answer:
        """Wait for an answer and read it.

        Raises:
            FatalError: If Ray can bring none.
        """
        try:
            return read_answer(self._ray.get(news))
        except (self._ray.exceptions.RayError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise FatalError(
                f"Ray cannot run a worker: {reason[:1000]}. Every node needs optuna-caviar, with the same versions of "
                "Python and Ray as here."
            ) from error

    def judge(self, begun: Begun) -> Died:
        """Return how a worker died whose actor Ray has restarted since."""
        gone = not self.is_there(begun.node, now=True)
        how = "with its node, which left the cluster" if gone else "with its Ray actor (see Ray's logs)"
        return Died(worker=begun.worker, how=how, with_machine=gone)

    def is_there(self, node: str, *, now: bool = False) -> bool:
        """Tell whether a node is in the cluster; unless ``now`` is said, as it was up to a second ago."""
        if now or time.monotonic() >= self._looked_s + _LOOK_S:
            self._nodes = {str(node["NodeID"]) for node in self._ray.nodes() if node["Alive"]}
            self._looked_s = time.monotonic()
        return node in self._nodes

    def take_back(self, actor: Any) -> None:
        """Keep an actor for the next order."""
        self._free.append(actor)

    def dismiss(self, actor: Any, *, call: Any = None) -> None:
        """End an actor for good; a ``call`` that it has not begun is taken back, or Ray would speak of trying again."""
        if actor in self._actors:
            self._actors.remove(actor)
            if call is not None:
                self._ray.cancel(call)
            self._ray.kill(actor, no_restart=True)

    def _make_actor(self) -> Any:
        search = self._search
        made = self._ray.remote(WorkerActor).options(
            num_cpus=search.cpus_per_worker,
            num_gpus=search.gpus_per_worker,
            resources=None if self._host is None else {f"node:{self._host}": 0.001},  # SQLite serves one host
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=CALLS,
        )
        actor = made.remote(json.dumps([[str(Path(place).absolute()) for place in sys.path], str(Path.cwd())]))
        self._actors.append(actor)
        return actor

    def _say_waiting(self, n: int, n_workers: int) -> None:
        self._said = True
        search = self._search
        takes = f"{search.cpus_per_worker:g} CPU" + (
            f" and {search.gpus_per_worker:g} GPU" * bool(search.gpus_per_worker)
        )
        message = "%d of %d workers wait for room in the Ray cluster (each takes %s). They begin when there is some."
        _logger.warning(message, n, n_workers, takes)
