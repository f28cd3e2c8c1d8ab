"""Filling in what MLflow lacks of a study."""

from ..storage.home import Home
from ..storage.opening import open_existing, required_spec
from ..worker.mirroring import sync_trials
from ..worker.opening import open_mirror


def sync_study(home: Home, study: str) -> tuple[int, int, str | None]:
    """Record in MLflow what it lacks of a study's trials; a second call changes nothing.

    Returns:
        How many trials were filled in, how many could not be, and why not.

    Raises:
        StorageError: If there is no such study.
    """
    _, opened = open_existing(home, study)
    spec = required_spec(opened)
    mirror = open_mirror(home, opened, spec)
    trials = opened.get_trials(deepcopy=False)
    filled, failed = sync_trials(mirror, trials, space=spec.space, metric=spec.objective.metric)
    return filled, failed, mirror.trouble
