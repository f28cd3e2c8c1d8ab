"""The view in which MLflow's page opens well: chosen columns, curves, and hyperparameters as parallel coordinates.

Left alone, the table of runs shows neither a parameter nor a metric, the comparison takes the first three parameters
by alphabet, and every axis is linear. MLflow's page keeps a view to share as a tag of the experiment, JSON that names
only what differs from its defaults, and opens it by the address' ``viewStateShareKey``. What a later version of the
page no longer knows it ignores.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial

VIEW_KEY = "caviar"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
_CURVES = ("val_accuracy", "val_loss", "accuracy", "loss")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedView:
    """What the view shows.

    Attributes:
        columns: Parameters in the table of runs.
        axes: Parameters in the parallel coordinates, which leave out every run that lacks one of them.
        curves: Metrics drawn by epoch.
    """

    columns: tuple[str, ...]
    axes: tuple[str, ...]
    curves: tuple[str, ...]

    def joined(self, other: "SharedView") -> "SharedView":
        """Return the view that shows both: all columns and curves, the axes that both have."""
        return SharedView(
            columns=tuple(dict.fromkeys((*self.columns, *other.columns))),
            axes=tuple(name for name in self.axes if name in other.axes),
            curves=_in_order({*self.curves, *other.curves}),
        )

    def renamed(self, names: Mapping[str, str]) -> "SharedView":
        """Return the view with its parameters under other names; those without one keep theirs."""
        columns, axes = (tuple(names.get(name, name) for name in group) for group in (self.columns, self.axes))
        return dataclasses.replace(self, columns=columns, axes=axes)


def log_parameters(trial: FrozenTrial) -> dict[str, str]:
    """Return the base-ten exponents of what a trial drew on a log scale: the course's r in α = 10^r.

    MLflow's axes are linear, and would press learning rates of 0.0001 to 0.1 into one point.

    Returns:
        ``learning_rate_log10`` and the like, to four decimals.
    """
    return {
        f"{name}_log10": f"{math.log10(trial.params[name]):.4f}"
        for name, distribution in trial.distributions.items()
        if isinstance(distribution, FloatDistribution) and distribution.log
    }


def trial_view(trial: FrozenTrial, hyperparameters: Iterable[str], curves: Iterable[str]) -> SharedView:
    """Return the view that fits a trial: what was drawn, as the user thinks of it in the table, by exponent as axes."""
    logs = log_parameters(trial)
    drawn = set(trial.params) | {name.removeprefix("one_minus_") for name in trial.params}
    present = set(curves)
    return SharedView(
        columns=tuple(name for name in hyperparameters if name in drawn),
        axes=tuple(f"{name}_log10" if f"{name}_log10" in logs else name for name in trial.params),
        curves=_in_order(present),
    )


def _in_order(curves: Collection[str]) -> tuple[str, ...]:
    """Return curves in the order in which the page shows them, whichever trial came first."""
    return (*(name for name in _CURVES if name in curves), *sorted(set(curves) - set(_CURVES)))


def joined_view(first: SharedView | None, second: SharedView | None) -> SharedView | None:
    """Return the view that shows both; what is None shows nothing yet."""
    return second if first is None else first if second is None else first.joined(second)


def dump_view(view: SharedView, *, ascending: bool) -> str:
    """Return a view as the experiment's tag; in ascending order, the lowest value is the best, and so comes first."""
    columns = ["tags.`caviar.state`", "metrics.`value`", "metrics.`best_value`"]
    columns += [f"params.`{name}`" for name in view.columns]
    columns.append("attributes.`Duration`")
    return json.dumps(
        {
            VIEW_KEY: dataclasses.asdict(view),
            "orderByKey": "metrics.`value`",
            "orderByAsc": ascending,
            "selectedColumns": columns,
            "columnOrder": columns,
            "runsHiddenMode": "SHOW_ALL",
            "compareRunSections": [
                _section("complete", "Complete trials, by value", columns=1, cardHeight=420),
                _section("curves", "All trials, by epoch"),
                _section("all", "Pruned trials too, by best_value", columns=1, cardHeight=420),
            ],
            "compareRunCharts": [
                _chart("complete", "PARALLEL", selectedParams=view.axes, selectedMetrics=["value"], showAllRuns=True),
                *(_curve(name) for name in view.curves),
                _chart("all", "PARALLEL", selectedParams=view.axes, selectedMetrics=["best_value"], showAllRuns=True),
            ],
            "isAccordionReordered": True,  # else the page sorts the sections by name
        },
        separators=(",", ":"),
    )


def load_view(tag: str | None) -> SharedView | None:
    """Return the view that a tag of ours holds; None where there is none, or somebody else's."""
    try:
        stored = json.loads(tag or "")[VIEW_KEY]
        return SharedView(**{field.name: tuple(stored[field.name]) for field in dataclasses.fields(SharedView)})
    except (ValueError, KeyError, TypeError):
        return None


def _section(uuid: str, name: str, **layout: int) -> Mapping[str, Any]:
    return {"uuid": uuid, "name": name, "display": True, "isReordered": False, **layout}


def _chart(section: str, kind: str, **settings: object) -> Mapping[str, Any]:
    shared = {"metricSectionId": section, "deleted": False, "isGenerated": False, "runsCountToCompare": 10}
    return {"uuid": f"{section}-{kind}", "type": kind, **shared, **settings}


def _curve(name: str) -> Mapping[str, Any]:
    chart = _chart(
        "curves",
        "LINE",
        metricKey=name,
        selectedMetricKeys=[name],
        scaleType="log" if name.endswith("loss") else "linear",
        xAxisKey="step",
        xAxisScaleType="linear",
        yAxisKey="metric",
        displayName=name,
        displayPoints=False,
        lineSmoothness=0,
        range={},
        selectedXAxisMetricKey="",
        useGlobalLineChartConfig=False,
    )
    return {**chart, "uuid": f"curve-{name}"}
