"""Every use of Keras' private parts. Checked with Keras 3.15.1; tests/training/test_private_parts.py tries each."""

from collections.abc import Callable
from typing import Any

from keras.src.backend.common import global_state


def keep_keras_seeds() -> Callable[[], None]:
    """Return a function that restores the seeds Keras has now: its public functions set them, but cannot read them."""
    values = {name: global_state.get_global_attribute(name) for name in ("global_random_seed", "global_seed_generator")}

    def restore() -> None:
        for name, value in values.items():
            global_state.set_global_attribute(name, value)

    return restore


def all_layers(model: Any) -> list[Any]:
    """Return a model and every layer in it; the public ``layers`` leaves out those inside layers of the user's own."""
    return list(model._flatten_layers())
