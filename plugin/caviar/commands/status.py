"""How a study stands: trials by state, budget, best, rate, time left, workers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..attributes import NETWORK_LOST, OWNER, PARENT_TRIAL, PAUSED
from ..insight.family import parent_name
from ..insight.warm_start import warm_start_sentences, warm_start_table
from ..insight.words import shown
from ..optuna_private import id_of_study
from ..search.warm_start import warm_start_of
from ..storage.addresses import masked
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec
from ..storage.overview import Lease, read_leases
from ..storage.studies import n_former_stages
from ..worker.best_network import best_trial
from ..worker.mirroring import trials_with_runs
from .family import open_family, open_parent

_RATE_TRIALS = 20


def study_status(home: Home, study: str) -> dict[str, Any]:
    """Return how a study stands, ready for JSON.

    Returns:
        ``study``, ``metric``, ``direction``, ``budget``;
        ``trials``: how many are in each state;
        ``best``, or None: ``number``, ``value``, ``params`` as Optuna stores them, ``hyperparameters`` by their usual
        names, ``network``, the trained network's file, or None and in ``network_missing`` why;
        ``trials_per_minute`` over the last trials, and ``seconds_left`` at that rate, or None;
        ``workers`` that hold a trial;
        ``copied``: how many of a zoom's finished trials come from its parent;
        ``family``, empty for a study without zooms: its studies, parents first, each with ``study``, ``parent``
        or None, ``budget``, ``done``, ``copied`` and ``best`` as above;
        ``family_best``: the best of theirs with its ``study``, or None;
        ``warm_start``: what it took over from another study, as ``warm_start_table`` has it, or None;
        ``storage`` and ``tracking_uri``, masked;
        ``former_stages``: how many ``[[search.stages]]`` its file had, if any.
    """
    return status_of(home, *open_existing(home, study))


def status_of(home: Home, storage: LeasedStorage, opened: optuna.Study) -> dict[str, Any]:
    """Return how an opened study stands, as ``study_status`` does."""
    spec = required_spec(opened)
    trials = opened.get_trials(deepcopy=False)
    counts = _count_by_state(trials)
    members = open_family(storage, opened)
    family = [_describe_member(home, storage, member) for member in members] if len(members) > 1 else []
    rate = _trials_per_minute(trials_with_runs(trials))
    left = max(0, spec.search.trials - counts["complete"] - counts["pruned"])
    return {
        "study": opened.study_name,
        "metric": spec.objective.metric,
        "direction": spec.objective.direction,
        "budget": spec.search.trials,
        "trials": counts,
        "best": _describe_best(storage, opened, home),
        "trials_per_minute": rate,
        "seconds_left": None if rate is None else round(60 * left / rate, 1),
        "workers": _describe_workers(read_leases(storage, id_of_study(opened)), trials, lease_s=spec.search.lease_s),
        "copied": _n_copied(trials),
        "family": family,
        "family_best": _best_of(family, minimize=spec.objective.direction == "minimize"),
        "warm_start": warm_start_table(warm_start_of(opened), spec.space),
        "storage": masked(home.storage),
        "tracking_uri": masked(home.tracking_uri),
        **({"former_stages": n_stages} if (n_stages := n_former_stages(opened)) else {}),
    }


def _count_by_state(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Return how many trials are waiting, running, complete, pruned, fail; and paused, which are waiting too."""
    counts = dict.fromkeys(("waiting", "running", "complete", "pruned", "fail"), 0)
    for trial in trials:
        counts[trial.state.name.lower()] += 1
    paused = sum(trial.state == TrialState.WAITING and PAUSED in trial.system_attrs for trial in trials)
    return counts | {"paused": paused}


def _trials_per_minute(trials: Sequence[FrozenTrial]) -> float | None:
    """Return the rate at which the last trials ended; None before the second one."""
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete is not None)
    if len(ends) < 2:
        return None
    recent = ends[-_RATE_TRIALS:]
    seconds = (recent[-1] - recent[0]).total_seconds()
    return None if seconds <= 0 else round(60 * (len(recent) - 1) / seconds, 2)


def _describe_best(storage: LeasedStorage, study: optuna.Study, home: Home) -> dict[str, Any] | None:
    """Return the best complete trial; None before the first. If a zoom copied it, its network is the parent's."""
    best = best_trial(study)
    if best is None:
        return None
    origin, trial = study, best
    while (copied := trial.user_attrs.get(PARENT_TRIAL)) is not None:
        parent = open_parent(storage, origin)
        if parent is None:
            break
        origin, trial = parent, parent.get_trials(deepcopy=False)[copied]
    path = home.networks / origin.study_name / f"{trial.number}.keras"
    return {
        "number": best.number,
        "value": best.value,
        "params": best.params,
        "hyperparameters": required_spec(study).space.hyperparameters(best.params),
        "network": str(path) if path.exists() else None,
        "network_missing": None if path.exists() else _why_missing(trial, path, is_copy=trial is not best),
    }


def _describe_member(home: Home, storage: LeasedStorage, member: optuna.Study) -> dict[str, Any]:
    trials = member.get_trials(deepcopy=False)
    counts = _count_by_state(trials)
    return {
        "study": member.study_name,
        "parent": parent_name(member),
        "budget": required_spec(member).search.trials,
        "done": counts["complete"] + counts["pruned"],
        "copied": _n_copied(trials),
        "best": _describe_best(storage, member, home),
    }


def _best_of(family: Sequence[Mapping[str, Any]], *, minimize: bool) -> dict[str, Any] | None:
    """Return the best trial of a family; of equal ones the first study's, since a zoom has copies of its parent's."""
    found = [{"study": member["study"], **member["best"]} for member in family if member["best"] is not None]
    return min(found, key=lambda best: best["value"] if minimize else -best["value"], default=None)


def _n_copied(trials: Sequence[FrozenTrial]) -> int:
    return len(trials) - len(trials_with_runs(trials))


def _why_missing(trial: FrozenTrial, path: Path, *, is_copy: bool) -> str:
    if NETWORK_LOST in trial.user_attrs:
        return f"it could not be saved: {trial.user_attrs[NETWORK_LOST]}"
    if is_copy:
        return f"{path} does not exist: the trial was copied from trial {trial.number}, which was not the best there"
    return f"{path} was removed, or the trial was not run with this home"


def _describe_workers(
    leases: Sequence[Lease], trials: Sequence[FrozenTrial], *, lease_s: float
) -> list[dict[str, Any]]:
    workers: dict[str, dict[str, Any]] = {}
    for lease in leases:
        host, pid, _ = lease.owner.rsplit(":", 2)
        finished = sum(trial.state.is_finished() and trial.system_attrs.get(OWNER) == lease.owner for trial in trials)
        workers[lease.owner] = {
            "pid": int(pid),
            "host": host,
            "trials": finished,
            "lease_expires": lease.expires_at(lease_s).isoformat(timespec="seconds") + "Z",
        }
    return list(workers.values())


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """Return a status in words."""
    trials = status["trials"]
    states = ", ".join(f"{count} {state}" for state, count in trials.items() if count and state != "paused")
    copied = f"; {status['copied']} of them copied from its parent" if status["copied"] else ""
    done = trials["complete"] + trials["pruned"]
    lines = [f"{status['study']}: {done} of {status['budget']} trials done ({states or 'none yet'}{copied})"]
    lines += [_member_line(member, status["family"], status["metric"]) for member in status["family"]]
    if "former_stages" in status:
        lines.append(
            f"Its study file had {status['former_stages']} [[search.stages]], which caviar no longer runs. "
            f"To search further, use `caviar zoom {status['study']}`."
        )
    if status["warm_start"] is not None:
        lines += warm_start_sentences(status["warm_start"])
    best = status["family_best"] or status["best"]
    if best is not None:
        where = f" of {best['study']}" if best.get("study") else ""
        lines.append(f"best {status['metric']} {best['value']:.4f}, trial {best['number']}{where}:")
        lines += [f"  {name} = {shown(value)}" for name, value in best["hyperparameters"].items()]
        lines.append(
            f"no network: {best['network_missing']}" if best["network"] is None else f"network {best['network']}"
        )
    if status["trials_per_minute"] is not None and status["workers"]:
        lines.append(f"{status['trials_per_minute']} trials a minute, about {status['seconds_left']} s left")
    lines += [f"worker {worker['pid']} on {worker['host']}: {worker['trials']} trials" for worker in status["workers"]]
    return [*lines, f"storage {status['storage']}", f"tracking {status['tracking_uri']}"]


def _member_line(member: Mapping[str, Any], family: Sequence[Mapping[str, Any]], metric: str) -> str:
    parents = {one["study"]: one["parent"] for one in family}
    depth, name = 0, member["study"]
    while depth < len(family) and (name := parents.get(name)) in parents:  # a circle of links is cut
        depth += 1
    best = "" if member["best"] is None else f", best {metric} {member['best']['value']:.4f}"
    new = f"{member['done'] - member['copied']} of {member['budget'] - member['copied']}"
    return f"{'  ' * depth}{'↳ ' if depth else ''}{member['study']}: {new} trials{best}"
