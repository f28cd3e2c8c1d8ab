"""What optuna-dashboard gets to draw a study of: trials read once, attributes for people, no more lines than one sees.

Stock, the dashboard reads all trials again every ten seconds, and draws a line for each trial's reports. With 5,000
trials, these lines take its page longer than all the rest, and nobody can tell one from another.
"""

import copy
import dataclasses
import json
import math
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, NoReturn

import sqlalchemy
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..attributes import STUDY_UID
from ..optuna_private import FrozenStudy, id_of_trial, optuna_tables
from ..storage import schema
from ..storage.leased_storage import LeasedStorage
from ..storage.study_memory import StudyMemory

#: Half of the trials whose reports are drawn where a study has more: the best and the last, so many of each.
_HALF_DRAWN: Final = 50
#: A study of more trials gets no lines at all: its page makes one for each trial, empty or not, in 0.7 ms.
_MOST_WITH_LINES: Final = 1000
#: A thousandth of an accuracy is one image of a thousand; the rest of a float32's digits is noise.
_DIGITS: Final = 5
_DIGITS_OF_CURVES: Final = 4


@dataclasses.dataclass(kw_only=True)
class _Known:
    """One study as it was last read, and as it is shown; ``version`` grows whenever a trial has changed."""

    memory: StudyMemory
    name: str
    uid: str | None = None
    version: int = 0
    shown_version: int = -1
    shown: list[FrozenTrial] = dataclasses.field(default_factory=list)
    by_id: dict[int, tuple[FrozenTrial, FrozenTrial]] = dataclasses.field(default_factory=dict)  # as stored, as shown


class ShownStudies(BaseStorage):
    """A storage of Optuna's to read from: the studies of a database, made ready for optuna-dashboard's page of one.

    Parameters, values, states and times are as they are stored. Attributes of trials and studies are rounded, and
    those of caviar's own bookkeeping are left out. Of a study of more than 100 trials, the 50 best and the 50 last
    keep what they have reported; of one of more than 1,000, none. All methods may be called from any thread.

    Args:
        storage: What is read.
    """

    def __init__(self, storage: LeasedStorage) -> None:
        self._storage = storage
        self._known: dict[int, _Known] = {}
        self._lock = threading.RLock()

    def version(self, study_id: int) -> str:
        """Read what is new in a study, and return a text that changes whenever the study does.

        Raises:
            KeyError: If there is no such study.
            StorageInternalError: If the database cannot be read.
        """
        with self._lock:
            known = self._read(study_id)
            attributes = (known.memory.user_attrs, known.memory.system_attrs)
            return json.dumps((known.name, known.version, *attributes), sort_keys=True)

    def newest(self, n: int) -> list[int]:
        """Return the ids of the last studies that were created, the newest first; raises as ``version`` does."""
        studies = optuna_tables().studies.c.study_id
        with schema.transaction(self._storage.engine) as connection:
            return list(connection.execute(sqlalchemy.select(studies).order_by(studies.desc()).limit(n)).scalars())

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return a study's trials as they are shown; raises as ``version`` does."""
        with self._lock:
            known = self._read(study_id)
            if known.shown_version != known.version:
                maximize = self.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE
                known.shown = _shown_trials(known, maximize=maximize)
                known.shown_version = known.version
            trials = [trial for trial in known.shown if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial with all that it has reported."""
        return _shown_trial(self._storage.get_trial(trial_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return the studies, without the attributes of caviar's own bookkeeping."""
        studies = self._storage.get_all_studies()
        for study in studies:
            study.user_attrs = _for_people(study.user_attrs)
        return studies

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id."""
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return a study's name."""
        return self._storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return a study's directions."""
        return self._storage.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's attributes without those of caviar's own bookkeeping."""
        return _for_people(self._storage.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return what Optuna and the dashboard keep with a study."""
        return self._storage.get_study_system_attrs(study_id)

    def _read(self, study_id: int) -> _Known:
        """Take in what is new of a study; one that took a former one's id is read anew."""
        name = self._storage.get_study_name_from_id(study_id)
        trials = optuna_tables().trials
        count = sqlalchemy.select(sqlalchemy.func.count()).where(trials.c.study_id == study_id)
        known = self._known.get(study_id) or _Known(memory=StudyMemory(study_id), name=name)
        with schema.transaction(self._storage.engine) as connection:
            found = known.memory.read_changes(connection, besides=())
            uid = known.memory.user_attrs.get(STUDY_UID)
            places = {id_of_trial(trial): trial for trial in known.memory.trials}
            n_new = sum(id_of_trial(trial) not in places for trial in found)
            n_trials = connection.execute(count).scalar_one()
            is_same = study_id not in self._known or (name, uid) == (known.name, known.uid)
            if not is_same or len(places) + n_new != n_trials:
                version = known.version + 1
                known = _Known(memory=StudyMemory(study_id), name=name, version=version)
                found, places = known.memory.read_changes(connection, besides=()), {}
        known.uid = known.memory.user_attrs.get(STUDY_UID)
        if any(places.get(id_of_trial(trial)) != trial for trial in found):
            known.version += 1
        known.memory.take_in(found)
        self._known[study_id] = known
        return known

    def _refuse(self, *_arguments: Any, **_named: Any) -> NoReturn:
        raise NotImplementedError("These studies are only shown; write through the database's own storage.")

    create_new_study: Callable[..., NoReturn] = _refuse
    delete_study: Callable[..., NoReturn] = _refuse
    set_study_user_attr: Callable[..., NoReturn] = _refuse
    set_study_system_attr: Callable[..., NoReturn] = _refuse
    create_new_trial: Callable[..., NoReturn] = _refuse
    set_trial_param: Callable[..., NoReturn] = _refuse
    set_trial_state_values: Callable[..., NoReturn] = _refuse
    set_trial_intermediate_value: Callable[..., NoReturn] = _refuse
    set_trial_user_attr: Callable[..., NoReturn] = _refuse
    set_trial_system_attr: Callable[..., NoReturn] = _refuse


def _shown_trials(known: _Known, *, maximize: bool) -> list[FrozenTrial]:
    trials, shown = known.memory.trials, []
    drawn = drawn_numbers(trials, maximize=maximize)
    for trial in trials:
        stored, ready = known.by_id.get(id_of_trial(trial), (None, None))
        if ready is None or stored is not trial:
            ready = _shown_trial(trial)
            known.by_id[id_of_trial(trial)] = (trial, ready)
        if trial.number not in drawn:
            ready = copy.copy(ready)
            ready.intermediate_values = {}
        shown.append(ready)
    return shown


def drawn_numbers(trials: Sequence[FrozenTrial], *, maximize: bool) -> set[int]:
    """Return the numbers of the trials whose reports are drawn: all of 100, of 1,000 the 50 best and the 50 last."""
    if len(trials) > _MOST_WITH_LINES:
        return set()
    if len(trials) <= 2 * _HALF_DRAWN:
        return {trial.number for trial in trials}
    valued = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    valued.sort(key=lambda trial: trial.values[0], reverse=maximize)
    begun = [trial for trial in trials if trial.intermediate_values]
    return {trial.number for trial in (*valued[:_HALF_DRAWN], *begun[-_HALF_DRAWN:])}


def _shown_trial(trial: FrozenTrial) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.user_attrs = _for_people(trial.user_attrs)
    shown.intermediate_values = {step: _rounded(value) for step, value in trial.intermediate_values.items()}
    return shown


def _for_people(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes without bookkeeping, and without digits that say nothing."""
    return {key: _rounded(value) for key, value in attributes.items() if not key.startswith("caviar:")}


def _rounded(value: Any, digits: int = _DIGITS) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else value
    if isinstance(value, list):
        return [_rounded(one, _DIGITS_OF_CURVES) for one in value]
    if isinstance(value, dict):
        return {key: _rounded(one, digits) for key, one in value.items()}
    return value
