"""A search from coarse to fine in optuna-dashboard, which knows single studies: shown with each of them."""

import dataclasses

import optuna

from ..insight.lineage import Member, read_lineage
from ..insight.showing import show_search_in_dashboard
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import required_spec
from ..storage.studies import open_study


def read_search(storage: LeasedStorage, study: optuna.Study) -> tuple[Member, ...]:
    """Return the studies of the search from coarse to fine that one belongs to, the first one first; none if alone."""
    return read_lineage(study, open_other=lambda name: optuna.load_study(study_name=name, storage=storage))


def show_search(storage: LeasedStorage, study: optuna.Study) -> None:
    """Show the search that a study belongs to with each of its studies; nothing is changed for a study alone.

    Raises:
        StorageError: If a study of it was not made from a study file, or is deleted meanwhile.
    """
    members = read_search(storage, study)
    if not members:
        return
    metric = required_spec(study).objective.metric
    for member in members:
        shown = [dataclasses.replace(one, is_current=one is member) for one in members]
        show_search_in_dashboard(open_study(storage, member.name), shown, metric=metric)
