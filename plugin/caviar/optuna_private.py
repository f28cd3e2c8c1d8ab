"""Every use of Optuna's private parts; importing this module loads Optuna.

Checked with Optuna 5.0.0, to which pyproject.toml is bound; tests/test_optuna_private.py tries each. `LeasedStorage`
also overrides ``RDBStorage._get_trials`` and ``RDBStorage._set_trial_param``, which Optuna's cache calls and no public
method stands for.
"""

from typing import Any, NamedTuple

import optuna
import sqlalchemy
from optuna.study._frozen import FrozenStudy as FrozenStudy  # storages' public interface returns it
from optuna.trial import FrozenTrial


def id_of_study(study: optuna.Study) -> int:
    """Return the id that a storage's public methods take for a study; only its private attribute has it."""
    return int(study._study_id)


def id_of_trial(trial: FrozenTrial) -> int:
    """Return the id that a storage's public methods take for a trial; only its private attribute has it."""
    return trial._trial_id


class Tables(NamedTuple):
    """The tables that tickets, leases and buffers read and write; those of trials are named ``trial_…`` there."""

    studies: sqlalchemy.Table
    study_user_attributes: sqlalchemy.Table
    study_system_attributes: sqlalchemy.Table
    trials: sqlalchemy.Table
    params: sqlalchemy.Table
    values: sqlalchemy.Table
    intermediate_values: sqlalchemy.Table
    user_attributes: sqlalchemy.Table
    system_attributes: sqlalchemy.Table
    heartbeats: sqlalchemy.Table


def optuna_tables() -> Tables:
    """Return the tables of Optuna's schema, imported on first use: that takes a fifth of a second.

    The models are private to Optuna; there is no public way to write several rows in one transaction, nor to change a
    state only if nobody else did. The schema itself is public in the sense that every Optuna of this major version and
    the dashboard read it, and `RDBStorage` refuses a database whose schema is another.
    """
    from optuna.storages._rdb import models

    tables = models.BaseModel.metadata.tables
    return Tables(*(tables[name if name in tables else f"trial_{name}"] for name in Tables._fields))


def stored_value(value: float) -> dict[str, Any]:
    """Return how Optuna stores a number in ``trial_values``: infinities as a type of their own."""
    from optuna.storages._rdb.models import TrialValueModel

    stored, kind = TrialValueModel.value_to_stored_repr(value)
    return {"value": stored, "value_type": kind}


def stored_intermediate_value(value: float) -> dict[str, Any]:
    """Return how Optuna stores a number in ``trial_intermediate_values``: infinities and NaN as types of their own."""
    from optuna.storages._rdb.models import TrialIntermediateValueModel

    stored, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"intermediate_value": stored, "intermediate_value_type": kind}


def loaded_value(value: float | None, kind: Any) -> float:
    """Return the number that ``stored_value`` stored."""
    from optuna.storages._rdb.models import TrialValueModel

    return TrialValueModel.stored_repr_to_value(value, kind)


def loaded_intermediate_value(value: float | None, kind: Any) -> float:
    """Return the number that ``stored_intermediate_value`` stored."""
    from optuna.storages._rdb.models import TrialIntermediateValueModel

    return TrialIntermediateValueModel.stored_repr_to_intermediate_value(value, kind)
