"""Whether a search has learned anything: its best against the best of as many guesses."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..attributes import GUESS
from ..metrics import CLASS_METRICS, direction_of
from .rows import TrialRow

#: Chance of believing a search that only guesses.
SIGNIFICANCE = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guess:
    """What guessing reaches on the validation split, without looking at the features.

    The accuracy, in (0, 1], is that of always naming the most frequent class; the loss, in nats, that of giving every
    class its frequency. Any such rule has the balanced accuracy 1 / n_classes. ``recall_weights`` is the sum of squares
    of the weights that examples have in it; an old study has neither.
    """

    n_examples: int
    accuracy: float
    loss: float
    balanced_accuracy: float | None = None
    recall_weights: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikeGuessing:
    """A search whose best in a metric of the validation split, over all epochs of all trials, may be a guess.

    ``guess`` is what guessing reaches, and ``p`` at most the chance that the best of ``n_looks`` guesses is as good.
    """

    metric: str
    best: float
    guess: float
    n_looks: int
    p: float


def guess_of(attributes: Mapping[str, Any], *, data: str) -> Guess | None:
    """Return what guessing reaches on a study's data, or None if nothing is known of them.

    An old study has no attribute, only the description of its data, without the classes' frequencies. They are then
    taken as equal, so that guessing is suspected less often.
    """
    if GUESS in attributes:
        return Guess(**attributes[GUESS])
    found = re.search(r"(\d+) validation, (\d+) classes", data)
    if found is None:
        return None
    n_examples, n_classes = map(int, found.groups())
    return Guess(n_examples=n_examples, accuracy=1 / n_classes, loss=math.log(n_classes))


def like_guessing(rows: Sequence[TrialRow], guess: Guess | None, *, metric: str) -> LikeGuessing | None:
    """Return how a search's best compares with guessing if it may be a guess, else None.

    An accuracy is tested by the exact binomial tail, with Šidák's correction for the number of looks. A loss is tested
    by its likelihood ratio to the classes' frequencies. Under guessing the ratio's mean is at most 1, so Markov's
    inequality bounds its tail, and Bonferroni's correction bounds the best of many looks. Epochs of one trial resemble
    each other, so both err on the side of guessing. A metric of the training split is judged on the validation split,
    and macro F1 by the balanced accuracy, whose tail Hoeffding's inequality bounds.

    Source:
        Šidák, Journal of the American Statistical Association 1967; Vovk and Wang, E-values, Annals of Statistics 2021;
        Hoeffding, Journal of the American Statistical Association 1963.
    """
    from scipy.special import betainc

    judged = "val_balanced_accuracy" if metric in CLASS_METRICS else f"val_{metric.removeprefix('val_')}"
    looks = [value for row in rows for value in row.curves.get(judged, ())]
    best = direction_of(metric).best(looks)
    if guess is None or best is None:
        return None
    if direction_of(metric) == "minimize":
        p = min(1.0, len(looks) * math.exp(min(0.0, guess.n_examples * (best - guess.loss))))
    elif judged == "val_balanced_accuracy":
        if guess.balanced_accuracy is None or guess.recall_weights is None:
            return None
        lead = max(0.0, best - guess.balanced_accuracy)
        p = min(1.0, len(looks) * math.exp(-2 * lead**2 / guess.recall_weights))
    else:
        n_right = round(best * guess.n_examples)
        tail = float(betainc(n_right, guess.n_examples - n_right + 1, guess.accuracy)) if n_right else 1.0
        p = 1.0 if tail == 1 else -math.expm1(len(looks) * math.log1p(-tail))
    if p <= SIGNIFICANCE:
        return None
    guessed = getattr(guess, judged.removeprefix("val_"))
    return LikeGuessing(metric=judged, best=best, guess=guessed, n_looks=len(looks), p=p)
