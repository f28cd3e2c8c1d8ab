import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from caviar.data.split import stratified_cut

CLASS_SIZES = st.lists(st.integers(2, 60), min_size=1, max_size=8)


def labels_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


@given(sizes=CLASS_SIZES, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**63))
def test_every_example_is_on_one_side_and_every_class_on_both(sizes: list[int], fraction: float, seed: int) -> None:
    labels = labels_of(sizes)
    stays, cut_off = stratified_cut(labels, fraction=fraction, seed=seed)
    assert sorted([*stays, *cut_off]) == list(range(len(labels)))
    assert list(stays) == sorted(stays)
    for part in (stays, cut_off):
        assert set(labels[part]) == set(range(len(sizes)))


@given(sizes=st.lists(st.integers(20, 400), min_size=2, max_size=8), fraction=st.floats(0.1, 0.9))
def test_each_class_is_cut_in_proportion_and_the_total_is_rounded_up(sizes: list[int], fraction: float) -> None:
    labels = labels_of(sizes)
    _, cut_off = stratified_cut(labels, fraction=fraction, seed=0)
    assert len(cut_off) == np.ceil(np.round(len(labels) * fraction, 9))
    assert np.all(np.abs(np.bincount(labels[cut_off]) - np.array(sizes) * fraction) < 1)


def test_seed_decides_which_examples_are_cut() -> None:
    labels = labels_of([100, 100])
    first, again, other = (stratified_cut(labels, fraction=0.2, seed=seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_cut_is_the_same_on_every_machine_and_version() -> None:
    _, cut_off = stratified_cut(labels_of([5, 5]), fraction=0.4, seed=7)
    assert cut_off.tolist() == [3, 4, 6, 9]


def test_float_rounding_cuts_no_extra_example() -> None:
    assert 100 * 0.07 > 7
    assert len(stratified_cut(labels_of([50, 50]), fraction=0.07, seed=0)[1]) == 7


def test_single_example_of_a_class_stays() -> None:
    stays, _ = stratified_cut(labels_of([1, 9]), fraction=0.5, seed=0)
    assert 0 in stays
