"""One test for each use of a private part of Optuna: it fails by name when upstream moves."""

import math
from typing import Any

import optuna
import pytest
import sqlalchemy

from caviar.optuna_private import (
    FrozenStudy,
    id_of_study,
    id_of_trial,
    loaded_intermediate_value,
    loaded_value,
    optuna_tables,
    stored_intermediate_value,
    stored_value,
)
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.leases import LeaseLost, take_leases


def test_ids_are_those_that_the_storage_takes(storage: LeasedStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="toy")
    trial = study.ask()
    assert id_of_study(study) == storage.get_study_id_from_name("toy")
    assert id_of_trial(study.trials[0]) == storage.get_trial_id_from_study_id_trial_number(
        id_of_study(study), trial.number
    )


def test_a_frozen_study_is_what_summaries_are_made_of(storage: LeasedStorage) -> None:
    optuna.create_study(storage=storage, study_name="toy")
    (study,) = storage.get_all_studies()
    assert isinstance(study, FrozenStudy)
    assert study.study_name == "toy"


def test_the_tables_have_the_columns_that_are_written(storage: LeasedStorage) -> None:
    columns = {
        "studies": {"study_id", "study_name"},
        "trials": {"trial_id", "study_id", "number", "state", "datetime_start", "datetime_complete"},
        "params": {"trial_id", "param_name", "param_value", "distribution_json"},
        "values": {"trial_id", "objective", "value", "value_type"},
        "intermediate_values": {"trial_id", "step", "intermediate_value", "intermediate_value_type"},
        "user_attributes": {"trial_id", "key", "value_json"},
        "system_attributes": {"trial_id", "key", "value_json"},
        "study_user_attributes": {"study_id", "key", "value_json"},
        "study_system_attributes": {"study_id", "key", "value_json"},
        "heartbeats": {"trial_id", "heartbeat"},
    }
    there = sqlalchemy.inspect(storage.engine)
    for name, table in optuna_tables()._asdict().items():
        assert columns[name] <= {column["name"] for column in there.get_columns(table.name)}


@pytest.mark.parametrize("value", [0.5, math.inf, -math.inf])
def test_values_are_stored_as_optuna_stores_them(value: float, storage: LeasedStorage) -> None:
    study = optuna.create_study(storage=storage)
    study.tell(study.ask(), value)
    table = optuna_tables().values
    with storage.engine.connect() as connection:
        row = connection.execute(sqlalchemy.select(table.c.value, table.c.value_type)).one()
    assert stored_value(value) == row._asdict()
    assert loaded_value(*row) == value


@pytest.mark.parametrize("value", [0.5, math.inf, -math.inf, math.nan])
def test_reports_are_stored_as_optuna_stores_them(value: float, storage_url: str) -> None:
    stock = optuna.storages.RDBStorage(storage_url)
    study = optuna.create_study(storage=stock)
    study.ask().report(value, 0)
    table = optuna_tables().intermediate_values
    with stock.engine.connect() as connection:
        row = connection.execute(sqlalchemy.select(table.c.intermediate_value, table.c.intermediate_value_type)).one()
    assert stored_intermediate_value(value) == row._asdict()
    assert repr(loaded_intermediate_value(*row)) == repr(value)


def test_optunas_cache_reads_trials_by_get_trials(storage: LeasedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    read = LeasedStorage._get_trials

    def get_trials(self: LeasedStorage, *arguments: Any, **named: Any) -> Any:
        called.append(arguments)
        return read(self, *arguments, **named)

    monkeypatch.setattr(LeasedStorage, "_get_trials", get_trials)
    study = optuna.create_study(storage=storage)  # behind Optuna's cache, as in every study
    study.ask()
    called.clear()
    assert len(study.get_trials()) == 1
    assert called


@pytest.mark.parametrize(
    "suggest",
    [
        lambda trial: trial.suggest_float("x", 0.0, 1.0),
        lambda trial: trial.suggest_int("x", 1, 3),
        lambda trial: trial.suggest_categorical("x", ["a", "b"]),
    ],
    ids=["float", "int", "categorical"],
)
def test_suggest_by_a_worker_that_lost_its_lease_writes_nothing(suggest: Any, storage: LeasedStorage) -> None:
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    with storage.engine.begin() as connection:
        take_leases(connection, [trial._trial_id], "another:1:worker")
    with pytest.raises(LeaseLost):
        suggest(trial)
    with storage.engine.connect() as connection:
        assert connection.execute(sqlalchemy.select(optuna_tables().params)).all() == []
