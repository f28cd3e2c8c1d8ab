"""How pages and their pictures look, and how a page is put together."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .words import duration, shown

if TYPE_CHECKING:
    import plotly.graph_objects as go

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
_AXIS = {"gridcolor": COLOURS["grid"], "zeroline": False, "automargin": True, "title": {"standoff": 8}}
#: Plotly's own templates would add 7 kB to every figure.
_LOOK = {
    "font": {"family": "system-ui, sans-serif", "size": 12, "color": COLOURS["ink"]},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "xaxis": _AXIS,
    "yaxis": _AXIS,
    "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": COLOURS["faint"], "activecolor": COLOURS["complete"]},
    "hoverlabel": {"bgcolor": "white", "bordercolor": COLOURS["grid"], "font": {"color": COLOURS["ink"]}},
}


def new_figure(*, height: int, **subplots: Any) -> "go.Figure":
    """Return an empty figure in the report's look, with subplots as ``plotly.subplots.make_subplots`` takes them."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(**subplots) if subplots else go.Figure()
    return figure.update_layout(
        template={"layout": _LOOK},
        height=height,
        margin={"l": 60, "r": 20, "t": 36, "b": 50},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )


def hover(texts: Sequence[str]) -> dict[str, Any]:
    """Return what shows a text for each point under the pointer; what a user wrote must be escaped in it."""
    return {"hovertext": list(texts), "hoverinfo": "text"}


def figures_as_data(figures: Mapping[str, "go.Figure | None"]) -> dict[str, Any]:
    """Return figures as JSON's values, without those that would show nothing."""
    return {name: json.loads(figure.to_json()) for name, figure in figures.items() if figure is not None}


def as_json(report: Any) -> str:
    """Return a report, a dataclass, as JSON, its keys the attributes' names."""
    return json.dumps(dataclasses.asdict(report), ensure_ascii=False, allow_nan=False)


def render_page(template: str, figures: Mapping[str, Any], **values: Any) -> str:
    """Return a page that contains plotly's script and needs no network.

    The template extends ``page.html``, places the figures with the macro ``figure``, and uses ``values``.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    loader, undefined = jinja2.PackageLoader(__package__), jinja2.StrictUndefined
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=undefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": shown, "duration": duration}
    # Only `<` could end a script element; as \u003c it is the same JSON.
    figures_json = json.dumps(figures, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return environment.get_template(template).render(
        colours=COLOURS, plotly_js=get_plotlyjs(), drawn=set(figures), figures_json=figures_json, **values
    )
