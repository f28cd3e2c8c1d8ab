"""A study's trials, one a row."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from ..attributes import BEST_EPOCH, BEST_VALUE, FAIL_REASON, PARENT_TRIAL, TRAIN_SECONDS
from ..insight.words import shown
from ..search.warm_start import configurations_by_trial, warm_start_of
from ..storage.home import Home
from ..storage.opening import open_existing, required_spec

_FIXED = ("number", "state", "value", "best_value", "best_epoch", "epochs", "seconds")
_COLUMNS = frozenset({*_FIXED, PARENT_TRIAL, "warm_start", FAIL_REASON})


def list_trials(home: Home, study: str) -> list[dict[str, Any]]:
    """Return a study's trials, by number.

    Returns:
        For each trial ``number``, ``state``, Optuna's ``value``, ``best_value`` and ``best_epoch``, ``epochs``
        reported, ``seconds`` of training, every hyperparameter by its name (``params_value`` if the name is that of a
        column), and ``fail_reason``. A zoom's copies have ``parent_trial``, their number in the parent. The first
        trials of a warm-started study have ``warm_start``, the study and the number of the trial they repeat.
    """
    _, opened = open_existing(home, study)
    return trials_of(opened)


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
            **_named_apart(space.hyperparameters(trial.params)),
            **({PARENT_TRIAL: trial.user_attrs[PARENT_TRIAL]} if PARENT_TRIAL in trial.user_attrs else {}),
            **({"warm_start": f"{c.study} {c.trial}"} if (c := taken.get(trial.number)) else {}),
            "fail_reason": trial.user_attrs.get(FAIL_REASON),
        }
        for trial in trials
    ]


def _named_apart(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters under names that no other column has, as in Optuna's own table."""
    return {f"params_{name}" if name in _COLUMNS else name: value for name, value in hyperparameters.items()}


def trials_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV, with a header and a column for every key that any row has."""
    columns = _columns(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def trials_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table of aligned columns."""
    columns = [name for name in _columns(rows) if any(row.get(name) is not None for row in rows)]
    cells = [["" if row.get(name) is None else shown(row[name]) for name in columns] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    lines = [
        "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in (columns, *cells)
    ]
    return "\n".join(lines)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    drawn = dict.fromkeys(name for row in rows for name in row if name not in (*_FIXED, FAIL_REASON))
    return [*_FIXED, *drawn, FAIL_REASON]
