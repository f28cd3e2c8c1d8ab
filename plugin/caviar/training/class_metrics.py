"""Metrics in which all classes count alike, from counts by class."""

from typing import Any

import tensorflow as tf


def counts_by_class(outputs: Any, labels: Any, counted: Any) -> Any:
    """Return how many examples of each class are right, and how many are predicted, from logits or probabilities.

    Shapes:
        outputs (..., n, n_classes); labels (n,); counted (n,), 1.0 for each example that counts, else 0.0; result
        (2, ..., n_classes), of the type of ``counted``.
    """
    n_classes = outputs.shape[-1]
    predicted = tf.one_hot(tf.argmax(outputs, axis=-1), n_classes, dtype=counted.dtype) * counted[:, None]
    actual = tf.one_hot(labels, n_classes, dtype=counted.dtype)
    return tf.stack([tf.reduce_sum(predicted * actual, axis=-2), tf.reduce_sum(predicted, axis=-2)])


def class_metrics(counts: Any, labels: Any) -> tuple[Any, Any]:
    """Return the balanced accuracy and the macro F1, each of shape (...), as scikit-learn defines them.

    Balanced accuracy is the mean recall of the classes that have examples; macro F1 the mean F1 of the classes that
    have examples or predictions. The counts are those of `counts_by_class`, over all examples, whose labels are (n,).
    """
    right, predicted = counts[0], counts[1]
    actual = tf.cast(tf.math.bincount(labels, minlength=right.shape[-1], maxlength=right.shape[-1]), right.dtype)
    actual = tf.broadcast_to(actual, tf.shape(right))
    return _mean_ratio(right, actual), _mean_ratio(2.0 * right, actual + predicted)


def _mean_ratio(numerators: Any, denominators: Any) -> Any:
    """Return the mean of the ratios whose denominators are not 0, over the last axis."""
    ratios = tf.math.divide_no_nan(numerators, denominators)
    present = tf.cast(denominators > 0, ratios.dtype)
    return tf.reduce_sum(ratios, axis=-1) / tf.reduce_sum(present, axis=-1)
