"""Control messages: what is asked of a running trial, and its worker's answer, as attributes of the trial.

They need nothing but the study's storage, so whoever reaches that can steer a trial on any machine.
"""

import dataclasses
import json
import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any, Literal

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from ..attributes import FORKED_FROM, HELD, ORIGIN, PAUSED, REQUEST, RESUMED
from ..interventions import Intervention, Request, as_attributes
from ..optuna_private import optuna_tables
from . import schema
from .handing_back import queue_trial, stored_params_of
from .leased_storage import LeasedStorage, check_unfinished
from .leases import read_attributes, remove_attribute, take_leases
from .pending_writes import PendingWrites, write_pending
from .tickets import Ticket, is_held, start_trials

_ANSWER = "answer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a request.

    Attributes:
        done: Whether it took effect.
        epoch: Before which epoch, counted from 0; None if it was refused.
        reason: Why it was refused.
    """

    done: bool
    epoch: int | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """How a request stands.

    Attributes:
        state: The trial's state.
        held: Whether the trial waits until somebody resumes it.
        answer: Of the trial's worker; None while there is none.
    """

    state: TrialState
    held: bool
    answer: Answer | None


def post_request(storage: LeasedStorage, trial_id: int, request: Request) -> str:
    """Ask something of a trial that has not ended.

    Returns:
        The key under which its worker will answer.

    Raises:
        UpdateFinishedTrialError: If the trial has ended.
        KeyError: If it was deleted.
    """
    key = f"{REQUEST}{time.time_ns():020d}.{uuid.uuid4().hex[:8]}"  # workers take them in this order
    with schema.transaction(storage.engine) as connection:
        schema.take_write_lock(connection)
        check_unfinished(connection, trial_id)
        write_pending(connection, {trial_id: PendingWrites(system_attributes={key: request.to_json()})})
    return key


def read_standing(storage: LeasedStorage, trial_id: int, key: str) -> Standing | None:
    """Return how a request to a trial stands, by one statement; None if the trial was deleted."""
    tables = optuna_tables()
    trials, attributes = tables.trials, tables.system_attributes
    wanted = (attributes.c.trial_id == trials.c.trial_id) & attributes.c.key.in_((key, HELD))
    query = sqlalchemy.select(trials.c.state, attributes.c.key, attributes.c.value_json)
    with schema.reading(storage.engine) as connection:
        rows = connection.execute(
            query.select_from(trials.outerjoin(attributes, wanted)).where(trials.c.trial_id == trial_id)
        ).all()
    if not rows:
        return None
    state, stored = rows[0].state, {row.key: row.value_json for row in rows}
    answer = json.loads(stored[key]).get(_ANSWER) if key in stored else None
    return Standing(
        state=state,
        held=state == TrialState.WAITING and HELD in stored,
        answer=None if answer is None else Answer(**answer),
    )


def answered(request: Request, answer: Answer) -> dict[str, Any]:
    """Return what stands under a request's key once it is answered."""
    return {**request.to_json(), _ANSWER: dataclasses.asdict(answer)}


def read_requests(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> dict[int, dict[str, Request]]:
    """Return what is asked of some trials and not yet answered: by Optuna's id of the trial, by key, in order.

    What this version cannot read, from a later one perhaps, is left to others.
    """
    if not trial_ids:
        return {}
    attributes = optuna_tables().system_attributes
    among = schema.among(connection, attributes.c.trial_id, trial_ids)
    rows = connection.execute(
        sqlalchemy.select(attributes.c.trial_id, attributes.c.key, attributes.c.value_json)
        .where(among, attributes.c.key.startswith(REQUEST, autoescape=True))
        .order_by(attributes.c.key)
    )
    requests: dict[int, dict[str, Request]] = {}
    for row in rows:
        stored = json.loads(row.value_json)
        if _ANSWER not in stored:
            requests.setdefault(row.trial_id, {})[row.key] = Request(**stored)
    return requests


def hold_waiting(storage: LeasedStorage, trial_id: int) -> bool:
    """Have a trial that waits, wait until it is resumed; return False if it does not wait."""
    return _change_waiting(storage, trial_id, held=True)


def release_waiting(storage: LeasedStorage, trial_id: int) -> bool:
    """Let any worker claim a trial that was paused, by hand or at a rung; return False if it does not wait."""
    return _change_waiting(storage, trial_id, held=False)


def _change_waiting(storage: LeasedStorage, trial_id: int, *, held: bool) -> bool:
    with schema.transaction(storage.engine) as connection:
        schema.take_write_lock(connection)
        if _state(connection, trial_id) != TrialState.WAITING:
            return False
        marks = {HELD: True} if held else {}
        if not held and read_attributes(connection, [trial_id], PAUSED):
            marks = {RESUMED: True}
        for key in () if held else (HELD, PAUSED):
            remove_attribute(connection, [trial_id], key)
        write_pending(connection, {trial_id: PendingWrites(system_attributes=marks)})
    return True


def insert_fork(
    storage: LeasedStorage,
    study_id: int,
    source: FrozenTrial,
    *,
    epoch: int,
    origin: int,
    interventions: Sequence[Intervention],
) -> tuple[int, int]:
    """Queue a trial with another one's parameters and seeds, held until `release_waiting`.

    Args:
        storage: Whose storage does not matter.
        study_id: Optuna's id of the study.
        source: The trial that is forked.
        epoch: After how many of its epochs.
        origin: The number that its seeds derive from.
        interventions: What was changed before the fork, and is to be changed.

    Returns:
        Optuna's id of the new trial, and its number.
    """
    fork = PendingWrites(
        params=stored_params_of(source),
        user_attributes={**as_attributes(interventions), FORKED_FROM: {"trial": source.number, "epoch": epoch}},
        system_attributes={ORIGIN: origin, HELD: True},
    )
    with schema.transaction(storage.engine) as connection:
        schema.begin_claim(connection, study_id)
        return queue_trial(connection, study_id, fork)


def claim_trial(storage: LeasedStorage, study_id: int, number: int) -> list[Ticket] | Literal["wait", "done"]:
    """Claim one trial that waits; ``wait`` while another worker has it, ``done`` once it has ended."""
    trials = optuna_tables().trials
    with schema.transaction(storage.engine) as connection:
        schema.begin_claim(connection, study_id)
        row = connection.execute(
            sqlalchemy.select(trials.c.trial_id, trials.c.state, is_held().label("held")).where(
                trials.c.study_id == study_id, trials.c.number == number
            )
        ).one_or_none()
        if row is None or row.held or row.state.is_finished():
            return "done"
        if row.state == TrialState.RUNNING:
            return "wait"
        parked = bool(read_attributes(connection, [row.trial_id], PAUSED))
        tickets = start_trials(connection, [(row.trial_id, number)], promoted=parked)
        remove_attribute(connection, [row.trial_id], PAUSED)
        take_leases(connection, [row.trial_id], storage.owner)
    storage.ever_leased.add(row.trial_id)
    return tickets


def _state(connection: sqlalchemy.Connection, trial_id: int) -> TrialState | None:
    trials = optuna_tables().trials
    return connection.execute(
        sqlalchemy.select(trials.c.state).where(trials.c.trial_id == trial_id)
    ).scalar_one_or_none()
