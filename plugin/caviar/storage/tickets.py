"""Tickets: the right to run one trial of a study's budget, claimed under the write lock.

One transaction hands expired trials back, then claims waiting trials and, while the budget lasts, creates new ones. So
a budget of N gives N finished trials, however many workers ask, die and come back.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Literal

import sqlalchemy
from optuna.trial import TrialState

from ..attributes import DEATHS, HELD, ORIGIN, PAUSED, RESUMED, RETRY_HISTORY
from ..optuna_private import optuna_tables
from . import schema
from .handing_back import put_back_expired
from .identity import begin_checked_claim
from .idle import note_idle
from .leased_storage import LeasedStorage
from .leases import lock_heartbeats, read_attributes, remove_attribute, take_leases
from .overview import count_states


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ticket:
    """The right to run one trial.

    Attributes:
        trial_id: Optuna's id of the trial, which is RUNNING and leased to this worker.
        number: Its number in the study.
        origin: The number that its seeds and its place in a sequence derive from: its own, or that of the first trial
            that it retries.
        resumed: Whether it ran before, so that steps may be reported already.
        deaths: How often a worker died with it, after it had begun: one that may be to blame is best trained alone.
        promoted: Whether it was parked, and was chosen to go on, by a rule or by hand.
    """

    trial_id: int
    number: int
    origin: int
    resumed: bool
    deaths: int = 0
    promoted: bool = False


def claim_tickets(
    storage: LeasedStorage,
    study_id: int,
    *,
    n: int,
    budget: int,
    lease_s: float,
    retries: int,
    keeping: Collection[int] = (),
) -> list[Ticket] | Literal["wait", "done"]:
    """Claim up to so many trials of the budget in one transaction, those that wait first.

    Args:
        storage: This worker's.
        study_id: Optuna's.
        n: How many tickets are wanted, at least 1.
        budget: How many trials the study may have besides failed ones.
        lease_s: Seconds without a renewal after which a running trial is handed back, above 0.
        retries: Deaths of its worker that a trial survives.
        keeping: Trials that this worker is running: it does not take them from itself, however late it is.

    Returns:
        Between 1 and n tickets, by trial number those that waited, then the new ones; ``"wait"`` when the whole budget
        is being run, by others or by this worker, so that trials may yet be handed back, or when parked trials are
        left, which ``parking`` promotes or ends; ``"done"`` when it is spent.

    Raises:
        FatalError: If the study was deleted, or is no longer the one that this worker was begun with.
        StorageInternalError: If the database cannot be written.
    """
    with schema.transaction(storage.engine) as connection:
        begin_checked_claim(connection, study_id, known=storage.known_studies)
        put_back_expired(connection, study_id, lease_s=lease_s, retries=retries, keeping=keeping)
        trials = optuna_tables().trials
        waits = (trials.c.study_id == study_id) & (trials.c.state == TrialState.WAITING) & ~is_parked() & ~is_held()
        first = sqlalchemy.select(trials.c.trial_id, trials.c.number).where(waits).order_by(trials.c.trial_id)
        rows = connection.execute(first.limit(n)).all()
        claimed = start_trials(connection, [(row.trial_id, row.number) for row in rows])
        counts = count_states(connection, study_id)
        room = budget - (sum(counts.values()) - counts[TrialState.FAIL])
        n_new = min(n - len(claimed), max(0, room))
        created = _create_running(connection, study_id, n=n_new, first_number=sum(counts.values()))
        tickets = [*claimed, *created]
        note_idle(connection, study_id, storage.owner, idle=not tickets and not keeping)
        if not tickets:
            parked = counts[TrialState.WAITING] and counts[TrialState.WAITING] - _count_held(connection, study_id)
            return "wait" if counts[TrialState.RUNNING] + parked else "done"
        take_leases(connection, [ticket.trial_id for ticket in tickets], storage.owner)
    storage.ever_leased.update(ticket.trial_id for ticket in tickets)
    return tickets


def is_parked() -> sqlalchemy.ColumnElement[bool]:
    """Return the condition that a trial waits for promotion alone."""
    return sqlalchemy.and_(_waits_with(PAUSED), ~is_held())


def is_held() -> sqlalchemy.ColumnElement[bool]:
    """Return the condition that a trial waits until somebody resumes it."""
    return _waits_with(HELD)


def _waits_with(key: str) -> sqlalchemy.ColumnElement[bool]:
    trials, attributes = optuna_tables().trials, optuna_tables().system_attributes
    marked = sqlalchemy.exists().where(attributes.c.trial_id == trials.c.trial_id, attributes.c.key == key)
    return sqlalchemy.and_(trials.c.state == TrialState.WAITING, marked)


def _count_held(connection: sqlalchemy.Connection, study_id: int) -> int:
    trials = optuna_tables().trials
    count: int = connection.execute(
        sqlalchemy.select(sqlalchemy.func.count()).where(trials.c.study_id == study_id, is_held())
    ).scalar_one()
    return count


def start_trials(
    connection: sqlalchemy.Connection, waiting: Sequence[tuple[int, int]], *, promoted: bool = False
) -> list[Ticket]:
    """Set waiting trials running in a claim's transaction, and return their tickets in order.

    Each is given as Optuna's id of it and its number; the caller takes the leases.
    """
    if not waiting:
        return []
    trials = optuna_tables().trials
    trial_ids = [trial_id for trial_id, _ in waiting]
    lock_heartbeats(connection, trial_ids)  # a late owner may be renewing them
    started = sqlalchemy.func.coalesce(trials.c.datetime_start, schema.database_now(connection))
    among = schema.among(connection, trials.c.trial_id, trial_ids)
    connection.execute(trials.update().where(among).values(state=TrialState.RUNNING, datetime_start=started))
    histories = read_attributes(connection, trial_ids, RETRY_HISTORY)
    origins = read_attributes(connection, trial_ids, ORIGIN)
    deaths = read_attributes(connection, trial_ids, DEATHS)
    if resumed := read_attributes(connection, trial_ids, RESUMED):
        remove_attribute(connection, list(resumed), RESUMED)
    return [
        Ticket(
            trial_id=trial_id,
            number=number,
            origin=(histories.get(trial_id) or [origins.get(trial_id, number)])[0],
            resumed=True,
            deaths=deaths.get(trial_id, 0),
            promoted=promoted or trial_id in resumed,
        )
        for trial_id, number in waiting
    ]


def _create_running(connection: sqlalchemy.Connection, study_id: int, *, n: int, first_number: int) -> Sequence[Ticket]:
    if n == 0:
        return []
    trials = optuna_tables().trials
    new = {"study_id": study_id, "state": TrialState.RUNNING, "datetime_start": schema.database_now(connection)}
    made = trials.insert().returning(trials.c.number, trials.c.trial_id, sort_by_parameter_order=True)
    rows = connection.execute(made, [{**new, "number": first_number + place} for place in range(n)])
    return [Ticket(trial_id=trial_id, number=number, origin=number, resumed=False) for number, trial_id in rows]
