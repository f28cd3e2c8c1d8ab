"""The comparison's pictures, as plotly figures; a sampler has the same colour in all of them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ..parameters import Parameter
from .axes import metric_axis, parameter_axis
from .comparison import PaidTrial
from .page import hover, new_figure
from .words import shown

#: Okabe and Ito's colours, which nearly everybody can tell apart, without the yellow that is lost on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d31", "#24313a")
_LOOKS = tuple(zip(_COLOURS, ("circle", "square", "diamond", "triangle-up", "x", "cross", "star"), strict=True))
_QUIET = {"showlegend": False, "hoverinfo": "skip"}


def comparison_figures(
    samplers: Sequence[Mapping[str, Any]],
    searches: Sequence[tuple[str, Sequence[PaidTrial]]],
    important: Sequence[Parameter],
    *,
    metric: str,
) -> Mapping[str, go.Figure | None]:
    """Return the comparison's figures by name, None for those that would show nothing.

    The trials of ``searches``, each a sampler with the trials of one search, are drawn side by side, by two important
    hyperparameters, both numeric.
    """
    looks = dict(zip((entry["sampler"] for entry in samplers), itertools.cycle(_LOOKS), strict=False))
    return {
        "curves": _curves(samplers, looks, metric=metric),
        "finals": _finals(samplers, looks, metric=metric),
        "coverage": _coverage(searches, important, looks) if len(important) == len(searches) == 2 else None,
    }


def _curves(
    samplers: Sequence[Mapping[str, Any]], looks: Mapping[str, tuple[str, str]], *, metric: str
) -> go.Figure | None:
    """Return each sampler's best so far by epochs trained: the median of the repeats, in a band between quartiles."""
    banded = {entry["sampler"]: entry["band"] for entry in samplers if entry["band"] is not None}
    if not banded:
        return None
    axis = metric_axis(metric, [value for band in banded.values() for side in ("low", "high") for value in band[side]])
    figure = new_figure(height=440)
    lines = []
    for name, band in banded.items():
        colour = looks[name][0]
        edge = {"mode": "lines", "line": {"width": 0, "shape": "hv", "color": colour}, "legendgroup": name, **_QUIET}
        figure.add_scatter(x=band["epochs"], y=axis.positions(band["low"]), **edge)
        red, green, blue = bytes.fromhex(colour[1:])
        fill = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},0.16)"}
        figure.add_scatter(x=band["epochs"], y=axis.positions(band["high"]), **fill, **edge)
        texts = [
            f"{name}, {at:g} epochs<br>{shown(middle)}, {shown(low)} to {shown(high)}"
            for at, middle, low, high in zip(*(band[key] for key in ("epochs", "median", "low", "high")), strict=True)
        ]
        look = {"name": name, "legendgroup": name, "line": {"color": colour, "width": 2.5, "shape": "hv"}}
        height = axis.positions(band["median"])
        lines.append(go.Scatter(x=band["epochs"], y=height, mode="lines", **look, **hover(texts)))
    figure.add_traces(lines)  # above every band
    figure.update_xaxes(title_text="epochs trained, all trials together", rangemode="tozero")
    return figure.update_yaxes(**axis.layout())


def _finals(
    samplers: Sequence[Mapping[str, Any]], looks: Mapping[str, tuple[str, str]], *, metric: str
) -> go.Figure | None:
    """Return every repeat's final best, a strip for each sampler with a line at the median; lines join a repeat's."""
    values = [value for entry in samplers for value in entry["finals"] if value is not None]
    if not values:
        return None
    axis = metric_axis(metric, values)
    figure = new_figure(height=150 + 52 * len(samplers))
    for repeat in range(len(samplers[0]["finals"])):
        joined = [(i, e["finals"][repeat]) for i, e in enumerate(samplers) if e["finals"][repeat] is not None]
        x, y = axis.positions(value for _, value in joined), [place for place, _ in joined]
        figure.add_scatter(x=x, y=y, mode="lines", line={"color": "#d6dbde", "width": 1}, **_QUIET)
    for index, entry in enumerate(samplers):
        name, (colour, symbol) = entry["sampler"], looks[entry["sampler"]]
        known = [(repeat, value) for repeat, value in enumerate(entry["finals"]) if value is not None]
        x, y = axis.positions(value for _, value in known), [index] * len(known)
        look = {"color": colour, "size": 9, "opacity": 0.8, "symbol": symbol}
        texts = hover([f"{name}, repeat {repeat}<br>{metric} {shown(value)}" for repeat, value in known])
        figure.add_scatter(x=x, y=y, mode="markers", name=name, showlegend=False, marker=look, **texts)
        if known:
            middle, mark = axis.position(entry["median"]), {"color": colour, "width": 3}
            figure.add_shape(type="line", x0=middle, x1=middle, y0=index - 0.3, y1=index + 0.3, line=mark)
    strips = {"tickvals": list(range(len(samplers))), "ticktext": list(looks), "showgrid": False}
    figure.update_yaxes(**strips, range=[len(samplers) - 0.5, -0.5])
    return figure.update_xaxes(**axis.layout())


def _coverage(
    searches: Sequence[tuple[str, Sequence[PaidTrial]]],
    important: Sequence[Parameter],
    looks: Mapping[str, tuple[str, str]],
) -> go.Figure:
    """Return the course's picture: where searches tried two hyperparameters, with rugs of each one's values.

    A grid's points fall on few values of each hyperparameter; as many random points have as many values of both.

    Source:
        Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012, figure 1; the course's "Tuning
        process".
    """
    across, up = important
    x_axis, y_axis = parameter_axis(across), parameter_axis(up)
    points = {
        sampler: [t.hyperparameters for t in trials if {across.name, up.name} <= set(t.hyperparameters)]
        for sampler, trials in searches
    }
    titles = []
    for sampler, drawn in points.items():
        n_across, n_up = (len({one[parameter.name] for one in drawn}) for parameter in important)
        titles.append(f"{sampler}: {len(drawn)} trials, {n_across} × {n_up} values")
    grid = {"rows": 1, "cols": len(points), "horizontal_spacing": 0.09, "shared_yaxes": True}
    figure = new_figure(height=430, subplot_titles=titles, **grid).update_annotations(font_size=12)
    below = y_axis.low - 0.07 * (y_axis.high - y_axis.low)
    beside = x_axis.low - 0.06 * (x_axis.high - x_axis.low)
    for column, (sampler, drawn) in enumerate(points.items(), 1):
        where, (colour, symbol) = {"row": 1, "col": column, "mode": "markers"}, looks[sampler]
        x = x_axis.positions(one[across.name] for one in drawn)
        y = y_axis.positions(one[up.name] for one in drawn)
        texts = [f"{across.name} {shown(one[across.name])}<br>{up.name} {shown(one[up.name])}" for one in drawn]
        marker = {"color": colour, "size": 8, "opacity": 0.75, "symbol": symbol}
        figure.add_scatter(x=x, y=y, showlegend=False, marker=marker, **hover(texts), **where)
        for rug_x, rug_y, stroke in ((x, [below] * len(x), "line-ns-open"), ([beside] * len(y), y, "line-ew-open")):
            rug = {"symbol": stroke, "size": 12, "color": colour, "line": {"width": 1.5}}
            figure.add_scatter(x=rug_x, y=rug_y, marker=rug, **_QUIET, **where)
    figure.update_xaxes(**_with_room(x_axis.layout())).update_yaxes(**_with_room(y_axis.layout()))
    return figure.update_yaxes(title_text=None, col=2)


def _with_room(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return an axis with room for a rug before its low end."""
    low, high = layout["range"]
    return {**layout, "range": [low - 0.09 * (high - low), high]}
