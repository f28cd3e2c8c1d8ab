"""What several processes do at the same moment. A light module: the processes import it."""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import optuna

from caviar.engines.fork_server import start_fork_server
from caviar.storage.database import new_owner, open_storage
from caviar.storage.studies import open_study
from caviar.storage.tickets import Ticket
from tests.databases import claim_ticket

_T = TypeVar("_T")
_N = 4
_barrier: threading.Barrier


def race(function: Callable[..., _T], *arguments: object) -> list[_T]:
    """Call a function in four processes, which are forked from one of the fork server's, so that none imports the code.

    The function waits for the barrier before what is to happen at once.
    """
    start_fork_server()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(_fork, function, arguments).result(timeout=60)


def _fork(function: Callable[..., _T], arguments: tuple[object, ...]) -> list[_T]:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(_N, context, initializer=_keep, initargs=(context.Barrier(_N),)) as pool:
        futures = [pool.submit(function, *arguments) for _ in range(_N)]
        return [future.result(timeout=60) for future in futures]


def _keep(barrier: threading.Barrier) -> None:
    global _barrier
    _barrier = barrier


def open_fresh(url: str) -> bool:
    """Open a database that may have no tables yet, and one study in it."""
    _barrier.wait(60)
    optuna.create_study(storage=open_storage(url, owner=new_owner()), study_name="toy", load_if_exists=True)
    return True


def claim_all(url: str, name: str) -> list[int]:
    """Claim and finish trials until all 60 are done; return the numbers of this process."""
    storage = open_storage(url, owner=new_owner())
    study = open_study(storage, name)
    _barrier.wait(60)
    numbers = []
    while isinstance(ticket := claim_ticket(storage, study._study_id, budget=60, lease_s=30, retries=2), Ticket):
        numbers.append(ticket.number)
        study.tell(ticket.number, 0.5)
    return numbers
