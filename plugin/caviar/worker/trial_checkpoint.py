"""A trial's checkpoint: its network as it is, as it was at its best epoch, and its curves."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from numpy import generic
from numpy.typing import NDArray

from ..storage.checkpoints import Checkpoint, CheckpointStore
from ..storage.tickets import Ticket
from .best_network import State
from .trial_run import TrialRun

_logger = logging.getLogger(__name__)

#: What a checkpoint's arrays are named by.
_LANE, _BEST = "lane/", "best/"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SavedTrial:
    """What a checkpoint holds.

    Attributes:
        lane: The state of the trial's lane.
        best: That of its best epoch, or None where none was kept.
        notes: Of `TrialRun.restore`.
    """

    lane: State
    best: State | None
    notes: Mapping[str, Any]


def load_trial(checkpoints: CheckpointStore | None, ticket: Ticket) -> SavedTrial | None:
    """Return the last checkpoint of a trial that ran before; None where there is none."""
    checkpoint = checkpoints.load(ticket.number) if checkpoints and ticket.resumed else None
    if checkpoint is None:
        return None
    best = _part(checkpoint.state, _BEST)
    return SavedTrial(lane=_part(checkpoint.state, _LANE), best=best or None, notes=checkpoint.notes)


def save_trial(checkpoints: CheckpointStore, ticket: Ticket, run: TrialRun, *, lane: State, best: State | None) -> None:
    """Checkpoint a trial; a full disk is only said, for the trial can train on."""
    state = {_LANE + key: value for key, value in lane.items()}
    state |= {_BEST + key: value for key, value in (best or {}).items()}
    try:
        checkpoints.save(ticket.number, Checkpoint(epochs=run.epochs, state=state, notes=run.notes()))
    except OSError as error:
        _logger.warning("Trial %d could not be checkpointed, and trains on: %s", ticket.number, error)


def _part(state: State, prefix: str) -> dict[str, NDArray[generic]]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
