"""The report in optuna-dashboard: a note, the page to download, and the pictures that it cannot draw itself."""

import logging
import warnings
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.exceptions import ExperimentalWarning

from .report import Report

_logger = logging.getLogger(__name__)

# Markdown's way to write what is not shown; the dashboard shows HTML comments as text.
_BEGIN = "[//]: # (caviar report: what stands from here to its end is replaced by the next report)"
_END = "[//]: # (end of the caviar report)"
#: Only what the dashboard lacks, and a few kB each: every process that opens the study reads them.
_PICTURES = {"importance": "Importance against the course's tiers", "zooms": "Zooms, from coarse to fine"}


def show_in_dashboard(study: optuna.Study, report: Report, *, page: Path, artifacts: Path) -> None:
    """Show a report in optuna-dashboard; a later one takes its place, and what the user noted there stays.

    Args:
        study: Of the report.
        report: The report.
        page: The file of ``report.render_html``.
        artifacts: The dashboard's artifact directory; created where it is missing.
    """
    import plotly.graph_objects as go
    from optuna_dashboard import get_note, save_note, save_plotly_graph_object

    save_note(study, _joined(get_note(study), _note(report)))
    for name, title in _PICTURES.items():
        if name in report.figures:
            figure = go.Figure(report.figures[name])
            figure.update_layout(title={"text": title, "x": 0.02, "y": 0.97}, margin_t=80)
            save_plotly_graph_object(study, figure, graph_object_id=f"caviar-{name}")
    try:
        _keep(study, page, artifacts)
    except OSError as error:
        _logger.warning("The report could not be kept among the study's artifacts: %s", error)


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


def _joined(note: str, ours: str) -> str:
    """Return the user's note with our part in it, where it stood before or at the end."""
    before, begin, rest = note.partition(_BEGIN)
    after = rest.partition(_END)[2] if begin else ""
    return "\n\n".join(part for part in (before.strip(), f"{_BEGIN}\n\n{ours}\n\n{_END}", after.strip()) if part)


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
