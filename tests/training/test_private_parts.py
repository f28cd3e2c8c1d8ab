"""One test for each use of a private part of Keras or TensorFlow: it fails by name when upstream moves."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from caviar.training.keras_private import all_layers, keep_keras_seeds
from caviar.training.tensorflow_private import (
    RegisteredFunction,
    call_loop_bodies,
    keep_tensorflow_seed,
    memory_limit,
    without_graph_rewriting,
)


@pytest.mark.parametrize(
    ("keep", "draw"),
    [
        (keep_keras_seeds, lambda: keras.random.normal((3,))),
        (keep_tensorflow_seed, lambda: tf.random.normal((3,))),
    ],
    ids=["keras", "tensorflow"],
)
def test_seeds_are_restored_with_their_draws(keep: Any, draw: Any) -> None:
    keras.utils.set_random_seed(3)
    draw()
    restore, expected = keep(), draw().numpy()
    keras.utils.set_random_seed(3)
    draw()
    restore = keep()
    keras.utils.set_random_seed(9)
    draw()
    restore()
    np.testing.assert_array_equal(draw(), expected)


class Own(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs)


def test_all_layers_finds_those_inside_a_layer_of_the_user_s_own() -> None:
    model = keras.Sequential([keras.Input((3,)), Own()])
    assert {type(layer) for layer in all_layers(model)} >= {keras.Sequential, Own, keras.layers.Dense}


def test_a_registered_function_runs_by_its_name() -> None:
    signature = [tf.TensorSpec([None], tf.float32)] * 2
    traced = tf.function(lambda a, b: (a + b, a * b), input_signature=signature).get_concrete_function()
    inputs = tf.constant([2.0, 3.0]), tf.constant([4.0, 5.0])
    definition = traced.function_def
    renamed = type(definition).FromString(definition.SerializeToString())
    renamed.signature.name += "_registered"
    for function in (
        RegisteredFunction.of(traced),
        RegisteredFunction.register([renamed]),
        RegisteredFunction.register([renamed]),  # a name that the process knows is left alone
    ):
        results = [result.numpy().tolist() for result in function(*inputs)]
        assert results == [[6.0, 8.0], [8.0, 15.0]]


def test_loops_call_their_bodies() -> None:
    def count(limit: Any) -> Any:
        (done,) = tf.while_loop(lambda i: i < limit, lambda i: (i + 1,), [tf.constant(0)])
        call_loop_bodies(done.graph)
        return done

    traced = tf.function(count, input_signature=[tf.TensorSpec([], tf.int32)]).get_concrete_function()
    loops = [operation for operation in traced.graph.get_operations() if "While" in operation.type]
    assert [loop.get_attr("_lower_using_switch_merge") for loop in loops] == [False]
    assert traced(tf.constant(5)).numpy() == 5


def test_graph_rewriting_stays_off_while_any_of_several_calls_needs_it_so_and_is_put_back_by_the_last() -> None:
    def is_off() -> bool:
        return bool(tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False))

    before, first, second = is_off(), without_graph_rewriting(), without_graph_rewriting()
    first.__enter__()
    second.__enter__()  # as a thread of study.optimize(n_jobs=2) does before the first one leaves
    first.__exit__(None, None, None)
    assert is_off()
    second.__exit__(None, None, None)
    assert is_off() == before


def test_a_device_tells_its_memory() -> None:
    bytes_of_cpu = memory_limit("CPU")
    assert bytes_of_cpu is not None
    assert bytes_of_cpu >= 1 << 20
    assert memory_limit("no such device") is None
