"""Live control: asks something of a trial, and waits until its worker has answered; forks trials."""

import copy
import dataclasses
import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..errors import CaviarError, SpecError
from ..interventions import Intervention, Request, curves_of, in_words, interventions_of, live_values
from ..optuna_private import id_of_study, id_of_trial
from ..search.sequences import origin_of
from ..storage.control import hold_waiting, insert_fork, post_request, read_standing, release_waiting
from ..storage.home import Home, locate_home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec
from ..worker.opening import open_checkpoints
from ..worker.trial_run import N_APPLIED, TRAINED

#: Seconds between two looks for an answer.
POLL_S: Final = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Posted:
    """A request that a trial's worker has yet to answer."""

    trial_id: int
    number: int
    key: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlResult:
    """What became of a request.

    Attributes:
        trial: The trial's number; for a fork, the new trial's.
        done: Whether it took effect; if false, its worker has yet to read it.
        epoch: Before which epoch it took effect, counted from 0; None if it has not yet, or concerns no epoch.
    """

    trial: int
    done: bool
    epoch: int | None = None


def control_trial(home: Home, study: str, number: int, request: Request, *, wait_s: float = 30.0) -> ControlResult:
    """Ask something of a trial, and wait for its worker's answer.

    Args:
        home: Where the study lives.
        study: Its name or its file.
        number: The trial's number.
        request: What is asked.
        wait_s: How long to wait for the answer, in seconds; a request that is not answered by then still stands.

    Raises:
        SpecError: If there is no such trial, it has ended, or what is asked cannot be done.
        CaviarError: If it ended before it could be done.
    """
    storage, opened = open_existing(home, study)
    found = post_control(home, storage, opened, number, request)
    deadline = time.monotonic() + wait_s
    while isinstance(found, Posted):
        if (result := look_control(storage, found)) is not None:
            return result
        if time.monotonic() > deadline:
            return ControlResult(trial=number, done=False)
        time.sleep(POLL_S)
    return found


def post_control(
    home: Home, storage: LeasedStorage, study: optuna.Study, number: int, request: Request
) -> ControlResult | Posted:
    """Ask something of a trial; return what came of it, or what `look_control` looks for.

    Raises:
        SpecError: If there is no such trial, it has ended, or what is asked cannot be done.
    """
    required_spec(study)
    trial = find_trial(study, number)
    if request.action == "fork":
        return fork_trial(home, storage, study, trial, request)
    if trial.state.is_finished():
        raise SpecError(
            f"Trial {number} has ended ({trial.state.name}), so it cannot be changed. To go on from it with other "
            f"values: caviar control {study.study_name} {number} --fork --set learning_rate=0.01"
        )
    trial_id = id_of_trial(trial)
    if trial.state == TrialState.WAITING and request.action in ("pause", "resume"):
        change = hold_waiting if request.action == "pause" else release_waiting
        if change(storage, trial_id):
            return ControlResult(trial=number, done=True)
    if request.action == "resume":
        raise SpecError(f"Trial {number} runs, so there is nothing to resume.")
    try:
        key = post_request(storage, trial_id, request)
    except (UpdateFinishedTrialError, KeyError) as error:
        raise SpecError(f"Trial {number} has just ended, so it cannot be changed: {error.args[0]}") from error
    if trial.state == TrialState.WAITING:
        return ControlResult(trial=number, done=False)
    return Posted(trial_id=trial_id, number=number, key=key)


def look_control(storage: LeasedStorage, posted: Posted) -> ControlResult | None:
    """Return what came of a request; None while its worker has not answered.

    Raises:
        SpecError: If the worker refused it.
        CaviarError: If the trial ended before that took effect, or was deleted.
    """
    found = read_standing(storage, posted.trial_id, posted.key)
    if found is None:
        raise CaviarError(f"Trial {posted.number} was deleted.")
    answer = found.answer
    if answer is None and found.state.is_finished():
        raise CaviarError(f"Trial {posted.number} ended ({found.state.name}) before that took effect.")
    if answer is None:
        return ControlResult(trial=posted.number, done=False) if found.held else None
    if not answer.done:
        raise SpecError(answer.reason or "The worker refused it.")
    return ControlResult(trial=posted.number, done=True, epoch=answer.epoch)


def fork_trial(
    home: Home, storage: LeasedStorage, study: optuna.Study, source: FrozenTrial, request: Request
) -> ControlResult:
    """Queue a trial that goes on from another one's epoch, with other values.

    It begins from the source's checkpoint, or trains the epochs before anew if there is none any more: they have the
    same seeds and changes, so they give the same curve. It takes a place in the budget, if one is left.

    Raises:
        SpecError: If the source has not got that far.
    """
    if not source.params:
        raise SpecError(
            f"Trial {source.number} has no hyperparameters yet, so it cannot be forked. Wait until it runs."
        )
    checkpoints = open_checkpoints(home, study)
    checkpoint = checkpoints.load(source.number, epochs=request.epoch)
    done = len(source.intermediate_values)
    if request.epoch is not None and request.epoch > done:
        raise SpecError(f"Trial {source.number} has done {done} epochs, so it cannot be forked after {request.epoch}.")
    epoch = request.epoch
    if epoch is None:
        epoch = done if checkpoint is None or source.state.is_finished() else checkpoint.epochs
    before = interventions_of(source.user_attrs)
    if checkpoint is not None and checkpoint.epochs == epoch:
        notes = checkpoint.notes
        kept = _kept(before[: int(notes.get(N_APPLIED, 0))])
        trained = int(notes.get(TRAINED, epoch))
    elif any(one.action == "back" for one in before):
        raise SpecError(
            f"Trial {source.number} went back and has no checkpoint after epoch {epoch}, so it cannot be forked there. "
            f"It has those after {in_words(checkpoints.epochs(source.number)) or 'none'}."
        )
    else:
        checkpoint, kept, trained = None, _kept(one for one in before if one.epoch < epoch), epoch
    values = live_values(required_spec(study).space.hyperparameters(source.params), kept)
    told = functools.partial(Intervention, epoch=epoch, trained=trained, who=request.who, at=request.at)
    fork = told(action="fork", old=source.number)
    sets = [told(action="set", name=name, old=values[name], new=value) for name, value in request.values.items()]
    trial_id, number = insert_fork(
        storage,
        id_of_study(study),
        source,
        epoch=epoch,
        origin=origin_of(source),
        interventions=[*kept, fork, *sets],
    )
    if checkpoint is not None:
        begun = dataclasses.replace(checkpoint, notes={**checkpoint.notes, N_APPLIED: len(kept)})
        checkpoints.save(number, begun)
    release_waiting(storage, trial_id)
    return ControlResult(trial=number, done=True, epoch=epoch)


def result_line(study: str, request: Request, result: ControlResult) -> str:
    """Return a result in words."""
    if request.action == "fork":
        return (
            f"Trial {result.trial} goes on from epoch {result.epoch}; a worker takes it next. "
            f"If none runs: caviar run with the study's file, or caviar worker {study}."
        )
    if not result.done:
        return f"Trial {result.trial} has not read it yet; it takes effect before the trial's next epoch."
    return f"Trial {result.trial}: done" + ("." if result.epoch is None else f", before epoch {result.epoch}.")


@final
class LiveTrial:
    """A trial that you steer while it runs, in this process or another one.

    Each method waits until the trial's worker has done what it asks; see `control_trial` for what it raises.

    Args:
        study: The study's name or its file.
        number: The trial's number.
        home: Where the study lives.
        storage: URL of Optuna's storage, if it is not the home's.
        wait_s: How long to wait for an answer, in seconds.

    Example:
        >>> trial = LiveTrial("digits", 7)  # doctest: +SKIP
        >>> trial.set(learning_rate=0.01)  # doctest: +SKIP
        ControlResult(trial=7, done=True, epoch=12)
    """

    def __init__(
        self, study: str, number: int, *, home: str | Path = "runs", storage: str | None = None, wait_s: float = 30.0
    ) -> None:
        self._home = locate_home(Path(home), storage=storage)
        self._study = study
        self._number = number
        self._wait_s = wait_s

    def set(self, **values: float) -> ControlResult:
        """Change live hyperparameters: learning_rate, momentum, decay_rate, dropout, l2."""
        return self._ask(Request(action="set", values=values))

    def pause(self) -> ControlResult:
        """Take the trial out of its lane; it waits, with a checkpoint, until `resume`."""
        return self._ask(Request(action="pause"))

    def resume(self) -> ControlResult:
        """Let any worker go on with a paused trial."""
        return self._ask(Request(action="resume"))

    def stop(self) -> ControlResult:
        """End the trial as complete, with its best epoch."""
        return self._ask(Request(action="stop"))

    def train(self, epochs: int) -> ControlResult:
        """Have the trial train this many epochs in all: more than the study's, or fewer."""
        return self._ask(Request(action="epochs", epochs=epochs))

    def back(self, epoch: int) -> ControlResult:
        """Go back to the checkpoint after an epoch: weights, optimizer and hyperparameters are as they were then."""
        return self._ask(Request(action="back", epoch=epoch))

    def fork(self, *, epoch: int | None = None, **values: float) -> "LiveTrial":
        """Queue a trial that goes on from this one's epoch with other values, and return it."""
        forked = self._ask(Request(action="fork", epoch=epoch, values=values))
        made = copy.copy(self)
        made._number = forked.trial
        return made

    @property
    def number(self) -> int:
        """The trial's number."""
        return self._number

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """Each metric by epoch, as last stored; until the trial was first asked something, the study's metric alone."""
        _, study = open_existing(self._home, self._study)
        trial = find_trial(study, self._number)
        return curves_of(trial, required_spec(study).objective.metric)

    @property
    def interventions(self) -> list[str]:
        """What was changed by hand, in words."""
        _, study = open_existing(self._home, self._study)
        return [str(one) for one in interventions_of(find_trial(study, self._number).user_attrs)]

    def _ask(self, request: Request) -> ControlResult:
        return control_trial(self._home, self._study, self._number, request, wait_s=self._wait_s)


def find_trial(study: optuna.Study, number: int) -> FrozenTrial:
    """Return a study's trial; raise SpecError if there is none of this number."""
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        there = f"its trials are 0 to {len(trials) - 1}" if trials else "it has none yet"
        raise SpecError(f"The study {study.study_name!r} has no trial {number}: {there}.")
    return trials[number]


def _kept(interventions: Iterable[Intervention]) -> list[Intervention]:
    """Return those that shape a fork: not when its source was paused or ended."""
    return [one for one in interventions if one.action not in ("pause", "resume", "stop")]


def parse_request(
    *,
    values: Sequence[str] = (),
    epochs: int | None = None,
    back: int | None = None,
    action: str | None = None,
    epoch: int | None = None,
) -> Request:
    """Return what the options of ``caviar control`` ask for: one thing.

    Raises:
        SpecError: If they ask for nothing or for several things, or a value cannot be read.
    """
    numbers: dict[str, float] = {}
    for setting in values:
        name, _, text = setting.partition("=")
        try:
            numbers[name.strip()] = float(text)
        except ValueError as error:
            raise SpecError(f"--set takes NAME=NUMBER, such as learning_rate=0.01, but got {setting!r}.") from error
    given = {"set": bool(numbers) and action != "fork", "epochs": epochs is not None, "back": back is not None}
    asked = [*(name for name, is_given in given.items() if is_given), *([action] if action else [])]
    if len(asked) != 1:
        raise SpecError(
            f"Ask for one thing at a time, but got {' and '.join(asked) or 'nothing'}. Give --set NAME=VALUE, "
            "--epochs N, --back EPOCH, --pause, --resume, --stop, --watch or --fork."
        )
    chosen: Any = asked[0]
    return Request(action=chosen, values=numbers, epochs=epochs, epoch=epoch if back is None else back)
