"""What optuna-dashboard shows of a trial that was changed by hand: its curve, with a mark at every change.

A picture is stored as its ``save_plotly_graph_object`` stores one, checked with optuna-dashboard 0.21;
tests/record/test_dashboard.py reads it as the page does. To import that package takes seconds, which a worker would
spend in the middle of training.
"""

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Final

import optuna
from optuna.trial import FrozenTrial

from ..interventions import curves_of, interventions_of, was_changed
from ..optuna_private import id_of_study

_PLOT: Final = "dashboard:plot_data"
_MOST_CHARACTERS: Final = 2045  # of one attribute


def plot_changes(study: optuna.Study, trials: Iterable[FrozenTrial], *, metric: str) -> None:
    """Show the curves of the trials that were changed by hand, and what was changed, in optuna-dashboard.

    Its own plot of intermediate values takes no marks, so each such trial gets one among the study's plots. It is kept
    in the study, and drawn anew by a later call.

    Args:
        study: Where the plots are kept.
        trials: As they are stored; those that were not changed are left out.
        metric: Which curve is drawn.

    Raises:
        StorageInternalError: If a plot cannot be written.
    """
    for trial in trials:
        if was_changed(trial.user_attrs) and (curve := curves_of(trial, metric)[metric]):
            _store(study, f"trial-{trial.number}-changes", json.dumps(_figure(trial, curve, metric=metric)))


def _figure(trial: FrozenTrial, curve: Sequence[float], *, metric: str) -> dict[str, object]:
    """Return a figure as Plotly's JSON schema has it, in which there is no NaN."""
    values = [value if math.isfinite(value) else None for value in curve]
    changes = [one for one in interventions_of(trial.user_attrs) if 0 < one.epoch <= len(curve)]
    return {
        "data": [
            {
                "type": "scatter",
                "x": list(range(1, len(values) + 1)),
                "y": values,
                "mode": "lines+markers",
                "name": "curve",
            },
            {
                "type": "scatter",
                "x": [one.epoch for one in changes],
                "y": [values[one.epoch - 1] for one in changes],
                "mode": "markers+text",
                "marker": {"symbol": "diamond", "size": 11},
                "text": [html.escape(str(one)) for one in changes],
                "textposition": "bottom center",
                "name": "changed by hand",
            },
        ],
        "layout": {
            "title": {"text": f"Trial {trial.number}, changed by hand"},
            "xaxis": {"title": {"text": "epoch"}},
            "yaxis": {"title": {"text": metric}},
        },
    }


def _store(study: optuna.Study, name: str, figure: str) -> None:
    storage, study_id, prefix = study._storage, id_of_study(study), f"{_PLOT}:{name}:"
    parts = [figure[start : start + _MOST_CHARACTERS] for start in range(0, len(figure), _MOST_CHARACTERS)]
    known = sum(key.startswith(prefix) for key in storage.get_study_system_attrs(study_id))
    for number, part in enumerate(parts + [""] * (known - len(parts))):
        storage.set_study_system_attr(study_id, f"{prefix}{number}", part)
