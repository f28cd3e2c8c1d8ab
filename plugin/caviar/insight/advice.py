"""What to try next: rules over what a search has shown, each with its evidence in words."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ..metrics import CLASS_METRICS
from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from ..spec import StudySpec
from .axes import scale_position, scale_value
from .guessing import Guess, LikeGuessing, like_guessing
from .importance import Importance
from .rows import TrialRow, best_rows
from .words import shown

_TOP = 5
_EDGE = 0.05  # of the range, on its own scale
_MANY_DIVERGED = 0.1
_OVERFIT = 0.03
#: Beyond these a wider range means nothing or is refused.
_BOUNDS = {"momentum": (0.0, 0.9999), "dropout": (0.0, 0.9), "batch_norm_momentum": (0.0, 0.9999), "depth": (1, 100)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to try; ``change`` is the line of the study file, or the command, that does it."""

    title: str
    evidence: str
    change: str | None = None


def next_steps(
    spec: StudySpec,
    rows: Sequence[TrialRow],
    parameters: Sequence[Parameter],
    importance: Importance,
    *,
    guess: Guess | None = None,
) -> list[Advice]:
    """Return what to try next, most pressing first; empty if the data suggest nothing.

    If the best may be a guess, that is the only advice: all other would read noise. ``guess`` is None if it is unknown.
    """
    metric, n_trials = spec.objective.metric, spec.search.trials
    # Class weights trade frequent classes for rare ones: a guess may well have the better accuracy or loss.
    is_comparable = spec.objective.class_weight is None or metric in CLASS_METRICS
    doubt = like_guessing(rows, guess, metric=metric) if is_comparable else None
    if doubt is not None:
        return [_guessing(doubt, rows, n_trials=n_trials)]
    best = best_rows(rows, metric=metric)
    finished = sum(row.is_finished for row in rows)
    found = [*_failures(rows)]
    if finished < n_trials:
        evidence = f"{finished} of the {n_trials} trials are done. The same command resumes the study."
        found.append(Advice(title="Let the search finish", evidence=evidence))
    found += _diverged(rows, parameters)
    if best:
        for parameter in parameters:
            found += _edge(parameter, best)
        found += [*_epochs(spec, best), *_overfitting(spec, best[0])]
        found += _without_influence(importance, best[0], rows)
        if finished >= n_trials:
            found += [*_budget(spec, rows, best[0]), *_ties(best, metric=metric, guess=guess)]
    return found


def _guessing(doubt: LikeGuessing, rows: Sequence[TrialRow], *, n_trials: int) -> Advice:
    rules = {"val_loss": "giving each class its frequency", "val_accuracy": "always naming the most frequent class"}
    rule = rules.get(doubt.metric, "any rule that ignores the features")
    finished = sum(row.is_finished for row in rows)
    counts = [(finished, f"of {n_trials} trials are done")] if finished < n_trials else []
    counts += [(sum(row.diverged for row in rows), "diverged"), (sum(row.state == "failed" for row in rows), "failed")]
    besides = ", ".join(f"{count} {what}" for count, what in counts if count)
    return Advice(
        title="Do not trust these results yet: the best may be a guess",
        evidence=f"The best {doubt.metric} is {doubt.best:.4g}, over {doubt.n_looks} epochs of all trials, "
        f"and {rule} gives {doubt.guess:.4g}. The best of so many guesses may be as good (p = {doubt.p:.2g}). "
        + (f"Note that {besides}. " if besides else "")
        + "Check the features, the labels and the learning rates, or validate on more examples.",
    )


def _failures(rows: Sequence[TrialRow]) -> Iterator[Advice]:
    failed = [row for row in rows if row.state == "failed"]
    if failed:
        reasons = [f" The last one said: {row.fail_reason}" for row in failed if row.fail_reason]
        evidence = "Failed trials do not count towards the budget." + "".join(reasons[-1:])
        which = "trial that" if len(failed) == 1 else f"{len(failed)} trials that"
        yield Advice(title=f"Look at the {which} failed", evidence=evidence)


def _diverged(rows: Sequence[TrialRow], parameters: Sequence[Parameter]) -> Iterator[Advice]:
    finished = [row for row in rows if row.is_finished]
    diverged = [row for row in finished if row.diverged]
    if len(diverged) < 3 or len(diverged) < _MANY_DIVERGED * len(finished):
        return
    evidence = f"{len(diverged)} of {len(finished)} trials diverged"
    rate = next((p for p in parameters if p.name == "learning_rate" and isinstance(p, FloatParameter)), None)
    if rate is None:
        yield Advice(title="Lower the learning rate", evidence=f"{evidence}.")
        return
    lowest = sorted(row.hyperparameters["learning_rate"] for row in diverged)[len(diverged) // 10]
    above = sum(row.hyperparameters["learning_rate"] >= lowest for row in finished if not row.diverged)
    with_rate = f"with a learning rate of at least {shown(lowest)}"
    if above >= len(diverged):  # the learning rate alone does not explain it
        evidence = f"{evidence}, but {above} others {with_rate} did not."
        yield Advice(title="Find what makes training diverge", evidence=evidence)
    else:
        evidence = f"{evidence}, nearly all of them {with_rate}."
        change = _range_line(rate, rate.low, _rounded(lowest))
        yield Advice(title="Lower the high end of the learning rate", evidence=evidence, change=change)


def _edge(parameter: Parameter, best: Sequence[TrialRow]) -> Iterator[Advice]:
    if isinstance(parameter, ChoiceParameter) or parameter.name not in best[0].hyperparameters:
        return
    position = scale_position(parameter)
    start, width = position(parameter.low), position(parameter.high) - position(parameter.low)
    top = [row.hyperparameters[parameter.name] for row in best[:_TOP] if parameter.name in row.hyperparameters]
    places = [(position(value) - start) / width for value in top]
    at_high = places[0] >= 1 - _EDGE
    near = sum(place >= 0.75 if at_high else place <= 0.25 for place in places)
    if not (at_high or places[0] <= _EDGE) or near * 2 < len(places):  # if only the best is there, that is chance
        return
    low, high = _widened(parameter, at_high=at_high)
    if (low, high) != (parameter.low, parameter.high):
        yield Advice(
            title=f"Widen {parameter.name} at its {'high' if at_high else 'low'} end",
            evidence=f"The best trial has {parameter.name} = {shown(top[0])}, at the edge of {shown(parameter.low)} to "
            f"{shown(parameter.high)}. {near} of the {len(places)} best trials lie in the quarter of the range there.",
            change=_range_line(parameter, low, high),
        )


def _widened(parameter: FloatParameter | IntParameter, *, at_high: bool) -> tuple[float, float]:
    """Return the range, longer by a quarter on its own scale at one end, within what the hyperparameter can be."""
    position = scale_position(parameter)
    low, high = position(parameter.low), position(parameter.high)
    grown = scale_value(parameter, high + (high - low) / 4 if at_high else low - (high - low) / 4)
    lower, upper = _BOUNDS.get(parameter.name, (0.0 if parameter.scale == "uniform" else -np.inf, np.inf))
    grown = min(max(grown, lower), upper)
    if isinstance(parameter, IntParameter):
        grown = max(1, round(grown), parameter.high + 1 if at_high else 1)
    else:
        grown = 1 - _rounded(1 - grown) if parameter.scale == "log-complement" else _rounded(grown)
    return (parameter.low, max(grown, parameter.high)) if at_high else (min(grown, parameter.low), parameter.high)


def _epochs(spec: StudySpec, best: Sequence[TrialRow]) -> Iterator[Advice]:
    epochs = spec.objective.epochs
    whole = [row for row in best[:_TOP] if len(row.curve) == epochs]
    top = [(row.curve, row.best_epoch) for row in whole if row.best_epoch is not None]
    if epochs < 4 or len(top) < 3:
        return
    late = sum(best_epoch >= epochs - max(1, epochs // 10) for _, best_epoch in top)
    last = max(best_epoch + 1 for _, best_epoch in top)
    quarter = max(1, epochs // 4)
    change = np.mean([np.mean(curve[-quarter:]) - np.mean(curve[-2 * quarter : -quarter]) for curve, _ in top])
    gain = -spec.objective.direction.cost(float(change))
    if late * 2 > len(top) and gain > 0:
        yield Advice(
            title="Train for more epochs",
            evidence=f"{late} of the {len(top)} best trials peaked in the last tenth of their {epochs} epochs. "
            f"In the last {quarter} epochs they still gained {gain:.2g} over the {quarter} before.",
            change=f"epochs = {2 * epochs}",
        )
    elif last * 2 <= epochs:
        title = "Train for fewer epochs, and spend them on more trials"
        evidence = f"The {len(top)} best trials were at their best by epoch {last} of {epochs}."
        yield Advice(title=title, evidence=evidence, change=f"epochs = {max(2, round(1.25 * last))}")


def _overfitting(spec: StudySpec, best: TrialRow) -> Iterator[Advice]:
    train, validation = best.curves.get("accuracy", ()), best.curves.get("val_accuracy", ())
    epoch = best.best_epoch
    if epoch is None or epoch >= min(len(train), len(validation)):
        return
    searched = {parameter.name for parameter in spec.space.parameters} | set(spec.space.fixed)
    if train[epoch] - validation[epoch] < _OVERFIT or {"dropout", "l2"} <= searched or spec.objective.network:
        return
    yield Advice(
        title="Search dropout or l2",
        evidence=f"The best trial overfits: its accuracy is {train[epoch]:.1%} on the training split and "
        f"{validation[epoch]:.1%} on the validation split.",
        change="dropout = { low = 0.0, high = 0.5 }" if "dropout" not in searched else None,
    )


def _without_influence(importance: Importance, best: TrialRow, rows: Sequence[TrialRow]) -> Iterator[Advice]:
    drawn = [row.hyperparameters for row in rows if row.is_finished]
    for parameter in importance.parameters:
        if parameter.above_chance or parameter.high >= 0.1 or parameter.name not in best.hyperparameters:
            continue
        value = best.hyperparameters[parameter.name]
        text = f'"{value}"' if isinstance(value, str) else shown(value)
        n_same = sum(values.get(parameter.name) == value for values in drawn)
        settled = f", as do {n_same} of all {len(drawn)} trials" if n_same * 2 > len(drawn) else ""
        yield Advice(
            title=f"Fix {parameter.name}, and search one dimension less",
            evidence=f"Its share of the importance is {parameter.share:.0%}, at most {parameter.high:.0%}, which may "
            f"be chance. The best trial has {shown(value)}{settled}.",
            change=f"{parameter.name} = {text}",
        )


def _budget(spec: StudySpec, rows: Sequence[TrialRow], best: TrialRow) -> Iterator[Advice]:
    numbers = [row.number for row in rows if row.is_finished and not row.inherited]  # copies cost nothing here
    if len(numbers) < 10:
        return
    before = sum(number < best.number for number in numbers) / len(numbers)
    came = f"The best trial came after {before:.0%} of the budget"
    if before >= 0.8:
        evidence = f"{came}, so the search was still improving."
        yield Advice(title="Run more trials", evidence=evidence, change=f"trials = {2 * spec.search.trials}")
        return
    evidence = f"{came}, and the rest of it found no better one."
    if best.inherited:
        evidence = (
            f"The best trial was copied from the parent: none of the {len(numbers)} that were run here is better."
        )
    title = "Zoom in: search a narrower space around the best trials"
    yield Advice(title=title, evidence=evidence, change=f"caviar zoom {spec.name}")


def _ties(best: Sequence[TrialRow], *, metric: str, guess: Guess | None) -> Iterator[Advice]:
    value = best[0].value
    if metric != "val_accuracy" or guess is None or value is None:
        return
    error = float(np.sqrt(max(value * (1 - value), 1 / guess.n_examples) / guess.n_examples))
    ties = sum(row.value is not None and value - row.value <= error for row in best)
    if ties >= 2:
        yield Advice(
            title=f"Race the {min(ties, 10)} best over several seeds before you trust the first",
            evidence=f"The best {ties} trials lie within {error:.2g} of each other. That is one standard error of an "
            f"accuracy on {guess.n_examples} validation examples, so their order may be chance.",
        )


def _range_line(parameter: FloatParameter | IntParameter, low: float, high: float) -> str:
    scale = "" if parameter.scale == "uniform" else f', scale = "{parameter.scale}"'
    return f"{parameter.name} = {{ low = {shown(low)}, high = {shown(high)}{scale} }}"


def _rounded(value: float) -> float:
    return float(f"{value:.1g}")
