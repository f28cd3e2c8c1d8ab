"""The stages of the sampler ``zoom``: how a search from coarse to fine shares its budget.

Each stage after the first searches around the best trials of those before. Optuna's multivariate TPE smooths with a
width that is a share of the range and hardly shrinks with the number of trials, so narrower ranges let it come closer.
But a range drawn around too few trials follows chance.

On eight tasks of benchmarks/search.py, seeds 200 to 202, stages changed the accuracy found by -0.9 ± 0.7, -0.1 ± 0.8
and +0.7 ± 0.4 points at 10, 30 and 100 full trainings (mean and standard error, against one stage, 2026-11-25): they
gain something only where there are many trials.
"""

import bisect
import dataclasses
import json
from collections.abc import Sequence
from typing import Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..attributes import PARENT_TRIAL, STAGES
from ..errors import SpecError
from ..spec import SearchSpec
from .narrowing import ZoomRule
from .promotion import PromotionRule, counts_at_rungs

MAX_STAGES: Final = 3
#: Trials that the epochs of a whole training pay for on average, under ``default_promotion``.
TRIALS_A_TRAINING: Final = 3
#: Trials for each stage, on average, below which a stage is not worth its zoom.
MIN_STAGE_TRIALS: Final = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stages:
    """Which trial of a study belongs to which stage of its search.

    Attributes:
        begins: Trials before the second stage, the third, and so on, ascending; empty for a single stage. While no
            trial has failed, these are the numbers of the stages' first trials.

    Example:
        >>> Stages(begins=(40, 80)).stage_of(79)
        1
    """

    begins: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.begins) + 1

    def stage_of(self, number: int) -> int:
        """Return the stage of a trial, from 0: the last one for whatever comes beyond the budget."""
        return bisect.bisect_right(self.begins, number)

    def among(self, trials: Sequence[FrozenTrial]) -> "Stages":
        """Return the stages by the numbers of a study's trials: failed ones have numbers, but take no budget."""
        counted = sorted(trial.number for trial in trials if trial.state != TrialState.FAIL)
        n_failed = len(trials) - len(counted)
        return Stages(
            begins=tuple(counted[begin] if begin < len(counted) else begin + n_failed for begin in self.begins)
        )


def stages_of_search(search: SearchSpec, *, first: int = 0) -> Stages:
    """Return the stages of a new study: with the sampler ``zoom`` shares of its budget, with any other just one.

    Args:
        search: Its ``sampler``, the option ``stages`` and ``trials``.
        first: Trials that were copied into the study before any of its own; they belong to the first stage.

    Raises:
        SpecError: If the option is no whole number of at least 1.
    """
    if search.sampler != "zoom":
        return Stages()
    n_stages = search.sampler_options.get("stages")
    if n_stages is not None and (
        not isinstance(n_stages, int) or isinstance(n_stages, bool) or not 1 <= n_stages <= 100
    ):
        raise SpecError(f"search.sampler_options.stages must be a whole number from 1 to 100, but got {n_stages!r}.")
    return shared_stages(max(search.trials - first, 1), n_stages=n_stages, first=first)


def shared_stages(trials: int, *, n_stages: int | None = None, first: int = 0) -> Stages:
    """Return stages that share a budget: the first has twice as many trials as each of the others.

    More trials of the later stages train on, so all stages cost about the same.

    Args:
        trials: Budget of the search, at least 1.
        n_stages: How many, at most one a trial; by default one for ``MIN_STAGE_TRIALS`` trials, three at most.
        first: Number of the first trial.

    Raises:
        SpecError: If there is no trial to share, or no stage.

    Example:
        >>> shared_stages(100).begins
        (50, 75)
    """
    if trials < 1:
        raise SpecError(f"A search needs at least one trial, but got {trials}.")
    if n_stages is not None and n_stages < 1:
        raise SpecError(f"A search needs at least one stage, but got {n_stages}.")
    n = min(max(trials // MIN_STAGE_TRIALS, 1), MAX_STAGES) if n_stages is None else min(n_stages, trials)
    return Stages(begins=tuple(first + (stage + 1) * trials // (n + 1) for stage in range(1, n)))


def stages_of_study(study: optuna.Study, search: SearchSpec) -> Stages:
    """Return the stages that ``keep_stages`` stored, or for a study without any those that a new one would have."""
    stored = study.user_attrs.get(STAGES)
    return stages_of_search(search) if stored is None else Stages(begins=tuple(json.loads(stored)["begins"]))


def keep_stages(study: optuna.Study, search: SearchSpec) -> None:
    """Store a study's stages; if the budget has grown, share it anew among the trials that are not drawn yet.

    No stage that has begun moves, so that an interrupted search goes on as it would have.

    Args:
        study: If its sampler is not ``zoom``, nothing is stored.
        search: Its study file's, with the present budget.
    """
    if search.sampler != "zoom":
        return
    stored = json.loads(study.user_attrs.get(STAGES, '{"begins": [], "trials": 0}'))
    if search.trials <= stored["trials"]:
        return
    trials = study.get_trials(deepcopy=False, states=[state for state in TrialState if state != TrialState.FAIL])
    n_copied = sum(PARENT_TRIAL in trial.user_attrs for trial in trials)
    kept = [begin for begin in stored["begins"] if begin < len(trials)]
    new = [begin for begin in stages_of_search(search, first=n_copied).begins if begin >= len(trials)]
    study.set_user_attr(STAGES, json.dumps({"begins": [*kept, *new], "trials": search.trials}))


def counts_in_stage(trial: FrozenTrial, stages: Stages, *, stage: int) -> bool:
    """Tell whether a stored trial is compared with others at rungs while a stage, counted from 0, is searched.

    Trials that ended in an earlier stage are not: most of them are worse, so every new trial would go on. Unfinished
    and paused ones are, since they may be promoted, except those ``left_outside``.
    """
    return counts_at_rungs(trial) and not (trial.state.is_finished() and stages.stage_of(trial.number) < stage)


def default_promotion(max_epochs: int) -> PromotionRule:
    """Return when trials are judged by default: after a thirteenth of all epochs, then three times as many, and so on.

    After the first of 52 epochs, LCBench's ranks say little about the last, and on some tasks the opposite; after the
    fourth they mostly agree.
    """
    return PromotionRule(max_epochs=max_epochs, min_epochs=max(round(max_epochs / 13), 1), reduction=3)


def default_zoom(*, keep: float = 0.2) -> ZoomRule:
    """Return how a stage narrows the space for the next: to the best fifth, but to twenty trials at most."""
    return ZoomRule(keep=keep, max_best=20)
