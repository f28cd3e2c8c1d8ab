"""The report in optuna-dashboard: a note, the page to download, and the pictures that it cannot draw itself.

The dashboard knows only single studies, so a search from coarse to fine is shown with each study of its family.
"""

import html
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from ..storage.places import Place, artifact_store
from .family import Member
from .report import Report

_logger = logging.getLogger(__name__)

# Markdown's way to write what is not shown: the dashboard shows HTML comments as text. Notes that are stored have these
# words, so they never change.
_FROM_HERE = "[//]: # (caviar {}: what stands from here to its end is replaced {})"
_TO_HERE = "[//]: # (end of the caviar {})"
#: The dashboard's cards for pictures all have this height, and cut off the rest.
_CARD_HEIGHT = 440


def show_in_dashboard(study: optuna.Study, report: Report, *, page: Path, artifacts: Place) -> None:
    """Show a report in optuna-dashboard, in place of an earlier one; what the user noted there stays.

    ``page`` is the report's file, ``artifacts`` the dashboard's directory or store, created if it is missing.
    """
    import plotly.graph_objects as go

    _save_note(study, _report_note(report), "report", replaced="by the next report")
    if "importance" in report.figures:
        figure = go.Figure(report.figures["importance"])
        _save_picture(study, "importance", "Importance against the course's tiers", figure)
    try:
        _keep(study, page, artifacts)
    except OSError as error:
        _logger.warning("The report could not be stored among the study's artifacts: %s", error)


def show_family_in_dashboard(study: optuna.Study, members: Sequence[Member], *, metric: str) -> None:
    """Show a search from coarse to fine with one of its studies: its history, its ranges, and links to the others."""
    from .figures import family_figures

    _save_note(study, _family_note(members, metric), "search", replaced="after the next zoom")
    titles = {"search": "The whole search, from coarse to fine", "zooms": "What each study searched"}
    for name, figure in family_figures(members, metric=metric).items():
        if figure is not None:
            _save_picture(study, name, titles[name], figure)


def _save_note(study: optuna.Study, ours: str, what: str, *, replaced: str) -> None:
    from optuna_dashboard import get_note, save_note

    save_note(study, merged_note(get_note(study), ours, what, replaced=replaced))


def merged_note(note: str, ours: str, what: str, *, replaced: str) -> str:
    """Return the user's note with our part between two marks, where it stood before or at the end."""
    begin, end = _FROM_HERE.format(what, replaced), _TO_HERE.format(what)
    before, found, rest = note.partition(begin)
    after = rest.partition(end)[2] if found else ""
    parts = (before.strip(), f"{begin}\n\n{ours}\n\n{end}", after.strip())
    return "\n\n".join(part for part in parts if part)


def _save_picture(study: optuna.Study, name: str, title: str, figure: Any) -> None:
    """Save a picture with a study: only what the dashboard lacks, since every process that opens it reads them."""
    from optuna_dashboard import save_plotly_graph_object

    figure.update_layout(title={"text": title, "x": 0.02, "y": 0.97}, margin_t=80)
    figure.update_layout(height=min(figure.layout.height, _CARD_HEIGHT))
    save_plotly_graph_object(study, figure, graph_object_id=f"caviar-{name}")


def _keep(study: optuna.Study, page: Path, artifacts: Place) -> None:
    from optuna.artifacts import get_all_artifact_meta, upload_artifact  # boto3 with it, where that is installed

    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        store = artifact_store(artifacts)
        known = [meta for meta in get_all_artifact_meta(study) if meta.filename == page.name]
        if not known:
            upload_artifact(study_or_trial=study, file_path=str(page), artifact_store=store)
    for meta in known[:1]:  # uploading again would add one more
        with page.open("rb") as file:
            store.write(meta.artifact_id, file)


def _family_note(members: Sequence[Member], metric: str) -> str:
    lines = ["## One search, from coarse to fine", ""]
    for member in members:
        found = "no complete trial" if member.best_value is None else f"best {metric} {member.best_value:.4f}"
        link = f"[{html.escape(member.name)}](/dashboard/studies/{member.study_id})"
        here = " (this one)" if member.is_current else ""
        lines.append(f"{'  ' * member.generation}- {link}{here}: {member.n_trials} trials, {found}")
    together = ",".join(str(member.study_id) for member in members)
    lines += ["", f"[Their histories side by side](/dashboard/compare-studies?ids={together})"]
    return "\n".join(lines)


def _report_note(report: Report) -> str:
    lines = [f"## Report of {report.made_at.replace('T', ' ').replace('+00:00', ' UTC')}", ""]
    lines += [f"Best {report.metric} **{best['value']:.4f}**, trial {best['number']}." for best in report.top[:1]]
    lines += ["", "### Importance against the course's tiers", ""]
    lines += [f"- {sentence}" for sentence in report.importance["sentences"]]
    if report.advice:
        lines += ["", "### What to try next", ""]
        for number, step in enumerate(report.advice, 1):
            change = f" `{step['change']}`" if step["change"] else ""
            lines.append(f"{number}. **{step['title']}.** {step['evidence']}{change}")
    lines += ["", f"The whole report, with its pictures, is the artifact `{report.study}.html` of this study."]
    return "\n".join(lines)
