"""`caviar report` on a study on disk: its files, optuna-dashboard, MLflow."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from tests.insight.synthetic import DATA, make_spec, make_study

from caviar.attributes import CHILDREN, PARENT
from caviar.commands.report import report_lines, report_study, report_summary, show_family
from caviar.errors import StorageError
from caviar.record.mlflow_mirror import MlflowMirror
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.studies import create_study


@pytest.fixture
def home(prepared_home: Path) -> Home:
    """A home with a study of five trials, two of them in MLflow: the best, 0, and 1."""
    home = locate_home(prepared_home)
    spec = make_spec()
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    study = create_study(storage, spec, attributes={"data": DATA, "caviar:uid": "u"})
    study.add_trials(sorted(make_study(spec, n_complete=5, n_pruned=0).get_trials(), key=lambda t: -(t.value or 0)))
    mirror = MlflowMirror(
        home.tracking_uri, study_name="toy", study_uid="u", artifact_location=(prepared_home / "mlartifacts").as_uri()
    )
    for trial in study.get_trials()[:2]:
        mirror.record(trial, hyperparameters={}, curves={})
    return home


def reports_in_mlflow(home: Home) -> dict[str, list[str]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(home.tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    return {
        run.data.tags["caviar.trial_number"]: [file.path for file in client.list_artifacts(run.info.run_id, "report")]
        for run in runs
    }


@pytest.mark.slow
def test_a_report_stands_in_files_dashboard_and_mlflow_and_the_next_takes_its_place(home: Home) -> None:
    from optuna_dashboard import get_note, save_note

    opened = optuna.load_study(study_name="toy", storage=home.storage)
    save_note(opened, "My own words.")
    first = report_study(home, "toy")
    assert sorted(path.name for path in (home.path / "reports").iterdir()) == ["toy.html", "toy.json"]
    assert json.loads(first.json.read_bytes())["study"] == "toy"
    assert first.in_mlflow == 0
    assert reports_in_mlflow(home) == {"0": ["report/toy.html", "report/toy.json"], "1": []}

    best = opened.get_trials()[1]
    better = optuna.trial.create_trial(
        value=0.999, params=best.params, distributions=best.distributions, user_attrs=best.user_attrs
    )
    opened.add_trial(better)  # MLflow lacks its run: the report stays where it is
    assert report_study(home, "toy").in_mlflow is None
    note = get_note(opened)
    assert note.startswith("My own words.")
    assert note.count("## Report of") == 1
    (artifact,) = get_all_artifact_meta(opened)
    assert artifact.filename == "toy.html"
    assert (home.path / "artifacts" / artifact.artifact_id).read_bytes() == first.html.read_bytes()


@pytest.mark.slow
def test_a_search_of_several_studies_is_shown_with_each_of_them(home: Home) -> None:
    from optuna_dashboard import get_note

    coarse = optuna.load_study(study_name="toy", storage=home.storage)
    storage = open_storage(home.storage, owner=new_owner())
    fine = create_study(storage, make_spec(name="toy-zoom-1"), attributes={"data": DATA, "caviar:uid": "v"})
    coarse.set_user_attr(CHILDREN, ["toy-zoom-1"])
    fine.set_user_attr(PARENT, "toy")
    show_family(storage, coarse)
    show_family(storage, coarse)
    for name, other in (("toy", "toy-zoom-1"), ("toy-zoom-1", "toy")):
        study = optuna.load_study(study_name=name, storage=home.storage)
        note = get_note(study)
        assert note.count("## One search") == 1
        assert f"[{name}](/dashboard/studies/{study._study_id}) (this one): " in note
        assert f"[{other}]" in note
        assert "/dashboard/compare-studies?ids=1,2" in note
        kept = storage.get_study_system_attrs(study._study_id)
        assert {name for name in ("search", "zooms") if any(f"caviar-{name}" in key for key in kept)} == {
            *("search", "zooms")
        }
    report_study(home, "toy")
    assert ("## Report of" in get_note(coarse), get_note(coarse).count("## One search")) == (True, 1)


@pytest.mark.slow
def test_the_report_moves_with_the_best_trial(home: Home) -> None:
    mirror = MlflowMirror(home.tracking_uri, study_name="toy", study_uid="u")
    page = home.path / "toy.html"
    page.write_text("a page")
    assert mirror.attach_report(0, [page])
    assert mirror.attach_report(1, [page])
    assert mirror.attach_report(1, [page])
    assert reports_in_mlflow(home) == {"0": [], "1": ["report/toy.html"]}
    assert not mirror.attach_report(4, [page])


@pytest.mark.slow
def test_mlflow_may_be_down_and_the_summary_says_where_everything_is(home: Home) -> None:
    down = locate_home(home.path, tracking_uri="http://127.0.0.1:9")
    written = report_study(down, "toy")
    summary = report_summary(written)
    assert summary["mlflow_trial"] is None
    assert Path(summary["html"]).exists()
    assert summary["best"]["number"] == 0
    assert json.dumps(summary)
    assert "What to try next:" in report_lines(written)
    assert "`caviar sync toy`" in report_lines(written)[-1]


def test_an_unknown_study_is_refused(home: Home) -> None:
    with pytest.raises(StorageError, match="no study 'toi'"):
        report_study(home, "toi")
    assert not home.reports.exists()
