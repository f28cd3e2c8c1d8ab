"""Workers in a Ray cluster: its actors and nodes die in mid-trial, come and go, and the budget stays exact."""

import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState
from tests.processes import Caviar, Watch, running, running_here, wait_until, write_study
from tests.test_storm import assert_sound

from caviar.attributes import OWNER

pytest.importorskip("ray", reason="Ray is not installed: pip install 'optuna-caviar[ray]'")
pytestmark = pytest.mark.slow

_NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
_EPOCHS = 30
_SETTINGS = {
    "RAY_AUTH_MODE": "disabled",  # of a cluster that nobody else reaches, so that no token is left behind
    "RAY_health_check_initial_delay_ms": "0",  # a node that died is missed after 2 s, not after 15
    "RAY_health_check_period_ms": "400",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node, which has room for one worker."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # Ray's own
        for name, value in _SETTINGS.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
        yield made
        made.shutdown()


def workers_at(watch: Watch) -> dict[int, int]:
    """Return what the workers train, from the fifth epoch on: process → trial number."""
    begun = {trial._trial_id: trial.number for trial in watch.trials() if len(trial.intermediate_values) >= 5}
    return {worker: begun[trial] for trial, worker in watch.holders().items() if trial in begun}


def wait_for_workers(watch: Watch, run: Caviar, n: int) -> dict[int, int]:
    wait_until(lambda: len(workers_at(watch)) >= n or run.ended(), timeout_s=120)
    found = workers_at(watch)
    assert len(found) == n, run.stderr()
    return found


def test_actors_and_nodes_die_come_and_go_ctrl_c_hands_back_and_the_budget_is_exact(
    tmp_path: Path, prepared_home: Path, cluster: Any
) -> None:
    options: dict[str, Any] = {"workers": 2, "epochs": _EPOCHS, "dataset": "many_blobs", "trainer": "solo"}
    file = write_study(tmp_path, trials=1000, sampler="tpe", lease_s=1, checkpoint_s=0, **options)
    watch, kept = Watch(prepared_home), prepared_home / "checkpoints"
    ray = ("--engine", "ray", "--ray-address", cluster.address)
    with running("run", file, "--home", prepared_home, *ray) as run:
        ((victim, number),) = wait_for_workers(watch, run, 1).items()  # the other waits for room
        epochs = len(watch.trials()[number].intermediate_values)
        psutil.Process(victim).parents()[1].kill()  # the actor: the worker's fork server's parent
        second = cluster.add_node(wait=False, **_NODE)
        wait_until(lambda: watch.holders().get(watch.trials()[number]._trial_id, victim) != victim or run.ended())
        # Two are kept; a trial that began anew would have others.
        assert all(int(path.stem) >= epochs - 1 for path in kept.glob(f"**/{number}/*.ckpt"))
        assert victim not in wait_for_workers(watch, run, 2)
        cluster.remove_node(second, allow_graceful=False)
        wait_until(lambda: "died, with its node, which left the cluster" in run.stderr() or run.ended())
        wait_for_workers(watch, run, 1)
        run.send(signal.SIGINT)
        ended = run.finish()
    assert ended.exit_code == 130, ended.stderr
    assert f"Worker {victim} on " in ended.stderr
    assert "died, with its Ray actor" in ended.stderr
    assert "Interrupted. Finished trials are kept" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert all(OWNER not in trial.system_attrs for trial in watch.trials() if trial.state == TrialState.WAITING)
    assert watch.count(TrialState.RUNNING) <= 2  # those of the node, if nobody has missed them yet

    budget = len(watch.trials())
    with running_here("run", file, "--home", prepared_home, "--trials", str(budget)) as rest:
        assert rest.finish().exit_code == 0
    assert_sound(watch, budget=budget)
    assert len(watch.trials()) == budget
    assert all(list(trial.intermediate_values) == list(range(_EPOCHS)) for trial in watch.trials())
    assert not list(kept.rglob("*.ckpt"))
