"""How a study stands: trials by state, budget, best, rate, time left, workers; and its trials, one a row."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ..attributes import (
    BEST_EPOCH,
    BEST_VALUE,
    CHANGES,
    FAIL_REASON,
    NETWORK_LOST,
    OWNER,
    PARENT_TRIAL,
    RACE,
    TRAIN_SECONDS,
)
from ..insight.family import parent_name, warm_start_sentences, warm_start_table
from ..insight.words import aligned, shown
from ..optuna_private import id_of_study
from ..search.promotion import is_held, is_paused
from ..search.warm_start import configurations_by_trial, warm_start_of
from ..storage.addresses import masked
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec
from ..storage.overview import RunningTrial, read_leases
from ..storage.places import Place
from ..storage.studies import n_former_stages
from ..worker.best_network import best_trial
from ..worker.mirroring import trials_with_runs
from .family import open_family, open_parent

_RATE_TRIALS = 20
_FIXED = ("number", "state", "value", "best_value", "best_epoch", "epochs", "seconds")
_COLUMNS = frozenset({*_FIXED, PARENT_TRIAL, "warm_start", CHANGES, FAIL_REASON})


def study_status(home: Home, study: str) -> dict[str, Any]:
    """Return how a study stands, ready for JSON.

    ``best`` is None or has ``number``, ``value``, ``params`` as Optuna stores them, ``hyperparameters`` by their usual
    names, ``network``, the trained network's file, or None and in ``network_missing`` why. ``trials`` counts states;
    ``paused`` ones are waiting too. The ``budget`` of a champion's race is None. ``trials_per_minute`` is over the last
    trials, ``seconds_left`` at that rate. ``workers`` are those that hold a trial. ``copied`` is how many of a zoom's
    finished trials come from its parent.

    ``family``, empty for a study without zooms, has the search's studies, parents first, each with its ``parent`` or
    None, ``budget``, ``done``, ``copied`` and ``best``; ``family_best`` is the best of theirs with its ``study``.
    ``warm_start`` is as ``warm_start_table`` has it. Addresses are masked. ``former_stages``: how many
    ``[[search.stages]]`` the study's file had, if any.
    """
    return status_of(home, *open_existing(home, study))


def status_of(home: Home, storage: LeasedStorage, opened: optuna.Study) -> dict[str, Any]:
    """Return how an opened study stands, as ``study_status`` does."""
    spec = required_spec(opened)
    trials = opened.get_trials(deepcopy=False)
    own, counts = trials_with_runs(trials), _count_by_state(trials)
    members = open_family(storage, opened)
    family = [_describe_member(home, storage, member) for member in members] if len(members) > 1 else []
    found = [{"study": member["study"], **member["best"]} for member in family if member["best"] is not None]
    budget = None if RACE in opened.user_attrs else spec.search.trials
    rate, done = _trials_per_minute(own), counts["complete"] + counts["pruned"]
    return {
        "study": opened.study_name,
        "metric": spec.objective.metric,
        "direction": spec.objective.direction,
        "budget": budget,
        "trials": counts,
        "best": _describe_best(storage, opened, home),
        "trials_per_minute": rate,
        "seconds_left": None if rate is None or budget is None else round(60 * max(0, budget - done) / rate, 1),
        "workers": _describe_workers(read_leases(storage, id_of_study(opened)), trials, lease_s=spec.search.lease_s),
        "copied": len(trials) - len(own),
        "family": family,
        # Of equal ones the first study's: a zoom has copies of its parent's.
        "family_best": min(found, key=lambda best: spec.objective.direction.cost(best["value"]), default=None),
        "warm_start": warm_start_table(warm_start_of(opened), spec.space),
        "storage": masked(home.storage),
        "tracking_uri": masked(home.tracking_uri),
        **({"former_stages": n_stages} if (n_stages := n_former_stages(opened)) else {}),
    }


def _count_by_state(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    states = ("waiting", "running", "complete", "pruned", "fail")
    counts = {name: sum(trial.state.name == name.upper() for trial in trials) for name in states}
    return counts | {"paused": sum(is_paused(trial) or is_held(trial) for trial in trials)}


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
    there, trouble = _is_there(path)
    if NETWORK_LOST in trial.user_attrs:
        missing = f"it could not be saved: {trial.user_attrs[NETWORK_LOST]}"
    elif trouble is not None:
        missing = f"{path} cannot be looked for: {trouble}"
    elif trial is not best:
        missing = f"{path} does not exist: the trial was copied from trial {trial.number}, which was not the best there"
    else:
        where = "this home" if home.files == home.path else "these --files"
        missing = f"{path} was removed, or the trial was not run with {where}"
    return {
        "number": best.number,
        "value": best.value,
        "params": best.params,
        "hyperparameters": required_spec(study).space.hyperparameters(best.params),
        "network": str(path) if there else None,
        "network_missing": None if there else missing,
    }


def _is_there(path: Place) -> tuple[bool, str | None]:
    """Return whether a file exists, and why that cannot be told."""
    try:
        return path.exists(), None
    except OSError as error:
        return False, error.strerror or str(error)


def _describe_member(home: Home, storage: LeasedStorage, member: optuna.Study) -> dict[str, Any]:
    trials = member.get_trials(deepcopy=False)
    counts = _count_by_state(trials)
    return {
        "study": member.study_name,
        "parent": parent_name(member),
        "budget": required_spec(member).search.trials,
        "done": counts["complete"] + counts["pruned"],
        "copied": len(trials) - len(trials_with_runs(trials)),
        "best": _describe_best(storage, member, home),
    }


def _describe_workers(
    leases: Sequence[RunningTrial], trials: Sequence[FrozenTrial], *, lease_s: float
) -> list[dict[str, Any]]:
    workers = []
    for lease in {lease.owner: lease for lease in leases}.values():
        host, pid, _ = lease.owner.rsplit(":", 2)
        finished = sum(trial.state.is_finished() and trial.system_attrs.get(OWNER) == lease.owner for trial in trials)
        expires = lease.expires_at(lease_s).isoformat(timespec="seconds") + "Z"
        workers.append({"pid": int(pid), "host": host, "trials": finished, "lease_expires": expires})
    return workers


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """Return a status in words."""
    trials = status["trials"]
    states = ", ".join(f"{count} {state}" for state, count in trials.items() if count and state != "paused")
    copied = f"; {status['copied']} of them copied from its parent" if status["copied"] else ""
    done = trials["complete"] + trials["pruned"]
    of_all = f"{done} trainings of a race" if status["budget"] is None else f"{done} of {status['budget']} trials"
    lines = [f"{status['study']}: {of_all} done ({states or 'none yet'}{copied})"]
    lines += [_member_line(member, status["family"], status["metric"]) for member in status["family"]]
    if "former_stages" in status:
        lines.append(
            f"Its study file had {status['former_stages']} [[search.stages]], which caviar no longer runs. "
            f"To search further, use `caviar zoom {status['study']}`."
        )
    lines += warm_start_sentences(status["warm_start"])
    best = status["family_best"] or status["best"]
    if best is not None:
        where = f" of {best['study']}" if best.get("study") else ""
        lines.append(f"best {status['metric']} {best['value']:.4f}, trial {best['number']}{where}:")
        lines += [f"  {name} = {shown(value)}" for name, value in best["hyperparameters"].items()]
        lines.append(f"network {best['network']}" if best["network"] else f"no network: {best['network_missing']}")
    if status["trials_per_minute"] is not None and status["workers"]:
        left = "" if status["seconds_left"] is None else f", about {status['seconds_left']} s left"
        lines.append(f"{status['trials_per_minute']} trials a minute{left}")
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


def list_trials(home: Home, study: str) -> list[dict[str, Any]]:
    """Return a study's trials, by number.

    Each has ``number``, ``state``, Optuna's ``value``, ``best_value`` and ``best_epoch``, ``epochs`` reported,
    ``seconds`` of training, every hyperparameter by its name (``params_value``, as in Optuna's own table, if the name
    is that of a column), and ``fail_reason``. A zoom's copies have ``parent_trial``, their number in the parent. The
    first trials of a warm-started study have ``warm_start``, the study and the number of the trial they repeat.
    """
    return trials_of(open_existing(home, study)[1])


def trials_of(opened: optuna.Study) -> list[dict[str, Any]]:
    """Return an opened study's trials, as ``list_trials`` does."""
    space, warm = required_spec(opened).space, warm_start_of(opened)
    trials = opened.get_trials(deepcopy=False)
    taken = {} if warm is None else configurations_by_trial(warm, trials)
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "value": trial.value,
            "best_value": trial.user_attrs.get(BEST_VALUE),
            "best_epoch": trial.user_attrs.get(BEST_EPOCH),
            "epochs": len(trial.intermediate_values),
            "seconds": trial.user_attrs.get(TRAIN_SECONDS),
            **{f"params_{k}" if k in _COLUMNS else k: v for k, v in space.hyperparameters(trial.params).items()},
            **{key: value for key, value in trial.user_attrs.items() if key == PARENT_TRIAL},
            **({"warm_start": f"{c.study} {c.trial}"} if (c := taken.get(trial.number)) else {}),
            **({CHANGES: trial.user_attrs[CHANGES]} if CHANGES in trial.user_attrs else {}),
            "fail_reason": trial.user_attrs.get(FAIL_REASON),
        }
        for trial in trials
    ]


def trials_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV, with a header and a column for every key that any row has."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def trials_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table of aligned columns."""
    columns = [name for name in _columns(rows) if any(row.get(name) is not None for row in rows)]
    cells = [["" if row.get(name) is None else shown(row[name]) for name in columns] for row in rows]
    return "\n".join(aligned([columns, *cells], str.rjust))


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    drawn = dict.fromkeys(name for row in rows for name in row if name not in (*_FIXED, FAIL_REASON))
    return [*_FIXED, *drawn, FAIL_REASON]
