"""What optuna-dashboard shows of a trial that was changed by hand: its curve, with a mark at every change."""

import html
from collections.abc import Iterable, Sequence

import optuna
from optuna.trial import FrozenTrial

from ..interventions import curves_of, interventions_of, was_changed


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
            _plot(study, trial, curve, metric=metric)


def _plot(study: optuna.Study, trial: FrozenTrial, curve: Sequence[float], *, metric: str) -> None:
    import plotly.graph_objects as go
    from optuna_dashboard import save_plotly_graph_object

    changes = [one for one in interventions_of(trial.user_attrs) if 0 < one.epoch <= len(curve)]
    figure = go.Figure()
    figure.add_scatter(x=list(range(1, len(curve) + 1)), y=list(curve), mode="lines+markers", name="curve")
    figure.add_scatter(
        x=[one.epoch for one in changes],
        y=[curve[one.epoch - 1] for one in changes],
        mode="markers+text",
        marker={"symbol": "diamond", "size": 11},
        text=[html.escape(str(one)) for one in changes],
        textposition="bottom center",
        name="changed by hand",
    )
    figure.update_layout(title=f"Trial {trial.number}, changed by hand", xaxis_title="epoch", yaxis_title=metric)
    save_plotly_graph_object(study, figure, graph_object_id=f"trial-{trial.number}-changes")
