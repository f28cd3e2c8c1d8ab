"""A study's trials, one a row."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ..attributes import BEST_EPOCH, BEST_VALUE, FAIL_REASON, PARENT_TRIAL, TRAIN_SECONDS
from ..insight.words import aligned, shown
from ..search.warm_start import configurations_by_trial, warm_start_of
from ..storage.home import Home
from ..storage.opening import open_existing, required_spec

_FIXED = ("number", "state", "value", "best_value", "best_epoch", "epochs", "seconds")
_COLUMNS = frozenset({*_FIXED, PARENT_TRIAL, "warm_start", FAIL_REASON})


def list_trials(home: Home, study: str) -> list[dict[str, Any]]:
    """Return a study's trials, by number.

    Each has ``number``, ``state``, Optuna's ``value``, ``best_value`` and ``best_epoch``, ``epochs`` reported,
    ``seconds`` of training, every hyperparameter by its name (``params_value``, as in Optuna's own table, if the name
    is that of a column), and ``fail_reason``. A zoom's copies have ``parent_trial``, their number in the parent. The
    first trials of a warm-started study have ``warm_start``, the study and the number of the trial they repeat.
    """
    _, opened = open_existing(home, study)
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
