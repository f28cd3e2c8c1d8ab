import numpy as np

from caviar.training.randomness import dropout_row_keys, epoch_order


def test_order_takes_every_example_once() -> None:
    order = epoch_order(0, epoch=0, n_examples=101)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(101))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_order(3, epoch=5, n_examples=50)
    np.testing.assert_array_equal(first, epoch_order(3, epoch=5, n_examples=50))
    assert not np.array_equal(first, epoch_order(3, epoch=6, n_examples=50))
    assert not np.array_equal(first, epoch_order(4, epoch=5, n_examples=50))
    assert not np.array_equal(first, epoch_order(5, epoch=3, n_examples=50))


def test_every_place_of_the_order_is_equally_likely() -> None:
    first_places = [epoch_order(0, epoch=epoch, n_examples=10)[0] for epoch in range(2000)]
    counts = np.bincount(first_places, minlength=10)
    assert np.all(np.abs(counts - 200) < 5 * np.sqrt(200))


def test_row_keys_depend_on_seed_and_epoch_alone() -> None:
    first = dropout_row_keys(3, epoch=5, n_rows=50)
    assert first.dtype == np.uint32
    np.testing.assert_array_equal(first, dropout_row_keys(3, epoch=5, n_rows=50))
    assert len({*first, *dropout_row_keys(3, epoch=6, n_rows=50), *dropout_row_keys(4, epoch=5, n_rows=50)}) == 150
