"""Searches of pure noise are called guessing, and searches that learned something are not."""

import math

import numpy as np
import pytest

from caviar.attributes import GUESS
from caviar.data.dataset import Dataset, DatasetFacts, Split
from caviar.insight.guessing import SIGNIFICANCE, Guess, guess_of, like_guessing
from caviar.insight.rows import TrialRow

FIFTH = Guess(n_examples=300, accuracy=0.2, loss=math.log(5))


def rows_with(curves: np.ndarray, *, metric: str = "val_accuracy") -> list[TrialRow]:
    """Return a trial for each row of values, (n_trials, n_epochs)."""
    return [
        TrialRow(
            number=number,
            state="complete",
            value=None,
            best_epoch=None,
            curve=(),
            curves={metric: tuple(curve.tolist())},
            seconds=None,
            diverged=False,
            inherited=False,
            hyperparameters={},
            fail_reason=None,
            started=None,
            ended=None,
        )
        for number, curve in enumerate(curves)
    ]


def rate_believed(curves_of: list[list[TrialRow]], *, metric: str) -> float:
    return float(np.mean([like_guessing(rows, FIFTH, metric=metric) is None for rows in curves_of]))


def test_at_most_one_noise_study_in_twenty_is_believed() -> None:
    rng = np.random.default_rng(0)
    studies = [rows_with(rng.binomial(300, 0.2, size=(20, 10)) / 300) for _ in range(1000)]
    assert 0 < rate_believed(studies, metric="val_accuracy") <= SIGNIFICANCE


def test_at_most_one_noise_study_in_twenty_is_believed_by_its_loss() -> None:
    rng = np.random.default_rng(0)
    studies = []
    for _ in range(60):
        labels = rng.permutation(np.repeat(np.arange(5), 60))
        logits = rng.normal(scale=0.1, size=(200, 300, 5))  # 200 looks, each nearly as good as the frequencies
        given = np.exp(logits[:, np.arange(300), labels]) / np.exp(logits).sum(axis=2)
        studies.append(rows_with(-np.log(given).mean(axis=1).reshape(20, 10), metric="val_loss"))
    assert rate_believed(studies, metric="val_loss") <= SIGNIFICANCE


def test_the_best_of_many_guesses_is_not_believed_and_a_single_one_as_good_is() -> None:
    many, one = rows_with(np.full((50, 20), 0.27)), rows_with(np.full((1, 1), 0.27))
    doubt = like_guessing(many, FIFTH, metric="val_accuracy")
    assert doubt is not None
    assert (doubt.best, doubt.guess, doubt.n_looks) == (0.27, 0.2, 1000)
    assert like_guessing(one, FIFTH, metric="val_accuracy") is None


@pytest.mark.parametrize(("metric", "value"), [("val_accuracy", 0.35), ("val_loss", 1.5), ("accuracy", 0.35)])
def test_what_was_learned_is_believed(metric: str, value: float) -> None:
    curve = "val_accuracy" if metric == "accuracy" else metric
    assert like_guessing(rows_with(np.full((50, 20), value), metric=curve), FIFTH, metric=metric) is None


def test_a_network_that_names_the_majority_is_guessing_however_accurate() -> None:
    imbalanced = Guess(n_examples=300, accuracy=0.95, loss=0.2)
    assert like_guessing(rows_with(np.full((5, 5), 0.95)), imbalanced, metric="val_accuracy") is not None
    assert like_guessing(rows_with(np.full((5, 5), 0.0)), FIFTH, metric="val_accuracy") is not None


def test_a_balanced_accuracy_is_judged_by_how_few_examples_the_rare_classes_have() -> None:
    def guess(counts: list[int]) -> Guess:
        squares = sum(1 / n for n in counts) / len(counts) ** 2
        shares = [n / sum(counts) for n in counts]
        loss = -sum(share * math.log(share) for share in shares)
        return Guess(
            n_examples=sum(counts), accuracy=max(shares), loss=loss, balanced_accuracy=0.5, recall_weights=squares
        )

    rows = rows_with(np.full((5, 5), 0.7), metric="val_balanced_accuracy")
    for metric in ("val_balanced_accuracy", "val_macro_f1"):
        assert like_guessing(rows, guess([300, 300]), metric=metric) is None
        doubt = like_guessing(rows, guess([590, 10]), metric=metric)
        assert doubt is not None
        assert (doubt.metric, doubt.guess) == ("val_balanced_accuracy", 0.5)


def test_hoeffding_bounds_how_well_guesses_balance() -> None:
    generator, counts = np.random.default_rng(0), np.array([60, 20, 5])
    squares = float((1 / counts).sum() / 9)
    recalls = generator.binomial(counts, 1 / 3, (4000, 3)) / counts
    reached = np.sort(recalls.mean(axis=1))
    bound = 1 / 3 + math.sqrt(squares * math.log(1 / 0.05) / 2)
    assert np.mean(reached > bound) <= 0.05


def test_what_guessing_gives_is_kept_with_the_study_or_taken_from_its_words() -> None:
    split = Split(features=np.zeros((4, 2), np.float32), labels=np.array([0, 2, 2, 2], np.int32))
    data = Dataset(name="toy", class_names=("a", "b", "c"), train=split, validation=split, fingerprint="")
    facts = DatasetFacts.of(data)
    assert facts.majority == 0.75
    assert facts.recall_weights == pytest.approx((1 / 1 + 1 / 3) / 4)
    assert facts.entropy == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    kept = {"n_examples": 4, "accuracy": 0.75, "loss": 0.5}
    assert guess_of({GUESS: kept}, data="") == Guess(n_examples=4, accuracy=0.75, loss=0.5)
    assert guess_of({}, data="toy: 800 train, 300 validation, 5 classes, features (8,)") == FIFTH
    assert guess_of({}, data="toy") is None
