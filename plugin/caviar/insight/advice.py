"""What to try next: rules over what a search has shown, each with its evidence in words."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from ..spec import StudySpec
from .axes import parameter_axis, scale_position, scale_value, shown
from .guessing import Guess, LikeGuessing, like_guessing
from .importance import Importance
from .rows import TrialRow, best_rows

_TOP = 5
_EDGE = 0.05  # of the range, on its own scale
_MANY_DIVERGED = 0.1
_OVERFIT = 0.03
#: Beyond these a wider range means nothing or is refused.
_BOUNDS = {"momentum": (0.0, 0.9999), "dropout": (0.0, 0.9), "batch_norm_momentum": (0.0, 0.9999), "depth": (1, 100)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to try.

    Attributes:
        title: What to do, in a few words.
        evidence: What in the data speaks for it.
        change: The line of the study file, or the command, that does it; or None.
    """

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
    """Return what to try next, the most pressing first; empty where the data suggests nothing.

    Where the best cannot be told from guessing, that is the only advice: all others would read noise.

    Args:
        spec: The study file.
        rows: All trials.
        parameters: What the space draws, as ``axes.drawn_parameters`` gives it.
        importance: As measured on the trials.
        guess: What guessing gives on the study's data, or None where that is not known.
    """
    doubt = like_guessing(rows, guess, metric=spec.objective.metric)
    if doubt is not None:
        return [_guessing(doubt, rows, n_trials=spec.search.trials)]
    best = best_rows(rows, metric=spec.objective.metric)
    finished = sum(row.is_finished for row in rows)
    found = _failures(rows)
    if finished < spec.search.trials:
        found.append(
            Advice(
                title="Let the search finish",
                evidence=f"{finished} of the budget's {spec.search.trials} trials are done; the same command goes on.",
            )
        )
    found += _diverged(rows, parameters)
    if best:
        found += [advice for parameter in parameters for advice in _edge(parameter, best)]
        found += _epochs(spec, best)
        found += _overfitting(spec, best[0])
    found += _without_influence(importance, best, rows)
    if best and finished >= spec.search.trials:
        found += _budget(spec, rows, best[0])
        found += _ties(best, metric=spec.objective.metric, guess=guess)
    return found


def _guessing(doubt: LikeGuessing, rows: Sequence[TrialRow], *, n_trials: int) -> Advice:
    rule = "giving each class its frequency" if doubt.metric == "val_loss" else "always naming the most frequent class"
    finished = sum(row.is_finished for row in rows)
    counts = [(finished, f"of {n_trials} trials are done")] if finished < n_trials else []
    counts += [(sum(row.diverged for row in rows), "diverged"), (sum(row.state == "failed" for row in rows), "failed")]
    besides = ", ".join(f"{count} {what}" for count, what in counts if count)
    return Advice(
        title="Believe nothing here yet: the best cannot be told from guessing",
        evidence=f"The best {doubt.metric} of {doubt.n_looks} epochs of all trials is {doubt.best:.4g}, "
        f"and {rule} gives {doubt.guess:.4g}. The best of so many guesses may come as far (p = {doubt.p:.2g}). "
        + (f"Note that {besides}. " if besides else "")
        + "Look at the features and the labels, and at the learning rates; or validate on more examples.",
    )


def _failures(rows: Sequence[TrialRow]) -> list[Advice]:
    failed = [row for row in rows if row.state == "failed"]
    if not failed:
        return []
    reasons = [row.fail_reason for row in failed if row.fail_reason]
    last = f" The last said: {reasons[-1]}" if reasons else ""
    title = "Look at the trial that failed" if len(failed) == 1 else f"Look at the {len(failed)} trials that failed"
    return [Advice(title=title, evidence=f"Failed trials do not count towards the budget.{last}")]


def _diverged(rows: Sequence[TrialRow], parameters: Sequence[Parameter]) -> list[Advice]:
    finished = [row for row in rows if row.is_finished]
    diverged = [row for row in finished if row.diverged]
    if len(diverged) < 3 or len(diverged) < _MANY_DIVERGED * len(finished):
        return []
    evidence = f"{len(diverged)} of {len(finished)} trials diverged"
    rate = next((p for p in parameters if p.name == "learning_rate" and isinstance(p, FloatParameter)), None)
    if rate is None:
        return [Advice(title="Lower the learning rate", evidence=f"{evidence}.")]
    rates = sorted(row.hyperparameters["learning_rate"] for row in diverged)
    lowest = rates[len(rates) // 10]
    sound = [row.hyperparameters["learning_rate"] for row in finished if not row.diverged]
    above = sum(value >= lowest for value in sound)
    if above >= len(diverged):  # not a matter of the learning rate alone
        return [
            Advice(
                title="Find what makes training diverge",
                evidence=f"{evidence}, but {above} others with a learning rate of {shown(lowest)} or more did not.",
            )
        ]
    return [
        Advice(
            title="Lower the high end of the learning rate",
            evidence=f"{evidence}, nearly all of them with a learning rate of {shown(lowest)} or more.",
            change=_range_line(rate, rate.low, _rounded(lowest)),
        )
    ]


def _edge(parameter: Parameter, best: Sequence[TrialRow]) -> list[Advice]:
    if isinstance(parameter, ChoiceParameter) or parameter.name not in best[0].hyperparameters:
        return []
    axis = parameter_axis(parameter)
    width = axis.high - axis.low
    top = [row.hyperparameters[parameter.name] for row in best[:_TOP] if parameter.name in row.hyperparameters]
    places = [(axis.position(value) - axis.low) / width for value in top]
    at_high = places[0] >= 1 - _EDGE
    if not (at_high or places[0] <= _EDGE):
        return []
    near = sum(place >= 0.75 if at_high else place <= 0.25 for place in places)
    if near * 2 < len(places):  # the best alone: chance
        return []
    low, high = _widened(parameter, at_high=at_high)
    if (low, high) == (parameter.low, parameter.high):
        return []
    end = "high" if at_high else "low"
    return [
        Advice(
            title=f"Widen {parameter.name} at its {end} end",
            evidence=f"The best trial has {parameter.name} = {shown(top[0])}, at the edge of {shown(parameter.low)} to "
            f"{shown(parameter.high)}, and {near} of the {len(places)} best lie in the quarter beside it.",
            change=_range_line(parameter, low, high),
        )
    ]


def _widened(parameter: FloatParameter | IntParameter, *, at_high: bool) -> tuple[float, float]:
    """Return the range, longer by a quarter on its own scale at one end, within what the hyperparameter can be."""
    position = scale_position(parameter)
    low, high = position(parameter.low), position(parameter.high)
    grown = scale_value(parameter, high + (high - low) / 4 if at_high else low - (high - low) / 4)
    lower, upper = _BOUNDS.get(parameter.name, (0.0 if parameter.scale == "uniform" else -np.inf, np.inf))
    grown = min(max(grown, lower), upper)
    if isinstance(parameter, IntParameter):
        grown = max(1, round(grown))
        return (
            (parameter.low, max(grown, parameter.high + 1)) if at_high else (min(grown, parameter.low), parameter.high)
        )
    grown = 1 - _rounded(1 - grown) if parameter.scale == "log-complement" else _rounded(grown)
    return (parameter.low, max(grown, parameter.high)) if at_high else (min(grown, parameter.low), parameter.high)


def _epochs(spec: StudySpec, best: Sequence[TrialRow]) -> list[Advice]:
    epochs = spec.objective.epochs
    top = [row for row in best[:_TOP] if row.best_epoch is not None and len(row.curve) == epochs]
    if epochs < 4 or len(top) < 3:
        return []
    late = sum((row.best_epoch or 0) >= epochs - max(1, epochs // 10) for row in top)
    sign = -1 if spec.objective.direction == "minimize" else 1
    quarter = max(1, epochs // 4)
    gain = sign * float(np.mean([np.mean(r.curve[-quarter:]) - np.mean(r.curve[-2 * quarter : -quarter]) for r in top]))
    if late * 2 > len(top) and gain > 0:
        return [
            Advice(
                title="Train for more epochs",
                evidence=f"{late} of the {len(top)} best trials were best within the last tenth of their {epochs} "
                f"epochs, and over the last {quarter} they still gained {gain:.2g} on the {quarter} before.",
                change=f"epochs = {2 * epochs}",
            )
        ]
    last = max((row.best_epoch or 0) + 1 for row in top)
    if last * 2 <= epochs:
        return [
            Advice(
                title="Train for fewer epochs, and spend them on more trials",
                evidence=f"The {len(top)} best trials were at their best by epoch {last} of {epochs}.",
                change=f"epochs = {max(2, round(1.25 * last))}",
            )
        ]
    return []


def _overfitting(spec: StudySpec, best: TrialRow) -> list[Advice]:
    train, validation = best.curves.get("accuracy"), best.curves.get("val_accuracy")
    epoch = best.best_epoch
    if not train or not validation or epoch is None or epoch >= min(len(train), len(validation)):
        return []
    gap = train[epoch] - validation[epoch]
    searched = {parameter.name for parameter in spec.space.parameters} | set(spec.space.fixed)
    if gap < _OVERFIT or {"dropout", "l2"} <= searched or spec.objective.network is not None:
        return []
    return [
        Advice(
            title="Search dropout or l2",
            evidence=f"The best trial fits its training split to {train[epoch]:.1%} and the validation split to "
            f"{validation[epoch]:.1%}: it overfits.",
            change="dropout = { low = 0.0, high = 0.5 }" if "dropout" not in searched else None,
        )
    ]


def _without_influence(importance: Importance, best: Sequence[TrialRow], rows: Sequence[TrialRow]) -> list[Advice]:
    if importance.reason is not None or not best:
        return []
    drawn = [row.hyperparameters for row in rows if row.is_finished]
    found = []
    for parameter in importance.parameters:
        if not parameter.above_chance and parameter.high < 0.1 and parameter.name in best[0].hyperparameters:
            value = best[0].hyperparameters[parameter.name]
            text = f'"{value}"' if isinstance(value, str) else shown(value)
            n_same = sum(values.get(parameter.name) == value for values in drawn)
            settled = f", as {n_same} of all {len(drawn)} have" if n_same * 2 > len(drawn) else ""
            found.append(
                Advice(
                    title=f"Fix {parameter.name}, and search one dimension less",
                    evidence=f"Its share of the importance is {parameter.share:.0%}, at most {parameter.high:.0%}, and "
                    f"cannot be told from chance. The best trial has {shown(value)}{settled}.",
                    change=f"{parameter.name} = {text}",
                )
            )
    return found


def _budget(spec: StudySpec, rows: Sequence[TrialRow], best: TrialRow) -> list[Advice]:
    numbers = [row.number for row in rows if row.is_finished and not row.inherited]  # copies cost nothing here
    if len(numbers) < 10:
        return []
    before = sum(number < best.number for number in numbers) / len(numbers)
    if best.inherited:
        came = f"The best trial is one of the parent's: none of the {len(numbers)} that were run here is better."
    else:
        came = f"The best trial came after {before:.0%} of the budget, and the rest of it found none better."
    if before >= 0.8:
        return [
            Advice(
                title="Run more trials",
                evidence=f"The best trial came after {before:.0%} of the budget: the search was still finding better.",
                change=f"trials = {2 * spec.search.trials}",
            )
        ]
    return [
        Advice(
            title="Zoom in: search a narrower space around the best trials",
            evidence=came,
            change=f"caviar zoom {spec.name}",
        )
    ]


def _ties(best: Sequence[TrialRow], *, metric: str, guess: Guess | None) -> list[Advice]:
    if metric != "val_accuracy" or guess is None or len(best) < 2 or best[0].value is None:
        return []
    n_examples, value = guess.n_examples, best[0].value
    error = float(np.sqrt(max(value * (1 - value), 1 / n_examples) / n_examples))
    ties = sum(row.value is not None and value - row.value <= error for row in best)
    if ties < 2:
        return []
    return [
        Advice(
            title=f"Race the {min(ties, 10)} best over several seeds before believing the first",
            evidence=f"{ties} trials lie within {error:.2g} of the best, one standard error of an accuracy on "
            f"{n_examples} validation examples: their order may be chance.",
        )
    ]


def _range_line(parameter: FloatParameter | IntParameter, low: float, high: float) -> str:
    scale = "" if parameter.scale == "uniform" else f', scale = "{parameter.scale}"'
    return f"{parameter.name} = {{ low = {shown(low)}, high = {shown(high)}{scale} }}"


def _rounded(value: float) -> float:
    return float(f"{value:.1g}")
