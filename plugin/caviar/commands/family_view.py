"""A family of studies in optuna-dashboard, which knows only single studies: shown with each of them."""

import dataclasses

import optuna

from ..insight.family import Member, family_members
from ..insight.showing import show_family_in_dashboard
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import required_spec
from ..storage.studies import open_study
from .family import open_family


def read_family(storage: LeasedStorage, study: optuna.Study) -> tuple[Member, ...]:
    """Return the members of a study's family, each after its parent; none for a study alone."""
    return family_members(open_family(storage, study), current=study)


def show_family(storage: LeasedStorage, study: optuna.Study) -> None:
    """Show the family of a study with each of its members; nothing is changed for a study alone.

    Raises:
        StorageError: If a member was not made from a study file, or is deleted meanwhile.
    """
    members = read_family(storage, study)
    if not members:
        return
    metric = required_spec(study).objective.metric
    for member in members:
        shown = [dataclasses.replace(one, is_current=one is member) for one in members]
        show_family_in_dashboard(open_study(storage, member.name), shown, metric=metric)
