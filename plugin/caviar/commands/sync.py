"""Filling in what MLflow lacks of a study."""

from ..storage.home import Home
from ..storage.opening import open_existing, required_spec
from ..worker.mirroring import sync_trials
from ..worker.opening import open_mirror


def sync_study(home: Home, study: str) -> tuple[int, int]:
    """Record in MLflow what it lacks of a study's trials; a second call changes nothing.

    Returns:
        How many trials were filled in, and how many could not be, because MLflow is down or refuses them.

    Raises:
        StorageError: If there is no such study.
    """
    _, opened = open_existing(home, study)
    spec = required_spec(opened)
    mirror = open_mirror(home, opened, spec)
    return sync_trials(mirror, opened.get_trials(deepcopy=False), space=spec.space, metric=spec.objective.metric)
