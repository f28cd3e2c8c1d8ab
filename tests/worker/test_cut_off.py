"""A worker whose way to the database is cut: it stops its lanes in time, writes over nobody, and goes on after it."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from tests.processes import wait_until
from tests.proxy import Proxy, proxied
from tests.worker.fakes import Made, PairPlan

from caviar import KerasObjective
from caviar.spec import StudySpec
from caviar.storage.checkpoints import Checkpoint, CheckpointStore
from caviar.storage.database import new_owner, open_storage
from caviar.storage.studies import open_study
from caviar.storage.tickets import claim_tickets
from caviar.worker import worker as worker_module

EPOCHS = 4
LEASE_S = 1.0
AWAY_S = 0.7  # beyond the lease


@dataclasses.dataclass
class CutOff:
    """A worker behind a proxy, and the address of its database by another way."""

    made: Made
    proxy: Proxy
    url: str

    def work(self, meanwhile: Callable[[], object], *, silent: bool = False) -> list[int]:
        """Cut the worker off in its second epoch; what is done meanwhile ends when its leases are over.

        Returns the epochs that it trained from then on until it could reach the database again.
        """
        mended, between = threading.Event(), []

        def mend() -> None:
            mended.set()
            self.proxy.mend()

        def act(number: int, _lanes: Any) -> None:
            if number == 1:
                self.proxy.cut(silent=silent)
                meanwhile()
                threading.Timer(AWAY_S, mend).start()
            elif number > 1 and not mended.is_set():
                between.append(number)

        self.made.work(act)
        return between

    def end_in_memory(self, meanwhile: Callable[[], None]) -> None:
        """Cut the worker off in the last epoch of its trials, until something is done by another way."""

        def be_away() -> None:
            meanwhile()
            self.proxy.mend()

        def act(number: int, _lanes: Any) -> None:
            if number == EPOCHS - 1:
                self.proxy.cut()
                threading.Thread(target=be_away).start()

        self.made.work(act)

    def succeed(self) -> None:
        """Take the first trial, when its lease is over, and end it; the other one waits then."""
        other = open_storage(self.url, owner=new_owner())
        study = open_study(other, "toy")
        taken: list[Any] = []

        def take() -> bool:
            claimed = claim_tickets(other, study._study_id, n=1, budget=2, lease_s=LEASE_S, retries=2)
            taken.extend(() if isinstance(claimed, str) else claimed)
            return bool(taken)

        wait_until(take)
        assert [ticket.number for ticket in taken] == [0]
        study.tell(0, 0.75)


@pytest.fixture
def cut_off(
    postgresql_url: str, spec: StudySpec, objective: KerasObjective, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CutOff]:
    monkeypatch.setattr(worker_module, "SYNC_S", 0.0)
    search = dataclasses.replace(spec.search, lease_s=LEASE_S, checkpoint_s=0.0, trials=2)
    with proxied(postgresql_url) as (proxy, url):
        storage = open_storage(url, owner=new_owner(), create=True)
        made = Made(storage, dataclasses.replace(spec, search=search), objective, plan=PairPlan())
        yield CutOff(made, proxy, postgresql_url)


@pytest.mark.parametrize("silent", [False, True])
def test_a_worker_that_is_cut_off_stops_its_lanes_and_leaves_them_to_its_successor(
    cut_off: CutOff, checkpoints: CheckpointStore, silent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ahead: Mapping[str, Any] = {"seed": np.array(0), "epoch": np.array(3)}

    def succeed() -> None:
        cut_off.succeed()
        checkpoints.save(0, Checkpoint(epochs=3, state=ahead, notes={}))

    cut_off.made.options = {"checkpoints": checkpoints}
    assert cut_off.work(succeed, silent=silent) == []
    first, second = cut_off.made.stored
    assert (first.value, second.state.name) == (0.75, "COMPLETE")
    assert sorted(first.intermediate_values) == [0]  # what the first worker had written in time
    assert sorted(second.intermediate_values) == list(range(EPOCHS))
    assert checkpoints.epochs(0)[-1] == 3
    assert "Trial 0 is left alone: its lease was lost" in caplog.text


@pytest.mark.parametrize("silent", [False, True])
def test_a_database_that_is_away_is_outlasted(cut_off: CutOff, silent: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert cut_off.work(lambda: threading.Event().wait(LEASE_S), silent=silent) == []
    assert cut_off.made.states == {"COMPLETE": 2}
    assert [sorted(trial.intermediate_values) for trial in cut_off.made.stored] == [list(range(EPOCHS))] * 2
    assert [trial.number for trial in cut_off.made.ended] == [0, 1]
    assert "left alone" not in caplog.text
    assert silent or "Trying again" in caplog.text


def test_trials_that_ended_unheard_and_were_taken_meanwhile_are_their_successor_s(cut_off: CutOff) -> None:
    cut_off.end_in_memory(cut_off.succeed)
    assert cut_off.made.states == {"COMPLETE": 2}
    assert cut_off.made.stored[0].value == 0.75
    assert [trial.number for trial in cut_off.made.ended] == [1]
