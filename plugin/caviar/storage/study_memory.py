"""What a worker remembers of one study: its trials and attributes as the database had them when last read."""

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from ..attributes import OWNER
from ..optuna_private import id_of_trial, optuna_tables
from . import schema
from .frozen_trials import TrialReader

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Outline(NamedTuple):
    """What tells whether an unfinished trial has changed, without reading all of it."""

    state: TrialState
    n_params: int
    last_step: int | None
    attributes: dict[str, str]  # the system's, as JSON

    def goes_on_from(self, before: "Outline") -> bool:
        """Whether the trial reported further steps since then, and nothing else shows."""
        further = self.last_step is not None and (before.last_step is None or self.last_step > before.last_step)
        return further and self._replace(last_step=before.last_step) == before

    @property
    def is_kept_up(self) -> bool:
        """Whether all that is written of it shows here, or will when it ends: not while stock Optuna runs it."""
        return self.state == TrialState.WAITING or OWNER in self.attributes


class StudyMemory:
    """One study's trials, by number, and attributes.

    Finished trials are read once. Of the others, `read_briefly` reads a trial that waits, or that a worker has a lease
    on, anew where its state, a system attribute or the number of its parameters has changed, and adds further steps to
    it; its user attributes may be older than that until it ends. A trial of stock Optuna's is read until it has ended.

    A trial is never changed in place: a changed copy is put in its place, so that what was handed out stays as it was.
    """

    def __init__(self, study_id: int) -> None:
        self.trials: list[FrozenTrial] = []
        self.user_attrs: dict[str, Any] = {}
        self.system_attrs: dict[str, Any] = {}
        #: What each parameter is drawn from, in the first trial that was seen to have it.
        self.first_distributions: dict[str, BaseDistribution] = {}
        self._study_id = study_id
        self._reader = TrialReader()
        self._places: dict[int, int] = {}  # trial id → place among the trials
        self._unfinished: set[int] = set()  # in the database, as far as is known
        self._outlines: dict[int, Outline] = {}  # of unfinished trials that are not this worker's
        self._newest = -1

    def trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial."""
        if trial_id not in self._places:
            raise KeyError(f"The study had no trial with the id {trial_id} when it was last read.")
        return self.trials[self._places[trial_id]]

    def put(self, trial: FrozenTrial) -> None:
        """Put a changed copy of a trial in its place."""
        self.trials[self._places[id_of_trial(trial)]] = trial

    def read_changes(self, connection: sqlalchemy.Connection, *, besides: Collection[int]) -> list[FrozenTrial]:
        """Read the attributes, and return the trials that are new, unfinished or newly finished, but for some."""
        self._read_study(connection)
        return self.read_new(connection, with_ids=self._unfinished.difference(besides))

    def read_briefly(
        self, connection: sqlalchemy.Connection, *, besides: Collection[int]
    ) -> tuple[list[FrozenTrial], dict[int, Outline]]:
        """Do what `read_changes` does for a worker: trials that look as they did before are left out.

        Return the outlines too: `take_in` gets them once the transaction has ended.
        """
        self._read_study(connection)
        known = self._unfinished.difference(besides)
        before, self._outlines = self._outlines, {}  # if anything fails from here on, all is read anew
        outlines = _read_outlines(connection, self._may_differ(connection, known))
        seen = {
            trial_id: (before[trial_id], outline)
            for trial_id, outline in outlines.items()
            if trial_id in before and outline.is_kept_up
        }
        same = {trial_id for trial_id, (then, now) in seen.items() if now == then}
        further = {trial_id: then for trial_id, (then, now) in seen.items() if now.goes_on_from(then)}
        anew = outlines.keys() - same - further.keys()
        unfinished = {trial_id: outline for trial_id, outline in outlines.items() if not outline.state.is_finished()}
        return [*self._read_further(connection, further), *self.read(connection, anew)], unfinished

    def _read_study(self, connection: sqlalchemy.Connection) -> None:
        tables = optuna_tables().study_user_attributes, optuna_tables().study_system_attributes
        selects = [
            sqlalchemy.select(sqlalchemy.literal_column(str(place)), table.c.key, table.c.value_json).where(
                table.c.study_id == self._study_id
            )
            for place, table in enumerate(tables)
        ]
        found: tuple[dict[str, Any], dict[str, Any]] = {}, {}
        for place, key, text in connection.execute(sqlalchemy.union_all(*selects)):
            found[place][key] = json.loads(text)
        self.user_attrs, self.system_attrs = found

    def _may_differ(self, connection: sqlalchemy.Connection, known: Collection[int]) -> sqlalchemy.ColumnElement[bool]:
        """Return the condition that a trial is new, or among those that are given."""
        trials = optuna_tables().trials.c
        # Numbers and ids are given under the study's lock: no trial appears later with a smaller id.
        is_new = trials.trial_id > self._newest
        return (trials.study_id == self._study_id) & (is_new | schema.among(connection, trials.trial_id, known))

    def read_new(self, connection: sqlalchemy.Connection, *, with_ids: Collection[int]) -> list[FrozenTrial]:
        """Return the trials that are new, and some others."""
        return self._reader.read(connection, self._may_differ(connection, with_ids))

    def read(self, connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> list[FrozenTrial]:
        """Return some trials as the database has them; those that were deleted are left out."""
        wanted = schema.among(connection, optuna_tables().trials.c.trial_id, trial_ids)
        return self._reader.read(connection, wanted) if trial_ids else []

    def claimed(self, trial_id: int) -> None:
        """Note that a trial is this worker's: once it no longer is, it is read anew."""
        self._outlines.pop(trial_id, None)

    def _read_further(self, connection: sqlalchemy.Connection, since: Mapping[int, Outline]) -> list[FrozenTrial]:
        """Return copies of trials with the steps that they reported since they looked as is given."""
        first = min((-1 if outline.last_step is None else outline.last_step for outline in since.values()), default=-1)
        found = []
        for trial_id, reports in self._reader.read_reports(connection, since, after_step=first).items():
            trial = copy.copy(self.trial(trial_id))
            trial.intermediate_values = {**trial.intermediate_values, **reports}
            found.append(trial)
        return found

    def take_in(self, found: Sequence[FrozenTrial], outlines: Mapping[int, Outline] | None = None) -> None:
        """Remember trials as they were read."""
        if outlines is not None:
            self._outlines = dict(outlines)
        for trial in found:
            place = self._places.get(id_of_trial(trial))
            if place is None:
                self.trials.append(trial)
            else:
                self.trials[place] = trial
            if trial.state.is_finished():
                self._unfinished.discard(id_of_trial(trial))
            else:
                self._unfinished.add(id_of_trial(trial))
            for name, distribution in trial.distributions.items():
                self.first_distributions.setdefault(name, distribution)
        if len(self.trials) > len(self._places):
            self.trials.sort(key=lambda trial: trial.number)
            self._places = {id_of_trial(trial): place for place, trial in enumerate(self.trials)}
            self._newest = max(self._places)

    def given_back(self, trial_ids: Collection[int]) -> None:
        """Note that trials wait for any worker; as they have no outline, the next look reads them anew."""
        for trial_id in trial_ids:
            trial = copy.copy(self.trial(trial_id))
            trial.state = TrialState.WAITING
            trial.system_attrs = {key: value for key, value in trial.system_attrs.items() if key != OWNER}
            self.put(trial)

    def finished(self, trial_ids: Collection[int]) -> None:
        """Note that trials are finished in the database as they are here, so that they are not read again."""
        self._unfinished.difference_update(trial_ids)


def with_attribute(attributes: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return attributes with one more, as it comes back from the database."""
    return {**attributes, key: json.loads(json.dumps(value))}


def _read_outlines(connection: sqlalchemy.Connection, condition: sqlalchemy.ColumnElement[bool]) -> dict[int, Outline]:
    """Return the outlines of the trials with some condition."""
    tables = optuna_tables()
    trials, params, reports = tables.trials.c, tables.params.c, tables.intermediate_values.c
    n_params = sqlalchemy.select(sqlalchemy.func.count(params.trial_id)).where(params.trial_id == trials.trial_id)
    last_step = sqlalchemy.select(sqlalchemy.func.max(reports.step)).where(reports.trial_id == trials.trial_id)
    columns = (trials.trial_id, trials.state, n_params.scalar_subquery(), last_step.scalar_subquery())
    rows = connection.execute(sqlalchemy.select(*columns).where(condition))
    outlines = {trial_id: Outline(state, n, step, {}) for trial_id, state, n, step in rows}
    if outlines:
        attributes = tables.system_attributes.c
        texts = sqlalchemy.select(attributes.trial_id, attributes.key, attributes.value_json)
        texts = texts.join(tables.trials, trials.trial_id == attributes.trial_id).where(condition)
        for trial_id, key, text in connection.execute(texts):
            if trial_id in outlines:
                outlines[trial_id].attributes[key] = text
    return outlines
