"""The study as samplers and pruners see it: trials that were changed by hand teach them nothing."""

import copy
from collections.abc import Container
from typing import Any, cast, final

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ..interventions import was_changed


def as_learned_from(storage: BaseStorage) -> BaseStorage:
    """Return a storage in which every trial that was changed by hand is a failed one, which nobody learns from.

    Its parameters alone do not explain its value. It stays in the list, since places in a sequence are counted there.
    """
    return cast("BaseStorage", _LearnedView(storage))


@final
class _LearnedView:
    """Passes everything on; an Optuna storage has some thirty methods, of which one differs here."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._storage.get_all_trials(study_id, deepcopy=deepcopy)
        seen = [_failed(trial) if was_changed(trial.user_attrs) else trial for trial in trials]
        return [trial for trial in seen if states is None or trial.state in states]


def _failed(trial: FrozenTrial) -> FrozenTrial:
    failed = copy.copy(trial)
    failed.state = TrialState.FAIL
    return failed
