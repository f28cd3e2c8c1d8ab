"""`caviar trials`: a parameter of the user's own never takes the place of a column."""

import optuna

from caviar.commands.status import list_trials, trials_csv
from caviar.spec import parse_spec
from caviar.storage.home import Home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import create_study


def test_a_parameter_called_as_a_column_stands_beside_it(home: Home, storage: LeasedStorage) -> None:
    names = ("value", "state", "epochs", "fail_reason", "width")
    drawn = {name: {"low": 1, "high": 9} for name in names}
    objective = {"network": "tests.toy_data:own_network"}
    spec = parse_spec({"name": "toy", "data": {"dataset": "digits"}, "objective": objective, "space": drawn})
    study = create_study(storage, spec, attributes={})
    params, distributions = dict.fromkeys(names, 7), spec.space.distributions()
    study.add_trial(optuna.trial.create_trial(value=0.5, params=params, distributions=distributions))
    (row,) = list_trials(home, "toy")
    assert (row["value"], row["state"], row["epochs"], row["fail_reason"]) == (0.5, "COMPLETE", 0, None)
    assert all(row[f"params_{name}"] == 7 for name in names[:-1])
    assert row["width"] == 7
    header = trials_csv([row]).splitlines()[0].split(",")
    assert len(header) == len(set(header))
