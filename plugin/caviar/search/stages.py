"""The stages of the sampler ``zoom``: how a search from coarse to fine shares its budget.

Each stage after the first searches around the best trials of those before. Optuna's multivariate TPE smooths with a
width that is a share of the range and hardly shrinks with the number of trials, so narrower ranges let it come closer.
But a range drawn around too few trials follows chance: stages gain something only where there are many trials
(docs/search.md).
"""

import bisect
import dataclasses
import json
import types
from collections.abc import Iterable, Sequence
from typing import Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..attributes import PARENT_TRIAL, STAGES
from ..errors import SpecError
from ..parameters import Parameter
from ..spec import SearchSpec
from .narrowing import ZoomRule
from .promotion import PromotionRule, counts_at_rungs

MAX_STAGES: Final = 3
TRIALS_A_TRAINING: Final = 3  # that the epochs of a whole training pay for on average, under `default_promotion`
MIN_STAGE_TRIALS: Final = 8  # trials for each stage, on average, below which a stage is not worth its zoom
_N_TIERS = 3  # tiers of the course; the fourth holds what it does not rank, which is searched with the third


def default_zoom(*, keep: float = 0.2) -> ZoomRule:
    """Return how a stage narrows the space for the next: to the best fifth, but to twenty trials at most."""
    return ZoomRule(keep=keep, max_best=20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomPlan:
    """How a search goes from coarse to fine.

    Example:
        >>> ZoomPlan(begins=(40, 80)).stage_of(79)
        1
    """

    # Trials before the second stage, the third, and so on, ascending; empty for a single stage. While no trial has
    # failed, these are the numbers of the stages' first trials.
    begins: tuple[int, ...] = ()
    rule: ZoomRule = dataclasses.field(default_factory=default_zoom)  # how a stage's space is narrowed for the next
    # Whether the first stage searches tier 1 alone, the second tiers 1 and 2, and the third all of them. What is not
    # searched yet is held at good defaults. The last stage always searches everything. A tier that the space lacks is
    # passed over.
    tiers: bool = False

    def stage_of(self, number: int) -> int:
        """Return the stage of a trial, from 0: the last one for whatever comes beyond the budget."""
        return bisect.bisect_right(self.begins, number)

    def among(self, trials: Sequence[FrozenTrial]) -> "ZoomPlan":
        """Return the plan by the numbers of a study's trials: failed ones have numbers, but take no budget."""
        if not self.begins:
            return self
        counted = sorted(trial.number for trial in trials if trial.state != TrialState.FAIL)
        n_failed = len(trials) - len(counted)
        begins = (counted[begin] if begin < len(counted) else begin + n_failed for begin in self.begins)
        return dataclasses.replace(self, begins=tuple(begins))

    def held(self, parameters: Iterable[Parameter], stage: int) -> list[Parameter]:
        """Return which of a space's parameters are held at good defaults in a stage."""
        levels = {parameter: min(parameter.tier, _N_TIERS) for parameter in parameters}
        if not self.tiers or stage >= min(len(self.begins), _N_TIERS - 1):
            return []
        searched = sorted(set(levels.values()))[: stage + 1]
        return [parameter for parameter, level in levels.items() if level not in searched]


def zoom_plan(search: SearchSpec) -> ZoomPlan:
    """Return the plan of a new study with the sampler ``zoom``; raises SpecError if an option is not allowed."""
    options = search.sampler_options
    n_stages, keep, tiers = options.get("stages"), options.get("keep", default_zoom().keep), options.get("tiers", False)
    if n_stages is not None and not (_is_number(n_stages, int) and 1 <= n_stages <= 100):
        raise SpecError(f"search.sampler_options.stages must be a whole number from 1 to 100, but got {n_stages!r}.")
    if not _is_number(keep, int | float):
        raise SpecError(f"search.sampler_options.keep must be a number, but got {keep!r}.")
    if not isinstance(tiers, bool):
        raise SpecError(f"search.sampler_options.tiers must be true or false, but got {tiers!r}.")
    return ZoomPlan(begins=shared_begins(search.trials, n_stages=n_stages), rule=default_zoom(keep=keep), tiers=tiers)


def plan_of_study(study: optuna.Study, search: SearchSpec) -> ZoomPlan | None:
    """Return the plan of an existing study, or None unless its sampler is ``zoom``."""
    if search.sampler != "zoom":
        return None
    plan, stored = zoom_plan(search), study.user_attrs.get(STAGES)
    return plan if stored is None else dataclasses.replace(plan, begins=tuple(json.loads(stored)["begins"]))


def shared_begins(trials: int, *, n_stages: int | None = None, first: int = 0) -> tuple[int, ...]:
    """Return where the stages after the first begin: it has twice as many trials as each of the others.

    More trials of the later stages train on, so all stages cost about the same. There is at most one stage a trial; by
    default one for ``MIN_STAGE_TRIALS`` trials, three at most. ``first`` trials, in the first stage, come on top.
    Raises SpecError if there is no trial to share, or no stage.

    Example:
        >>> shared_begins(100)
        (50, 75)
    """
    if trials < 1:
        raise SpecError(f"A search needs at least one trial, but got {trials}.")
    if n_stages is not None and n_stages < 1:
        raise SpecError(f"A search needs at least one stage, but got {n_stages}.")
    n = min(max(trials // MIN_STAGE_TRIALS, 1), MAX_STAGES) if n_stages is None else min(n_stages, trials)
    return tuple(first + (stage + 1) * trials // (n + 1) for stage in range(1, n))


def keep_stages(study: optuna.Study, search: SearchSpec) -> None:
    """Store where the stages of a study with the sampler ``zoom`` begin, shares of its present budget.

    If the budget has grown, it is shared anew among the trials that are not drawn yet. No stage that has begun moves,
    so that an interrupted search goes on as it would have. What was copied into the study belongs to the first stage.
    """
    if search.sampler != "zoom":
        return
    stored = json.loads(study.user_attrs.get(STAGES, '{"begins": [], "trials": 0}'))
    if search.trials <= stored["trials"]:
        return
    trials = study.get_trials(deepcopy=False, states=[state for state in TrialState if state != TrialState.FAIL])
    n_copied = sum(PARENT_TRIAL in trial.user_attrs for trial in trials)
    kept = [begin for begin in stored["begins"] if begin < len(trials)]
    n_stages = search.sampler_options.get("stages")
    begins = shared_begins(max(search.trials - n_copied, 1), n_stages=n_stages, first=n_copied)
    new = [begin for begin in begins if begin >= len(trials)]
    study.set_user_attr(STAGES, json.dumps({"begins": [*kept, *new], "trials": search.trials}))


def counts_in_stage(trial: FrozenTrial, plan: ZoomPlan, *, stage: int) -> bool:
    """Tell whether a stored trial is compared with others at rungs while a stage, counted from 0, is searched.

    Trials that ended in an earlier stage are not: most of them are worse, so every new trial would go on. Unfinished
    and paused ones are, since they may be promoted, except those ``left_outside``.
    """
    return counts_at_rungs(trial) and not (trial.state.is_finished() and plan.stage_of(trial.number) < stage)


def default_promotion(max_epochs: int) -> PromotionRule:
    """Return when trials are judged by default: after a thirteenth of all epochs, then three times as many, and so on.

    After the first of 52 epochs, LCBench's ranks say little about the last; after the fourth they mostly agree.
    """
    return PromotionRule(max_epochs=max_epochs, min_epochs=max(round(max_epochs / 13), 1), reduction=3)


def _is_number(value: object, kind: type | types.UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
