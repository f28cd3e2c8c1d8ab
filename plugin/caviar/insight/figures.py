"""The report's pictures, as plotly figures.

Optuna's own figures draw complete trials alone (of a well-pruned study a fifth), know no log-complement scale and no
intervals, so that only its timeline serves here. In every picture a colour means the same: ``style.COLOURS``.
"""

import html
import warnings
from collections.abc import Iterable, Sequence

import optuna
import plotly.graph_objects as go
from optuna.exceptions import ExperimentalWarning
from plotly.subplots import make_subplots

from ..parameters import ChoiceParameter, Parameter
from .axes import Axis, metric_axis, parameter_axis, shown
from .importance import Importance
from .lineage import Member
from .rows import TrialRow
from .style import COLOURS, add_star, axis_ticks, dimension, hover, new_figure, state_symbol, style_figure, with_axis

_SCALE = ((0.0, "#e8dcc8"), (0.5, "#86aebb"), (1.0, "#16506f"))
#: More lines are slow to open and show no more: of more trials the best and an even choice of the rest are drawn.
MAX_LINES = 400
_MAX_TIMELINE = 300
_DRAWN_STATES = ("pruned", "complete")


def history_figure(rows: Sequence[TrialRow], *, metric: str) -> go.Figure:
    """Return every trial's value in order of its number, with the best so far of the complete ones."""
    figure = _history([(row.number, f"trial {row.number}", row) for row in rows], metric=metric)
    return figure.update_xaxes(title_text="trial")


def search_figure(members: Sequence[Member], *, metric: str) -> go.Figure | None:
    """Return the history of a whole search: each study's own trials after those before it; None without any."""
    drawn: list[tuple[int, str, TrialRow]] = []
    begins: list[tuple[int, Member]] = []
    for member in members:
        begins.append((len(drawn), member))
        label = _label(member)
        drawn += [(len(drawn) + place, f"{label}, trial {row.number}", row) for place, row in enumerate(member.rows)]
    if not any(row.value is not None for _, _, row in drawn):
        return None
    figure = _history(drawn, metric=metric)
    for place, member in begins:
        if member.rows:
            text = {"text": _label(member), "font": {"size": 11}, "showarrow": False, "xanchor": "left", "xshift": 3}
            figure.add_vline(x=place - 0.5, line={"color": COLOURS["faint"], "width": 1, "dash": "dot"})
            figure.add_annotation(x=place - 0.5, y=0, yref="paper", yanchor="bottom", **text)
    return figure.update_xaxes(title_text="trials of the whole search")


def curves_figure(rows: Sequence[TrialRow], best: TrialRow | None, *, metric: str) -> go.Figure:
    """Return the learning curves, pruned ones up to where they were pruned, which a cross marks."""
    drawn = _at_most([row for row in rows if row.curve], MAX_LINES, best)
    axis = metric_axis(metric, [value for row in drawn for value in row.curve])
    figure = new_figure(height=430)
    for state in _DRAWN_STATES:
        of_state = [row for row in drawn if row.state == state and row is not best]
        x, y, texts = _polylines(of_state, axis)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=state,
            line={"color": COLOURS[state], "width": 1},
            opacity=0.55,
            connectgaps=False,
            **hover(texts),
        )
    ended = [row for row in drawn if row.state == "pruned"]
    figure.add_scatter(
        x=[len(row.curve) for row in ended],
        y=[axis.position(row.curve[-1]) for row in ended],
        mode="markers",
        marker={"symbol": "x-thin", "size": 6, "line": {"color": COLOURS["pruned"], "width": 1.5}},
        showlegend=False,
        hoverinfo="skip",
    )
    if best is not None and best.curve:
        x, y, texts = _polylines([best], axis)
        line = {"color": COLOURS["best"], "width": 3}
        figure.add_scatter(x=x, y=y, mode="lines", name=f"best, trial {best.number}", line=line, **hover(texts))
    figure.update_xaxes(title_text="epoch")
    return with_axis(figure, axis, "y")


def fit_figure(best: TrialRow, *, metric: str) -> go.Figure | None:
    """Return the best trial's training and validation curves of one kind, or None where both were not kept."""
    kind = metric.removeprefix("val_")
    pair = [(name, best.curves[name]) for name in (kind, f"val_{kind}") if best.curves.get(name)]
    if len(pair) < 2:
        return None
    axis = metric_axis(metric, [value for _, curve in pair for value in curve])
    figure = new_figure(height=300)
    for (name, curve), colour, dash in zip(pair, (COLOURS["faint"], COLOURS["best"]), ("dot", "solid"), strict=True):
        figure.add_scatter(
            x=list(range(1, len(curve) + 1)),
            y=[axis.position(value) for value in curve],
            mode="lines",
            name=name,
            line={"color": colour, "dash": dash, "width": 2.5},
            **hover([f"epoch {epoch}<br>{name} {shown(value)}" for epoch, value in enumerate(curve, 1)]),
        )
    figure.update_xaxes(title_text="epoch")
    figure = with_axis(figure, axis, "y")
    return figure.update_yaxes(title_text=axis.title.replace(metric, kind))


def parallel_figure(
    rows: Sequence[TrialRow], parameters: Sequence[Parameter], best: TrialRow | None, *, metric: str
) -> go.Figure:
    """Return parallel coordinates, each axis on its own scale; a trial is a line, the darker the better.

    A hyperparameter that some of the trials did not draw stands at its axis' lower end for them.
    """
    drawn = _at_most([row for row in rows if row.is_finished and row.value is not None], MAX_LINES * 2, best)
    value_axis = metric_axis(metric, [row.value for row in drawn if row.value is not None])
    positions = [value_axis.position(row.value) for row in drawn]
    dimensions = [dimension(value_axis, positions, title=metric)]
    for parameter in parameters:
        axis = parameter_axis(parameter)
        places = [
            axis.position(row.hyperparameters[parameter.name]) if parameter.name in row.hyperparameters else axis.low
            for row in drawn
        ]
        dimensions.append(dimension(axis, places, title=parameter.name))
    figure = new_figure(height=430)
    reverse = metric.endswith("loss")
    figure.add_trace(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": positions, "colorscale": _SCALE, "reversescale": reverse, "showscale": False},
            labelfont={"size": 12, "color": COLOURS["ink"]},
            tickfont={"size": 10, "color": COLOURS["ink"]},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
            unselected={"line": {"opacity": 0.04}},
        )
    )
    return figure.update_layout(margin={"l": 70, "r": 70, "t": 60, "b": 30})


def slices_figure(
    rows: Sequence[TrialRow], parameters: Sequence[Parameter], best: TrialRow | None, *, metric: str
) -> go.Figure:
    """Return for each hyperparameter, on its own scale, the value that the trials reached."""
    valued = [row for row in rows if row.is_finished and row.value is not None]
    value_axis = metric_axis(metric, [row.value for row in valued if row.value is not None])
    n_columns = min(3, len(parameters))
    n_rows = -(-len(parameters) // n_columns)
    figure = make_subplots(
        rows=n_rows, cols=n_columns, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=0.24 / n_rows
    )
    style_figure(figure, height=90 + 270 * n_rows)
    for index, parameter in enumerate(parameters):
        where = {"row": index // n_columns + 1, "col": index % n_columns + 1}
        axis = parameter_axis(parameter)
        for state in _DRAWN_STATES:
            points = [row for row in valued if row.state == state and parameter.name in row.hyperparameters]
            figure.add_scatter(
                x=[_jittered(axis, row, parameter.name) for row in points],
                y=[value_axis.position(row.value) for row in points],
                mode="markers",
                name=state,
                legendgroup=state,
                showlegend=index == 0,
                marker={"color": COLOURS[state], "size": 6, "symbol": state_symbol(state), "opacity": 0.75},
                **hover([_slice_text(row, parameter.name, metric) for row in points]),
                **where,
            )
        if best is not None and parameter.name in best.hyperparameters:
            place = _jittered(axis, best, parameter.name)
            text = _slice_text(best, parameter.name, metric)
            add_star(figure, place, value_axis.position(best.value), text=text, showlegend=index == 0, **where)
        figure.update_xaxes(
            **axis_ticks(axis, wrapped=True), title_text=html.escape(axis.title), tickangle=0, tickfont_size=10, **where
        )
        first = where["col"] == 1
        figure.update_yaxes(**axis_ticks(value_axis), title_text=metric if first else None, **where)
    return figure


def importance_figure(importance: Importance) -> go.Figure:
    """Return each hyperparameter's share of the importance with its interval, and the course's tier."""
    shown_first = list(reversed(importance.parameters))
    labels = [
        f"{html.escape(p.name)}  <span style='color:{COLOURS['faint']}'>"
        + (f"tier {p.tier}" if p.tier < 4 else "not ranked")
        + "</span>  "
        for p in shown_first
    ]
    figure = new_figure(height=120 + 38 * len(labels))
    for above, name in ((True, "above chance"), (False, "not told from chance")):
        chosen = [(label, p) for label, p in zip(labels, shown_first, strict=True) if p.above_chance == above]
        figure.add_bar(
            y=[label for label, _ in chosen],
            x=[p.share for _, p in chosen],
            orientation="h",
            name=name,
            marker={"color": COLOURS["measured"] if above else COLOURS["grid"]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(0.0, p.high - p.share) for _, p in chosen],
                "arrayminus": [max(0.0, p.share - p.low) for _, p in chosen],
                "color": COLOURS["ink"],
                "thickness": 1.2,
                "width": 4,
            },
            **hover([f"{p.share:.0%}, 90 % of resamples: {p.low:.0%} to {p.high:.0%}" for _, p in chosen]),
        )
    figure.update_xaxes(
        tickformat=".0%", title_text="share of the importance, with 90 % of the resamples", rangemode="tozero"
    )
    figure.update_yaxes(categoryorder="array", categoryarray=labels, showgrid=False)
    return figure.update_layout(bargap=0.45)


def zooms_figure(members: Sequence[Member], *, columns: int = 1, height: int | None = None) -> go.Figure | None:
    """Return the ranges of every number that a family of studies searched; None without any.

    Args:
        members: The family.
        columns: Hyperparameters side by side.
        height: In pixels; as much as the ranges need if None.
    """
    names = dict.fromkeys(p.name for member in members for p in member.parameters if not isinstance(p, ChoiceParameter))
    if not names:
        return None
    n_rows, labels = -(-len(names) // columns), [_label(member) for member in members]
    figure = make_subplots(rows=n_rows, cols=columns, vertical_spacing=0.36 / n_rows, horizontal_spacing=0.06)
    style_figure(figure, height=height or 80 + n_rows * (70 + 22 * len(members)))
    for index, name in enumerate(names):
        where = {"row": index // columns + 1, "col": index % columns + 1}
        ranges = [
            (member, p)
            for member in members
            for p in member.parameters
            if p.name == name and not isinstance(p, ChoiceParameter)
        ]
        widest = ranges[0][1]
        axis = parameter_axis(widest)
        for member, p in ranges:
            low, high = axis.position(p.low), axis.position(p.high)
            colour = COLOURS["ink"] if member.is_current else COLOURS["faint"]
            figure.add_scatter(
                x=[low, high],
                y=[_label(member)] * 2,
                mode="lines",
                line={"color": colour, "width": 11},
                showlegend=False,
                **hover([f"{_label(member)}<br>{html.escape(name)} {shown(p.low)} to {shown(p.high)}"] * 2),
                **where,
            )
        figure.update_xaxes(
            **axis_ticks(axis),
            title_text=html.escape(axis.title),
            autorange=True,
            tickangle=0,
            tickfont_size=10,
            **where,
        )
        order = {"categoryorder": "array", "categoryarray": labels, "range": [len(labels) - 0.4, -0.6]}
        figure.update_yaxes(**order, showgrid=False, showticklabels=where["col"] == 1, **where)
    return figure


def timeline_figure(study: optuna.Study) -> go.Figure:
    """Return Optuna's timeline of the last trials, in our colours, without its hover texts that hold every curve."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        figure = optuna.visualization.plot_timeline(study, n_recent_trials=_MAX_TIMELINE)
    colours = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "faint", "WAITING": "grid"}
    for bar in figure.data:
        meaning = colours.get(bar.name, "faint")
        bar.update(name=bar.name.lower().replace("fail", "failed"), marker={"color": COLOURS[meaning]})
        bar.update(hovertext=None, text=None, hovertemplate="trial %{y}<extra></extra>")
    style_figure(figure, height=340)
    figure.update_layout(title_text=None, bargap=0.2)
    return figure.update_xaxes(title_text="time").update_yaxes(title_text="trial")


def _history(drawn: Sequence[tuple[int, str, TrialRow]], *, metric: str) -> go.Figure:
    """Return trials' values and the best so far of the complete ones, each trial given with its place and its name."""
    valued = [(place, name, row) for place, name, row in drawn if row.value is not None and row.is_finished]
    axis = metric_axis(metric, [row.value for _, _, row in valued if row.value is not None])
    figure = new_figure(height=380)
    for state in _DRAWN_STATES:
        of_state = [one for one in valued if one[2].state == state]
        figure.add_scatter(
            x=[place for place, _, _ in of_state],
            y=[axis.position(row.value) for _, _, row in of_state],
            mode="markers",
            name=state,
            marker={"color": COLOURS[state], "size": 7, "symbol": state_symbol(state), "opacity": 0.85},
            **hover([f"{name}, {state}<br>{_value(metric, row)}" for _, name, row in of_state]),
        )
    steps = _best_so_far(valued, maximize=not metric.endswith("loss"))
    if steps:
        place, name, best = steps[-1]
        height = axis.position(best.value)
        figure.add_scatter(
            x=[*(one for one, _, _ in steps), max(one for one, _, _ in valued)],
            y=[*(axis.position(row.value) for _, _, row in steps), height],
            mode="lines",
            line={"shape": "hv", "color": COLOURS["best"], "width": 2},
            name="best so far",
            hoverinfo="skip",
        )
        add_star(figure, place, height, text=f"best: {name}<br>{_value(metric, best)}")
    return with_axis(figure, axis, "y")


def _polylines(rows: Sequence[TrialRow], axis: Axis) -> tuple[list[int | None], list[float | None], list[str]]:
    """Return all curves as one line with gaps: plotly draws one long line faster than hundreds of short ones."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for row in rows:
        for epoch, value in enumerate(row.curve, 1):
            x.append(epoch)
            y.append(axis.position(value))
            texts.append(f"trial {row.number}, epoch {epoch}<br>{shown(value)}")
        x.append(None)
        y.append(None)
        texts.append("")
    return x, y, texts


def _at_most(rows: Sequence[TrialRow], limit: int, best: TrialRow | None) -> list[TrialRow]:
    """Return all rows, or an even choice of them that holds the best."""
    every = -(-len(rows) // limit) if rows else 1
    return [row for index, row in enumerate(rows) if index % every == 0 or row is best]


def _best_so_far(drawn: Iterable[tuple[int, str, TrialRow]], *, maximize: bool) -> list[tuple[int, str, TrialRow]]:
    steps: list[tuple[int, str, TrialRow]] = []
    for one in drawn:
        value = one[2].value
        if one[2].state != "complete" or value is None:
            continue
        best = steps[-1][2].value if steps else None
        if best is None or (value > best if maximize else value < best):
            steps.append(one)
    return steps


def _jittered(axis: Axis, row: TrialRow, name: str) -> float:
    """Return the position, moved by the trial's number within the axis' spread."""
    return axis.position(row.hyperparameters[name]) + ((row.number * 0.618) % 1 - 0.5) * axis.spread


def _value(metric: str, row: TrialRow) -> str:
    return f"{metric} {shown(row.value)}"


def _slice_text(row: TrialRow, name: str, metric: str) -> str:
    value = html.escape(shown(row.hyperparameters[name]))
    return f"trial {row.number}, {row.state}<br>{html.escape(name)} {value}<br>{_value(metric, row)}"


def _label(member: Member) -> str:
    return html.escape(member.name)
