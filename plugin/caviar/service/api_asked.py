"""Optuna as a service, over HTTP: create a study from a space alone, ask, report, tell."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import optuna
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from .answers import Refusal, json_answer
from .asked_spec import parse_asked
from .requests import MAX_INT, REFUSALS, STUDY_NAME, Makings, Strict, StudyName, TrialNumber, makings
from .strict_json import StrictRoute

router = APIRouter(prefix="/v1/asked", tags=["Optuna as a service"], route_class=StrictRoute, responses=REFUSALS)

_LARGEST = 1e100
_Value = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
_Lease = Annotated[str, Field(min_length=1, max_length=400, description="What `ask` gave out with the trial.")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")]
_Options = Annotated[dict[str, Any], Field(max_length=50)]


class Range(Strict):
    """A parameter that is drawn from a range, as in a study file."""

    low: float | int
    high: float | int
    scale: Literal["uniform", "log", "log-complement"] = "uniform"
    type: Literal["float", "int"] | None = Field(
        default=None, description="By default int if both ends are whole numbers, for a name that is your own."
    )


class Choices(Strict):
    """A parameter that is one of a list."""

    choices: Annotated[list[bool | int | float | str], Field(min_length=1, max_length=1000)]


class NewStudy(Strict):
    """What a study is created from."""

    name: Annotated[str, Field(pattern=STUDY_NAME.replace("149", "99"))]
    direction: Literal["minimize", "maximize"]
    metric: Annotated[str, Field(pattern=r"^[\w ./%-]{1,100}$")] = "value"
    space: Annotated[
        dict[_Name, Range | Choices | bool | int | float | str],
        Field(min_length=1, max_length=200, description="As in a study file: a range, choices, or a fixed value."),
    ]
    trials: Annotated[int, Field(ge=1, le=1_000_000, description="The budget: how many trials end with a result.")]
    sampler: Annotated[str, Field(max_length=100)] = "tpe"
    sampler_options: _Options = Field(default_factory=dict)
    pruner: Annotated[str, Field(max_length=100)] = "median"
    pruner_options: _Options = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    lease_s: Annotated[float, Field(ge=1, le=86_400, description="Seconds of silence that lose a trial.")] = 60.0
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    max_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class Report(Strict):
    """A trial's value at a step."""

    lease: _Lease
    step: Annotated[int, Field(ge=0, le=MAX_INT)]
    value: _Value


class Renewal(Strict):
    """A sign of life."""

    lease: _Lease


class Telling(Strict):
    """A trial's end."""

    lease: _Lease
    state: Literal["complete", "pruned", "fail"] = "complete"
    value: _Value | None = Field(default=None, description="Of a complete trial.")
    reason: Annotated[str, Field(max_length=500)] = Field(default="", description="Why it failed.")


class Asked(Strict):
    """A trial to run, or why there is none now."""

    state: Literal["trial", "wait", "done"]
    number: int | None = None
    lease: str | None = None
    lease_s: float | None = None
    params: dict[str, Any] | None = None
    hyperparameters: dict[str, Any] | None = None
    last_step: int | None = None


class Judged(Strict):
    """Whether the trial should end here; tell it as pruned then."""

    prune: bool


class Told(Strict):
    """Whether this ended the trial; false if the same was told before."""

    ended: bool


@router.post("", status_code=201, responses={200: {"description": "It was created in just this way before."}})
async def create(request: Request, new: NewStudy) -> Response:
    """Create a study from a space alone. Creating it again in the same way changes nothing."""
    use = makings(request)
    if new.name.endswith(".toml"):
        raise Refusal(422, f"A study may not be called {new.name!r}: that would be a study file.")
    table = new.model_dump()
    table["space"] = {
        name: one.model_dump(exclude_unset=True) if isinstance(one, Strict) else one for name, one in new.space.items()
    }

    def make() -> tuple[dict[str, Any], bool]:
        study, is_new = use.create_asked(new.name, parse_asked(table))
        return study.status(), is_new

    status, is_new = await to_thread.run_sync(make, limiter=use.asking)
    return json_answer(status, status=201 if is_new else 200)


@router.get("/{name}")
async def status(request: Request, name: StudyName) -> Response:
    """Return what a study was created with, how many trials are in each state, and the best one."""
    use = makings(request)
    return await use.recent.json(("asked", name), lambda: use.asked(name).status())


@router.post("/{name}/ask", response_model=Asked, response_model_exclude_unset=True)
async def ask(request: Request, name: StudyName) -> Any:
    """Take a trial of the budget.

    `wait` says that all that is left is being run by others: ask again later, since one of them may fall silent.
    `done` says that the budget is spent. `last_step` is set where a former client fell silent.
    """
    return await _asking(makings(request), lambda use: use.asked(name).ask())


@router.post("/{name}/trials/{number}/report", response_model=Judged)
async def report(request: Request, name: StudyName, number: TrialNumber, said: Report) -> Any:
    """Report a trial's value at a step, and learn whether to end it. Of two values at one step the first is kept."""

    def act(use: Makings) -> dict[str, bool]:
        return {"prune": use.asked(name).report(number, lease=said.lease, step=said.step, value=said.value)}

    return await _asking(makings(request), act)


@router.post("/{name}/trials/{number}/renew", response_model=Renewal)
async def renew(request: Request, name: StudyName, number: TrialNumber, said: Renewal) -> Any:
    """Keep a trial's lease while a step takes long."""

    def act(use: Makings) -> dict[str, str]:
        use.asked(name).renew(number, lease=said.lease)
        return {"lease": said.lease}

    return await _asking(makings(request), act)


@router.post("/{name}/trials/{number}/tell", response_model=Told)
async def tell(request: Request, name: StudyName, number: TrialNumber, said: Telling) -> Any:
    """End a trial: `complete` with its value, `pruned` with the last one reported, or `fail`, which costs no budget."""
    if (said.state == "complete") != (said.value is not None):
        raise Refusal(422, f"A trial is told complete with a value, and pruned or fail without; got {said.state}.")
    state, reason = TrialState[said.state.upper()], " ".join(said.reason.split()) or "its client told so"

    def act(use: Makings) -> dict[str, bool]:
        ended = use.asked(name).tell(number, lease=said.lease, state=state, value=said.value, reason=reason)
        return {"ended": ended}

    return await _asking(makings(request), act)


@router.get("/{name}/trials")
async def trials(request: Request, name: StudyName) -> Response:
    """Return all trials, by number."""
    use = makings(request)
    return await use.recent.json(("asked trials", name), lambda: use.asked(name).trials())


@router.get("/{name}/best")
async def best(request: Request, name: StudyName) -> Response:
    """Return the best complete trial; `null` before there is one."""
    use = makings(request)
    return json_answer(await to_thread.run_sync(lambda: use.asked(name).best(), limiter=use.asking))


@router.get("/{name}/importance")
async def importance(request: Request, name: StudyName) -> Response:
    """Return each parameter's share of what separates the best tenth of the trials, or a `reason` why not."""
    use = makings(request)
    study = await to_thread.run_sync(use.asked, name, limiter=use.asking)
    told = await to_thread.run_sync(study.complete_trials, limiter=use.asking)
    found = await use.reports.run(measure, told, str(study.spec.direction), timeout_s=120)
    return json_answer(found)


def measure(trials: list[FrozenTrial], direction: str) -> dict[str, Any]:
    """Measure what matters; in a process of its own, since it loads scikit-learn and may take a second."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if len(trials) < 10:
        return {"importance": None, "reason": f"{len(trials)} complete trials are too few; it takes at least ten."}
    study = optuna.create_study(direction=StudyDirection[direction.upper()])
    study.add_trials(trials)
    try:
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError) as error:
        return {"importance": None, "reason": str(error)}
    return {"importance": found, "reason": None}


async def _asking(use: Makings, act: Callable[[Makings], Any]) -> Any:
    """Return what an act gives, done in one of the few threads for asking: what waits there blocks nothing else."""
    return await to_thread.run_sync(act, use, limiter=use.asking)
