"""The picture of benchmarks/search.py: each way's regret over the tasks, at each budget."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from .tables import OURS, compare_seeds_all_have, regrets_of

#: Way → its name in the picture, from the top down.
NAMES = {
    "random": "random",
    "tpe_median": "TPE, median pruning",
    "hyperband": "Hyperband, random",
    "hyperband_tpe": "Hyperband, TPE",
    "caviar_no_zoom": "ours without zooms",
    OURS: "ours: coarse to fine,\nwith promotion",
}


def draw_picture(rows: Sequence[Mapping[str, Any]], path: Path, *, budgets: Sequence[int]) -> None:
    """Draw boxes of the tasks' regrets, each task's the mean over its seeds, and write them as SVG."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "caviar"  # the same picture has the same bytes
    from matplotlib import pyplot as plt

    regrets = compare_seeds_all_have(regrets_of(rows))
    ways = [way for way in reversed(NAMES) if way in regrets]
    figure, panels = plt.subplots(1, len(budgets), figsize=(10, 3.4), sharey=True, layout="constrained")
    for index, (budget, panel) in enumerate(zip(budgets, panels, strict=True)):
        means = [[np.mean([seed[index] for seed in task.values()]) for task in regrets[way].values()] for way in ways]
        boxes = panel.boxplot(means, orientation="horizontal", widths=0.6, patch_artist=True, flierprops={"ms": 3})
        for way, box in zip(ways, boxes["boxes"], strict=True):
            box.set_facecolor("#e4572e" if way == OURS else "#d9d9d9")
        panel.set_xscale("symlog", linthresh=0.5)
        panel.set_xlim(left=0)
        panel.set_xticks(ticks := (0, 1, 3, 10, 30), map(str, ticks))
        panel.minorticks_off()
        panel.set_title(f"{budget} full trainings")
        panel.set_xlabel("regret, points of accuracy")
        panel.set_yticks(range(1, len(ways) + 1), [NAMES[way] for way in ways])
    figure.savefig(path, metadata={"Date": None})
