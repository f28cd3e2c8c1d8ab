"""Keras' backend: which one it would take is known without importing it."""

import json
import os
import sys
from pathlib import Path

from .errors import SpecError


def check_keras_backend() -> None:
    """Refuse any backend of Keras but TensorFlow, in which everything here trains.

    Raises:
        SpecError: Naming the backend, and what chose it.
    """
    settings = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    if keras := sys.modules.get("keras"):
        backend, chosen_by = keras.backend.backend(), "this process"
    elif backend := os.environ.get("KERAS_BACKEND"):
        chosen_by = "the environment variable KERAS_BACKEND"
    else:
        backend, chosen_by = _backend_in(settings), str(settings)
    if backend not in (None, "tensorflow"):
        raise SpecError(
            f"Keras' backend must be 'tensorflow' here, but {chosen_by} chose {backend!r}. "
            "Set KERAS_BACKEND=tensorflow before Keras is imported."
        )


def _backend_in(settings: Path) -> object:
    try:
        return json.loads(settings.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):  # missing or torn: Keras then takes its default
        return None
