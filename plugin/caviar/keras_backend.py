"""Keras' backend: which one it would take is known without importing it."""

import json
import os
import sys
from pathlib import Path

from .errors import SpecError


def check_keras_backend() -> None:
    """Raise a SpecError, naming what chose it, if Keras' backend is not TensorFlow, in which everything here trains."""
    settings = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    chosen: dict[str, object] = {"the environment variable KERAS_BACKEND": os.environ.get("KERAS_BACKEND") or None}
    if not any(chosen.values()):
        chosen[str(settings)] = _backend_in(settings)
    if keras := sys.modules.get("keras"):  # by whatever was chosen when it was imported
        chosen["this process"] = keras.backend.backend()
    for who, backend in chosen.items():
        if backend not in (None, "tensorflow"):
            raise SpecError(
                f"Keras' backend must be 'tensorflow' here, but {who} chose {backend!r}. "
                "Set KERAS_BACKEND=tensorflow before Keras is imported."
            )


def _backend_in(settings: Path) -> object:
    try:
        return json.loads(settings.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):  # missing or torn: Keras then takes its default
        return None
