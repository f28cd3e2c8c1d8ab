"""Workers get ready before their study is there: what they know of the data, and what becomes of them."""

import os
import time
from pathlib import Path

import pytest

from caviar.engines.processes import Ending, ProcessEngine, ProcessWorker
from caviar.engines.protocol import WorkerExit, WorkOrder
from caviar.errors import DataError, FatalError, SpecError, StorageError
from caviar.spec import StudySpec, parse_spec
from caviar.storage.home import locate_home

pytestmark = pytest.mark.slow


def dying() -> None:
    """End the process, as one that lacks memory does."""
    os._exit(3)


def spec_of(dataset: str) -> StudySpec:
    return parse_spec({"name": "toy", "data": {"dataset": dataset}})


@pytest.fixture
def order(tmp_path: Path) -> WorkOrder:
    """To work on a study that is not there, as every worker will say that gets it."""
    spec = spec_of("tests.toy_data:blobs")
    return WorkOrder(home=locate_home(tmp_path / "missing"), study="toy", spec=spec, threads=1)


def wait_for_ending(engine: ProcessEngine, worker: ProcessWorker) -> Ending | None:
    deadline_s = time.monotonic() + 30
    while (ending := worker.ending()) is None and time.monotonic() < deadline_s:
        engine.wait([worker], timeout_s=1.0)
    return ending


def test_facts_are_those_of_the_data() -> None:
    with ProcessEngine() as engine:
        facts = engine.get_ready(spec_of("tests.toy_data:blobs"), threads=1, n_workers=1)
    assert (facts.n_classes, facts.feature_shape) == (3, (4,))
    assert facts.n_train + facts.n_validation == 240
    dying = ("tests.engines.test_processes:dying", "exit code 3")
    for dataset, reason in (dying, ("digitz", "digitz"), ("tests.toy_data:leaving", "SystemExit: 0")):
        with ProcessEngine() as engine, pytest.raises(DataError, match=reason):
            engine.get_ready(spec_of(dataset), threads=1, n_workers=1)


def interrupting() -> None:
    """Raise what a Ctrl-C raises, to which a worker is deaf while it loads its data."""
    raise KeyboardInterrupt


def test_whatever_else_ends_the_loading_is_said_too() -> None:
    spec = spec_of("tests.engines.test_processes:interrupting")
    reason = r"could not be loaded: KeyboardInterrupt.*\(test_processes.py"
    with ProcessEngine() as engine, pytest.raises(FatalError, match=reason):
        engine.get_ready(spec, threads=1, n_workers=1)


def test_what_is_refused_keeps_its_kind() -> None:
    spec = parse_spec({"name": "toy", "data": {"dataset": "tests.toy_data:blobs", "validation_fraction": 1e-9}})
    with ProcessEngine() as engine, pytest.raises(SpecError, match="must leave at least one of the 240 examples"):
        engine.get_ready(spec, threads=1, n_workers=1)


def test_each_is_given_one_order_and_those_without_are_ended(order: WorkOrder) -> None:
    with ProcessEngine() as engine:
        engine.get_ready(order.spec, threads=1, n_workers=3)
        workers = [engine.start(order), engine.start(order)]
    workers.append(engine.start(order))  # none is ready any more: a new one
    for worker in workers:
        with pytest.raises(StorageError, match="no study database"):
            wait_for_ending(engine, worker)
        assert worker.process.exitcode == WorkerExit.REFUSED
    assert [worker.process.name for worker in workers] == ["caviar-ready", "caviar-ready", "caviar-toy"]


def test_one_that_died_is_seen_by_its_exit_code(order: WorkOrder) -> None:
    with ProcessEngine() as engine:
        engine.get_ready(order.spec, threads=1, n_workers=1)
        worker = engine.start(order)
        worker.process.kill()
        ending = wait_for_ending(engine, worker)
    assert worker.process.exitcode == -9
    assert "killed by SIGKILL" in str(ending)


def one_thread() -> tuple[tuple[object, object], ...]:
    """Give data in a process whose TensorFlow is bound to one thread, and none in another."""
    import tensorflow as tf
    from tests.toy_data import blobs

    tf.constant(1.0)
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    return blobs()


def test_threads_are_bound_before_the_data_is_loaded() -> None:
    with ProcessEngine() as engine:
        spec = spec_of("tests.engines.test_processes:one_thread")
        assert engine.get_ready(spec, threads=1, n_workers=1).n_classes == 3
