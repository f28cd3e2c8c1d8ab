"""The report in optuna-dashboard: a note, the page to download, and the pictures that it cannot draw itself.

The dashboard knows single studies: a search from coarse to fine is shown with each study that it is made of.
"""

import html
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.exceptions import ExperimentalWarning

from .lineage import Member
from .report import Report

_logger = logging.getLogger(__name__)

# Markdown's way to write what is not shown; the dashboard shows HTML comments as text.
_BEGIN = "[//]: # (caviar report: what stands from here to its end is replaced by the next report)"
_END = "[//]: # (end of the caviar report)"
_FAMILY_BEGIN = "[//]: # (caviar search: what stands from here to its end is replaced after the next zoom)"
_FAMILY_END = "[//]: # (end of the caviar search)"
#: The dashboard's cards for pictures have one height, and cut off what is higher.
_CARD_HEIGHT = 440


def show_in_dashboard(study: optuna.Study, report: Report, *, page: Path, artifacts: Path) -> None:
    """Show a report in optuna-dashboard; a later one takes its place, and what the user noted there stays.

    Args:
        study: Of the report.
        report: The report.
        page: The file of ``report.render_html``.
        artifacts: The dashboard's artifact directory; created where it is missing.
    """
    import plotly.graph_objects as go
    from optuna_dashboard import get_note, save_note

    save_note(study, _joined(get_note(study), _note(report), begin=_BEGIN, end=_END))
    if "importance" in report.figures:
        figure = go.Figure(report.figures["importance"])
        _save_picture(study, "importance", "Importance against the course's tiers", figure)
    try:
        _keep(study, page, artifacts)
    except OSError as error:
        _logger.warning("The report could not be kept among the study's artifacts: %s", error)


def show_search_in_dashboard(study: optuna.Study, members: Sequence[Member], *, metric: str) -> None:
    """Show a search from coarse to fine with one of its studies: its history, its ranges, and the way to the others.

    Args:
        study: Any of the family.
        members: The family, as ``lineage.read_lineage`` gives it; nothing is shown of a study alone.
        metric: Which is optimised.
    """
    if not members:
        return
    from optuna_dashboard import get_note, save_note

    from . import figures

    note = _joined(get_note(study), _search_note(members, metric), begin=_FAMILY_BEGIN, end=_FAMILY_END)
    save_note(study, note)
    pictures = {
        "search": ("The whole search, from coarse to fine", figures.search_figure(members, metric=metric)),
        "zooms": ("What each study searched", figures.zooms_figure(members, columns=2, height=_CARD_HEIGHT)),
    }
    for name, (title, figure) in pictures.items():
        if figure is not None:
            _save_picture(study, name, title, figure)


def _save_picture(study: optuna.Study, name: str, title: str, figure: Any) -> None:
    """Save a picture with a study: only what the dashboard lacks, since every process that opens it reads them."""
    from optuna_dashboard import save_plotly_graph_object

    figure.update_layout(title={"text": title, "x": 0.02, "y": 0.97}, margin_t=80)
    figure.update_layout(height=min(figure.layout.height, _CARD_HEIGHT))
    save_plotly_graph_object(study, figure, graph_object_id=f"caviar-{name}")


def _keep(study: optuna.Study, page: Path, artifacts: Path) -> None:
    artifacts.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(base_path=artifacts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        known = [meta for meta in get_all_artifact_meta(study) if meta.filename == page.name]
        if not known:
            upload_artifact(study_or_trial=study, file_path=str(page), artifact_store=store)
    for meta in known[:1]:  # uploading again would add one more
        with page.open("rb") as file:
            store.write(meta.artifact_id, file)


def _joined(note: str, ours: str, *, begin: str, end: str) -> str:
    """Return the user's note with our part in it, where it stood before or at the end."""
    before, found, rest = note.partition(begin)
    after = rest.partition(end)[2] if found else ""
    return "\n\n".join(part for part in (before.strip(), f"{begin}\n\n{ours}\n\n{end}", after.strip()) if part)


def _search_note(members: Sequence[Member], metric: str) -> str:
    lines = ["## One search, from coarse to fine", ""]
    for member in members:
        found = "no complete trial" if member.best_value is None else f"best {metric} {member.best_value:.4f}"
        here = " (this one)" if member.is_current else ""
        address = f"/dashboard/studies/{member.study_id}"
        told = f"[{html.escape(member.name)}]({address}){here}: {member.n_trials} trials, {found}"
        lines.append(f"{'  ' * member.generation}- {told}")
    together = ",".join(str(member.study_id) for member in members)
    lines += ["", f"[Their histories side by side](/dashboard/compare-studies?ids={together})"]
    return "\n".join(lines)


def _note(report: Report) -> str:
    lines = [f"## Report of {report.made_at.replace('T', ' ').replace('+00:00', ' UTC')}", ""]
    if report.top:
        best = report.top[0]
        lines.append(f"Best {report.metric} **{best['value']:.4f}**, trial {best['number']}.")
    lines += ["", "### Importance against the course's tiers", ""]
    lines += [f"- {sentence}" for sentence in report.importance["sentences"]]
    if report.advice:
        lines += ["", "### What to try next", ""]
        for number, step in enumerate(report.advice, 1):
            change = f" `{step['change']}`" if step["change"] else ""
            lines.append(f"{number}. **{step['title']}.** {step['evidence']}{change}")
    lines += ["", f"The whole report, with its pictures, is the artifact `{report.study}.html` of this study."]
    return "\n".join(lines)
