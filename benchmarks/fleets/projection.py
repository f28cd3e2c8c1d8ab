"""How far coordination goes beyond what was measured: up to 10,000 workers by the model, and what would help there."""

import dataclasses
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

from .model import MOST_SOUGHT, Costs, Fleet, most_workers, solve
from .simulation import simulate
from .tables import SIDES, Measured, workers_of

TRAINING_S: Final = (1.0, 10.0, 100.0, 1000.0)
WORKERS: Final = (100, 1_000, 10_000)
TRIALS_EACH: Final = 10  # finished trials for each worker: half of the study
SHARD: Final = 100  # workers of a shard
COLOURS: Final = ("#08306b", "#2a7ab9", "#2ca25f", "#d95f02")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """Something that would be done differently.

    Attributes:
        name: What the tables call it.
        fields: Of the fleet, that differ.
        shards: Whether there is a study for every ``SHARD`` workers.
        short_reads: Whether a worker reads nothing about trials that others still run.
    """

    name: str
    fields: Mapping[str, float] = dataclasses.field(default_factory=dict)
    shards: bool = False
    short_reads: bool = False

    def apply(self, workers: int, training_s: float, costs: Costs, *, cores: int) -> tuple[Fleet, Costs]:
        """Return the fleet and the costs of its transactions."""
        fleet = Fleet(workers=workers, training_s=training_s, finished=TRIALS_EACH * workers, cores=cores)
        fleet = dataclasses.replace(fleet, **self.fields)  # type: ignore[arg-type]
        if self.shards:
            fleet = dataclasses.replace(fleet, shards=max(1, workers // SHARD))
        if self.short_reads:
            read = costs["read"]
            server, worker = (dataclasses.replace(line, running=0.0) for line in (read.server, read.worker))
            costs = {**costs, "read": dataclasses.replace(read, server=server, worker=worker)}
        return fleet, costs


AS_IT_IS: Final = Change(name="as it is")
ALL: Final = Change(
    name="all of that, written and read every 10 s, leases of 300 s",
    fields={"claim": 16, "sync_s": 10.0, "lease_s": 300.0},
    shards=True,
    short_reads=True,
)
CHANGES: Final = (
    AS_IT_IS,
    Change(name="claims of 16", fields={"claim": 16}),
    Change(name="leases of 300 s", fields={"lease_s": 300.0}),
    Change(name=f"a study for every {SHARD} workers", shards=True),
    Change(name="short reads", short_reads=True),
    Change(name="short reads, claims of 16", fields={"claim": 16}, short_reads=True),
    Change(name="short reads, claims of 16, shards", fields={"claim": 16}, short_reads=True, shards=True),
    ALL,
)


def project(costs: Costs, *, cores: int) -> str:
    """Return what the model says of large fleets, as tables in Markdown."""
    parts = [f"A server of {cores} cores. Trials a second; what is left of the training on paper, and in simulation."]
    for change in (AS_IT_IS, ALL):
        parts += [change.name, reach_table(change, costs, cores=cores)]
    parts += ["Workers up to which 80 % of the training is left", bend_table(costs, cores=cores)]
    parts += ["Workers that only wait for the last trials of ten others", idle_table(costs, cores=cores)]
    return "\n\n".join(parts)


def reach_table(change: Change, costs: Costs, *, cores: int) -> str:
    """Return what fleets reach, as Markdown: a row for each length of training."""
    lines = [f"| training of a trial | {' | '.join(f'{number:,} workers' for number in WORKERS)} |"]
    lines.append("|---" * (1 + len(WORKERS)) + "|")
    for training_s in TRAINING_S:
        cells = []
        for number in WORKERS:
            fleet, changed = change.apply(number, training_s, costs, cores=cores)
            paper, (played, tally) = solve(fleet, changed), simulate(fleet, changed, trials=3_000, most_events=400_000)
            full = ", server full" * (played.server > 0.95) + ", lock full" * (played.lock > 0.95)
            late = ", leases run out" * (tally.slowest_renewal_s > fleet.lease_s * 2 / 3)
            cells.append(f"{paper.rate:.3g}/s, {paper.efficiency:.0%}, {played.efficiency:.0%}{full}{late}")
        lines.append(f"| {training_s:,.0f} s | {' | '.join(cells)} |")
    return "\n".join(lines)


def bend_table(costs: Costs, *, cores: int) -> str:
    """Return up to how many workers 80 % of their training is left, by change and length of training, as Markdown."""
    lines = [f"| | {' | '.join(f'{training_s:,.0f} s' for training_s in TRAINING_S)} |"]
    lines.append("|---" * (1 + len(TRAINING_S)) + "|")
    for change in CHANGES:
        cells = []
        for training_s in TRAINING_S:
            fleet, changed = change.apply(1, training_s, costs, cores=cores)
            sizes = {"finished": float(TRIALS_EACH)} | ({"shards": 1 / SHARD} if change.shards else {})
            most = most_workers(fleet, changed, sizes=sizes)
            cells.append(_about(most))
        lines.append(f"| {change.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _about(number: int) -> str:
    if number > MOST_SOUGHT:
        return f"over {MOST_SOUGHT:,}"
    return f"{round(number, 2 - len(str(number))):,}" if number >= 100 else str(number)


def idle_table(costs: Costs, *, cores: int) -> str:
    """Return how much of the server and of the lock workers take that only wait for others' last trials."""
    lines = ["| workers without a trial | server | lock |", "|---|---|---|"]
    for idle in (10, 30, 100, 300, 1_000):
        fleet = Fleet(workers=10, training_s=100.0, finished=TRIALS_EACH * idle, cores=cores)
        played, _ = simulate(fleet, costs, trials=30, idle=idle, most_events=200_000)
        lines.append(f"| {idle:,} | {played.server:.0%} | {played.lock:.0%} |")
    return "\n".join(lines)


def draw(measured: Measured, costs: Costs, picture: Path, *, training_s: float, cores: int) -> None:
    """Draw what was measured, and how the model goes on."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "caviar"  # the same picture has the same bytes
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    _draw_measured(left, measured, training_s=training_s)
    _draw_model(right, costs, cores=cores)
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(picture, metadata={"Date": None})
    picture.write_text(re.sub(r"[ \t]+$", "", picture.read_text(), flags=re.MULTILINE))


def _draw_measured(panel: Any, measured: Measured, *, training_s: float) -> None:
    numbers = workers_of(measured)
    for (side, lanes), name in SIDES.items():
        rates = [[outcome.rate for outcome in measured[side, lanes, number]] for number in numbers]
        medians = [statistics.median(found) for found in rates]
        line = panel.plot(numbers, medians, marker="o", markersize=4, label=name)[0]
        panel.vlines(numbers, [min(found) for found in rates], [max(found) for found in rates], color=line.get_color())
    panel.plot(numbers, [number / training_s for number in numbers], ":", color="#999999", label="without any cost")
    panel.set(xscale="log", yscale="log", xlabel="workers", ylabel="trials a second", title="measured, on one machine")
    panel.set_xticks(numbers, map(str, numbers))
    panel.minorticks_off()
    panel.legend(fontsize="small")


def _draw_model(panel: Any, costs: Costs, *, cores: int) -> None:
    """Draw lines on paper, and a few points in simulation."""
    counts = [round(10 ** (place / 4)) for place in range(4, 17)]  # 10 to 10,000
    played: Sequence[int] = (30, 100, 300, 1_000)
    for training_s, colour in zip(TRAINING_S, COLOURS, strict=True):
        for change, style in ((AS_IT_IS, "-"), (ALL, "--")):
            fleets = [change.apply(number, training_s, costs, cores=cores) for number in counts]
            label = f"{training_s:,.0f} s" if change is AS_IT_IS else None
            panel.plot(counts, [solve(*fleet).efficiency for fleet in fleets], style, color=colour, label=label)
        fleets = [AS_IT_IS.apply(number, training_s, costs, cores=cores) for number in played]
        reached = [simulate(*fleet, trials=500, most_events=200_000)[0].efficiency for fleet in fleets]
        panel.plot(played, reached, "o", color=colour, markersize=4)
    panel.plot([], [], "--", color="#999999", label="with all changes")
    panel.plot([], [], "o", color="#999999", markersize=4, label="simulated")
    panel.set(
        xscale="log", ylim=(0, 1.03), xlabel="workers", ylabel="share of the training that is left", title="model"
    )
    panel.legend(title="training of a trial", fontsize="small")
