"""The trials that matter in optuna-dashboard: a note with rounded figures, and pictures of what each learned.

The dashboard shows a trial's attributes as they are stored, curves with all their digits. So the best trial, the
champion's and the last ones that failed get a note for people. There are a dozen at most: every process that opens the
study reads all notes.
"""

import html
import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from ..attributes import BEST_EPOCH, CURVES, FAIL_REASON, TRAIN_SECONDS
from ..optuna_private import id_of_trial
from ..space import SearchSpace
from ..storage.places import Place, artifact_store
from .dashboard_private import keep_for_trial, note_of_trial, note_trial
from .showing import merged_note
from .words import duration, shown

_logger = logging.getLogger(__name__)

_N_FAILED: Final = 5
_COLORS: Final = {"accuracy": "#9db7c9", "val_accuracy": "#2b6c8f", "loss": "#f0cd90", "val_loss": "#d98e04"}


def note_trials(
    study: optuna.Study,
    best: int | None,
    *,
    space: SearchSpace,
    metric: str,
    network: Path | None,
    champion: Mapping[str, Any] | None,
    artifacts: Place,
) -> list[int]:
    """Give the trials that matter a note and artifacts in optuna-dashboard, in place of earlier ones.

    Args:
        study: In a storage of Optuna's.
        best: The number of the best trial; None if there is none.
        space: Gives the hyperparameters as the user thinks of them.
        metric: The objective's.
        network: The best trial's saved network, which is summed up; None if there is none.
        champion: What ``champion.json`` says; None without a champion.
        artifacts: The dashboard's directory or store, created if it is missing.

    Returns:
        The trials' numbers.
    """
    trials = study.get_trials(deepcopy=False)
    winner = None if champion is None else int(champion["race"]["winner"])
    failed = [trial.number for trial in trials if trial.state == TrialState.FAIL][-_N_FAILED:]
    numbers = sorted({*failed, *([best] if best is not None else []), *([winner] if winner is not None else [])})
    for trial in (trials[number] for number in numbers if number < len(trials)):
        lines = _note(trial, space, metric, title=_title(trial, best, winner))
        if trial.number == best and network is not None:
            lines += ["", "### Network", "", *network_summary(network)]
        if trial.number == winner and champion is not None:
            lines += ["", "### Test of the champion", "", *_confusion(champion)]
        try:
            before = note_of_trial(study, id_of_trial(trial))
            ours = merged_note(before, "\n".join(lines), "report", replaced="by the next report")
            if ours != before:
                note_trial(study, id_of_trial(trial), ours)
            picture = curves_svg(trial.user_attrs.get(CURVES) or {})
            if picture:
                _keep(study, trial, f"trial-{trial.number}-curves.svg", picture, artifacts)
        except (OSError, StorageInternalError) as error:
            _logger.warning("Trial %d could not be annotated in optuna-dashboard: %s", trial.number, error)
    return numbers


def _title(trial: FrozenTrial, best: int | None, winner: int | None) -> str:
    if trial.number == winner:
        return "The champion's trial" + (", the best of the search" if winner == best else "")
    return "The best trial" if trial.number == best else "Failed"


def _note(trial: FrozenTrial, space: SearchSpace, metric: str, *, title: str) -> list[str]:
    """Return a note's lines: Markdown, figures with four digits."""
    lines = [f"## {title}", ""]
    if trial.state == TrialState.FAIL:
        lines += [f"It failed: {html.escape(str(trial.user_attrs.get(FAIL_REASON, 'no reason was kept')))}", ""]
    if trial.value is not None:
        epoch = trial.user_attrs.get(BEST_EPOCH)
        lines += [f"{metric} **{shown(trial.value)}**" + (f" after epoch {epoch + 1}" if epoch is not None else ""), ""]
    if TRAIN_SECONDS in trial.user_attrs:
        lines += [f"Training took {duration(trial.user_attrs[TRAIN_SECONDS])}.", ""]
    if trial.params:
        lines += ["| hyperparameter | value |", "|---|---|"]
        lines += [f"| {name} | {shown(value)} |" for name, value in space.hyperparameters(trial.params).items()]
    return lines


def network_summary(path: Path) -> list[str]:
    """Return a saved network's layers as a Markdown table, read from its file without loading Keras."""
    try:
        with zipfile.ZipFile(path) as file:
            layers: Sequence[Mapping[str, Any]] = json.loads(file.read("config.json"))["config"].get("layers", [])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ["Its file cannot be read."]
    rows = []
    for layer in layers:
        config = layer.get("config", {})
        keys = ("units", "filters", "kernel_size", "rate", "activation", "momentum")
        said = {key: config[key] for key in keys if isinstance(config.get(key), str | int | float | list)}
        rows.append(f"| {layer.get('class_name', '')} | {', '.join(f'{key} {shown(said[key])}' for key in said)} |")
    return ["| layer | settings |", "|---|---|", *rows]


def _confusion(champion: Mapping[str, Any]) -> list[str]:
    """Return a champion's accuracy on its test split, and which class it takes for which."""
    classes, rows = [html.escape(str(name)) for name in champion["classes"]], champion["test"]["confusion"]
    lines = [f"Test accuracy **{shown(champion['test']['accuracy'][0])}**, measured once after the race.", ""]
    if len(classes) > 20:
        return lines
    lines += [f"| is ↓, taken for → | {' | '.join(classes)} |", f"|---|{'---|' * len(classes)}"]
    return lines + [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(classes, rows, strict=True)]


def curves_svg(curves: Mapping[str, Sequence[float]]) -> str:
    """Return a trial's learning curves as a picture, losses below accuracies; empty without an epoch."""
    groups = [[name for name in curves if name.endswith(end) and curves[name]] for end in ("accuracy", "loss")]
    panels = [_panel(curves, names, top=20 + 190 * place) for place, names in enumerate(filter(None, groups))]
    if not panels:
        return ""
    height = 30 + 190 * len(panels)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 520 {height}" font-family="sans-serif" font-size="11">'
    )
    return f'{head}<rect width="520" height="{height}" fill="white"/>{"".join(panels)}</svg>\n'


def _panel(curves: Mapping[str, Sequence[float]], names: Sequence[str], *, top: int) -> str:
    values = [value for name in names for value in curves[name]]
    low, high, n = min(values), max(values), max(len(curves[name]) for name in names)
    parts = [f'<path d="M60 {top}V{top + 140}H500" fill="none" stroke="#888"/>']
    for value, y in ((high, top), (low, top + 140)):
        parts.append(f'<text x="54" y="{y + 4}" text-anchor="end">{shown(float(value))}</text>')
    parts.append(f'<text x="500" y="{top + 156}" text-anchor="end">epoch {n}</text>')
    for place, name in enumerate(names):
        points = " ".join(
            f"{60 + 440 * step / max(n - 1, 1):.1f},{top + 140 - 140 * (value - low) / ((high - low) or 1):.1f}"
            for step, value in enumerate(curves[name])
        )
        color = _COLORS.get(name, "#24313a")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.6"/>')
        parts.append(f'<text x="{70 + 120 * place}" y="{top - 6}" fill="{color}">{html.escape(name)}</text>')
    return "".join(parts)


def _keep(study: optuna.Study, trial: FrozenTrial, name: str, text: str, artifacts: Place) -> None:
    store = artifact_store(artifacts)
    keep_for_trial(study, id_of_trial(trial), name=name, content=text.encode(), store=store)
