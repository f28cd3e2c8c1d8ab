"""The comparison's pictures, as plotly figures; a sampler has the same colour in all of them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..parameters import Parameter
from .axes import Axis, metric_axis, parameter_axis, shown
from .comparison import PaidTrial
from .style import axis_ticks, hover, new_figure, style_figure, with_axis

#: Okabe and Ito's colours, which are told apart by nearly everybody, without the yellow that is lost on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d31", "#24313a")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
_BAND_OPACITY = 0.16


def curves_figure(samplers: Sequence[Mapping[str, Any]], *, metric: str) -> go.Figure | None:
    """Return each sampler's best so far by epochs trained: the median of the repeats in a band between the quartiles.

    Args:
        samplers: As ``comparison.Comparison`` has them.
        metric: What was optimised.
    """
    banded = [(index, entry) for index, entry in enumerate(samplers) if entry["band"] is not None]
    if not banded:
        return None
    values = [value for _, entry in banded for side in ("low", "high") for value in entry["band"][side]]
    axis = _with_ticks(metric_axis(metric, values), values)
    figure = new_figure(height=440)
    for index, entry in banded:
        band, colour, name = entry["band"], _COLOURS[index % len(_COLOURS)], entry["sampler"]
        low, high = ([axis.position(value) for value in band[side]] for side in ("low", "high"))
        quiet = {"mode": "lines", "legendgroup": name, "showlegend": False, "hoverinfo": "skip"}
        edge = {"width": 0, "shape": "hv", "color": colour}
        figure.add_scatter(x=band["epochs"], y=low, line=edge, **quiet)
        fill = {"fill": "tonexty", "fillcolor": _faded(colour)}
        figure.add_scatter(x=band["epochs"], y=high, line=edge, **fill, **quiet)
    for index, entry in banded:
        band, name = entry["band"], entry["sampler"]
        points = zip(band["epochs"], band["median"], band["low"], band["high"], strict=True)
        figure.add_scatter(
            x=band["epochs"],
            y=[axis.position(value) for value in band["median"]],
            mode="lines",
            name=name,
            legendgroup=name,
            line={"color": _COLOURS[index % len(_COLOURS)], "width": 2.5, "shape": "hv"},
            **hover(
                [
                    f"{name}, {at:g} epochs<br>{shown(mid)}, {shown(low)} to {shown(high)}"
                    for at, mid, low, high in points
                ]
            ),
        )
    figure.update_xaxes(title_text="epochs trained, all trials together", rangemode="tozero")
    return with_axis(figure, axis, "y")


def finals_figure(samplers: Sequence[Mapping[str, Any]], *, metric: str) -> go.Figure | None:
    """Return every repeat's final best, a strip a sampler, with a line at the median; lines join a repeat's.

    Args:
        samplers: As ``comparison.Comparison`` has them.
        metric: What was optimised.
    """
    values = [value for entry in samplers for value in entry["finals"] if value is not None]
    if not values:
        return None
    axis = _with_ticks(metric_axis(metric, values), values)
    figure = new_figure(height=150 + 52 * len(samplers))
    for repeat in range(len(samplers[0]["finals"])):
        joined = [(i, e["finals"][repeat]) for i, e in enumerate(samplers) if e["finals"][repeat] is not None]
        figure.add_scatter(
            x=[axis.position(value) for _, value in joined],
            y=[place for place, _ in joined],
            mode="lines",
            line={"color": "#d6dbde", "width": 1},
            showlegend=False,
            hoverinfo="skip",
        )
    for index, entry in enumerate(samplers):
        known = [(repeat, value) for repeat, value in enumerate(entry["finals"]) if value is not None]
        colour = _COLOURS[index % len(_COLOURS)]
        figure.add_scatter(
            x=[axis.position(value) for _, value in known],
            y=[index] * len(known),
            mode="markers",
            name=entry["sampler"],
            showlegend=False,
            marker={"color": colour, "size": 9, "opacity": 0.8, "symbol": _SYMBOLS[index % len(_SYMBOLS)]},
            **hover([f"{entry['sampler']}, repeat {repeat}<br>{metric} {shown(value)}" for repeat, value in known]),
        )
        if known:
            middle = axis.position(entry["median"])
            mark = {"color": colour, "width": 3}
            figure.add_shape(type="line", x0=middle, x1=middle, y0=index - 0.3, y1=index + 0.3, line=mark)
    names = [entry["sampler"] for entry in samplers]
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5], showgrid=False
    )
    return with_axis(figure, axis, "x")


def coverage_figure(
    searches: Sequence[tuple[str, Sequence[PaidTrial]]], important: Sequence[Parameter], *, order: Sequence[str]
) -> go.Figure | None:
    """Return the course's picture: where two searches tried two hyperparameters, with rugs of each one's values.

    A grid's points fall on few values of each; as many random ones have as many values of both.

    Args:
        searches: Sampler and trials of one search each, side by side.
        important: The two hyperparameters, both ranges.
        order: The comparison's samplers, which decides the colours.

    Source:
        Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012, figure 1; the course's "Tuning
        process".
    """
    if len(important) < 2 or len(searches) < 2:
        return None
    across, up = important
    x_axis, y_axis = parameter_axis(across), parameter_axis(up)
    titles = []
    figure = make_subplots(rows=1, cols=len(searches), horizontal_spacing=0.09, shared_yaxes=True)
    style_figure(figure, height=430)
    for column, (sampler, trials) in enumerate(searches, 1):
        where = {"row": 1, "col": column}
        drawn = [t for t in trials if across.name in t.hyperparameters and up.name in t.hyperparameters]
        x = [x_axis.position(trial.hyperparameters[across.name]) for trial in drawn]
        y = [y_axis.position(trial.hyperparameters[up.name]) for trial in drawn]
        texts = [
            f"{across.name} {shown(t.hyperparameters[across.name])}<br>{up.name} {shown(t.hyperparameters[up.name])}"
            for t in drawn
        ]
        index = list(order).index(sampler) % len(_COLOURS)
        marker = {"color": _COLOURS[index], "size": 8, "opacity": 0.75, "symbol": _SYMBOLS[index]}
        figure.add_scatter(x=x, y=y, mode="markers", showlegend=False, marker=marker, **hover(texts), **where)
        below = y_axis.low - 0.07 * (y_axis.high - y_axis.low)
        beside = x_axis.low - 0.06 * (x_axis.high - x_axis.low)
        rugs = ((x, [below] * len(x), "line-ns-open"), ([beside] * len(y), y, "line-ew-open"))
        for rug_x, rug_y, symbol in rugs:
            rug = {"symbol": symbol, "size": 12, "color": _COLOURS[index], "line": {"width": 1.5}}
            quiet = {"mode": "markers", "showlegend": False, "hoverinfo": "skip"}
            figure.add_scatter(x=rug_x, y=rug_y, marker=rug, **quiet, **where)
        figure.update_xaxes(**_room(axis_ticks(x_axis)), title_text=x_axis.title, **where)
        figure.update_yaxes(**_room(axis_ticks(y_axis)), title_text=y_axis.title if column == 1 else None, **where)
        titles.append(f"{sampler}: {len(drawn)} trials, {len(set(x))} × {len(set(y))} values")
    for column, title in enumerate(titles, 1):
        domain = figure.layout[f"xaxis{column if column > 1 else ''}"].domain
        place = {"x": sum(domain) / 2, "y": 1.08, "xref": "paper", "yref": "paper", "xanchor": "center"}
        figure.add_annotation(text=title, showarrow=False, **place)
    return figure


def _with_ticks(axis: Axis, values: Sequence[float]) -> Axis:
    """Return an axis of a metric with more ticks where searches end so close together that it has hardly any."""
    low, high = min(values), max(values)
    if len(axis.ticks) > 2 or low == high:
        return axis
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    at = [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]
    return dataclasses.replace(axis, ticks=tuple(sorted((axis.position(value), shown(value)) for value in at)))


def _room(ticks: dict[str, Any]) -> dict[str, Any]:
    """Return an axis' ticks with room for a rug before its low end."""
    low, high = ticks["range"]
    return {**ticks, "range": [low - 0.09 * (high - low), high]}


def _faded(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{_BAND_OPACITY})"
