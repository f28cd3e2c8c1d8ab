"""Which study is meant: a name may pass on to another study, and SQLite gives a deleted study's id to the next one."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy

from ..attributes import STUDY_UID
from ..errors import FatalError
from ..optuna_private import optuna_tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyKey:
    """What tells a study from all others.

    Attributes:
        name: The one that it was opened by.
        uid: Its own for ever; empty for a study that was made without one.
    """

    name: str
    uid: str


#: The studies that a worker or a command was begun with, by the id that each was opened with.
KnownStudies = Mapping[int, StudyKey]


def check_study(connection: sqlalchemy.Connection, study_id: int, *, known: KnownStudies) -> None:
    """Refuse to go on with a study that was deleted, or whose name or id belongs to another one now.

    Args:
        connection: In a transaction.
        study_id: Optuna's id of the study.
        known: What the caller was begun with; of a study that is not in it only its existence is looked at.

    Raises:
        FatalError: Saying what became of it.
    """
    row = connection.execute(_keys().where(optuna_tables().studies.c.study_id == study_id)).one_or_none()
    if row is None:
        raise FatalError("The study was deleted while it ran, so nothing is left to do.")
    _compare(row, known)


def check_study_of_trial(connection: sqlalchemy.Connection, trial_id: int, *, known: KnownStudies) -> None:
    """Do what ``check_study`` does with the study that a trial belongs to; a trial that is gone belongs to none.

    Raises:
        FatalError: Saying what became of the study.
    """
    trials, studies = optuna_tables().trials, optuna_tables().studies
    own_study = sqlalchemy.select(trials.c.study_id).where(trials.c.trial_id == trial_id).scalar_subquery()
    row = connection.execute(_keys().where(studies.c.study_id == own_study)).one_or_none()
    if row is not None:
        _compare(row, known)


def another_study(name: str) -> FatalError:
    """Return the error of a command that finds another study under a name than the one that it was begun with."""
    return FatalError(
        f"The study {name!r} that this command was begun with was archived or deleted meanwhile. If there is one of "
        "this name, it is another: run the command again to work on that."
    )


def _keys() -> sqlalchemy.Select[Any]:
    studies, attributes = optuna_tables().studies, optuna_tables().study_user_attributes
    uid = sqlalchemy.and_(attributes.c.study_id == studies.c.study_id, attributes.c.key == STUDY_UID)
    return sqlalchemy.select(studies.c.study_id, studies.c.study_name, attributes.c.value_json).outerjoin(
        attributes, uid
    )


def _compare(row: sqlalchemy.Row[Any], known: KnownStudies) -> None:
    wanted = known.get(row.study_id)
    found = StudyKey(name=row.study_name, uid=json.loads(row.value_json or '""'))
    if wanted is None or wanted == found:
        return
    if wanted.uid == found.uid:
        raise FatalError(
            f"The study {wanted.name!r} that this command was begun with was archived meanwhile: it was renamed to "
            f"{found.name!r}, where what is done is kept."
        )
    raise another_study(wanted.name)
