"""Which study is meant: a name may pass on to another study, and SQLite gives a deleted study's id to the next one."""

import dataclasses
import json
from collections.abc import Mapping

import sqlalchemy

from ..attributes import STUDY_UID
from ..errors import FatalError
from ..optuna_private import optuna_tables
from . import schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyKey:
    """What tells a study from all others: the name it was opened by, and its own ``uid``, empty if it has none."""

    name: str
    uid: str


def begin_checked_claim(connection: sqlalchemy.Connection, study_id: int, *, known: Mapping[int, StudyKey]) -> None:
    """Do what ``schema.begin_claim`` does, and raise as ``check_study`` does."""
    schema.take_write_lock(connection)
    check_study(connection, study_id, known=known, locks=True)


def check_study(
    connection: sqlalchemy.Connection,
    study_id: "int | sqlalchemy.ScalarSelect[int]",
    *,
    known: Mapping[int, StudyKey],
    locks: bool = False,
) -> None:
    """Refuse to go on with a study that was deleted, or whose name or id belongs to another one now.

    The caller was begun with the ``known`` ones, by Optuna's ids; a study that is not among them only has to exist.

    Raises:
        FatalError: Saying what became of it.
    """
    studies, attributes = optuna_tables().studies, optuna_tables().study_user_attributes
    uid = sqlalchemy.and_(attributes.c.study_id == studies.c.study_id, attributes.c.key == STUDY_UID)
    is_server = connection.dialect.name != "sqlite"
    clock = schema.SERVER_CLOCK if is_server else sqlalchemy.null()
    found_study = (
        sqlalchemy.select(studies.c.study_id, studies.c.study_name, attributes.c.value_json, clock.label("now"))
        .outerjoin(attributes, uid)
        .where(studies.c.study_id == study_id)
    )
    if locks:  # a server's rows; SQLite leaves it out
        found_study = found_study.with_for_update(of=studies)
    row = connection.execute(found_study).one_or_none()
    if row is None:
        raise FatalError("The study was deleted while it ran, so nothing is left to do.")
    if is_server:
        schema.note_now(connection, row.now)
    found = StudyKey(name=row.study_name, uid=json.loads(row.value_json or '""'))
    wanted = known.get(row.study_id, found)
    if wanted == found:
        return
    if wanted.uid == found.uid:
        raise FatalError(
            f"The study {wanted.name!r} that this command was begun with was archived meanwhile: it was renamed to "
            f"{found.name!r}, where what is done is kept."
        )
    raise another_study(wanted.name)


def another_study(name: str) -> FatalError:
    """Return the error of a command that finds another study under a name than the one that it was begun with."""
    return FatalError(
        f"The study {name!r} that this command was begun with was archived or deleted meanwhile. If there is one of "
        "this name, it is another: run the command again to work on that."
    )
