"""The report on a study: written below the home, and shown in optuna-dashboard and MLflow."""

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Mapping
from typing import Any

import optuna

from ..champion.standing import read_description
from ..errors import StorageError
from ..insight.family import Member, family_members
from ..insight.page import as_json
from ..insight.report import Report, build_report, render_html
from ..insight.showing import show_family_in_dashboard, show_in_dashboard
from ..insight.trial_notes import note_trials
from ..storage.home import Home, prepare_home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec
from ..storage.places import Place, local_copy, write_at
from ..storage.studies import check_still_there, open_study
from ..worker.opening import open_mirror
from .family import open_family
from .sync import local_network, log_best_network


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """A report, and where it was written: as a page and as data.

    ``in_mlflow`` is the trial whose run in MLflow holds both files, the study's best that is no copy; None if MLflow
    is down or lacks the run.
    """

    report: Report
    html: Place
    json: Place
    in_mlflow: int | None


def report_study(home: Home, study: str) -> WrittenReport:
    """Write a report on a study, in place of an earlier one.

    The page and its data are written below the home. In optuna-dashboard, the study gets a note, the page as an
    artifact, and the pictures that the dashboard lacks. In MLflow, the best trial's run gets both files.

    Raises:
        StorageError: If there is no such study, or its home cannot be written.
    """
    storage, opened = open_existing(home, study)
    spec = required_spec(opened)
    family = read_family(storage, opened)
    now = datetime.datetime.now(datetime.UTC)
    report = build_report(opened, spec, family=family, cores=os.cpu_count() or 1, now=now)
    prepare_home(home)
    html, data = home.report_files(opened.study_name)
    write_report_file(html, render_html(report))
    write_report_file(data, as_json(report))
    check_still_there(storage, opened)
    best = next((trial["number"] for trial in report.top if not trial["inherited"]), None)
    top = report.top[0]["number"] if report.top else None
    mirror = open_mirror(home, opened, spec)
    with local_copy(html) as page, local_copy(data) as table:
        show_in_dashboard(opened, report, page=page, artifacts=home.artifacts)
        show_family(storage, opened)
        attached = best is not None and mirror.attach_report(best, (page, table))
    if attached:
        log_best_network(home, opened, mirror)
    with local_network(home, opened, top) as network:
        note_trials(
            opened,
            top,
            space=spec.space,
            metric=spec.objective.metric,
            network=network,
            champion=_champion(home, opened.study_name),
            artifacts=home.artifacts,
        )
    return WrittenReport(report=report, html=html, json=data, in_mlflow=best if attached else None)


def read_family(storage: LeasedStorage, study: optuna.Study) -> tuple[Member, ...]:
    """Return the members of a study's family, each after its parent; none for a study alone."""
    return family_members(open_family(storage, study), current=study)


def show_family(storage: LeasedStorage, study: optuna.Study) -> None:
    """Show the family of a study in optuna-dashboard with each of its members; nothing changes for a study alone.

    Raises:
        StorageError: If a member was not made from a study file, or is deleted meanwhile.
    """
    members = read_family(storage, study)
    for member in members:
        shown = [dataclasses.replace(one, is_current=one is member) for one in members]
        metric = required_spec(study).objective.metric
        show_family_in_dashboard(open_study(storage, member.name), shown, metric=metric)


def report_summary(written: WrittenReport) -> dict[str, Any]:
    """Return what ``caviar report --json`` prints: where the report is, and what it says in words."""
    report = written.report
    return {
        "study": report.study,
        "html": str(written.html),
        "json": str(written.json),
        "mlflow_trial": written.in_mlflow,
        "best": _best(report),
        "importance": report.importance["sentences"],
        "approach": report.approach,
        "advice": report.advice,
    }


def report_lines(written: WrittenReport) -> list[str]:
    """Return the report's findings in words, and where it is."""
    report = written.report
    best = _best(report)
    lines = [] if best is None else [f"best {report.metric} {best['value']:.4f}, trial {best['number']}"]
    lines += report.importance["sentences"]
    if report.advice:
        lines += ["", "What to try next:"]
    for number, step in enumerate(report.advice, 1):
        lines.append(f"{number}. {step['title']}. {step['evidence']}")
        if step["change"]:
            lines.append(f"   {step['change']}")
    lines += ["", f"report {written.html}, also shown in optuna-dashboard; as data: {written.json.name}"]
    if written.in_mlflow is not None:
        lines.append(f"attached in MLflow to the run of trial {written.in_mlflow}")
    elif best is not None:
        ways_on = f"run `caviar sync {report.study}`, then `caviar report {report.study}`"
        lines.append(f"not attached in MLflow, which is down or lacks the best trial's run: {ways_on}")
    return lines


def _champion(home: Home, study: str) -> Mapping[str, Any] | None:
    """Return what is written of a study's champion; None if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        return read_description(home.champions, study)
    return None


def _best(report: Report) -> Mapping[str, Any] | None:
    return {key: report.top[0][key] for key in ("number", "value", "hyperparameters")} if report.top else None


def write_report_file(path: Place, text: str) -> None:
    """Write a report's file, whole or not at all, or raise a StorageError."""
    try:
        write_at(path, text)
    except OSError as error:
        raise StorageError(f"The report {path} cannot be written: {error.strerror}.") from error
