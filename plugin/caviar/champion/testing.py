"""What a champion does on the test split, beside what simple methods do there."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Split
from .race import Interval, share_interval

_N_BINS: Final = 15
#: Rows that the baselines are fitted on at most: boosting 60,000 images takes half an hour.
BASELINE_ROWS: Final = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestFigures:
    """What was measured on the test split.

    Attributes:
        n: Test examples.
        accuracy: Share of them that is classified rightly, and its 95 % interval by Wilson's score.
        log_loss: Mean cross-entropy, in nats.
        balanced_accuracy: Mean of the classes' recalls.
        macro_f1: Mean of the classes' F1.
        classes: For each class its name, precision, recall, F1 and number of test examples.
        confusion: Rows are true classes, columns predicted ones.
        calibration_error: Expected calibration error, by 15 bins of equal width of the largest probability.
        reliability: For each bin that is not empty: mean probability, accuracy, number of examples.
        baselines: Method → its test accuracy.
        baseline_rows: Rows that the baselines were fitted on.
    """

    __test__ = False  # no test of pytest's

    n: int
    accuracy: Interval
    log_loss: float
    balanced_accuracy: float
    macro_f1: float
    classes: tuple[dict[str, Any], ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float
    reliability: tuple[tuple[float, float, int], ...]
    baselines: dict[str, float]
    baseline_rows: int


def test_figures(
    probabilities: NDArray[np.floating[Any]],
    test: Split,
    *,
    class_names: Sequence[str],
    baselines: dict[str, float],
    baseline_rows: int,
) -> TestFigures:
    """Return what is to be said of predictions on the test split.

    Args:
        probabilities: Shape (n, n_classes), each at least 0.
        test: The test split.
        class_names: In the order of the labels.
        baselines: Of `baseline_accuracies`.
        baseline_rows: Rows that they were fitted on.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels, n_classes = test.labels, len(class_names)
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(n_classes), zero_division=0
    )
    present = support > 0
    confidence = probabilities.max(axis=1)
    error, bins = _calibration(confidence, right)
    given = np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, 1.0)
    return TestFigures(
        n=len(labels),
        accuracy=share_interval(int(right.sum()), len(labels)),
        log_loss=float(-np.log(given).mean()),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        classes=tuple(
            {"name": name, "precision": float(p), "recall": float(r), "f1": float(f), "n": int(n)}
            for name, p, r, f, n in zip(class_names, precision, recall, f1, support, strict=True)
        ),
        confusion=tuple(
            tuple(int(count) for count in row) for row in confusion_matrix(labels, predicted, labels=range(n_classes))
        ),
        calibration_error=error,
        reliability=bins,
        baselines=baselines,
        baseline_rows=baseline_rows,
    )


def baseline_accuracies(train: Split, test: Split, *, seed: int) -> tuple[dict[str, float], int]:
    """Return what simple methods reach: the majority class, logistic regression, and gradient boosting.

    Args:
        train: All that may be learned from; of more than ``BASELINE_ROWS`` rows, a sample.
        test: The test split.
        seed: Of the sample.

    Returns:
        Method → its test accuracy, and the number of rows that they were fitted on.
    """
    import warnings

    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    rows = np.random.default_rng(seed).permutation(len(train.labels))[:BASELINE_ROWS]
    x, y = _flat(train.features[rows]), train.labels[rows]
    x_test = _flat(test.features)
    majority = np.bincount(train.labels).argmax()
    found = {"majority class": float((test.labels == majority).mean())}
    for name, method in {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        "gradient boosting": HistGradientBoostingClassifier(random_state=seed, max_iter=100),
    }.items():
        # On one thread: beside other work, the threads of boosting wait for each other for minutes.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a regression that has not converged is a baseline, too
            found[name] = float(method.fit(x, y).score(x_test, test.labels))
    return found, len(rows)


def _calibration(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]
) -> tuple[float, tuple[tuple[float, float, int], ...]]:
    """Return the expected calibration error, and the bins of the reliability curve.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    which = np.minimum((confidence * _N_BINS).astype(int), _N_BINS - 1)
    bins = []
    for number in range(_N_BINS):
        inside = which == number
        if inside.any():
            bins.append((float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    error = sum(abs(mean - accuracy) * n for mean, accuracy, n in bins) / len(right)
    return float(error), tuple(bins)


def _flat(features: NDArray[Any]) -> NDArray[np.float64]:
    return features.reshape(len(features), -1).astype(np.float64)
