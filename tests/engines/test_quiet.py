"""TensorFlow is imported without what Keras would load and our processes do not use."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_keras_goes_without_the_packages_that_are_spared_which_load_as_ever_afterwards() -> None:
    code = """
import sys
from caviar.engines.quiet import _SPARED, import_tensorflow_quietly
import_tensorflow_quietly()
print([name for name in _SPARED if name in sys.modules])
import keras, pandas, sklearn.base
keras.Sequential([keras.layers.Dense(1)]).build((None, 2))
"""
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout == "[]\n"
