"""Every study of a home, at a glance."""

import json
from collections.abc import Mapping
from typing import Any

from ..attributes import ASKED, RACE, SPEC
from ..storage.leased_storage import LeasedStorage
from ..storage.overview import StudySummary, summarize_studies


def list_studies(storage: LeasedStorage) -> list[dict[str, Any]]:
    """Return every study of a database, by name, ready for JSON.

    Returns:
        For each: ``study``; ``kind``: ``caviar`` if it has a study file, ``race`` for a champion's, ``asked`` for one
        of the service's by ask and tell, else ``optuna``; ``metric`` or None; ``direction``, or None with several
        objectives; ``budget`` or None; ``trials``: how many are in each state; ``best``: ``number`` and ``value``, or
        None; ``workers``: how many hold a trial; ``trials_per_minute`` over the last twenty, and ``seconds_left`` at
        that rate, or None.
    """
    return [_describe(summary) for summary in summarize_studies(storage)]


def _describe(summary: StudySummary) -> dict[str, Any]:
    kind, metric, budget = _made_by(summary.attributes)
    done = summary.counts["complete"] + summary.counts["pruned"]
    rate = None
    if len(ends := summary.last_ends) > 1 and (seconds := (ends[0] - ends[-1]).total_seconds()) > 0:
        rate = round(60 * (len(ends) - 1) / seconds, 2)
    left = None if budget is None else max(0, budget - done)
    return {
        "study": summary.name,
        "kind": kind,
        "metric": metric,
        "direction": summary.directions[0] if len(summary.directions) == 1 else None,
        "budget": budget,
        "trials": dict(summary.counts),
        "best": None if summary.best is None else {"number": summary.best[0], "value": summary.best[1]},
        "workers": summary.n_workers,
        "trials_per_minute": rate,
        "seconds_left": None if rate is None or left is None else round(60 * left / rate, 1),
    }


def _made_by(attributes: Mapping[str, Any]) -> tuple[str, str | None, int | None]:
    """Return a study's kind, metric and budget."""
    if SPEC in attributes:
        table = json.loads(attributes[SPEC])
        if RACE in attributes:
            return "race", table["objective"]["metric"], None
        return "caviar", table["objective"]["metric"], table["search"]["trials"]
    if ASKED in attributes:
        table = json.loads(attributes[ASKED])
        return "asked", table["metric"], table["trials"]
    return "optuna", None, None
