"""A Ray actor: one worker's place in a cluster.

It starts the worker as a process of its own, as the engine of processes does. So a worker is the same under both: how
it is asked to leave, what ends it, and that a fresh process takes its place before TensorFlow has leaked too much.
"""

import contextlib
import dataclasses
import functools
import json
import multiprocessing.connection
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

from ..data.dataset import DatasetFacts
from ..errors import CaviarError, FatalError
from ..imports import describe_error
from ..spec import parse_spec
from .engine import Died
from .processes import ProcessEngine, ProcessWorker
from .protocol import Refusal
from .ray_messages import Answer, Begun, Ended, Gone, answer_text, read_order

#: Calls that an actor answers at once: the end of its worker is waited for in one, and others ask it to leave.
CALLS: Final = 4


def _answering(method: Callable[..., Answer]) -> Callable[..., str]:
    """Have a method return its answer as a text, and whatever it raises as a refusal, so that no error is pickled."""

    @functools.wraps(method)
    def call(self: "WorkerActor", *arguments: Any) -> str:
        try:
            return answer_text(method(self, *arguments))
        except CaviarError as error:
            return answer_text(Refusal.of(error))
        except Exception as error:  # noqa: BLE001  (it would reach the driver as a pickle)
            return answer_text(Refusal.of(FatalError(f"A Ray actor failed: {describe_error(error)}.")))

    return call


@final
class WorkerActor:
    """Starts one worker after the other, each on an order, and tells how it ended.

    Ray restarts an actor that died, on whatever node has room, and calls again the method that it was in. A restarted
    actor does not know the tokens of its former life, and says so.

    Args:
        places: JSON: where Python finds modules in the driver, and its working directory. They are used if they are
            here too, as on one machine.
    """

    def __init__(self, places: str) -> None:
        path, directory = json.loads(places)
        sys.path += [place for place in path if place not in sys.path and Path(place).exists()]
        if Path(directory).is_dir():
            os.chdir(directory)
        # Ray's processes block Ctrl-C, and so would the workers, which are asked by it to leave at once.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        # Each new process would run Ray's script once more, as multiprocessing does for the sake of its classes.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._life = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._engine: ProcessEngine | None = None
        self._worker: ProcessWorker | None = None
        self._token = ""
        self._n_orders = 0
        with contextlib.suppress(CaviarError):  # it is raised again when a worker is started, and then told
            self._engine = ProcessEngine()  # its fork server loads TensorFlow from now on

    @_answering
    def get_ready(self, spec: str, threads: int) -> DatasetFacts:
        """Load a study's data in a process that then waits for its order, and return what is known of it."""
        return self._open().get_ready(parse_spec(json.loads(spec)), threads=threads, n_workers=1)

    @_answering
    def begin(self, order: str) -> Begun:
        """Have a worker begin an order. Called again, because its answer was lost, it begins nothing more."""
        node = _node()
        with self._lock:
            if self._worker is None:
                self._worker = self._open().start(dataclasses.replace(read_order(order), neighbors=node.neighbors))
                self._n_orders += 1
                self._token = f"{self._life}-{self._n_orders}"
            worker = f"{self._worker.process.pid} on {socket.gethostname()}"
            return Begun(token=self._token, node=node.id, worker=worker)

    @_answering
    def ending(self, token: str) -> Ended | Died | Gone:
        """Wait for the end of an order's worker, and tell how it ended."""
        worker = self._worker
        if worker is None or token != self._token:
            return Gone()
        multiprocessing.connection.wait([worker.process.sentinel])
        with self._lock:
            self._worker = None
            ending = worker.ending()
        assert ending is not None
        return ending if isinstance(ending, Died) else Ended(ending=ending)

    def leave(self, at_once: bool) -> None:
        """Ask the worker to hand its trials back after the current epoch, or at once, and to end."""
        with self._lock:
            if self._worker is not None:
                self._worker.ask_to_leave(at_once=at_once)

    def _open(self) -> ProcessEngine:
        if self._engine is None:
            self._engine = ProcessEngine()
        return self._engine


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Node:
    """The node that an actor lives on, and how many actors like it have room there."""

    id: str
    neighbors: int


def _node() -> _Node:
    import ray

    context = ray.get_runtime_context()
    own = str(context.get_node_id())
    (total,) = [node["Resources"] for node in ray.nodes() if node["NodeID"] == own]
    taken = context.get_assigned_resources()
    rooms = [total.get(kind, 0.0) // taken[kind] for kind in ("CPU", "GPU") if taken.get(kind)]
    return _Node(id=own, neighbors=max(1, int(min(rooms, default=1))))
