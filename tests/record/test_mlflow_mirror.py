import datetime
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from caviar.record import MlflowMirror
from caviar.record.outage import OutageGuard
from caviar.record.shared_view import VIEW_TAG, load_view
from caviar.record.tracking import connect

from .conftest import MakeTrial

CURVES = {
    "accuracy": [0.3, 0.6, 0.8],
    "loss": [2.0, 1.0, 0.5],
    "val_accuracy": [0.2, 0.5, 0.7],
    "val_loss": [2.1, 1.1, 0.6],
}
HYPERPARAMETERS = {"learning_rate": 0.01, "momentum": 0.9, "depth": 2, "batch_norm": "none"}


@pytest.fixture(params=["straight", "by client"])
def tracking_uri(request: pytest.FixtureRequest, tracking_uri: str) -> str:
    """Return an empty store, once as it is, once in a way that leaves it to MLflow's client."""
    return tracking_uri if request.param == "straight" else f"{tracking_uri}?timeout=20"


class Clock:
    def __init__(self) -> None:
        self.now_s = datetime.datetime(2026, 11, 22, 12, 30).timestamp()  # noqa: DTZ001

    def __call__(self) -> float:
        return self.now_s


def make_mirror(tracking_uri: str, **options: Any) -> MlflowMirror:
    return MlflowMirror(tracking_uri, study_name="toy", **options)


def record(mirror: MlflowMirror, trial: FrozenTrial, n_epochs: int = 3, **options: Any) -> None:
    curves = {key: values[:n_epochs] for key, values in CURVES.items()}
    mirror.record(trial, hyperparameters=HYPERPARAMETERS, curves=curves, **options)


def read_runs(tracking_uri: str, *, name: str = "toy") -> Sequence[Run]:
    client = connect(tracking_uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def read_curve(tracking_uri: str, run: Run, key: str) -> list[tuple[int, float, int]]:
    history = connect(tracking_uri).get_metric_history(run.info.run_id, key)
    return sorted((metric.step, metric.value, metric.timestamp) for metric in history)


def everything(tracking_uri: str) -> list[Any]:
    return [
        (run.to_dictionary(), {key: read_curve(tracking_uri, run, key) for key in sorted(run.data.metrics)})
        for run in read_runs(tracking_uri)
    ]


def test_complete_trial_has_name_params_curves_summary_and_times(tracking_uri: str, make_trial: MakeTrial) -> None:
    mirror = make_mirror(tracking_uri, experiment_tags={"caviar.data_fingerprint": "abc", "caviar.empty": ""})
    trial = make_trial(12, value=0.7)
    record(mirror, trial, tags={"caviar.worker": "w1"})
    [run] = read_runs(tracking_uri)
    assert run.info.run_name == "toy #12"
    assert run.info.status == "FINISHED"
    assert trial.datetime_start is not None
    assert run.info.start_time == round(trial.datetime_start.timestamp() * 1000)
    assert run.info.end_time == run.info.start_time + 10_000
    assert run.data.params["momentum"] == "0.9"
    assert run.data.params["one_minus_momentum"] == "0.1"
    assert run.data.metrics["value"] == run.data.metrics["best_value"] == 0.7
    for key, values in CURVES.items():
        assert [(step, value) for step, value, _ in read_curve(tracking_uri, run, key)] == list(enumerate(values))
    tags = run.data.tags
    assert tags["caviar.study"] == "toy"
    assert tags["caviar.trial_number"] == "12"
    assert tags["caviar.state"] == "COMPLETE"
    assert tags["caviar.data_fingerprint"] == "abc"
    assert tags["caviar.worker"] == "w1"
    assert {"env.python", "env.tensorflow", "env.keras", "env.optuna", "env.mlflow", "env.platform"} <= set(tags)
    assert "caviar.empty" not in tags


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (TrialState.COMPLETE, "FINISHED"),
        (TrialState.PRUNED, "KILLED"),
        (TrialState.FAIL, "FAILED"),
        (TrialState.RUNNING, "RUNNING"),
        (TrialState.WAITING, "SCHEDULED"),
    ],
)
def test_states_are_mapped(tracking_uri: str, make_trial: MakeTrial, state: TrialState, status: str) -> None:
    record(make_mirror(tracking_uri), make_trial(state=state))
    [run] = read_runs(tracking_uri)
    assert run.info.status == status
    assert run.data.tags["caviar.state"] == state.name
    assert (run.info.end_time is not None) == state.is_finished()


@pytest.mark.parametrize("same_mirror", [True, False])
def test_recording_twice_changes_nothing(tracking_uri: str, make_trial: MakeTrial, same_mirror: bool) -> None:
    first = make_mirror(tracking_uri, clock=Clock())
    second = first if same_mirror else make_mirror(tracking_uri)
    for number, state in enumerate([TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING]):
        record(first, make_trial(number, state=state))
    before = everything(tracking_uri)
    for number, state in enumerate([TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING]):
        record(second, make_trial(number, state=state))
    assert everything(tracking_uri) == before
    assert not second.missed


def test_running_trial_grows_by_epochs_and_ends_in_the_same_run(tracking_uri: str, make_trial: MakeTrial) -> None:
    mirror = make_mirror(tracking_uri, clock=Clock())
    for n_epochs in range(3):
        record(mirror, make_trial(state=TrialState.RUNNING), n_epochs)
        [run] = read_runs(tracking_uri)
        assert len(read_curve(tracking_uri, run, "val_loss")) == n_epochs
        assert "value" not in run.data.metrics
    live = read_curve(tracking_uri, run, "val_loss")
    record(mirror, make_trial())
    [run] = read_runs(tracking_uri)
    assert run.info.status == "FINISHED"
    assert read_curve(tracking_uri, run, "val_loss")[:2] == live


def test_trial_handed_to_another_worker_keeps_its_run(tracking_uri: str, make_trial: MakeTrial) -> None:
    record(make_mirror(tracking_uri), make_trial(state=TrialState.RUNNING), 1)
    [first] = read_runs(tracking_uri)
    handed_back = make_trial(state=TrialState.WAITING)
    record(make_mirror(tracking_uri), handed_back, 2)
    assert [run.info.status for run in read_runs(tracking_uri)] == ["SCHEDULED"]
    record(make_mirror(tracking_uri), make_trial())
    [last] = read_runs(tracking_uri)
    assert last.info.run_id == first.info.run_id
    assert [step for step, _, _ in read_curve(tracking_uri, last, "loss")] == [0, 1, 2]


def test_long_curves_are_cut_to_what_the_server_takes(tracking_uri: str, make_trial: MakeTrial) -> None:
    curve = [1 / (1 + epoch) for epoch in range(2500)]
    make_mirror(tracking_uri).record(make_trial(), hyperparameters={}, curves={"loss": curve})
    [run] = read_runs(tracking_uri)
    assert [value for _, value, _ in read_curve(tracking_uri, run, "loss")] == curve


def test_missing_trials_are_filled_and_then_none_is_missing(tracking_uri: str, make_trial: MakeTrial) -> None:
    never_started = make_trial(5, state=TrialState.WAITING)
    never_started.datetime_start = make_trial().datetime_start  # its worker left before the first epoch
    trials = [make_trial(number) for number in range(4)] + [make_trial(4, state=TrialState.RUNNING), never_started]
    mirror = make_mirror(tracking_uri)
    record(mirror, trials[1])
    record(mirror, make_trial(2, state=TrialState.RUNNING))  # its worker died before it wrote the end
    missing = make_mirror(tracking_uri).missing_trials(trials)
    assert missing == [0, 2, 3, 4]
    for number in missing:
        record(mirror, trials[number])
    assert mirror.missing_trials(trials) == []
    assert len(read_runs(tracking_uri)) == 5


def test_a_trial_that_was_handed_back_is_not_missing_though_its_run_says_that_it_runs(
    tracking_uri: str, make_trial: MakeTrial
) -> None:
    mirror = make_mirror(tracking_uri)
    record(mirror, make_trial(0, state=TrialState.RUNNING))
    waiting = make_trial(0, state=TrialState.WAITING)
    waiting.intermediate_values = {0: 0.5}
    assert mirror.missing_trials([waiting]) == []
    assert mirror.missing_trials([make_trial(0)]) == [0]


def test_two_runs_of_one_trial_become_one(tracking_uri: str, make_trial: MakeTrial) -> None:
    mirror = make_mirror(tracking_uri)
    record(mirror, make_trial())
    [run] = read_runs(tracking_uri)
    connect(tracking_uri).create_run(run.info.experiment_id, tags={"caviar.trial_number": "0"})
    assert mirror.missing_trials([make_trial()]) == [0]
    record(mirror, make_trial())
    assert [run.info.run_id for run in read_runs(tracking_uri)] == [run.info.run_id]


def test_run_deleted_in_the_page_is_made_anew(tracking_uri: str, make_trial: MakeTrial) -> None:
    mirror = make_mirror(tracking_uri)
    record(mirror, make_trial(state=TrialState.RUNNING), 1)
    [run] = read_runs(tracking_uri)
    connect(tracking_uri).delete_run(run.info.run_id)
    record(mirror, make_trial(state=TrialState.RUNNING), 2)
    assert not mirror.missed
    assert len(read_runs(tracking_uri)) == 1


def test_experiment_deleted_in_the_page_gives_way_to_a_new_one(tracking_uri: str, make_trial: MakeTrial) -> None:
    mirror = make_mirror(tracking_uri, clock=Clock())
    record(mirror, make_trial(state=TrialState.RUNNING), 1)
    client = connect(tracking_uri)
    old = mirror.experiment_id()
    assert old is not None
    client.delete_experiment(old)
    record(mirror, make_trial(), 3)
    assert not mirror.missed
    assert [run.info.status for run in read_runs(tracking_uri)] == ["FINISHED"]
    [trash] = client.search_experiments(ViewType.DELETED_ONLY)
    assert trash.name.startswith("toy (deleted 2026-11-22 ")


def test_deleted_experiment_leaves_its_name_free(tracking_uri: str, make_trial: MakeTrial) -> None:
    for _ in range(2):
        mirror = make_mirror(tracking_uri)
        record(mirror, make_trial())
        assert mirror.delete_experiment()
        assert mirror.delete_experiment()  # nothing left to delete
    assert connect(tracking_uri).get_experiment_by_name("toy") is None


def test_renamed_experiment_keeps_its_runs_and_the_fresh_one_starts_empty(
    tracking_uri: str, make_trial: MakeTrial
) -> None:
    mirror = make_mirror(tracking_uri, study_uid="one")
    record(mirror, make_trial())
    assert mirror.rename_experiment("toy (archived)")
    archived = MlflowMirror(tracking_uri, study_name="toy (archived)", study_uid="one")
    assert archived.missing_trials([make_trial()]) == []
    fresh = make_mirror(tracking_uri, study_uid="two")
    assert fresh.missing_trials([make_trial()]) == [0]
    record(fresh, make_trial())
    assert len(read_runs(tracking_uri)) == len(read_runs(tracking_uri, name="toy (archived)")) == 1


def test_rename_to_a_name_in_use_is_refused_without_an_exception(
    tracking_uri: str, make_trial: MakeTrial, caplog: pytest.LogCaptureFixture
) -> None:
    other = MlflowMirror(tracking_uri, study_name="other")
    record(other, make_trial())
    mirror = make_mirror(tracking_uri)
    record(mirror, make_trial())
    assert not mirror.rename_experiment("other")
    assert "could not rename the experiment to 'other'" in caplog.text


def test_older_study_of_the_same_name_keeps_its_runs(
    tracking_uri: str, make_trial: MakeTrial, caplog: pytest.LogCaptureFixture
) -> None:
    record(make_mirror(tracking_uri, study_uid="old"), make_trial(value=0.3))
    new = make_mirror(tracking_uri, study_uid="new")
    assert new.missing_trials([make_trial()]) == [0]
    record(new, make_trial(value=0.8))
    assert sorted(run.data.metrics["value"] for run in read_runs(tracking_uri)) == [0.3, 0.8]
    assert len([line for line in caplog.messages if "another study of this name" in line]) == 1


def test_experiment_describes_itself_and_opens_well(tracking_uri: str, make_trial: MakeTrial) -> None:
    mirror = make_mirror(tracking_uri, experiment_tags={"caviar.dataset": "digits"})
    empty = mirror.experiment_link("http://host:5000/")
    assert empty is not None
    assert "viewStateShareKey" not in empty  # the page would complain of a view that is not there
    record(mirror, make_trial())
    record(mirror, make_trial(1))
    experiment = connect(tracking_uri).get_experiment_by_name("toy")
    assert experiment is not None
    assert "caviar.dataset: `digits`" in experiment.tags["mlflow.note.content"]
    view = load_view(experiment.tags[VIEW_TAG])
    assert view is not None
    assert view.axes == ("learning_rate_log10", "one_minus_momentum_log10", "depth", "batch_norm")
    assert mirror.experiment_link("http://host:5000/") == (
        f"http://host:5000/#/experiments/{experiment.experiment_id}/runs"
        "?compareRunsMode=CHART&workflowType=machine_learning&viewStateShareKey=caviar"
    )


def test_unreachable_server_costs_one_warning_and_no_credentials(
    make_trial: MakeTrial, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    mirror = make_mirror("http://ann:s3cret@127.0.0.1:9", clock=clock)
    trials = [make_trial(number) for number in range(3)]
    with caplog.at_level(logging.INFO):
        for trial in trials:
            record(mirror, trial)
        clock.now_s += 61
        record(mirror, trials[0])
        assert mirror.missing_trials(trials) == [0, 1, 2]
        assert mirror.experiment_link("http://host") is None
        assert not mirror.delete_experiment()
        assert not mirror.rename_experiment("x")
    assert mirror.missed == {0, 1, 2}
    [warning] = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert "MLflow at http://***@127.0.0.1:9 could not record trial 0" in warning
    assert "Connection refused" in warning
    assert "s3cret" not in caplog.text


def test_store_that_comes_back_is_filled(
    empty_store: Path, tmp_path: Path, make_trial: MakeTrial, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    path = tmp_path / "late.db"
    path.mkdir()  # nothing can be opened there
    mirror = make_mirror(f"sqlite:///{path}", clock=clock)
    trials = [make_trial(number) for number in range(3)]
    for trial in trials:
        record(mirror, trial)
    path.rmdir()
    shutil.copy(empty_store, path)
    record(mirror, trials[0])
    assert mirror.missed == {0, 1, 2}  # it is left alone for a minute
    clock.now_s += 61
    for number in mirror.missing_trials(trials):
        record(mirror, trials[number])
    assert mirror.missed == frozenset()
    assert mirror.missing_trials(trials) == []
    assert len([entry for entry in caplog.records if entry.levelno >= logging.WARNING]) == 1


def test_read_only_store_fails_no_trial(
    empty_store: Path,
    tmp_path: Path,
    make_trial: MakeTrial,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow makes a directory named "file:" where it runs
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    mirror = make_mirror(f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true")
    record(mirror, make_trial())
    record(mirror, make_trial(1))
    assert mirror.missed == {0, 1}
    [warning] = caplog.messages
    assert "readonly database" in warning
    assert capfd.readouterr().err == ""  # none of MLflow's own lines and tracebacks


def test_database_of_something_else_fails_no_trial(
    tmp_path: Path, make_trial: MakeTrial, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "notes.txt").write_text("no database\n" * 1000)
    mirror = make_mirror(f"sqlite:///{tmp_path / 'notes.txt'}")
    record(mirror, make_trial())
    assert mirror.missed == {0}
    assert "file is not a database" in caplog.text


def test_a_parameter_of_any_name_leaves_a_whole_run(tracking_uri: str, make_trial: MakeTrial) -> None:
    mirror = make_mirror(tracking_uri)
    mirror.record(make_trial(), hyperparameters={"a(b)+c": 3, "value": 4}, curves={"loss": [1.0]})
    assert not mirror.missed
    experiment_id = mirror.experiment_id()
    assert experiment_id is not None
    [run] = connect(tracking_uri).search_runs([experiment_id])
    assert (run.info.status, run.data.params["a_b__c"], run.data.params["value"]) == ("FINISHED", "3", "4")
    assert run.data.metrics["value"] == 0.9


def test_a_refusal_is_not_called_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise MlflowException.invalid_parameter_value("Invalid value")

    guard = OutageGuard("http://host", clock=Clock(), retry_after_s=60)
    guard.attempt("record trial 0", refuse, reset=lambda: None)
    assert guard.attempt("record trial 1", lambda: "done", reset=lambda: None) == "done"  # it was not left alone
    [warning] = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert warning.endswith("could not record trial 0: Invalid value. It refuses this request; the study goes on.")
