"""Learning curves as they grow: one look at the storage serves all who watch a study."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import optuna
from anyio import to_thread
from optuna.trial import FrozenTrial

from ..attributes import WATCHED
from ..errors import FatalError
from ..interventions import curves_of, interventions_of
from ..optuna_private import id_of_study
from ..search.promotion import is_held, is_paused
from ..storage import schema
from ..storage.identity import StudyKey, check_study
from ..storage.leased_storage import LeasedStorage
from ..storage.studies import stored_spec
from ..storage.study_memory import StudyMemory
from .answers import Refusal, json_bytes
from .settings import ServiceSettings
from .store import Store

_KEEP_ALIVE_S: Final = 15.0
#: Updates that a slow client may be behind; one that is further behind gets the whole picture anew.
_MOST_BEHIND: Final = 50
_STATES: Final = ("waiting", "running", "complete", "pruned", "fail")


def metric_of(study: optuna.Study) -> str | None:
    """Return what a study's curves show; None for a study without a study file."""
    spec = stored_spec(study)
    return None if spec is None else spec.objective.metric


def curve_of(trial: FrozenTrial, metric: str | None, *, since: int = 0) -> dict[str, Any]:
    """Return a trial's number, state, value, curve and changes by hand, ready for JSON.

    Args:
        trial: The trial.
        metric: What its curve shows; None for a trial of a study without a study file.
        since: How many of the first steps are left out, unless the trial is steered by hand: it may have gone back.
    """
    state = "paused" if is_paused(trial) or is_held(trial) else trial.state.name.lower()
    whole = WATCHED in trial.system_attrs
    if whole and metric is not None:
        values = [[step, value] for step, value in enumerate(curves_of(trial, metric)[metric])]
    else:
        values = [[step, value] for step, value in sorted(trial.intermediate_values.items())][since:]
    return {
        "number": trial.number,
        "state": state,
        "value": trial.values[0] if trial.values else None,
        "values": values,
        "whole": whole or not since,
        "changes": [[one.epoch, str(one)] for one in interventions_of(trial.user_attrs)],
    }


class StudyFeed:
    """What has changed in a study since it was last looked at; reads finished trials once, and writes nothing."""

    def __init__(self, storage: LeasedStorage, study: optuna.Study) -> None:
        self._storage, self._study_id = storage, id_of_study(study)
        self._known: Mapping[int, StudyKey] = {self._study_id: storage.known_studies[self._study_id]}
        self._minimize = study.direction == optuna.study.StudyDirection.MINIMIZE
        self._memory = StudyMemory(self._study_id)
        self._lock = threading.Lock()
        self._metric = metric_of(study)
        self._seen: dict[int, tuple[str, int, int]] = {}  # number → state, how many steps, and how many changes

    def look(self) -> dict[str, Any] | None:
        """Read the study; return its trials with what is new of each, its counts and its best, or None for no news.

        Raises:
            FatalError: If it was deleted or renamed.
        """
        with self._lock:
            return self._look()

    def _look(self) -> dict[str, Any] | None:
        with schema.reading(self._storage.engine) as connection:
            check_study(connection, self._study_id, known=self._known)
            found = self._memory.read_changes(connection, besides=())
        self._memory.take_in(found)
        news = []
        for trial in found:
            curve = curve_of(trial, self._metric, since=self._seen.get(trial.number, ("", 0, 0))[1])
            steps = len(curve["values"] if curve["whole"] else trial.intermediate_values)
            now = (curve["state"], steps, len(curve["changes"]))
            if now != self._seen.get(trial.number):
                self._seen[trial.number] = now
                news.append(curve)
        return {"trials": news, **self._counts()} if news else None

    def picture(self) -> dict[str, Any]:
        """Return what is known of the trials that have not ended, with their whole curves, and the counts."""
        with self._lock:
            trials = [curve_of(trial, self._metric) for trial in self._memory.trials if not trial.state.is_finished()]
            return {"trials": trials, **self._counts()}

    def _counts(self) -> dict[str, Any]:
        counts = dict.fromkeys(_STATES, 0)
        best: tuple[float, int] | None = None
        sign = 1 if self._minimize else -1
        for trial in self._memory.trials:
            counts[trial.state.name.lower()] += 1
            if trial.state == optuna.trial.TrialState.COMPLETE and trial.values:
                best = min(best or (float("inf"), -1), (sign * trial.values[0], trial.number))
        return {"counts": counts, "best": None if best is None else {"number": best[1], "value": sign * best[0]}}


class _Watched:
    """A study that is watched, and the queues of those who watch."""

    def __init__(self, feed: StudyFeed) -> None:
        self.feed = feed
        self.queues: set[asyncio.Queue[bytes | None]] = set()
        self.task: asyncio.Task[None] | None = None


class Streams:
    """All event streams of a service.

    Args:
        store: The database.
        settings: How many streams, and how often the storage is looked at.
    """

    def __init__(self, store: Store, settings: ServiceSettings) -> None:
        self._store, self._settings = store, settings
        self._watched: dict[str, _Watched] = {}

    @property
    def n_open(self) -> int:
        """How many streams are open."""
        return sum(len(watched.queues) for watched in self._watched.values())

    @property
    def n_looked_at(self) -> int:
        """How many studies are looked at for them."""
        return len(self._watched)

    async def watch(self, name: str) -> AsyncIterator[bytes]:
        """Return a study's events, as the lines of an event stream.

        The first is ``picture``: the trials that have not ended, with their curves, ``counts`` and ``best``. Each
        ``update`` has the trials that changed, with the new points of their curves; a point may come twice. ``gone``
        says that the study was deleted or renamed, and ends the stream.

        Raises:
            Refusal: If there are too many streams.
            UnknownStudyError: If there is no such study.
        """
        if self.n_open >= self._settings.max_streams:
            raise Refusal(429, "Too many streams are open.", headers={"Retry-After": "10"})
        await self._look_at(name)  # so that what is wrong is said before the stream begins
        return self._lines(name)

    async def close(self) -> None:
        """End all streams."""
        for watched in list(self._watched.values()):
            if watched.task is not None:
                watched.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watched.task

    async def _look_at(self, name: str) -> _Watched:
        """Return a study that is looked at from now on, for as long as somebody watches."""
        if name in self._watched:
            return self._watched[name]
        storage, study = await to_thread.run_sync(self._store.study, name)
        if len(study.directions) != 1:
            raise Refusal(409, f"The study {name!r} has {len(study.directions)} objectives; only one can be watched.")
        watched = _Watched(StudyFeed(storage, study))
        await to_thread.run_sync(watched.feed.look)
        others = self._watched.setdefault(name, watched)  # somebody else may have begun meanwhile
        if others is watched:
            watched.task = asyncio.create_task(self._keep_looking(name, watched))
        return others

    async def _keep_looking(self, name: str, watched: _Watched) -> None:
        """Look at a study while anybody watches, and tell them what is new."""
        try:
            while True:
                await asyncio.sleep(self._settings.poll_s)
                if not watched.queues:
                    return
                try:
                    news = await to_thread.run_sync(watched.feed.look)
                except FatalError as error:
                    _tell(watched, _event("gone", {"message": str(error)}))
                    return
                except optuna.exceptions.StorageInternalError:  # busy; the next look may do
                    continue
                if news is not None:
                    _tell(watched, _event("update", news))
        finally:
            if self._watched.get(name) is watched:
                del self._watched[name]
            _tell(watched, None)

    async def _lines(self, name: str) -> AsyncIterator[bytes]:
        watched, queue = await self._look_at(name), asyncio.Queue[bytes | None](_MOST_BEHIND)
        watched.queues.add(queue)  # with nothing to wait for in between: nobody looks at a study without watchers
        try:
            if self.n_open > self._settings.max_streams:  # several began at once
                yield b"retry: 10000\n\n"
                return
            yield b"retry: 2000\n\n" + _event("picture", await to_thread.run_sync(watched.feed.picture))
            while True:
                try:
                    line = await asyncio.wait_for(queue.get(), _KEEP_ALIVE_S)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if line is None:
                    return
                if queue.full():  # too slow for every update
                    while not queue.empty():
                        if queue.get_nowait() is None:
                            return
                    line = _event("picture", await to_thread.run_sync(watched.feed.picture))
                yield line
        finally:
            watched.queues.discard(queue)


def _event(kind: str, value: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + json_bytes(value) + b"\n\n"


def _tell(watched: _Watched, line: bytes | None) -> None:
    for queue in watched.queues:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(line)
