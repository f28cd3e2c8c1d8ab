"""Stratified cuts that are the same on every machine and with every version of the libraries."""

import numpy as np
from numpy.typing import NDArray


def stratified_cut(
    labels: NDArray[np.int32], *, fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide examples in two, with the classes in the same proportions; return the positions that stay, and the others.

    This uses PCG64's raw output, which numpy promises to keep. Other versions of numpy's Generator or of scikit-learn's
    splitters may draw other numbers, and with them every score would change.

    The cut has ⌈fraction·n⌉ examples, and each class's share is off by less than one. It has more or fewer only if a
    class of at least two examples would have none on one side.
    """
    classes, counts = np.unique(labels, return_counts=True)
    quotas = _quotas(counts, fraction)
    order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    is_cut = np.zeros(len(labels), dtype=np.bool_)
    for label, quota in zip(classes, quotas, strict=True):
        is_cut[order[labels[order] == label][:quota]] = True
    return np.flatnonzero(~is_cut), np.flatnonzero(is_cut)


def _quotas(counts: NDArray[np.intp], fraction: float) -> NDArray[np.intp]:
    """Return how many examples of each class are cut off; the largest remainders are rounded up."""
    shares = np.round(counts * fraction, 9)  # 100 · 0.07 is a little above 7, and its ceiling would be 8
    quotas = np.floor(shares).astype(np.intp)
    n_left = int(np.ceil(np.round(counts.sum() * fraction, 9))) - int(quotas.sum())
    largest_first = np.argsort(quotas - shares, kind="stable")
    quotas[largest_first[:n_left]] += 1
    return np.clip(quotas, 1, counts - 1)
