"""Zooms: the studies that a study came from, and those that came from it."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import optuna

from ..attributes import CHILDREN, PARENT
from ..parameters import Parameter
from ..spec import StudySpec
from ..storage.studies import stored_spec
from .axes import drawn_parameters
from .rows import TrialRow, best_rows, trial_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One study of a search from coarse to fine.

    Attributes:
        name: The study's.
        generation: 0 for the study without a parent, 1 for its zooms, and so on.
        is_current: Whether the report is about it.
        n_trials: Finished ones, without those that it took over from its parent.
        best_value: Of its complete trials, copied ones too, or None.
        parameters: What it draws.
        n_copied: Trials that it took over.
        rows: Its finished trials, without those.
        study_id: Optuna's id, by which the dashboard's addresses name the study.
    """

    name: str
    generation: int
    is_current: bool
    n_trials: int
    best_value: float | None
    parameters: tuple[Parameter, ...]
    n_copied: int = 0
    rows: tuple[TrialRow, ...] = ()
    study_id: int | None = None


def read_lineage(study: optuna.Study, *, open_other: Callable[[str], optuna.Study]) -> tuple[Member, ...]:
    """Return the whole family of a study, parents first; empty where it has neither parent nor child.

    Studies that are gone, or that were not made from a study file, are left out, and a circle is cut.

    Args:
        study: Any of the family.
        open_other: Opens a study by its name; raises KeyError or an Optuna error where there is none.
    """
    opened = {study.study_name: study}

    def get(name: str) -> optuna.Study | None:
        if name not in opened:
            try:
                opened[name] = open_other(name)
            except (KeyError, LookupError):
                return None
        return opened[name]

    root, seen = study, {study.study_name}
    while (name := parent_name(root)) is not None and name not in seen and (parent := get(name)) is not None:
        if root.study_name not in child_names(parent):
            break  # the parent is gone, and another study has its name
        seen.add(name)
        root = parent
    members: list[Member] = []
    waiting: list[tuple[optuna.Study, int]] = [(root, 0)]
    listed: set[str] = set()
    while waiting:
        current, generation = waiting.pop(0)
        if current.study_name in listed:
            continue
        listed.add(current.study_name)
        spec = stored_spec(current)
        if spec is not None:
            members.append(_member(current, spec, generation, is_current=current is study))
        children = [child for name in child_names(current) if (child := get(name)) is not None]
        waiting += [(child, generation + 1) for child in children if parent_name(child) == current.study_name]
    return tuple(members) if len(members) > 1 else ()


def _member(study: optuna.Study, spec: StudySpec, generation: int, *, is_current: bool) -> Member:
    parameters = drawn_parameters(spec.space)
    rows = trial_rows(study.get_trials(deepcopy=False), parameters, metric=spec.objective.metric)
    best = best_rows(rows, metric=spec.objective.metric)
    own = tuple(row for row in rows if row.is_finished and not row.inherited)
    return Member(
        name=study.study_name,
        generation=generation,
        is_current=is_current,
        n_trials=len(own),
        best_value=best[0].value if best else None,
        parameters=parameters,
        n_copied=sum(row.inherited for row in rows),
        rows=own,
        study_id=study._study_id,
    )


def parent_name(study: optuna.Study) -> str | None:
    """Return the name of the study that one was narrowed from, be it gone, or None."""
    names = _names(study.user_attrs.get(PARENT))
    return names[0] if names else None


def child_names(study: optuna.Study) -> list[str]:
    """Return the names of the studies that were narrowed from one, gone ones included, the first one first."""
    return _names(study.user_attrs.get(CHILDREN))


def _names(attribute: Any) -> list[str]:
    """Return the study names in an attribute: one name, a list of them, either as JSON, or tables with a ``study``."""
    if isinstance(attribute, str) and attribute[:1] in ("[", "{", '"'):
        try:
            attribute = json.loads(attribute)
        except json.JSONDecodeError:
            return []
    if isinstance(attribute, dict):
        attribute = attribute.get("study", attribute.get("name"))
    if isinstance(attribute, str):
        return [attribute] if attribute else []
    if isinstance(attribute, list | tuple):
        return [name for part in attribute for name in _names(part)]
    return []
