"""What optuna-dashboard gets to draw: everything that people look at, rounded, and always as the database has it."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.trial import TrialState

from caviar.attributes import INTERVENTIONS
from caviar.insight import shown_studies
from caviar.insight.dashboard_program import DashboardProgram, dashboard_program
from caviar.insight.shown_studies import ShownStudies, drawn_numbers
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.leased_storage import LeasedStorage

from ..finished_study import make_finished_study

N_TRIALS = 50
PAGE = "/api/studies/1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a study of finished trials."""
    home = locate_home(tmp_path_factory.mktemp("finished"))
    make_finished_study(home, trials=N_TRIALS)
    return (home.path / "optuna.db").read_bytes()


@pytest.fixture
def home(finished: bytes, tmp_path: Path) -> Home:
    (tmp_path / "optuna.db").write_bytes(finished)
    return locate_home(tmp_path)


@pytest.fixture
def storage(home: Home) -> Iterator[LeasedStorage]:
    storage = open_storage(home.storage, owner=new_owner())
    yield storage
    storage.engine.dispose()


@pytest.fixture
def study(storage: LeasedStorage) -> optuna.Study:
    return optuna.load_study(study_name="digits", storage=storage)


@pytest.fixture
def program(home: Home) -> DashboardProgram:
    return dashboard_program(home.storage, artifacts=home.artifacts)


def ask(
    program: DashboardProgram, path: str, *, method: str = "GET", body: Any = None, accepts: str = "gzip"
) -> tuple[str, bytes]:
    sent = json.dumps(body).encode() if body is not None else b""
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method, "HTTP_ACCEPT_ENCODING": accepts}
    environ |= {"wsgi.input": io.BytesIO(sent), "CONTENT_LENGTH": str(len(sent)), "CONTENT_TYPE": "application/json"}
    setup_testing_defaults(environ)
    said: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
        said.update(status=status, **{name.lower(): value for name, value in headers})

    answer = b"".join(program(environ, start_response))
    if "content-length" in said:
        assert int(said["content-length"]) == len(answer)
    return said["status"], gzip.decompress(answer) if said.get("content-encoding") == "gzip" else answer


def page(program: DashboardProgram) -> dict[str, Any]:
    status, body = ask(program, PAGE)
    assert status == "200 OK"
    answer: dict[str, Any] = json.loads(body)
    return answer


def test_what_is_drawn_equals_what_is_stored_but_for_digits(storage: LeasedStorage, study: optuna.Study) -> None:
    shown = ShownStudies(storage).get_all_trials(1)
    stored = study.get_trials()
    assert len(shown) == len(stored) == N_TRIALS
    for one, other in zip(shown, stored, strict=True):
        assert (one.number, one.state, one.values) == (other.number, other.state, other.values)
        assert (one.params, one.distributions) == (other.params, other.distributions)
        assert (one.datetime_start, one.datetime_complete) == (other.datetime_start, other.datetime_complete)
        assert one.intermediate_values == pytest.approx(other.intermediate_values, rel=1e-4)
        assert one.user_attrs["best_value"] == pytest.approx(other.user_attrs["best_value"], rel=1e-4)
        assert len(json.dumps(one.user_attrs)) < 0.6 * len(json.dumps(other.user_attrs))


def test_bookkeeping_is_left_out(storage: LeasedStorage, study: optuna.Study) -> None:
    trial = study.ask()
    trial.set_user_attr(INTERVENTIONS, [{"epoch": 1}])
    trial.set_user_attr("mine", {"nested": [float("nan"), 0.123456789], "text": "0.123456789"})
    shown = ShownStudies(storage)
    (last,) = shown.get_all_trials(1)[N_TRIALS:]
    assert list(last.user_attrs) == ["mine"]
    assert str(last.user_attrs["mine"]) == "{'nested': [nan, 0.1235], 'text': '0.123456789'}"
    assert not [key for key in shown.get_study_user_attrs(1) if key.startswith("caviar:")]
    assert [key for key in study.user_attrs if key.startswith("caviar:")]
    with pytest.raises(NotImplementedError, match="only shown"):
        shown.delete_study(1)


def test_of_many_trials_the_best_and_the_last_keep_their_reports(
    storage: LeasedStorage, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = study.get_trials()
    assert drawn_numbers(trials, maximize=True) == set(range(N_TRIALS))
    monkeypatch.setattr(shown_studies, "_HALF_DRAWN", 3)
    complete = sorted((one for one in trials if one.state == TrialState.COMPLETE), key=lambda one: one.value or 0.0)
    best = {one.number for one in complete[-3:]}
    assert drawn_numbers(trials, maximize=True) == best | {47, 48, 49}
    assert drawn_numbers(trials, maximize=False) == {one.number for one in complete[:3]} | {47, 48, 49}
    shown = ShownStudies(storage)
    assert {one.number for one in shown.get_all_trials(1) if one.intermediate_values} == best | {47, 48, 49}
    assert shown.get_trial(1).intermediate_values  # a trial alone has all
    monkeypatch.setattr(shown_studies, "_MOST_WITH_LINES", N_TRIALS - 1)
    assert drawn_numbers(trials, maximize=True) == set()


def test_every_change_is_shown_at_once(program: DashboardProgram, study: optuna.Study) -> None:
    program.make_ready()
    first = page(program)
    assert page(program) == first
    assert len(first["trials"]) == N_TRIALS
    trial = study.ask()
    assert [one["state"] for one in page(program)["trials"]][N_TRIALS:] == ["Running"]
    trial.report(0.25, 0)
    assert page(program)["trials"][N_TRIALS]["intermediate_values"] == [{"step": 0, "value": 0.25}]
    study.tell(trial, 2.0)
    assert page(program)["trials"][N_TRIALS]["state"] == "Complete"
    assert page(program)["best_trials"][0]["number"] == N_TRIALS
    study.set_user_attr("said", "by me")
    assert {"key": "said", "value": "by me"} in page(program)["user_attrs"]


@pytest.mark.slow
def test_a_study_that_took_anothers_id_is_read_anew(
    program: DashboardProgram, study: optuna.Study, storage: LeasedStorage
) -> None:
    before = page(program)
    trials = study.get_trials()
    optuna.delete_study(study_name="digits", storage=storage)
    assert ask(program, PAGE)[0].startswith("404")
    other = optuna.create_study(study_name="digits", storage=storage, direction="minimize")
    other.add_trials(trials[10:])
    after = page(program)
    assert (before["directions"], after["directions"]) == (["maximize"], ["minimize"])
    assert [one["values"] for one in after["trials"]] == [one.values for one in trials[10:]]


@pytest.mark.slow
def test_changes_and_files_go_past_what_is_shown(program: DashboardProgram, study: optuna.Study) -> None:
    curves = study.trials[0].user_attrs["curves"]["loss"]
    assert str(curves[0]) in ask(program, "/csv/1")[1].decode()  # all digits
    note = {"version": 1, "body": "Mine."}
    assert ask(program, f"{PAGE}/note", method="PUT", body=note)[0].startswith("204")
    assert page(program)["note"] == note
    status, answer = ask(program, f"{PAGE}/rename", method="POST", body={"study_name": "renamed"})
    assert status.startswith("201"), answer
    renamed = optuna.load_study(study_name="renamed", storage=study._storage)
    assert "caviar:spec" in renamed.user_attrs
    assert renamed.trials[0].user_attrs["curves"]["loss"] == curves


def test_the_page_is_sent_as_the_browser_accepts_it(program: DashboardProgram) -> None:
    assert ask(program, PAGE, accepts="identity") == ask(program, PAGE, accepts="gzip, br")
    assert json.loads(ask(program, f"{PAGE}/param_importances")[1])["param_importances"][0]
    assert b"<html" in ask(program, "/dashboard/studies/1")[1]
