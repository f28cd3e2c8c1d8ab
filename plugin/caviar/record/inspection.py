"""Looking into MLflow's store without writing: which trials it shows, and how old its tables are."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from optuna.trial import FrozenTrial, TrialState

from ..errors import StorageError
from ..storage.addresses import reason_of, sqlite_path, store_kind
from ..storage.inspection import connect_read_only
from .mlflow_private import quiet_mlflow
from .run_content import RUN_STATUS, STUDY_UID_TAG, TRIAL_NUMBER_TAG
from .runs import list_runs
from .tracking import DATABASES, connect, import_mlflow, tracking_errors

_STATUSES = """
    SELECT number.value AS number, runs.status AS status
    FROM runs
    JOIN experiments ON experiments.experiment_id = runs.experiment_id
    JOIN tags AS number ON number.run_uuid = runs.run_uuid AND number.key = :number_tag
    LEFT JOIN tags AS uid ON uid.run_uuid = runs.run_uuid AND uid.key = :uid_tag
    WHERE experiments.name = :study AND experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active'
      AND (:uid = '' OR COALESCE(uid.value, '') IN ('', :uid))
"""


def read_run_statuses(tracking_uri: str, *, study_name: str, study_uid: str) -> dict[int, list[str]]:
    """Return MLflow's words for the states of a study's runs, by trial number.

    A database is read by SQL, without importing mlflow: its client would create what is missing, and a second goes
    by before it does anything. Runs that carry another study's uid are left out; an empty one takes all.

    Raises:
        StorageError: If the store cannot be read.
    """
    kind = store_kind(tracking_uri)
    if kind in DATABASES:
        return _from_database(tracking_uri, study_name=study_name, study_uid=study_uid)
    is_directory = kind == "file" or (":" not in tracking_uri and tracking_uri != "databricks")
    if is_directory and not Path(urlsplit(tracking_uri).path).exists():
        return {}
    import_mlflow()
    try:
        with quiet_mlflow():
            client = connect(tracking_uri)
            experiment = client.get_experiment_by_name(study_name)
            if experiment is None or experiment.lifecycle_stage != "active":
                return {}
            runs = list_runs(client, experiment.experiment_id, study_uid=study_uid)
    except tracking_errors() as error:
        raise StorageError(reason_of(error)) from error
    return {number: [run.info.status for run in found] for number, found in runs.items()}


def missing_numbers(trials: Iterable[FrozenTrial], statuses: Mapping[int, Sequence[str]]) -> list[int]:
    """Return the numbers of the trials that have not one run in their state, ascending.

    Args:
        trials: Those that should have one.
        statuses: For a trial's number its runs' states, in MLflow's words.
    """

    def is_shown(trial: FrozenTrial) -> bool:
        right = {trial.state}
        if trial.state == TrialState.WAITING:  # it may have run before, and its run may still say so
            right.add(TrialState.RUNNING)
        found = statuses.get(trial.number, ())
        return len(found) == 1 and found[0] in {RUN_STATUS[state] for state in right}

    return sorted(trial.number for trial in trials if not is_shown(trial))


def _from_database(tracking_uri: str, *, study_name: str, study_uid: str) -> dict[int, list[str]]:
    import sqlalchemy
    import sqlalchemy.exc
    import sqlalchemy.pool

    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists():
        return {}
    values = {"number_tag": TRIAL_NUMBER_TAG, "uid_tag": STUDY_UID_TAG, "study": study_name, "uid": study_uid}
    source = {} if path is None else {"creator": lambda: connect_read_only(path)}
    try:
        engine = sqlalchemy.create_engine(tracking_uri, poolclass=sqlalchemy.pool.NullPool, **source)
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("runs"):
                return {}
            rows = connection.execute(sqlalchemy.text(_STATUSES), values).all()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise StorageError(reason_of(error)) from error
    statuses: dict[int, list[str]] = {}
    for row in rows:
        if row.number.isdecimal():
            statuses.setdefault(int(row.number), []).append(row.status)
    return statuses
