import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from caviar.insight.family import Member
from caviar.insight.page import as_json
from caviar.insight.report import Report, build_report, render_html
from caviar.insight.rows import drawn_parameters, trial_rows
from caviar.spec import StudySpec

from .synthetic import NOW, learning_rate_alone, make_spec, make_study, make_trial

SECTIONS = ("next", "searched", "best", "history", "curves", "parallel", "slices", "importance", "cost")


class Page(HTMLParser):
    """What a test asks of a page: sections, figures, addresses, its text outside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.figures: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self._inside = tag
        if tag == "section":
            self.sections.append(values["id"])
        if "data-figure" in values:
            self.figures.append(values["data-figure"])
        self.addresses += [values[name] for name in ("src", "href", "action") if name in values]

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


def report_of(spec: StudySpec, study: optuna.Study, **more: Any) -> Report:
    return build_report(study, spec, cores=2, now=NOW, n_resamples=3, **more)


@pytest.fixture(scope="module")
def report() -> Report:
    spec = make_spec()
    study = make_study(spec)
    rng = np.random.default_rng(3)
    failed = make_trial(
        spec, rng, learning_rate_alone, state=TrialState.FAIL, user_attrs={"fail_reason": "<script>alert(1)</script>"}
    )
    study.add_trial(failed)
    return report_of(spec, study)


def test_the_page_has_every_section_with_its_picture_and_asks_nothing_of_a_network(report: Report) -> None:
    html = render_html(report)
    page = Page(html)
    assert tuple(page.sections) == SECTIONS
    assert set(page.figures) == set(report.figures)
    assert {"history", "curves", "fit", "parallel", "slices", "importance", "timeline"} == set(report.figures)
    assert all(address.startswith("#") for address in page.addresses)
    assert {address[1:] for address in page.addresses} <= set(page.sections)
    assert not {"link", "iframe", "img"} & set(page.tags)
    assert not re.search(r"@import|url\(", html.split("</style>")[0])
    assert "40 complete, 20 pruned, 1 failed" in page.text
    assert 'plotlyServerURL: ""' in html


def test_what_came_from_a_user_is_escaped_in_the_page_and_in_its_pictures(report: Report) -> None:
    page = Page(render_html(report))
    assert page.tags.count("script") == 3  # plotly, the figures, and the lines that draw them
    assert "The last one said: <script>alert(1)</script>" in page.text
    evil = "</script><img src=x onerror=alert(1)>"
    spec = make_spec(
        objective={"epochs": 10, "network": "tests.toy_data:own_network"},
        space={"learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"}, evil: {"choices": [evil, "b"]}},
    )
    html = render_html(report_of(spec, make_study(spec, score=lambda h: learning_rate_alone(h))))
    page = Page(html)
    assert "img" not in page.tags
    assert page.tags.count("script") == 3
    figures = json.loads(html.split('id="figures">')[1].split("</script>")[0])
    assert evil not in json.dumps(figures)  # plotly's texts know tags
    assert "&lt;/script&gt;" in json.dumps(figures)


def test_the_json_holds_the_same_with_every_trial(report: Report) -> None:
    read = json.loads(as_json(report))
    assert len(read["trials"]) == 61
    assert read["counts"] == {"complete": 40, "pruned": 20, "failed": 1, "running": 0, "waiting": 0}
    assert read["top"][0]["value"] == max(t["value"] for t in read["trials"] if t["state"] == "complete")
    assert [row["name"] for row in read["searched"]] == ["learning_rate", "momentum", "depth", "batch_norm"]
    assert read["cost"]["epochs_saved"] == 20 * 7
    assert read["approach"] == "caviar"
    assert read["importance"]["parameters"]
    assert read["made_at"] == "2026-11-22T13:00:00+00:00"


@pytest.mark.parametrize(
    ("n_complete", "n_pruned", "figures"),
    [
        (0, 0, set()),
        (1, 0, {"history", "curves", "fit", "parallel", "slices", "timeline"}),
        (0, 5, {"history", "curves", "parallel", "slices", "timeline"}),
    ],
)
@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_a_study_of_few_trials_has_a_page_too(n_complete: int, n_pruned: int, figures: set[str], metric: str) -> None:
    spec = make_spec(objective={"epochs": 10, "metric": metric})
    study = make_study(spec, n_complete=n_complete, n_pruned=n_pruned)
    report = report_of(spec, study)
    expected = figures - ({"fit"} if metric == "val_loss" else set())  # these trials keep curves of accuracy alone
    assert set(report.figures) == expected
    page = Page(render_html(report))
    assert tuple(page.sections) == SECTIONS
    assert report.importance["reason"] is not None
    json.loads(as_json(report))


def test_running_waiting_and_foreign_trials_do_not_disturb() -> None:
    spec = make_spec()
    study = make_study(spec, n_complete=2, n_pruned=1)
    study.enqueue_trial({"learning_rate": 0.1})
    study.ask()
    study.add_trial(optuna.trial.create_trial(value=0.5))  # without a parameter, a curve or a time
    diverged = optuna.trial.create_trial(
        state=TrialState.PRUNED, value=float("inf"), intermediate_values={0: 0.2, 1: float("inf")}
    )
    study.add_trial(diverged)
    report = report_of(spec, study)
    assert report.counts["running"] == 1
    assert report.trials[-1]["curve"] == [0.2]
    assert report.trials[-1]["value"] == 0.2
    render_html(report)


def test_zooms_are_shown_as_one_history_and_as_nested_ranges() -> None:
    spec = make_spec()
    narrow = make_spec(space={"learning_rate": {"low": 1e-2, "high": 0.5, "scale": "log"}})
    study = make_study(spec, n_complete=3, n_pruned=1)
    coarse, fine = drawn_parameters(spec.space), drawn_parameters(narrow.space)
    rows = tuple(trial_rows(study.get_trials(), coarse, metric="val_accuracy"))
    members = [
        Member(
            name=name,
            generation=generation,
            is_current=not generation,
            n_trials=len(own),
            best_value=None,
            parameters=parameters,
            n_copied=2,
            rows=own,
        )
        for name, generation, own, parameters in (("toy", 0, rows, coarse), ("toy-zoom", 1, rows[1:], fine))
    ]
    report = report_of(spec, study, family=members)
    assert report.zooms[1]["ranges"] == {"learning_rate": "0.01 to 0.5"}
    assert [(zoom["n_trials"], zoom["n_copied"]) for zoom in report.zooms] == [(4, 2), (3, 2)]
    page = Page(render_html(report))
    assert "zooms" in page.sections
    assert {"search", "zooms"} <= set(page.figures)
    assert "toy-zoom" in page.text
    traces = {trace["name"]: trace for trace in report.figures["search"]["data"]}
    pruned, complete, best_so_far, star = (traces[name] for name in ("pruned", "complete", "best so far", "best"))
    assert (pruned["x"], complete["x"]) == ([3, 6], [0, 1, 2, 4, 5])
    assert complete["hovertext"][-1].startswith("toy-zoom, trial 2, complete")
    assert best_so_far["x"][-1] == 6
    assert star["x"][0] < 4  # of equal ones the first
