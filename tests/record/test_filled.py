"""Filling gives every run what it lacks, whatever the reason, and changes nothing where nothing is lacking."""

from collections.abc import Sequence
from typing import Any

import pytest
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from caviar.record import MlflowMirror, TrialRecord
from caviar.record.data_set import StudyData
from caviar.record.tracking import connect

from .conftest import MakeTrial

DATA = StudyData(name="postgresql://ann:s3cret@db/digits", fingerprint="0123456789abcdef" * 4)


@pytest.fixture(params=["straight", "by client"])
def tracking_uri(request: pytest.FixtureRequest, tracking_uri: str) -> str:
    return tracking_uri if request.param == "straight" else f"{tracking_uri}?timeout=20"


def make_mirror(tracking_uri: str, **options: Any) -> MlflowMirror:
    return MlflowMirror(tracking_uri, study_name="toy", artifact_location="file:///art", **options)


def records(trials: Sequence[FrozenTrial], *, n_epochs: int = 3, **tags: str) -> list[TrialRecord]:
    curves = {"loss": [1.0, 0.5, 0.25][:n_epochs]}
    return [TrialRecord(trial=one, hyperparameters={"depth(s)": 2}, curves=curves, tags=tags) for one in trials]


def read_runs(tracking_uri: str) -> list[Run]:
    client = connect(tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def everything(tracking_uri: str) -> list[Any]:
    client = connect(tracking_uri)
    return [
        (run.to_dictionary(), sorted(client.get_metric_history(run.info.run_id, "loss"), key=lambda point: point.step))
        for run in read_runs(tracking_uri)
    ]


def test_an_empty_store_is_filled_once(tracking_uri: str, make_trial: MakeTrial) -> None:
    trials = [make_trial(number, state=state) for number, state in enumerate(TrialState)]
    mirror = make_mirror(tracking_uri, data=DATA)
    assert mirror.fill(records(trials)) == len(trials)
    before = everything(tracking_uri)
    assert make_mirror(tracking_uri, data=DATA).fill(records(trials)) == 0
    assert everything(tracking_uri) == before
    assert not mirror.missed


def test_a_run_that_ended_is_given_the_tags_and_the_data_set_that_it_lacks(
    tracking_uri: str, make_trial: MakeTrial
) -> None:
    trials = [make_trial(0), make_trial(1)]
    make_mirror(tracking_uri).record_many(records(trials, n_epochs=2))
    make_mirror(tracking_uri, data=DATA).record_many(records(trials[1:], stage="2"))
    assert make_mirror(tracking_uri, data=DATA).fill(records(trials, stage="2")) == 1
    for run in read_runs(tracking_uri):
        assert run.data.tags["stage"] == "2"
        assert run.inputs is not None
        [given] = run.inputs.dataset_inputs
        assert given.dataset.name == "postgresql://ann:***@db/digits"
        assert given.dataset.digest == DATA.fingerprint[:36]
        assert DATA.fingerprint in given.dataset.source
        assert "s3cret" not in given.dataset.source
        assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]
        assert len(connect(tracking_uri).get_metric_history(run.info.run_id, "loss")) == 3


def test_a_parked_trial_that_went_on_during_an_outage_shows_its_new_epochs(
    tracking_uri: str, make_trial: MakeTrial
) -> None:
    parked = [make_trial(state=TrialState.WAITING)]
    mirror = make_mirror(tracking_uri)
    mirror.record_many(records(parked, n_epochs=1))
    assert mirror.fill(records(parked)) == 1
    assert [run.data.metrics["loss"] for run in read_runs(tracking_uri)] == [0.25]


def test_an_end_is_not_taken_back_by_who_read_the_trial_before(tracking_uri: str, make_trial: MakeTrial) -> None:
    mirror = make_mirror(tracking_uri)
    mirror.record_many(records([make_trial()]))
    before = everything(tracking_uri)
    running = records([make_trial(state=TrialState.RUNNING)])
    assert make_mirror(tracking_uri).fill(running) == 0
    make_mirror(tracking_uri).record_many(running)
    assert everything(tracking_uri) == before


def test_what_cannot_be_filled_is_counted(make_trial: MakeTrial) -> None:
    mirror = make_mirror("http://127.0.0.1:9")
    assert mirror.fill(records([make_trial(0), make_trial(1)])) == 0
    assert mirror.missed == {0, 1}
