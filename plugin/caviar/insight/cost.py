"""Time and cost: what a search has trained, what pruning has saved of it, and whether the machine suits it."""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np

from .rows import TrialRow
from .words import duration

#: A search shorter than a working day runs unattended while you do something else.
_CAVIAR_LIMIT_H = 8.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a search took.

    Epochs and seconds trained are those of all trials, failed and running ones included; seconds count building and
    compiling too. Pruned trials did not train ``epochs_saved``, ``share_saved`` of all epochs that the same trials
    would have trained unpruned, which would have taken an estimated ``seconds_saved``. By the same estimate, a trial
    takes ``start_up_s`` to build and compile. ``full_trial_s`` is the median of complete trials. At least one trial ran
    in ``busy_s``, and ``lanes`` at once, on average. ``diverged`` counts pruned trials whose training diverged.
    """

    epochs_trained: int
    seconds_trained: float
    epochs_saved: int
    seconds_saved: float
    share_saved: float
    start_up_s: float
    full_trial_s: float | None
    busy_s: float
    lanes: float | None
    diverged: int


def measure_cost(rows: Sequence[TrialRow], *, epochs: int) -> Cost:
    """Add up what the trials took.

    A pruned trial saved the epochs that it did not train, at its own seconds an epoch. Building and compiling are a
    large part of a short trial, and more epochs would not have repeated them. So a line is fitted through all finished
    trials' (epochs, seconds). Its slope is the time of an epoch, scaled by how much longer or shorter than the line
    says the trial itself took. Inherited trials are left out. ``epochs`` is the length of a trial that is not pruned.
    """
    rows = [row for row in rows if not row.inherited]
    timed = [(row, row.seconds) for row in rows if row.is_finished and row.seconds and row.curve]
    start_up_s, epoch_s = _start_and_epoch_s([(len(row.curve), seconds) for row, seconds in timed])
    trained = sum(len(row.curve) for row in rows)
    left = {row.number: max(0, epochs - len(row.curve)) for row in rows if row.state == "pruned"}
    saved = sum(left.values())
    seconds_saved = sum(
        left.get(row.number, 0) * epoch_s * seconds / (start_up_s + epoch_s * len(row.curve)) for row, seconds in timed
    )
    full = [row.seconds for row in rows if row.state == "complete" and row.seconds]
    spans = [(row.started, row.ended) for row in rows if row.started is not None and row.ended is not None]
    busy_s = _covered_s(spans)
    total_s = sum((end - start).total_seconds() for start, end in spans)
    return Cost(
        epochs_trained=trained,
        seconds_trained=round(sum(row.seconds or 0.0 for row in rows), 3),
        epochs_saved=saved,
        seconds_saved=round(seconds_saved, 3),
        share_saved=saved / (saved + trained) if saved else 0.0,
        start_up_s=start_up_s,
        full_trial_s=float(np.median(full)) if full else None,
        busy_s=round(busy_s, 3),
        lanes=round(total_s / busy_s, 2) if busy_s > 0 else None,
        diverged=sum(row.diverged for row in rows if row.state == "pruned"),
    )


def panda_or_caviar(trial_s: float, trials: int, *, cores: int) -> tuple[str, str]:
    """Say whether to train many networks side by side, ``caviar``, or to watch over one, ``panda``, and why.

    ``trial_s``, above 0, is what one unpruned trial takes on this machine; its ``cores`` are only named in the reason.

    Source:
        The course's "Hyperparameters tuning in practice: Pandas vs. Caviar": it depends on your computing power.
    """
    total_s, limit = trial_s * trials, f"{_CAVIAR_LIMIT_H:.0f} h"
    one = f"One trial takes about {trial_s:.1f} s on the {cores} core{'s' if cores > 1 else ''} here"
    took = f"{one}, so {trials} trials take {duration(total_s)} without pruning."
    fits = int(_CAVIAR_LIMIT_H * 3600 / trial_s)
    if total_s <= _CAVIAR_LIMIT_H * 3600:
        return "caviar", f"{took} Train many in parallel and keep the best."
    if fits >= 10:
        return "caviar", f"{took} Train many, but lower the budget: about {fits} fit into {limit}."
    return "panda", f"{took} Only {fits} fit into {limit}, so babysit one model."


def _start_and_epoch_s(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return the seconds of starting up and of one epoch, by the line through (epochs, seconds).

    If all trials have one length, or longer ones took no longer, all time is counted to the epochs.
    """
    epochs, seconds = [epochs for epochs, _ in points], [seconds for _, seconds in points]
    if len(set(epochs)) >= 2:
        slope, intercept = np.polyfit(epochs, seconds, 1)
        if slope > 0 and intercept >= 0:
            return round(float(intercept), 3), float(slope)
    return 0.0, sum(seconds) / sum(epochs) if sum(epochs) else 1.0


def _covered_s(spans: Sequence[tuple[datetime.datetime, datetime.datetime]]) -> float:
    """Return the seconds in which at least one of the spans runs."""
    covered, until = 0.0, None
    for start, end in sorted(spans):
        begin = start if until is None else max(start, until)
        if end > begin:
            covered += (end - begin).total_seconds()
            until = end
    return covered
