"""Workers get ready before their study is there: what they know of the data, and what becomes of them."""

import os
from pathlib import Path

import pytest

from caviar.engines.ready_workers import ready_workers
from caviar.engines.supervisor import WorkerExit, WorkerRefusedError
from caviar.engines.warming import warm_up
from caviar.engines.worker_process import WorkOrder
from caviar.errors import DataError
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


def test_facts_are_those_of_the_data() -> None:
    warm_up()
    with ready_workers(spec_of("tests.toy_data:blobs"), threads=1, n_workers=1) as workers:
        facts = workers.facts()
    assert (facts.n_classes, facts.feature_shape) == (3, (4,))
    assert facts.n_train + facts.n_validation == 240
    dying = ("tests.engines.test_ready_workers:dying", "exit code 3")
    for dataset, reason in (dying, ("digitz", "digitz"), ("tests.toy_data:leaving", "SystemExit: 0")):
        with (
            ready_workers(spec_of(dataset), threads=1, n_workers=1) as workers,
            pytest.raises(DataError, match=reason),
        ):
            workers.facts()


def interrupting() -> None:
    """Raise what a Ctrl-C raises, to which a worker is deaf while it loads its data."""
    raise KeyboardInterrupt


def test_whatever_else_ends_the_loading_is_said_too() -> None:
    warm_up()
    with (
        ready_workers(spec_of("tests.engines.test_ready_workers:interrupting"), threads=1, n_workers=1) as workers,
        pytest.raises(WorkerRefusedError, match=r"could not be loaded: KeyboardInterrupt.*\(test_ready_workers.py"),
    ):
        workers.facts()


def test_each_is_given_one_order_and_those_without_are_ended(order: WorkOrder) -> None:
    warm_up()
    with ready_workers(order.spec, threads=1, n_workers=3) as workers:
        workers.facts()
        taken = [workers.take(order), workers.take(order)]
    assert workers.take(order) is None
    for worker in taken:
        assert worker is not None
        process, connection = worker
        assert b"no study database" in connection.recv_bytes()
        process.join(20)
        assert process.exitcode == WorkerExit.REFUSED


def test_one_that_died_before_its_order_is_seen_by_its_exit_code(order: WorkOrder) -> None:
    warm_up()
    with ready_workers(order.spec, threads=1, n_workers=1) as workers:
        workers.facts()
        process, _ = workers._ready[0]
        process.kill()
        process.join(20)
        assert workers.take(order) is not None
    assert process.exitcode == -9


def one_thread() -> tuple[tuple[object, object], ...]:
    """Give data in a process whose TensorFlow is bound to one thread, and none in another."""
    import tensorflow as tf
    from tests.toy_data import blobs

    tf.constant(1.0)
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    return blobs()


def test_threads_are_bound_before_the_data_is_loaded() -> None:
    warm_up()
    with ready_workers(spec_of("tests.engines.test_ready_workers:one_thread"), threads=1, n_workers=1) as workers:
        assert workers.facts().n_classes == 3
