"""Whether a search has learned anything: its best against the best that guessing would have had in as many looks."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..attributes import GUESS
from ..metrics import direction_of
from .rows import TrialRow

#: Chance of calling a search of pure guessing more than that.
SIGNIFICANCE = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guess:
    """What can be had on the validation split without looking at the features.

    Attributes:
        n_examples: Validation examples.
        accuracy: Of always naming the most frequent class, in (0, 1].
        loss: Of giving every class its frequency as its probability, in nats.
    """

    n_examples: int
    accuracy: float
    loss: float


def guess_of(attributes: Mapping[str, Any], *, data: str) -> Guess | None:
    """Return what guessing gives on a study's data.

    Args:
        attributes: The study's user attributes.
        data: The study's description of its data. A study begun before the classes' frequencies were kept has only
            this: the classes are taken as equally frequent, so that guessing is suspected less often.

    Returns:
        None where nothing is known of the data.
    """
    if GUESS in attributes:
        return Guess(**attributes[GUESS])
    found = re.search(r"(\d+) validation, (\d+) classes", data)
    if found is None:
        return None
    n_examples, n_classes = int(found[1]), int(found[2])
    return Guess(n_examples=n_examples, accuracy=1 / n_classes, loss=math.log(n_classes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikeGuessing:
    """A search whose best cannot be told from a guess.

    Attributes:
        metric: ``val_accuracy`` or ``val_loss``.
        best: Its best value, of all trials and epochs.
        guess: The guess's.
        n_looks: Over how many epochs of all trials it is the best.
        p: At most the chance that the best of so many guesses is as good.
    """

    metric: str
    best: float
    guess: float
    n_looks: int
    p: float


def like_guessing(rows: Sequence[TrialRow], guess: Guess | None, *, metric: str) -> LikeGuessing | None:
    """Return how a search's best compares with guessing, where the two cannot be told apart; else None.

    An accuracy is tested by the exact binomial tail, corrected for the number of looks as Šidák has it. A loss is
    tested by its likelihood ratio to the classes' frequencies, whose mean is at most 1 under guessing, so that
    Markov's inequality bounds its tail, and Bonferroni's the best of many looks. Epochs of one trial resemble each
    other, so both err on the side of guessing.

    Args:
        rows: All trials.
        guess: What guessing gives, or None where it is not known.
        metric: Which the study optimises; of a metric of the training split, the validation split's is judged.

    Source:
        Šidák, Journal of the American Statistical Association 1967; Vovk and Wang, E-values, Annals of Statistics
        2021.
    """
    from scipy.special import betainc

    minimize = direction_of(metric) == "minimize"
    judged = metric if metric.startswith("val_") else f"val_{metric}"
    looks = [value for row in rows for value in row.curves.get(judged, ())]
    if guess is None or not looks:
        return None
    best = min(looks) if minimize else max(looks)
    if minimize:
        tail = math.exp(min(0.0, guess.n_examples * (best - guess.loss)))
        p = min(1.0, len(looks) * tail)
    else:
        n_right = round(best * guess.n_examples)
        tail = float(betainc(n_right, guess.n_examples - n_right + 1, guess.accuracy)) if n_right else 1.0
        p = 1.0 if tail == 1 else -math.expm1(len(looks) * math.log1p(-tail))
    if p <= SIGNIFICANCE:
        return None
    return LikeGuessing(
        metric=judged, best=best, guess=guess.loss if minimize else guess.accuracy, n_looks=len(looks), p=p
    )
