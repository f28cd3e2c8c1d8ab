"""A trial's run where several workers write at once."""

from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

from caviar.record.data_set import StudyData
from caviar.record.run_content import RunContent, StudyIdentity, TrialRecord, run_content
from caviar.record.runs import KnownRun, fill_run

from .conftest import build_trial

DATA = StudyData(name="digits", fingerprint="0123456789abcdef", summary="digits")


class Client:
    """Takes the place of MLflow's client: refuses the data set so many times."""

    def __init__(self, *refusals: MlflowException) -> None:
        self.refusals, self.inputs, self.ended = list(refusals), 0, 0

    def log_inputs(self, _run_id: str, **_inputs: Any) -> None:
        if self.refusals:
            raise self.refusals.pop()
        self.inputs += 1

    def log_batch(self, *_arguments: Any, **_named: Any) -> None:
        pass

    def set_terminated(self, *_arguments: Any) -> None:
        self.ended += 1


def content() -> RunContent:
    study = StudyIdentity(name="toy", uid="1", artifact_location=None, tags={}, versions={}, data=DATA)
    record = TrialRecord(trial=build_trial(0), hyperparameters={}, curves={"val_loss": [1.0]})
    return run_content(record, study=study, now_s=0.0)


def fill(client: Client) -> bool:
    run = KnownRun(run_id="1", status="RUNNING", params=set(), tags={}, points=set(), has_data=False)
    return fill_run(client, run, content())  # type: ignore[arg-type]  # it has what is called


def test_a_data_set_that_another_worker_stored_at_the_same_moment_is_named_all_the_same() -> None:
    client = Client(MlflowException("duplicate key value violates unique constraint", error_code=BAD_REQUEST))
    assert fill(client)
    assert (client.inputs, client.ended) == (1, 1)


@pytest.mark.parametrize(
    "refusals",
    [
        [MlflowException("away", error_code=TEMPORARILY_UNAVAILABLE)],
        [MlflowException("wrong", error_code=BAD_REQUEST)] * 2,
    ],
)
def test_what_stays_refused_is_raised(refusals: list[MlflowException]) -> None:
    with pytest.raises(MlflowException):
        fill(Client(*refusals))
