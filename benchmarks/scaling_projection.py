"""How far coordination goes beyond what was measured: 100, 1,000 and 10,000 workers by the model, and what helps there.

Run from the project's root: ``python -m benchmarks.scaling_projection benchmarks/scaling.json docs/scale.svg`` (some
minutes on 2 cores; no database). The JSON is what ``benchmarks/scaling.py`` kept. Prints tables and draws the picture
of docs/scale.md.
"""

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

from .scaling import SIDES, read_costs
from .scaling_model import Costs, Fleet, most_workers, solve
from .scaling_simulation import simulate

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path, help="the JSON that benchmarks/scaling.py wrote")
    parser.add_argument("picture", type=Path, help="the SVG to be written")
    parser.add_argument("--cores", type=int, default=8, help="the server's cores (default: 8)")
    arguments = parser.parse_args()
    kept = json.loads(arguments.measured.read_text(encoding="utf-8"))
    costs = read_costs(kept)
    print(f"A server of {arguments.cores} cores. Trials a second, efficiency on paper and in simulation, bottleneck.\n")
    for change in (AS_IT_IS, ALL):
        print(f"{change.name}\n\n{reach_table(change, costs, cores=arguments.cores)}\n")
    print(f"Workers up to which 80 % are left\n\n{bend_table(costs, cores=arguments.cores)}\n")
    print(f"Workers without a trial\n\n{idle_table(costs, cores=arguments.cores)}")
    draw(kept, costs, arguments.picture, cores=arguments.cores)


def reach_table(change: Change, costs: Costs, *, cores: int) -> str:
    """Return what fleets reach, as Markdown: a row for each length of training."""
    lines = [f"| training of a trial | {' | '.join(f'{number:,} workers' for number in WORKERS)} |"]
    lines.append("|---" * (1 + len(WORKERS)) + "|")
    for training_s in TRAINING_S:
        cells = []
        for number in WORKERS:
            fleet, changed = change.apply(number, training_s, costs, cores=cores)
            paper, (played, tally) = solve(fleet, changed), simulate(fleet, changed)
            full = " server" * (paper.server > 0.9) + " lock" * (paper.lock > 0.9)
            late = " leases run out" * (tally.slowest_renewal_s > fleet.lease_s * 2 / 3)
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
            cells.append(f"{most:,}" if most < 50_000 else "over 50,000")
        lines.append(f"| {change.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def idle_table(costs: Costs, *, cores: int) -> str:
    """Return how much of the server and of the lock workers take that only wait for others' last trials."""
    lines = ["| workers without a trial | server | lock |", "|---|---|---|"]
    for idle in (10, 30, 100, 300, 1_000):
        fleet = Fleet(workers=10, training_s=100.0, finished=TRIALS_EACH * idle, cores=cores)
        played, _ = simulate(fleet, costs, trials=30, idle=idle, most_events=200_000)
        lines.append(f"| {idle:,} | {played.server:.0%} | {played.lock:.0%} |")
    return "\n".join(lines)


def draw(kept: Mapping[str, Any], costs: Costs, picture: Path, *, cores: int) -> None:
    """Draw what was measured at 1 to 16 workers, and how the model goes on."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "caviar"  # the same picture has the same bytes
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for (side, lanes), name in SIDES.items():
        turns = [turn for turn in kept["turns"] if (turn["side"], turn["lanes"]) == (side, lanes)]
        numbers = sorted({turn["workers"] for turn in turns})
        rates = [
            [turn["trials"] / turn["seconds"] for turn in turns if turn["workers"] == number] for number in numbers
        ]
        middle = [sum(found) / len(found) for found in rates]
        line = left.plot(numbers, middle, marker="o", markersize=4, label=name)[0]
        left.vlines(numbers, [min(found) for found in rates], [max(found) for found in rates], color=line.get_color())
    ideal = [number / kept["training_s"] for number in numbers]
    left.plot(numbers, ideal, color="#999999", linestyle=":", label="without any cost")
    left.set(xscale="log", yscale="log", xlabel="workers", ylabel="trials a second", title="measured, on one machine")
    left.set_xticks(numbers, map(str, numbers))
    left.minorticks_off()
    left.legend(fontsize="small")
    counts = [round(10 ** (place / 4)) for place in range(4, 17)]
    for training_s, colour in zip(TRAINING_S, COLOURS, strict=True):
        for change, style in ((AS_IT_IS, "-"), (ALL, "--")):
            fleets = [change.apply(number, training_s, costs, cores=cores) for number in counts]
            reached = [solve(*fleet).efficiency for fleet in fleets]
            label = f"{training_s:,.0f} s" if change is AS_IT_IS else None
            right.plot(counts, reached, style, color=colour, label=label)
        _mark_simulated(right, training_s, costs, colour, cores=cores)
    right.plot([], [], "--", color="#999999", label="with all changes")
    right.plot([], [], "o", color="#999999", markersize=4, label="simulated")
    right.set(
        xscale="log", ylim=(0, 1.03), xlabel="workers", ylabel="share of the training that is left", title="model"
    )
    right.legend(title="training of a trial", fontsize="small")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(picture, metadata={"Date": None})
    picture.write_text(re.sub(r"[ \t]+$", "", picture.read_text(), flags=re.MULTILINE))


def _mark_simulated(panel: Any, training_s: float, costs: Costs, colour: str, *, cores: int) -> None:
    numbers: Sequence[int] = (30, 100, 300, 1_000)
    fleets = [AS_IT_IS.apply(number, training_s, costs, cores=cores) for number in numbers]
    played = [simulate(fleet, changed, trials=1_000)[0].efficiency for fleet, changed in fleets]
    panel.plot(numbers, played, "o", color=colour, markersize=4)


if __name__ == "__main__":
    main()
