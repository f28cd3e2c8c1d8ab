"""Studies: created once with their study file's contents, refused when the file has changed, archived, deleted."""

import itertools
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial

from ..attributes import DIGEST, FINGERPRINT, SPEC, STUDY_UID
from ..errors import SpecError, UnknownStudyError, nearest_name
from ..optuna_private import id_of_study, optuna_tables
from ..spec import CHANGEABLE, StudySpec, parse_spec, spec_differences, spec_digest, spec_table
from . import schema
from .identity import StudyKey, another_study, check_study
from .leased_storage import LeasedStorage


def create_study(storage: LeasedStorage, spec: StudySpec, *, attributes: Mapping[str, str]) -> optuna.Study:
    """Create a study, or return the one of this name if its study file is the same but for budget and workers.

    A new study is given the attributes.

    Raises:
        SpecError: If a study of this name has another file or fingerprint, naming what differs and the ways on.
    """
    direction = spec.objective.direction.optuna
    if spec.name not in optuna.get_all_study_names(storage):
        remove_orphans(storage)
    study = optuna.create_study(storage=storage, study_name=spec.name, direction=direction, load_if_exists=True)
    if _was_begun(study) or study.directions != [direction]:
        check_resumable(study, spec, fingerprint=attributes.get(FINGERPRINT))
        attributes = {}
    _describe(study, spec, attributes)
    _remember(storage, study)
    return study


def create_whole_study(
    storage: LeasedStorage, spec: StudySpec, *, attributes: Mapping[str, str], trials: Sequence[FrozenTrial]
) -> optuna.Study:
    """Create a study that begins with finished trials: with all of them or, where this process dies, not at all.

    It takes its name last. Until then it is called ``NAME.unfinished``, and the next call makes it anew. No study has
    the name, and the caller holds the ``creation_lock``.
    """
    unfinished = f"{spec.name}.unfinished"
    if unfinished in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=unfinished, storage=storage)
    remove_orphans(storage)
    direction = spec.objective.direction.optuna
    study = optuna.create_study(storage=storage, study_name=unfinished, direction=direction)
    _describe(study, spec, attributes)
    study.add_trials(trials)
    rename_study(storage, unfinished, spec.name)
    return open_study(storage, spec.name)


def _describe(study: optuna.Study, spec: StudySpec, attributes: Mapping[str, str]) -> None:
    name_metric(study, spec.objective.metric)
    for key, value in {**attributes, DIGEST: spec_digest(spec), SPEC: json.dumps(spec_table(spec))}.items():
        study.set_user_attr(key, value)


def name_metric(study: optuna.Study, metric: str) -> None:
    """Have Optuna's dashboard and plots call the value by its name, not "Objective 0"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([metric])


def _was_begun(study: optuna.Study) -> bool:
    """Tell a study from what is left of one whose creation was cut short: no trials, and not yet its study file."""
    return SPEC in study.user_attrs or bool(study.get_trials(deepcopy=False))


def open_study(storage: LeasedStorage, name: str, *, uid: str | None = None) -> optuna.Study:
    """Open a study that exists; trials are claimed and written through its storage only while it is still this one.

    Its uid tells it from others that have had or will have the name; None takes whichever has it now.

    Raises:
        UnknownStudyError: If there is none of this name.
        FatalError: If it is another one than ``uid`` says, or that one is gone.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
        if uid not in (None, study.user_attrs.get(STUDY_UID, "")):
            raise another_study(name)
        _remember(storage, study)
    except KeyError as error:
        if uid is not None:
            raise another_study(name) from error
        names = optuna.get_all_study_names(storage)
        hint = nearest_name(name, names) if names else "There are no studies yet: `caviar run STUDY.toml` begins one."
        raise UnknownStudyError(f"There is no study {name!r}. {hint}") from error
    return study


def study_key(storage: LeasedStorage, study: optuna.Study) -> StudyKey:
    """Return what tells a study that was opened on this storage from all others, as it was then."""
    return storage.known_studies[id_of_study(study)]


def check_still_there(storage: LeasedStorage, study: optuna.Study) -> None:
    """Refuse to go on with a study that is no longer the one that was opened.

    Raises:
        FatalError: If it was deleted or renamed, or another one has its id.
    """
    with schema.transaction(storage.engine) as connection:
        check_study(connection, id_of_study(study), known=storage.known_studies)


def check_deletable(storage: LeasedStorage, studies: Iterable[optuna.Study]) -> None:
    """Make sure that studies can be deleted, before anything that belongs to them is.

    Raises:
        FatalError: If one is no longer the one that was opened.
        StorageInternalError: If the database is damaged or cannot be written.
    """
    for study in studies:
        check_still_there(storage, study)
        study.get_trials(deepcopy=False)  # reads all that Optuna reads of what it deletes
    remove_orphans(storage)  # SQLite says that a file cannot be written when a statement writes, not when it begins


def delete_study(storage: LeasedStorage, study: optuna.Study) -> None:
    """Delete a study that was opened on this storage, and all that is stored of it.

    Raises:
        FatalError: If it is no longer the one that was opened.
    """
    check_still_there(storage, study)
    storage.delete_study(id_of_study(study))
    remove_orphans(storage)


def remove_orphans(storage: LeasedStorage) -> None:
    """Remove what is stored of studies and trials that are gone.

    Optuna reads what it is about to delete before it takes SQLite's write lock: what a worker writes in between stays,
    and SQLite gives the ids that it belongs to to the next study and its trials.
    """
    tables = optuna_tables()
    with schema.transaction(storage.engine) as connection:
        schema.take_write_lock(connection)
        for key, owners in (("study_id", tables.studies), ("trial_id", tables.trials)):
            known = sqlalchemy.select(owners.c[key])
            for table in tables.studies.metadata.sorted_tables:
                if key in table.c and table is not owners:
                    connection.execute(table.delete().where(table.c[key].not_in(known)))


def _remember(storage: LeasedStorage, study: optuna.Study) -> None:
    key = StudyKey(name=study.study_name, uid=study.user_attrs.get(STUDY_UID, ""))
    storage.known_studies[id_of_study(study)] = key


def stored_spec(study: optuna.Study) -> StudySpec | None:
    """Return the study file that a study was run from, or None for one that something else made."""
    text = study.user_attrs.get(SPEC)
    if text is None:
        return None
    table = json.loads(text)
    table.get("search", {}).pop("stages", None)  # see n_former_stages
    return parse_spec(table)


def n_former_stages(study: optuna.Study) -> int:
    """Return how many ``[[search.stages]]`` a study's file had, which earlier versions ran as zooms after it."""
    return len(json.loads(study.user_attrs.get(SPEC, "{}")).get("search", {}).get("stages", ()))


def check_resumable(study: optuna.Study, spec: StudySpec, *, fingerprint: str | None) -> None:
    """Refuse to go on with a study whose file or data has changed.

    Raises:
        SpecError: Naming what differs and the ways on.
    """
    ways_on = (
        "Undo the change, give the study another name, or run it with --fresh, which archives the old one. "
        f"Only {', '.join(sorted(CHANGEABLE))} may change."
    )
    stored = stored_spec(study)
    if stored is None:
        raise SpecError(f"The study {spec.name!r} was not made from a study file. Give this one another name.")
    if study.directions != [spec.objective.direction.optuna]:
        raise SpecError(f"The study {spec.name!r} has other directions than {spec.objective.metric} needs. {ways_on}")
    differences = spec_differences(stored, spec)
    if differences:
        raise SpecError(f"The study {spec.name!r} was begun with another file ({'; '.join(differences)}). {ways_on}")
    known = study.user_attrs.get(FINGERPRINT)
    if fingerprint is not None and known is not None and known != fingerprint:
        raise SpecError(
            f"The data set {spec.data.dataset!r} has changed since the study {spec.name!r} was begun "
            f"(fingerprint {known[:12]} → {fingerprint[:12]}). {ways_on}"
        )


def archive_study(storage: LeasedStorage, name: str) -> str | None:
    """Rename a study to make way for a new one of its name.

    Returns:
        The archived study's name, ``NAME.archived-1`` and so on, or None if there was none of this name.
    """
    names = optuna.get_all_study_names(storage)
    if name not in names:
        return None
    archived = next(new for number in itertools.count(1) if (new := f"{name}.archived-{number}") not in names)
    rename_study(storage, name, archived)
    return archived


def rename_study(storage: LeasedStorage, name: str, new_name: str) -> None:
    """Rename a study in place: Optuna only copies studies, which gives the trials new ids."""
    studies = optuna_tables().studies
    with schema.transaction(storage.engine) as connection:
        connection.execute(studies.update().where(studies.c.study_name == name).values(study_name=new_name))
