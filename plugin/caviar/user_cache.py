"""Where what holds for all of a user's homes, and can be made anew, is kept."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return ``optuna-caviar`` in ``XDG_CACHE_HOME``, or else in ``~/.cache``; nothing is created."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "optuna-caviar"
