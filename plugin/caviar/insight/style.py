"""How the report's pictures look: colours, axes, markers, texts."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from .axes import Axis

#: What a colour means, in every picture and in the page's text.
COLOURS: Mapping[str, str] = {
    "complete": "#2b6c8f",
    "pruned": "#c09a68",
    "failed": "#b4513d",
    "best": "#d98e04",
    "measured": "#64788a",
    "ink": "#24313a",
    "faint": "#8c979e",
    "grid": "#e6e9eb",
}


def new_figure(*, height: int) -> go.Figure:
    """Return an empty figure in the report's look, so many pixels high."""
    return style_figure(go.Figure(), height=height)


def style_figure(figure: go.Figure, *, height: int) -> go.Figure:
    """Give a figure the report's look, in a template of a few lines: plotly's own adds 7 kB to every figure."""
    axis = {"gridcolor": COLOURS["grid"], "zeroline": False, "automargin": True, "title": {"standoff": 8}}
    layout = {
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": COLOURS["ink"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": axis,
        "yaxis": axis,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": COLOURS["faint"], "activecolor": COLOURS["complete"]},
        "hoverlabel": {"bgcolor": "white", "bordercolor": COLOURS["grid"], "font": {"color": COLOURS["ink"]}},
    }
    return figure.update_layout(
        template={"layout": layout},
        height=height,
        margin={"l": 60, "r": 20, "t": 36, "b": 50},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )


def hover(texts: Sequence[str]) -> dict[str, Any]:
    """Return what shows a text, whose user-given parts are escaped, for each point under the pointer."""
    return {"hovertext": list(texts), "hoverinfo": "text"}


def state_symbol(state: str) -> str:
    """Return the marker of a state: colour alone does not tell states apart for everybody."""
    return "circle" if state == "complete" else "x-thin-open"


def add_star(figure: go.Figure, x: float, y: float, *, text: str, showlegend: bool = True, **where: int) -> None:
    """Mark the best trial."""
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        name="best",
        legendgroup="best",
        showlegend=showlegend,
        marker={"symbol": "star", "size": 15, "color": COLOURS["best"], "line": {"color": "white", "width": 1}},
        **hover([text]),
        **where,
    )


def axis_ticks(axis: Axis, *, wrapped: bool = False) -> dict[str, Any]:
    """Return the ticks and the range of an axis, with a little room at both ends, for plotly.

    Args:
        axis: The axis.
        wrapped: Whether long labels are broken at their underscores.
    """
    return {
        "tickmode": "array",
        "tickvals": [position for position, _ in axis.ticks],
        "ticktext": [_wrapped(html.escape(label)) if wrapped else html.escape(label) for _, label in axis.ticks],
        "range": [axis.low - _margin(axis), axis.high + _margin(axis)],
    }


def _margin(axis: Axis) -> float:
    return axis.spread / 2 + 0.03 * (axis.high - axis.low)


def with_axis(figure: go.Figure, axis: Axis, which: str) -> go.Figure:
    """Return the figure with this axis as its ``x`` or ``y``."""
    update = figure.update_yaxes if which == "y" else figure.update_xaxes
    return update(**axis_ticks(axis), title_text=html.escape(axis.title))


def dimension(axis: Axis, places: Sequence[float], *, title: str) -> dict[str, Any]:
    """Return an axis of parallel coordinates with each line's place on it."""
    return {
        "label": html.escape(title),
        "values": list(places),
        "range": [axis.low, axis.high],
        "tickvals": [position for position, _ in axis.ticks],
        "ticktext": [html.escape(label) for _, label in axis.ticks],
    }


def _wrapped(label: str) -> str:
    return label.replace("_", "_<br>") if len(label) > 10 else label
