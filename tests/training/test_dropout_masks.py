from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from caviar.training.randomness import dropout_column_keys, dropout_row_keys, keep_scale


def kept(rate: float, *, rows: int = 400, units: int = 300, seed: int = 0, epoch: int = 0, layer: int = 0) -> Any:
    row_keys = dropout_row_keys(seed, epoch=epoch, n_rows=rows)
    scale = keep_scale(row_keys, dropout_column_keys(layer, units), tf.fill([units], tf.constant(rate, tf.float32)))
    return scale.numpy() > 0


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_share_dropped_is_the_rate(rate: float) -> None:
    drops = ~kept(rate)
    deviation = np.sqrt(rate * (1 - rate) / drops.size)
    assert drops.mean() == pytest.approx(rate, abs=4 * deviation)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_kept_values_are_scaled_so_that_the_mean_stays(rate: float) -> None:
    scale = keep_scale(dropout_row_keys(0, epoch=0, n_rows=50), dropout_column_keys(0, 40), tf.fill([40], rate)).numpy()
    assert set(np.unique(scale)) <= {np.float32(0), np.float32(1) / (np.float32(1) - np.float32(rate))}


def test_hash_is_uniform_over_each_byte() -> None:
    # A unit kept at a rate of k / 256 has a hash of which the top byte is at least k.
    top_byte = np.sum([kept(k / 256, rows=150, units=100) for k in range(1, 256)], axis=0)
    assert stats.chisquare(np.bincount(top_byte.ravel(), minlength=256)).pvalue > 1e-4


@pytest.mark.parametrize(
    "other",
    [{"layer": 1}, {"epoch": 1}, {"seed": 1}],
    ids=["layer", "epoch", "seed"],
)
def test_masks_of_other_layers_epochs_and_seeds_are_independent(other: dict[str, int]) -> None:
    correlation = np.corrcoef(kept(0.5).ravel(), kept(0.5, **other).ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(kept(0.5).size)


def test_neighbouring_rows_and_units_are_independent() -> None:
    mask = kept(0.5) - 0.5
    for product in (mask[1:] * mask[:-1], mask[:, 1:] * mask[:, :-1], mask[1:, 1:] * mask[:-1, :-1]):
        assert abs(4 * product.mean()) < 4 / np.sqrt(product.size)


def test_row_sums_and_unit_sums_spread_as_independent_draws_do() -> None:
    mask = kept(0.5, rows=1000, units=1000)
    for axis in (0, 1):
        variance = mask.sum(axis=axis).var()
        # The variance of a binomial of 1,000 is 250; that of 1,000 of them is known to 4.5 % (one deviation).
        assert variance == pytest.approx(250, rel=0.18)


def test_mask_of_a_unit_does_not_depend_on_the_layer_s_padded_width() -> None:
    np.testing.assert_array_equal(kept(0.4, units=300)[:, :20], kept(0.4, units=20))


def test_masks_are_equal_by_xla_and_without() -> None:
    row_keys, column_keys = dropout_row_keys(0, epoch=0, n_rows=8), dropout_column_keys(2, 16)
    rates = tf.fill([16], tf.constant(0.3))
    compiled = tf.function(keep_scale, jit_compile=True)(tf.constant(row_keys), tf.constant(column_keys), rates)
    np.testing.assert_array_equal(compiled.numpy(), keep_scale(row_keys, column_keys, rates).numpy())


def test_lanes_stack_on_leading_axes() -> None:
    row_keys = np.stack([dropout_row_keys(seed, epoch=0, n_rows=6) for seed in (0, 1)])
    rates = tf.constant([[0.2] * 9, [0.7] * 9])
    stacked = keep_scale(row_keys, dropout_column_keys(0, 9), rates).numpy()
    for lane in (0, 1):
        alone = keep_scale(row_keys[lane], dropout_column_keys(0, 9), rates[lane]).numpy()
        np.testing.assert_array_equal(stacked[lane], alone)
