"""Workers in a Ray cluster: its actors and nodes die in mid-trial, come and go, and the budget stays exact."""

import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState
from tests.processes import Watch, running, running_here, wait_until, write_study
from tests.test_storm import assert_sound

from caviar.attributes import OWNER

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'optuna-caviar[ray]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves its processes' log files to the collector
]

_NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
_EPOCHS = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node with room for one worker, which this process has joined."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # Ray's own, about what it will change
        patch.setenv("RAY_AUTH_MODE", "disabled")  # of a cluster that nobody else reaches, and no token is left behind
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
        ray.init(address=made.address, configure_logging=False, log_to_driver=False)
        yield made
        ray.shutdown()
        made.shutdown()


def actor_of(worker: int) -> psutil.Process:
    """Return the process of the actor that a worker belongs to: its fork server's parent."""
    return psutil.Process(worker).parents()[1]


def test_actors_and_nodes_die_come_and_go_and_the_budget_is_exact(
    tmp_path: Path, prepared_home: Path, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"trials": 6, "workers": 2, "epochs": _EPOCHS, "dataset": "many_blobs", "trainer": "solo"}
    file = write_study(tmp_path, lease_s=1, checkpoint_s=0, **options)
    watch, kept = Watch(prepared_home), prepared_home / "checkpoints"
    with running_here("run", file, "--home", prepared_home, "--engine", "ray") as run:
        wait_until(lambda: watch.reported() >= 5 or run.ended())
        ((trial, victim),) = watch.holders().items()  # the cluster has room for one worker: the other waits
        second = cluster.add_node(wait=False, **_NODE)
        before = watch.reported()
        actor_of(victim).kill()
        wait_until(lambda: watch.holders().get(trial, victim) != victim or run.ended())
        assert watch.trials()[0].state == TrialState.RUNNING
        assert min(path.name for path in kept.rglob("*.ckpt")) >= f"{before:08d}.ckpt"  # it did not start anew
        wait_until(lambda: len(set(watch.holders().values()) - {victim}) == 2 or run.ended())
        cluster.remove_node(second, allow_graceful=False)
        ended = run.finish()
    assert ended.exit_code == 0, ended.stderr
    assert f"Worker {victim} on " in caplog.text
    assert "died, with its Ray actor" in caplog.text
    assert "died, with its node, which left the cluster" in caplog.text
    assert_sound(watch, budget=6)
    assert len(watch.trials()) == 6
    assert all(list(trial.intermediate_values) == list(range(_EPOCHS)) for trial in watch.trials())
    assert not list(kept.rglob("*.ckpt"))


def test_ctrl_c_hands_the_trials_back_and_those_who_wait_for_room_leave(
    tmp_path: Path, prepared_home: Path, cluster: Any
) -> None:
    file, watch = write_study(tmp_path, workers=2, epochs=10_000, trainer="solo"), Watch(prepared_home)
    options = ("--engine", "ray", "--ray-address", cluster.address)
    with running("run", file, "--home", prepared_home, *options) as run:
        wait_until(lambda: watch.reported() >= 5 or run.ended())
        run.send(signal.SIGINT)
        ended = run.finish()
    assert ended.exit_code == 130, ended.stderr
    assert "Interrupted. Finished trials are kept" in ended.stderr
    assert "Traceback" not in ended.stderr
    (trial,) = watch.trials()
    assert trial.state == TrialState.WAITING
    assert OWNER not in trial.system_attrs
    assert list((prepared_home / "checkpoints").rglob("*.ckpt"))
