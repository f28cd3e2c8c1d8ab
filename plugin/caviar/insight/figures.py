"""The report's pictures, as plotly figures.

Optuna's own figures draw complete trials alone (a fifth of a well-pruned study), and know neither log-complement scales
nor intervals. So only its timeline serves here. A colour means the same in every picture: ``page.COLOURS``.
"""

import html
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.exceptions import ExperimentalWarning

from ..parameters import ChoiceParameter, Parameter
from .axes import Axis, metric_axis, parameter_axis
from .family import Member
from .importance import Importance
from .page import COLOURS, hover, new_figure
from .rows import TrialRow, best_rows
from .words import range_shown, shown

_SCALE = ((0.0, "#e8dcc8"), (0.5, "#86aebb"), (1.0, "#16506f"))
#: More lines are slow to open and show no more. Of more trials, the best and an even choice of the rest are drawn.
_MAX_LINES = 400
_MAX_TIMELINE = 300
_DRAWN_STATES = ("pruned", "complete")
#: Not everybody can tell states apart by colour alone.
_MARKERS: Mapping[str, Mapping[str, Any]] = {
    "pruned": {"symbol": "x-thin-open", "size": 6, "color": COLOURS["pruned"], "opacity": 0.8},
    "complete": {"symbol": "circle", "size": 6, "color": COLOURS["complete"], "opacity": 0.8},
    "best": {"symbol": "star", "size": 15, "color": COLOURS["best"], "line": {"color": "white", "width": 1}},
}


def report_figures(
    study: optuna.Study,
    rows: Sequence[TrialRow],
    parameters: Sequence[Parameter],
    *,
    importance: Importance,
    members: Sequence[Member],
    metric: str,
) -> Mapping[str, go.Figure | None]:
    """Return the report's figures by name; those that would show nothing are None, or left out."""
    made: dict[str, go.Figure | None] = {}
    valued = [row for row in rows if row.is_finished and row.value is not None]
    best = next(iter(best_rows(rows, metric=metric)), None)
    if valued:
        made["history"] = _history(rows, [f"trial {row.number}" for row in rows], metric=metric, title="trial")
        made["curves"] = _curves(rows, best, metric=metric)
        made["parallel"] = _parallel(valued, parameters, best, metric=metric)
        made["slices"] = _slices(valued, parameters, best, metric=metric)
        made["timeline"] = _timeline(study)
    if best is not None:
        made["fit"] = _fit(best, metric=metric)
    if importance.reason is None:
        made["importance"] = _importance(importance)
    return {**made, **family_figures(members, metric=metric)}


def family_figures(members: Sequence[Member], *, metric: str) -> Mapping[str, go.Figure | None]:
    """Return ``search``, the history of a whole family of studies, and ``zooms``, the ranges that they searched."""
    return {"search": _search(members, metric=metric), "zooms": _zooms(members)}


def _history(rows: Sequence[TrialRow], names: Sequence[str], *, metric: str, title: str) -> go.Figure:
    """Return the trials' values in the order given, with the best so far of the complete ones."""
    places = [place for place, row in enumerate(rows) if row.is_finished and row.value is not None]
    valued = [rows[place] for place in places]
    axis = _value_axis(valued, metric)
    heights = axis.positions(row.value for row in valued)
    complete = [index for index, row in enumerate(valued) if row.state == "complete"]
    better = min if metric.endswith("loss") else max
    figure = new_figure(height=380)
    if complete:
        steps = list(itertools.accumulate((heights[index] for index in complete), better))
        x, y = [*(places[index] for index in complete), places[-1]], [*steps, steps[-1]]
        line = {"shape": "hv", "color": COLOURS["best"], "width": 2}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name="best so far", hoverinfo="skip")
    best = better(complete, key=heights.__getitem__, default=None)
    texts = [f"{names[place]}, {rows[place].state}<br>{metric} {shown(rows[place].value)}" for place in places]
    _add_trials(figure, valued, places, heights, texts, best=best)
    return figure.update_xaxes(title_text=title).update_yaxes(**axis.layout())


def _search(members: Sequence[Member], *, metric: str) -> go.Figure | None:
    """Return the history of a whole search: each study's own trials after those before it; None without any."""
    rows = [row for member in members for row in member.rows]
    if all(row.value is None for row in rows):
        return None
    labels = {html.escape(member.name): member for member in members}
    names = [f"{label}, trial {row.number}" for label, member in labels.items() for row in member.rows]
    figure = _history(rows, names, metric=metric, title="trials of the whole search")
    begin = -0.5
    for label, member in labels.items():
        if member.rows:
            text = {"text": label, "font": {"size": 11}, "showarrow": False, "xanchor": "left", "xshift": 3}
            figure.add_vline(x=begin, line={"color": COLOURS["faint"], "width": 1, "dash": "dot"})
            figure.add_annotation(x=begin, y=0, yref="paper", yanchor="bottom", **text)
        begin += len(member.rows)
    return figure


def _curves(rows: Sequence[TrialRow], best: TrialRow | None, *, metric: str) -> go.Figure:
    """Return the learning curves; a cross marks where a trial was pruned, a diamond where it was changed by hand."""
    drawn = _at_most([row for row in rows if row.curve], _MAX_LINES, best)
    axis = metric_axis(metric, [value for row in drawn for value in row.curve])
    figure = new_figure(height=430)
    for state in _DRAWN_STATES:
        curves = [(f"trial {row.number}", row.curve) for row in drawn if row.state == state and row is not best]
        line = {"color": COLOURS[state], "width": 1}
        figure.add_scatter(**_polyline(curves, axis), name=state, line=line, opacity=0.55)
    ended = [row.curve for row in drawn if row.state == "pruned"]
    x, y = [len(curve) for curve in ended], axis.positions(curve[-1] for curve in ended)
    cross = {"symbol": "x-thin", "size": 6, "line": {"color": COLOURS["pruned"], "width": 1.5}}
    figure.add_scatter(x=x, y=y, mode="markers", marker=cross, showlegend=False, hoverinfo="skip")
    changes = [(row, one) for row in drawn for one in row.interventions if 0 < one.epoch <= len(row.curve)]
    if changes:
        figure.add_scatter(
            x=[one.epoch for _, one in changes],
            y=axis.positions(row.curve[one.epoch - 1] for row, one in changes),
            mode="markers",
            marker={"symbol": "diamond", "size": 9, "color": COLOURS["best"], "line": {"color": "white", "width": 1}},
            text=[html.escape(f"trial {row.number}, {one}") for row, one in changes],
            hoverinfo="text",
            name="changed by hand",
        )
    if best is not None and best.curve:
        name, line = f"trial {best.number}", {"color": COLOURS["best"], "width": 3}
        figure.add_scatter(**_polyline([(name, best.curve)], axis), name=f"best, {name}", line=line)
    return figure.update_xaxes(title_text="epoch").update_yaxes(**axis.layout())


def _fit(best: TrialRow, *, metric: str) -> go.Figure | None:
    """Return the best trial's training and validation curves of one kind, or None unless both were stored."""
    kind = metric.removeprefix("val_")
    training, validation = best.curves.get(kind), best.curves.get(f"val_{kind}")
    if not training or not validation:
        return None
    axis = metric_axis(kind, [*training, *validation])
    figure = new_figure(height=300)
    for name, curve, look in ((kind, training, ("faint", "dot")), (f"val_{kind}", validation, ("best", None))):
        line = {"color": COLOURS[look[0]], "dash": look[1], "width": 2.5}
        figure.add_scatter(**_polyline([(name, curve)], axis), name=name, line=line)
    return figure.update_xaxes(title_text="epoch").update_yaxes(**axis.layout())


def _parallel(
    valued: Sequence[TrialRow], parameters: Sequence[Parameter], best: TrialRow | None, *, metric: str
) -> go.Figure:
    """Return parallel coordinates, each axis on its own scale; a trial is a line, the darker the better.

    A trial that did not draw a hyperparameter is drawn at the lower end of its axis.
    """
    drawn = _at_most(valued, _MAX_LINES * 2, best)
    value_axis = _value_axis(drawn, metric)
    positions = value_axis.positions(row.value for row in drawn)
    columns, drew = [(metric, value_axis, positions)], [row.hyperparameters for row in drawn]
    for parameter in parameters:
        name, axis = parameter.name, parameter_axis(parameter)
        columns.append((name, axis, [axis.position(one[name]) if name in one else axis.low for one in drew]))
    figure = new_figure(height=430)
    figure.add_parcoords(
        dimensions=[
            {
                "label": html.escape(name),
                "values": places,
                "range": [axis.low, axis.high],
                "tickvals": [position for position, _ in axis.ticks],
                "ticktext": [html.escape(label) for _, label in axis.ticks],
            }
            for name, axis, places in columns
        ],
        line={"color": positions, "colorscale": _SCALE, "reversescale": metric.endswith("loss"), "showscale": False},
        tickfont_size=10,
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        unselected={"line": {"opacity": 0.04}},
    )
    return figure.update_layout(margin={"l": 70, "r": 70, "t": 60, "b": 30})


def _slices(
    valued: Sequence[TrialRow], parameters: Sequence[Parameter], best: TrialRow | None, *, metric: str
) -> go.Figure:
    """Return for each hyperparameter, on its own scale, the values that the trials reached."""
    value_axis = _value_axis(valued, metric)
    n_columns = min(3, len(parameters))
    n_rows = -(-len(parameters) // n_columns)
    grid = {"rows": n_rows, "cols": n_columns, "horizontal_spacing": 0.03, "vertical_spacing": 0.24 / n_rows}
    figure = new_figure(height=90 + 270 * n_rows, shared_yaxes=True, **grid)
    figure.update_yaxes(**value_axis.layout()).update_yaxes(title_text=None).update_yaxes(title_text=metric, col=1)
    for index, parameter in enumerate(parameters):
        where = {"row": index // n_columns + 1, "col": index % n_columns + 1}
        name, axis = parameter.name, parameter_axis(parameter)
        drew = [row for row in valued if name in row.hyperparameters]
        texts = [
            f"trial {row.number}, {row.state}<br>{html.escape(f'{name} {shown(row.hyperparameters[name])}')}<br>"
            f"{metric} {shown(row.value)}"
            for row in drew
        ]
        # Moved by the number, within the axis' spread, so that equal values do not hide each other.
        x = [axis.position(row.hyperparameters[name]) + ((row.number * 0.618) % 1 - 0.5) * axis.spread for row in drew]
        y = value_axis.positions(row.value for row in drew)
        star = next((i for i, row in enumerate(drew) if row is best), None)
        _add_trials(figure, drew, x, y, texts, best=star, showlegend=index == 0, **where)
        figure.update_xaxes(**axis.layout(), tickangle=0, tickfont_size=10, **where)
    return figure


def _importance(importance: Importance) -> go.Figure:
    """Return each hyperparameter's share of the importance with its interval, and the course's tier."""
    tiers = {p.name: f"tier {p.tier}" if p.tier < 4 else "not ranked" for p in reversed(importance.parameters)}
    span = f"<span style='color:{COLOURS['faint']}'>"
    labels = {name: f"{html.escape(name)}  {span}{tier}</span>  " for name, tier in tiers.items()}
    figure = new_figure(height=120 + 38 * len(labels))
    for above, name in ((True, "above chance"), (False, "may be chance")):
        chosen = [p for p in importance.parameters if p.above_chance == above]
        whiskers = {
            "array": [max(0.0, p.high - p.share) for p in chosen],
            "arrayminus": [max(0.0, p.share - p.low) for p in chosen],
        }
        figure.add_bar(
            y=[labels[p.name] for p in chosen],
            x=[p.share for p in chosen],
            orientation="h",
            name=name,
            marker={"color": COLOURS["measured"] if above else COLOURS["grid"]},
            error_x={"symmetric": False, **whiskers, "color": COLOURS["ink"], "thickness": 1.2, "width": 4},
            **hover([f"{p.share:.0%}; 90% of the resamples: {p.low:.0%} to {p.high:.0%}" for p in chosen]),
        )
    title = "share of the importance, with the range of 90% of the resamples"
    figure.update_xaxes(tickformat=".0%", title_text=title, rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=list(labels.values()), showgrid=False)
    return figure.update_layout(bargap=0.45)


def _zooms(members: Sequence[Member]) -> go.Figure | None:
    """Return the ranges of every number that a family of studies searched; None without any."""
    ranges = [
        (html.escape(member.name), member.is_current, p)
        for member in members
        for p in member.parameters
        if not isinstance(p, ChoiceParameter)
    ]
    names = list(dict.fromkeys(p.name for _, _, p in ranges))
    if not names:
        return None
    n_rows = -(-len(names) // 2)
    grid = {"rows": n_rows, "cols": 2, "vertical_spacing": 0.36 / n_rows, "horizontal_spacing": 0.06}
    figure = new_figure(height=80 + n_rows * (70 + 22 * len(members)), **grid)
    for index, name in enumerate(names):
        where = {"row": index // 2 + 1, "col": index % 2 + 1}
        of_name = [one for one in ranges if one[2].name == name]
        axis = parameter_axis(of_name[0][2])  # the widest: a zoom is narrower than its parent
        for label, is_current, p in of_name:
            ends = {"x": axis.positions((p.low, p.high)), "y": [label] * 2}
            line = {"color": COLOURS["ink" if is_current else "faint"], "width": 11}
            text = f"{label}<br>{html.escape(name)} {range_shown(p)}"
            figure.add_scatter(**ends, mode="lines", line=line, showlegend=False, **hover([text] * 2), **where)
        figure.update_xaxes(**axis.layout(), autorange=True, tickangle=0, tickfont_size=10, **where)
        figure.update_yaxes(showticklabels=where["col"] == 1, **where)
    labels = [html.escape(member.name) for member in members]
    order = {"categoryorder": "array", "categoryarray": labels, "range": [len(labels) - 0.4, -0.6]}
    return figure.update_yaxes(**order, showgrid=False)


def _timeline(study: optuna.Study) -> go.Figure:
    """Return Optuna's timeline of the last trials, in our colours, without its hover texts, which hold every curve."""
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        figure = optuna.visualization.plot_timeline(study, n_recent_trials=_MAX_TIMELINE)
    colours = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "faint", "WAITING": "grid"}
    for bar in figure.data:
        colour = COLOURS[colours.get(bar.name, "faint")]
        bar.update(name=bar.name.lower().replace("fail", "failed"), marker={"color": colour})
        bar.update(hovertext=None, text=None, hovertemplate="trial %{y}<extra></extra>")
    figure.update_layout(new_figure(height=340).layout, title_text=None, bargap=0.2)
    return figure.update_xaxes(title_text="time").update_yaxes(title_text="trial")


def _value_axis(rows: Sequence[TrialRow], metric: str) -> Axis:
    return metric_axis(metric, [row.value for row in rows if row.value is not None])


def _add_trials(
    figure: go.Figure,
    rows: Sequence[TrialRow],
    x: Sequence[float],
    y: Sequence[float],
    texts: Sequence[str],
    *,
    best: int | None,
    **where: Any,
) -> None:
    """Draw trials as points that show their state, with a star at the place of the best."""
    chosen = {state: [i for i, row in enumerate(rows) if row.state == state] for state in _DRAWN_STATES}
    for name, places in {**chosen, **({} if best is None else {"best": [best]})}.items():
        points = {"x": [x[i] for i in places], "y": [y[i] for i in places], **hover([texts[i] for i in places])}
        figure.add_scatter(**points, mode="markers", name=name, legendgroup=name, marker=_MARKERS[name], **where)


def _polyline(curves: Sequence[tuple[str, Sequence[float]]], axis: Axis) -> dict[str, Any]:
    """Return named curves as one line with gaps: plotly draws one long line faster than hundreds of short ones."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for name, curve in curves:
        x += [*range(1, len(curve) + 1), None]
        y += [*axis.positions(curve), None]
        texts += [*(f"{name}, epoch {epoch}<br>{shown(value)}" for epoch, value in enumerate(curve, 1)), ""]
    return {"x": x, "y": y, "mode": "lines", **hover(texts)}


def _at_most(rows: Sequence[TrialRow], limit: int, best: TrialRow | None) -> list[TrialRow]:
    """Return all rows, or an even choice of them that holds the best."""
    every = max(1, -(-len(rows) // limit))
    return [row for index, row in enumerate(rows) if index % every == 0 or row is best]
