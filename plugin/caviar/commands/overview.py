"""One study, and the home's health, as the service's pages show them."""

import contextlib
import dataclasses
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..attributes import BEST_VALUE, CHANGES, FAIL_REASON
from ..champion.standing import read_description
from ..health.doctor import examine, is_healthy
from ..optuna_private import id_of_study, id_of_trial
from ..search.promotion import is_held, is_paused
from ..spec import StudySpec
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.overview import read_leases
from ..storage.studies import stored_spec
from .family import charts_link
from .status import status_of

_N_TOP: Final = 10


def show_study(home: Home, storage: LeasedStorage, study: optuna.Study) -> dict[str, Any]:
    """Return what a study's page shows, ready for JSON.

    Returns:
        ``study``, ``id``, ``status`` as ``study_status`` has it, or None without a study file; ``running`` and
        ``top``, the best complete trials: for each ``number``, ``epoch``, ``epochs``, ``value``, ``hyperparameters``
        and ``worker``; ``failed``: the last reasons; ``epochs``; ``champion``: what is known of it, or None;
        ``report``: whether there is one; ``paused``: the numbers of the trials that wait until they are resumed;
        ``changes``: number and words of the last trials that were changed by hand.
    """
    spec = stored_spec(study)
    trials = study.get_trials(deepcopy=False)
    holders = {lease.trial_id: lease.owner for lease in read_leases(storage, id_of_study(study))}
    maximize = study.directions[0] == optuna.study.StudyDirection.MAXIMIZE

    def row(trial: FrozenTrial) -> dict[str, Any]:
        reported = trial.intermediate_values
        last = max(reported, default=None)
        value = values.get(trial.number, None if last is None else reported[last])
        return {
            "number": trial.number,
            "epoch": 0 if last is None else last + 1,
            "value": value,
            "best_value": trial.user_attrs.get(BEST_VALUE),
            "hyperparameters": _drawn(spec, trial),
            "worker": holders.get(id_of_trial(trial)),
        }

    values = {trial.number: trial.values[0] for trial in trials if trial.state == TrialState.COMPLETE and trial.values}
    best = sorted(values, key=lambda number: (-values[number] if maximize else values[number], number))
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    return {
        "study": study.study_name,
        "id": id_of_study(study),
        "status": None if spec is None else status_of(home, storage, study),
        "trials": len(trials),
        "epochs": None if spec is None else spec.objective.epochs,
        "running": [row(trial) for trial in trials if trial.state == TrialState.RUNNING],
        "top": [row(trials[number]) for number in best[:_N_TOP]],
        "failed": [
            {"number": trial.number, "reason": trial.user_attrs.get(FAIL_REASON, "no reason is known")}
            for trial in failed[-3:]
        ],
        "paused": [trial.number for trial in trials if is_held(trial) or is_paused(trial)],
        "changes": [
            {"number": trial.number, "words": trial.user_attrs[CHANGES]}
            for trial in trials
            if CHANGES in trial.user_attrs
        ][-_N_TOP:],
        "champion": _champion(home, study.study_name),
        "report": _has_report(home, study.study_name),
    }


def _drawn(spec: StudySpec | None, trial: FrozenTrial) -> dict[str, Any]:
    """Return the hyperparameters that were drawn for a trial, by their usual names."""
    if spec is None:
        return dict(trial.params)
    named = spec.space.hyperparameters(trial.params)
    return {name: value for name, value in named.items() if name not in spec.space.fixed}


def _champion(home: Home, study: str) -> dict[str, Any] | None:
    """Return what a study's champion is known to reach, or None if there is none that can be read."""
    try:
        table = read_description(home.champions, study)
        accuracy, low, high = table["test"]["accuracy"]
        return {
            "winner": table["race"]["winner"],
            "metric": table["race"]["metric"],
            "confirmed": table["race"]["confirmed"],
            "accuracy": [accuracy, low, high],
            "n_tested": table["test"]["n"],
            "input": table["input"]["kind"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _has_report(home: Home, study: str) -> bool:
    with contextlib.suppress(OSError):  # a store elsewhere that is away
        return home.report_files(study)[0].exists()
    return False


def home_health(home: Home) -> dict[str, Any]:
    """Return what `caviar doctor` finds: ``healthy``, and ``findings`` with each one's attributes."""
    findings = examine(home)
    return {"healthy": is_healthy(findings), "findings": [dataclasses.asdict(finding) for finding in findings]}


def mlflow_link(home: Home, storage: LeasedStorage, study: optuna.Study) -> str | None:
    """Return where the service's MLflow shows a study's charts; None when MLflow is down, or the study has no file."""
    return None if stored_spec(study) is None else charts_link(home, storage, study, pages="/mlflow")
