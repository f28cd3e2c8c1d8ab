import dataclasses
import json

import optuna
import pytest

from caviar.attributes import FINGERPRINT, SPEC
from caviar.errors import SpecError, StorageError
from caviar.spec import StudySpec
from caviar.storage import studies
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import (
    archive_study,
    create_study,
    create_whole_study,
    n_former_stages,
    open_study,
    stored_spec,
)


def test_a_study_keeps_its_file_and_is_reopened_with_a_larger_budget(storage: LeasedStorage, spec: StudySpec) -> None:
    study = create_study(storage, spec, attributes={FINGERPRINT: "abc"})
    assert stored_spec(study) == spec
    larger = dataclasses.replace(spec, search=dataclasses.replace(spec.search, trials=99))
    again = create_study(storage, larger, attributes={FINGERPRINT: "abc"})
    assert again._study_id == study._study_id
    assert stored_spec(again) == larger


def test_a_study_begun_with_stages_is_still_read_and_extended(storage: LeasedStorage, spec: StudySpec) -> None:
    study = create_study(storage, spec, attributes={})
    assert n_former_stages(study) == 0
    table = json.loads(study.user_attrs[SPEC])
    table["search"]["stages"] = [{"trials": 8, "keep": 0.2}, {"trials": 4, "keep": 0.5}]
    study.set_user_attr(SPEC, json.dumps(table))
    assert (stored_spec(study), n_former_stages(study)) == (spec, 2)
    assert create_study(storage, spec, attributes={}).study_name == study.study_name


def test_a_changed_file_or_changed_data_is_refused_with_the_ways_on(storage: LeasedStorage, spec: StudySpec) -> None:
    create_study(storage, spec, attributes={FINGERPRINT: "abc"})
    changed = dataclasses.replace(spec, objective=dataclasses.replace(spec.objective, epochs=3))
    with pytest.raises(SpecError, match=r"objective.epochs: 20 → 3\).*another name.*--fresh.*search.trials"):
        create_study(storage, changed, attributes={FINGERPRINT: "abc"})
    with pytest.raises(SpecError, match="has changed since the study 'toy' was begun"):
        create_study(storage, spec, attributes={FINGERPRINT: "xyz"})
    assert stored_spec(open_study(storage, "toy")) == spec


def test_a_study_of_something_else_is_refused(storage: LeasedStorage, spec: StudySpec) -> None:
    optuna.create_study(storage=storage, study_name=spec.name)
    with pytest.raises(SpecError, match="was not made from a study file"):
        create_study(storage, spec, attributes={})


def test_archiving_makes_way_and_keeps_the_trials(storage: LeasedStorage, spec: StudySpec) -> None:
    assert archive_study(storage, spec.name) is None
    for number in (1, 2):
        create_study(storage, spec, attributes={}).enqueue_trial({})
        assert archive_study(storage, spec.name) == f"toy.archived-{number}"
    assert len(open_study(storage, "toy.archived-1").trials) == 1
    assert open_study(storage, "toy.archived-2").trials[0].number == 0


def test_an_unknown_study_is_refused_with_the_nearest_name(storage: LeasedStorage, spec: StudySpec) -> None:
    with pytest.raises(StorageError, match="There are no studies yet"):
        open_study(storage, "toy")
    create_study(storage, spec, attributes={})
    with pytest.raises(StorageError, match=r"no study 'tyo'. Did you mean 'toy'\?"):
        open_study(storage, "tyo")


def test_a_study_that_begins_with_trials_is_there_whole_or_not_at_all(
    storage: LeasedStorage, spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [optuna.trial.create_trial(value=0.5)] * 2

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(studies, "rename_study", die)
        with pytest.raises(KeyboardInterrupt):
            create_whole_study(storage, spec, attributes={}, trials=trials)
    assert optuna.get_all_study_names(storage) == ["toy.unfinished"]
    whole = create_whole_study(storage, spec, attributes={"a": "b"}, trials=trials)
    assert optuna.get_all_study_names(storage) == ["toy"]
    assert (stored_spec(whole), whole.user_attrs["a"], len(whole.get_trials())) == (spec, "b", 2)
