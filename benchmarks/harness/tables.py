"""Rounds of sides → markdown tables."""

import statistics
from collections.abc import Iterable, Sequence

from harness.machine import spread
from harness.side import PHASES, Outcome, SideRun, Skipped

#: A part's rounds: in each, every side's outcome, in the order in which they ran.
Rounds = Sequence[Sequence[Outcome]]

_COLUMNS = (
    "side",
    "trials run",
    "trials a minute",
    "× baseline",
    "best",
    "epochs a trial",
    "% of numpy's rate",
    "padded",
    "while training",
    "compile / train / book %",
    "peak MB",
    "load before",
)


def throughput_table(rounds: Rounds, *, n_trials: int, baseline: str, numpy_rate: float) -> str:
    """Return a row a side: median and range over the rounds.

    Args:
        rounds: What was measured.
        n_trials: Trials of the study whose rate is given; that of sides that ran fewer is extrapolated.
        baseline: The side that ratios are taken to, round by round.
        numpy_rate: FLOP/s of numpy's matrix product.
    """
    rows = [_row(side, rounds, n_trials=n_trials, baseline=baseline, numpy_rate=numpy_rate) for side in _sides(rounds)]
    return markdown(_COLUMNS, rows)


def _row(side: str, rounds: Rounds, *, n_trials: int, baseline: str, numpy_rate: float) -> list[str]:
    runs = _runs(side, rounds)
    if not runs:
        return [side, _reason(side, rounds)]
    fewer = any(run.n_trials < n_trials for run in runs)
    ran = sorted({run.n_trials for run in runs})
    return [
        side,
        " to ".join(f"{n:,}" for n in dict.fromkeys((ran[0], ran[-1]))),
        spread(_present(run.rate(n_trials) for run in runs), 1) + (" ¹" if fewer else ""),
        spread(_ratios(side, rounds, n_trials=n_trials, baseline=baseline), 2),
        spread(_present(run.best for run in runs), 4),
        spread([run.epochs / run.n_trials for run in runs if run.n_trials], 1),
        spread([100 * run.flop / run.wall_s / numpy_rate for run in runs], 1),
        spread(_present(_padded_share(run, numpy_rate) for run in runs), 1),
        spread(_present(_share_in_training(run, numpy_rate) for run in runs), 1),
        " / ".join(spread(_shares(runs, phase), 0) for phase in PHASES),
        spread([run.peak_mb for run in runs], 0),
        spread([run.load_before for run in runs], 1),
    ]


def _padded_share(run: SideRun, numpy_rate: float) -> float | None:
    flop = None if run.timings is None else run.timings.padded_flop
    return None if flop is None else 100 * flop / run.wall_s / numpy_rate


def _share_in_training(run: SideRun, numpy_rate: float) -> float | None:
    """Return the rate of the time in which the workers trained, as a share of numpy's, without padding."""
    seconds = 0.0 if run.timings is None else run.timings.seconds["training_s"]
    workers = 1 if run.timings is None else run.timings.n_workers
    return 100 * run.flop / (seconds / workers) / numpy_rate if seconds else None


def _shares(runs: Sequence[SideRun], phase: str) -> list[float]:
    """Return what part of the workers' whole time a phase took, in percent."""
    return [
        100 * run.timings.seconds[phase] / (run.wall_s * run.timings.n_workers)
        for run in runs
        if run.timings is not None
    ]


def _ratios(side: str, rounds: Rounds, *, n_trials: int, baseline: str) -> list[float]:
    ratios = []
    for outcomes in rounds:
        rates = {run.side: run.rate(n_trials) for run in outcomes if isinstance(run, SideRun)}
        own, other = rates.get(side), rates.get(baseline)
        if own is not None and other is not None:
            ratios.append(own / other)
    return ratios


def pruning_table(plain: Rounds, pruned: Rounds, *, n_trials: int) -> str:
    """Return a row a side that ran both: how many times the trials a minute pruning gives, and both best values."""
    rows = []
    for side in _sides(pruned):
        pair = [_runs(side, rounds) for rounds in (plain, pruned)]
        rates = [_present(run.rate(n_trials) for run in runs) for runs in pair]
        if all(rates):
            bests = [spread(_present(run.best for run in runs), 4) for runs in pair]
            rows.append([side, f"{statistics.median(rates[1]) / statistics.median(rates[0]):.2f}", *bests])
    return markdown(("side", "× without pruning", "best without", "best with"), rows)


def growth_table(rounds: Rounds, sizes: Sequence[int]) -> str:
    """Return a row a side and a size: the rate, the memory and the shares as a study grows.

    Args:
        rounds: One a size: the sides that ran it.
        sizes: The trials of each round.
    """
    rows = []
    for size, outcomes in zip(sizes, rounds, strict=True):
        for run in outcomes:
            if isinstance(run, Skipped):
                rows.append([f"{size:,}", run.side, run.reason])
                continue
            shares = " / ".join(spread(_shares([run], phase), 0) for phase in PHASES)
            rate, best = _present([run.rate(run.n_trials)]), _present([run.best])
            row = [f"{size:,}", run.side, spread([run.wall_s], 1), spread(rate, 1), shares]
            rows.append([*row, spread([run.peak_mb], 0), spread(best, 4), f"{run.load_before:.1f}"])
    columns = (
        "trials",
        "side",
        "wall s",
        "trials a minute",
        "compile / train / book %",
        "peak MB",
        "best",
        "load before",
    )
    return markdown(columns, rows)


def target_table(rounds: Rounds, *, target: float, baseline: str) -> str:
    """Return a row a side: minutes until a trial reached the target."""
    rows = []
    for side in _sides(rounds):
        runs = _runs(side, rounds)
        reached = [run.reached_s / 60 for run in runs if run.reached_s is not None]
        shares = []
        for outcomes in rounds:
            times = {run.side: run.reached_s for run in outcomes if isinstance(run, SideRun)}
            own, other = times.get(side), times.get(baseline)
            if own is not None and other is not None:
                shares.append(own / other)
        if runs:
            rows.append([side, f"{len(reached)} of {len(runs)}", spread(reached, 2), spread(shares, 2)])
        else:
            rows.append([side, _reason(side, rounds)])
    return markdown(("side", f"reached {target:.0%}", "minutes", "× baseline"), rows)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; short rows are filled with empty cells."""
    cells = [list(columns), ["---"] * len(columns)]
    cells += [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    return "\n".join(
        "| " + " | ".join(text.replace("|", "/").replace("\n", " ") for text in row) + " |" for row in cells
    )


def _sides(rounds: Rounds) -> list[str]:
    return list(dict.fromkeys(outcome.side for outcomes in rounds for outcome in outcomes))


def _runs(side: str, rounds: Rounds) -> list[SideRun]:
    return [run for outcomes in rounds for run in outcomes if isinstance(run, SideRun) and run.side == side]


def _reason(side: str, rounds: Rounds) -> str:
    return next(run.reason for outcomes in rounds for run in outcomes if isinstance(run, Skipped) and run.side == side)


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
