"""What the engine of Ray makes of what a cluster says; the cluster is made up, and Ray itself is not needed."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import psutil
import pytest

from caviar.engines import ray_engine
from caviar.engines.engine import Died, WorkOrder
from caviar.engines.protocol import Refusal
from caviar.engines.ray_engine import RayEngine
from caviar.engines.ray_messages import Answer, Begun, Ended, Gone, answer_text
from caviar.errors import DataError, FatalError
from caviar.spec import StudySpec, parse_spec
from caviar.storage.home import locate_home


@final
class Call:
    """A call of an actor's method, which is answered when a test says so."""

    def __init__(self, method: str, arguments: tuple[Any, ...]) -> None:
        self.method = method
        self.arguments = arguments
        self.answer: str | None = None

    def answers(self, answer: Answer) -> None:
        self.answer = answer_text(answer)


@final
class Actor:
    """An actor without a process: it notes how it is called."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.calls: list[Call] = []
        self.killed = False

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any) -> Call:
            self.calls.append(Call(method, arguments))
            return self.calls[-1]

        return SimpleNamespace(remote=remote)

    def last(self, method: str) -> Call:
        return next(call for call in reversed(self.calls) if call.method == method)


@final
class Cluster:
    """What the engine uses of Ray."""

    class RayError(Exception):
        """Ray's own."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.cancelled: list[Call] = []
        self.alive = {"one": True, "two": True}

    def remote(self, _class: type) -> Any:
        def options(**given: Any) -> Any:
            def make(_places: str) -> Actor:
                self.actors.append(Actor(given))
                return self.actors[-1]

            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def wait(self, calls: Sequence[Call], *, num_returns: int, timeout: float | None = None) -> tuple[list[Call], None]:
        return [call for call in calls if call.answer is not None][:num_returns], None

    def get(self, call: Call) -> str:
        if call.answer is None:
            raise self.RayError("The actor died because\n of an error")
        return call.answer

    def nodes(self) -> list[dict[str, Any]]:
        address = psutil.net_if_addrs()["lo"][0].address
        return [{"NodeID": n, "Alive": alive, "NodeManagerAddress": address} for n, alive in self.alive.items()]

    def kill(self, actor: Actor, *, no_restart: bool) -> None:
        assert no_restart
        actor.killed = True

    def cancel(self, call: Call) -> None:
        self.cancelled.append(call)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()

    @contextlib.contextmanager
    def joined() -> Iterator[Cluster]:
        yield made

    monkeypatch.setattr(ray_engine, "joined_cluster", joined)
    monkeypatch.setattr(ray_engine, "_LOOK_S", 0.0)
    return made


@pytest.fixture
def spec() -> StudySpec:
    search = {"engine": "ray", "workers": 2, "cpus_per_worker": 2, "gpus_per_worker": 0.25}
    return parse_spec({"name": "toy", "data": {"dataset": "digits"}, "search": search})


@pytest.fixture
def order(spec: StudySpec, tmp_path: Path) -> WorkOrder:
    return WorkOrder(home=locate_home(tmp_path), study="toy", spec=spec, threads=2)


@pytest.fixture
def engine(cluster: Cluster, order: WorkOrder) -> Iterator[RayEngine]:
    with RayEngine(order.spec.search, order.home) as opened:
        yield opened
    assert all(actor.killed for actor in cluster.actors)


def begin(actor: Actor, *, node: str = "one", token: str = "a-1") -> None:
    actor.last("begin").answers(Begun(token=token, node=node, worker="12 on here"))


def test_an_actor_reserves_what_the_study_says_on_the_host_of_its_sqlite(
    engine: RayEngine, cluster: Cluster, order: WorkOrder
) -> None:
    engine.start(order)
    options = cluster.actors[0].options
    assert (options["num_cpus"], options["num_gpus"]) == (2, 0.25)
    assert list(options["resources"]) == [f"node:{psutil.net_if_addrs()['lo'][0].address}"]
    assert (options["max_restarts"], options["max_task_retries"]) == (-1, -1)


def test_workers_that_wait_for_room_end_when_another_found_nothing_left(
    engine: RayEngine, cluster: Cluster, order: WorkOrder
) -> None:
    placed, waits = engine.start(order), engine.start(order)
    begin(cluster.actors[0])
    assert (placed.ending(), waits.ending()) == (None, None)
    assert (placed.waits, waits.waits) == (False, True)
    assert cluster.actors[0].last("ending").arguments == ("a-1",)
    cluster.actors[0].last("ending").answers(Ended(ending="done"))
    assert (placed.ending(), waits.ending()) == ("done", "done")
    assert cluster.actors[1].killed
    assert cluster.cancelled == [cluster.actors[1].last("begin")]


def test_workers_that_wait_when_the_time_is_up_end(engine: RayEngine, order: WorkOrder) -> None:
    late = WorkOrder(home=order.home, study="toy", spec=order.spec, threads=1, deadline_s=time.monotonic() - 1)
    assert engine.start(late).ending() == "done"


def test_the_worker_of_a_node_that_left_is_replaced_at_once_even_if_others_found_nothing_left(
    engine: RayEngine, cluster: Cluster, order: WorkOrder
) -> None:
    first, second = engine.start(order), engine.start(order)
    for actor, node in zip(cluster.actors, ("one", "two"), strict=True):
        begin(actor, node=node)
    assert (first.ending(), second.ending()) == (None, None)
    cluster.actors[0].last("ending").answers(Ended(ending="done"))
    assert first.ending() == "done"
    cluster.alive["two"] = False
    left = Died(worker="12 on here", how="with its node, which left the cluster", with_machine=True)
    assert second.ending() == left
    again = engine.start(order)
    assert len(cluster.actors) == 2  # Ray restarts the actor that it had
    assert again.ending() is None


def test_a_restarted_actor_is_a_death_and_gets_the_order_again(
    engine: RayEngine, cluster: Cluster, order: WorkOrder
) -> None:
    worker = engine.start(order)
    begin(cluster.actors[0])
    assert worker.ending() is None
    cluster.actors[0].last("ending").answers(Gone())
    assert worker.ending() == Died(worker="12 on here", how="with its Ray actor (see Ray's logs)")
    engine.start(order)
    assert [call.method for call in cluster.actors[0].calls] == ["begin", "ending", "begin"]


def test_how_a_worker_died_is_told_with_its_place(engine: RayEngine, cluster: Cluster, order: WorkOrder) -> None:
    worker = engine.start(order)
    begin(cluster.actors[0])
    assert worker.ending() is None
    cluster.actors[0].last("ending").answers(Died(worker="12", how="killed by SIGKILL"))
    assert worker.ending() == Died(worker="12 on here", how="killed by SIGKILL")


def test_asked_to_leave_those_that_wait_are_dismissed_and_the_silent_are_given_up(
    engine: RayEngine, cluster: Cluster, order: WorkOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    works, waits = engine.start(order), engine.start(order)
    begin(cluster.actors[0])
    for worker in (works, waits):
        worker.ask_to_leave()
    assert waits.ending() == "done"
    assert cluster.actors[1].killed
    assert cluster.actors[0].last("leave").arguments == (False,)
    assert works.ending() is None
    cluster.actors[0].last("__ray_ready__").answer = "null"  # it lives
    assert works.ending() is None
    monkeypatch.setattr(ray_engine, "_SILENCE_S", -1.0)
    assert works.ending() == "done"
    works.ask_to_leave(at_once=True)  # as the supervisor does with all in the end
    works.end_by(0.0)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (lambda call: call.answers(Refusal(kind=DataError, message="no data")), DataError, "no data"),
        (lambda call: setattr(call, "answer", "[]"), FatalError, "Ray cannot run a worker: "),
    ],
)
def test_a_refusal_keeps_its_kind_and_what_is_no_answer_is_fatal(
    answer: Callable[[Call], None], kind: type[Exception], message: str, engine: RayEngine, cluster: Cluster, order: Any
) -> None:
    worker = engine.start(order)
    answer(cluster.actors[0].last("begin"))
    with pytest.raises(kind, match=message):
        worker.ending()


def test_the_order_is_a_text_and_nothing_else_goes_to_an_actor(
    engine: RayEngine, cluster: Cluster, order: WorkOrder
) -> None:
    engine.start(order)
    (text,) = cluster.actors[0].last("begin").arguments
    assert json.loads(text)["study"] == "toy"
