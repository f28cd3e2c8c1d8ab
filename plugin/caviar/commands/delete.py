"""Deleting a study with all that belongs to it."""

import shutil

import optuna

from ..attributes import CHILDREN
from ..insight.family import child_names
from ..optuna_private import id_of_study
from ..storage import studies
from ..storage.addresses import masked
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing
from ..storage.overview import count_trials
from ..storage.studies import stored_spec, study_key
from ..worker.opening import open_checkpoints, open_mirror
from .family import open_descendants, open_parent


def describe_deletion(home: Home, study: str) -> tuple[str, str]:
    """Return what deleting a study would delete, in one line, to ask the user first; and the study's uid."""
    storage, opened = open_existing(home, study)
    name, *zooms = (
        f"{one.study_name!r} ({sum(count_trials(storage, id_of_study(one)).values())} trials)"
        for one in (opened, *open_descendants(storage, opened))
    )
    with_zooms = f" and its zooms {', '.join(zooms)}" if zooms else ""
    runs = f"{'their' if zooms else 'its'} runs in MLflow"
    return f"the study {name}{with_zooms} in {masked(home.storage)}, and {runs}", study_key(storage, opened).uid


def delete_study(home: Home, study: str, *, uid: str) -> bool:
    """Delete a study, its zooms, and their experiments in MLflow, which keeps deleted ones until ``mlflow gc``.

    The zooms go first, the youngest before its parent, so that an interrupted call leaves sound links.

    Returns:
        Whether MLflow has forgotten them too; False when it is down.

    Raises:
        FatalError: If the study of this name is not the one that ``uid`` says.
        StorageInternalError: If the database is damaged or cannot be written; then nothing has been deleted.
    """
    storage, opened = open_existing(home, study, uid=uid)
    parent = open_parent(storage, opened)
    doomed = [opened, *open_descendants(storage, opened)]
    studies.check_deletable(storage, doomed)
    gone = [_delete(home, storage, one) for one in reversed(doomed)]
    if parent is not None:
        parent.set_user_attr(CHILDREN, [name for name in child_names(parent) if name != opened.study_name])
    return all(gone)


def _delete(home: Home, storage: LeasedStorage, opened: optuna.Study) -> bool:
    spec = stored_spec(opened)
    gone = True if spec is None else open_mirror(home, opened, spec).delete_experiment()
    open_checkpoints(home, opened).remove_all()
    shutil.rmtree(home.networks / opened.study_name, ignore_errors=True)
    for report in home.report_files(opened.study_name):
        report.unlink(missing_ok=True)
    studies.delete_study(storage, opened)
    return gone
