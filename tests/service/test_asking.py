"""Optuna as a service: exact budgets, leases, and what clients are told."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy

from caviar.service.app import make_app
from caviar.service.settings import ServiceSettings
from caviar.storage.database import new_owner, open_storage
from tests.databases import expire

from .asgi import AppClient, calling

NEW: dict[str, Any] = {
    "name": "toy",
    "direction": "minimize",
    "space": {
        "x": {"low": -5, "high": 5, "type": "float"},
        "n": {"low": 1, "high": 9},
        "kind": {"choices": ["a", "b"]},
    },
    "trials": 20,
}


def create(client: AppClient, **changes: Any) -> str:
    new = NEW | changes
    answer = client.post("/v1/asked", json=new)
    assert answer.status_code == 201, answer.text
    return f"/v1/asked/{new['name']}"


def ask(client: AppClient, study: str) -> dict[str, Any]:
    answer = client.post(f"{study}/ask")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def tell(client: AppClient, study: str, trial: dict[str, Any], **said: Any) -> Any:
    return client.post(f"{study}/trials/{trial['number']}/tell", json={"lease": trial["lease"], **said})


def report(client: AppClient, study: str, trial: dict[str, Any], *, step: int, value: float) -> Any:
    said = {"lease": trial["lease"], "step": step, "value": value}
    return client.post(f"{study}/trials/{trial['number']}/report", json=said)


def fall_silent(settings: ServiceSettings, number: int) -> None:
    """Have a trial's lease run out, for a service that was started anew."""
    storage = open_storage(settings.home.storage, owner=new_owner())
    with storage.engine.connect() as connection:
        wanted = sqlalchemy.text("SELECT trial_id FROM trials WHERE number = :number")
        trial_id = connection.execute(wanted, {"number": number}).scalar_one()
    expire(storage, trial_id)
    storage.engine.dispose()


def test_a_trial_is_drawn_from_the_space_and_told(client: AppClient) -> None:
    study = create(client)
    trial = ask(client, study)
    drawn = trial["hyperparameters"]
    assert -5 <= drawn["x"] <= 5
    assert drawn["n"] in range(1, 10)
    assert drawn["kind"] in ("a", "b")
    assert isinstance(drawn["x"], float)
    assert tell(client, study, trial, value=1.5).json() == {"ended": True}
    best = client.get(f"{study}/best").json()
    assert (best["number"], best["value"], best["params"]) == (0, 1.5, trial["params"])
    assert client.get(study).json()["counts"]["complete"] == 1


@pytest.mark.slow
def test_eight_clients_spend_the_budget_exactly(client: AppClient) -> None:
    study = create(client, trials=60, sampler="random")
    numbers: list[int] = []
    lock = threading.Lock()

    def work(_index: int) -> None:
        while (trial := ask(client, study))["state"] != "done":
            if trial["state"] == "trial":
                assert tell(client, study, trial, value=trial["hyperparameters"]["x"] ** 2).status_code == 200
                with lock:
                    numbers.append(trial["number"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sorted(numbers) == list(range(60))
    counts = client.get(f"{study}/trials").json()
    assert [trial["state"] for trial in counts] == ["complete"] * 60


def test_while_all_is_being_run_clients_wait_and_in_the_end_they_are_done(client: AppClient) -> None:
    study = create(client, trials=1)
    trial = ask(client, study)
    assert ask(client, study) == {"state": "wait"}
    assert tell(client, study, trial, value=0.0).status_code == 200
    assert ask(client, study) == {"state": "done"}


def test_a_silent_client_loses_its_trial_and_its_late_words_are_refused(settings: ServiceSettings) -> None:
    with calling(make_app(settings)) as client:
        study = create(client, trials=1)
        silent = ask(client, study)
        assert report(client, study, silent, step=3, value=2.0).status_code == 200
    fall_silent(settings, silent["number"])
    with calling(make_app(settings)) as client:  # nobody else has asked yet: it has lost the trial all the same
        late = report(client, study, silent, step=4, value=1.0)
        assert (late.status_code, "run out" in late.json()["error"]["message"]) == (409, True)
        other = ask(client, study)
        assert (other["number"], other["params"], other["last_step"]) == (silent["number"], silent["params"], 3)
        assert tell(client, study, silent, value=1.0).status_code == 409
        assert tell(client, study, other, value=2.0).status_code == 200
        assert client.get(f"{study}/best").json()["value"] == 2.0


def test_a_client_outlives_a_restart_of_the_service(settings: ServiceSettings) -> None:
    with calling(make_app(settings)) as client:
        study = create(client)
        trial = ask(client, study)
    with calling(make_app(settings)) as client:
        assert report(client, study, trial, step=0, value=1.0).status_code == 200
        assert tell(client, study, trial, value=1.0).status_code == 200


def test_nothing_is_told_to_a_database_that_was_removed(settings: ServiceSettings) -> None:
    with calling(make_app(settings)) as client:
        study = create(client)
        trial = ask(client, study)
        shutil.rmtree(settings.home.path)
        assert client.get("/v1/studies").json() == []
        assert tell(client, study, trial, value=1.0).status_code == 404
        with calling(make_app(settings)) as other:
            create(other, name="new")
        assert ask(client, "/v1/asked/new")["state"] == "trial"
        assert client.get("/v1/asked/toy").status_code == 404


def test_two_services_on_one_database_share_a_budget(settings: ServiceSettings) -> None:
    with calling(make_app(settings)) as one, calling(make_app(settings)) as other:
        study = create(one, trials=10, sampler="random")
        numbers = []
        for client in (one, other) * 5:
            trial = ask(client, study)
            assert report(other if client is one else one, study, trial, step=0, value=1.0).status_code == 200
            assert tell(client, study, trial, value=1.0).status_code == 200
            numbers.append(trial["number"])
        assert numbers == list(range(10))
        assert [ask(client, study)["state"] for client in (one, other)] == ["done", "done"]


def test_telling_twice_changes_nothing(client: AppClient) -> None:
    study = create(client)
    trial = ask(client, study)
    assert tell(client, study, trial, value=1.0).json() == {"ended": True}
    assert tell(client, study, trial, value=1.0).json() == {"ended": False}
    assert tell(client, study, trial, value=2.0).status_code == 409
    assert tell(client, study, trial, state="fail").status_code == 409


def test_a_result_that_is_told_many_times_at_once_is_told_once(client: AppClient) -> None:
    study = create(client)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            trial = ask(client, study)
            told = [pool.submit(tell, client, study, trial, value=1.0) for _ in range(8)]
            assert sorted(one.result().json().get("ended", -1) for one in told) == [*[False] * 7, True]


def test_a_trial_is_pruned_with_what_it_reported_to_another_service(settings: ServiceSettings) -> None:
    with calling(make_app(settings)) as one, calling(make_app(settings)) as other:
        study = create(one)
        trial = ask(one, study)
        for step, client in enumerate((one, other)):
            assert report(client, study, trial, step=step, value=1.0 + step).status_code == 200
        assert tell(one, study, trial, state="pruned").status_code == 200
        assert one.get(f"{study}/trials").json()[0]["value"] == 2.0


def test_a_trial_behind_the_others_is_to_be_pruned(client: AppClient) -> None:
    study = create(client, pruner="median", pruner_options={"n_startup_trials": 2})
    for value in (1.2, 1.1, 1.0):
        good = ask(client, study)
        assert report(client, study, good, step=0, value=value).json() == {"prune": False}
        tell(client, study, good, value=value)
    bad = ask(client, study)
    assert report(client, study, bad, step=0, value=50.0).json() == {"prune": True}
    assert tell(client, study, bad, state="pruned").status_code == 200
    assert client.get(f"{study}/trials").json()[-1]["value"] == 50.0


def test_a_pruner_that_raises_is_told(client: AppClient) -> None:
    study = create(client, pruner="hyperband", pruner_options={"reduction_factor": 1})
    answer = report(client, study, ask(client, study), step=0, value=1.0)
    assert (answer.status_code, "pruner 'hyperband' raised" in answer.json()["error"]["message"]) == (409, True)


def test_a_failed_trial_is_tried_again_and_costs_no_budget(client: AppClient) -> None:
    study = create(client, trials=1, retries=1)
    first = ask(client, study)
    assert tell(client, study, first, state="fail", reason="out of memory").status_code == 200
    again = ask(client, study)
    assert (again["number"], again["params"]) == (1, first["params"])
    assert tell(client, study, again, value=1.0).status_code == 200
    assert ask(client, study) == {"state": "done"}


def test_creating_a_study_twice_is_no_harm_and_another_one_is_refused(client: AppClient) -> None:
    create(client)
    assert client.post("/v1/asked", json=NEW).status_code == 200
    assert client.post("/v1/asked", json=NEW | {"trials": 21}).status_code == 409


@pytest.mark.parametrize("sampler", ["random", "tpe", "zoom", "cmaes", "qmc"])
def test_every_sampler_can_be_asked(client: AppClient, sampler: str) -> None:
    study = create(client, trials=14, sampler=sampler, space={"x": {"low": -1.0, "high": 1.0}, "y": NEW["space"]["x"]})
    for _ in range(14):
        trial = ask(client, study)
        assert trial["state"] == "trial"
        assert tell(client, study, trial, value=trial["params"]["x"] ** 2).status_code == 200
    assert ask(client, study) == {"state": "done"}


@pytest.mark.parametrize("pruner", ["none", "median", "percentile", "successive_halving", "hyperband", "patient"])
def test_every_pruner_judges_reports(client: AppClient, pruner: str) -> None:
    study = create(client, pruner=pruner, sampler="random", max_steps=5)
    for _ in range(3):
        trial = ask(client, study)
        for step in range(5):
            assert report(client, study, trial, step=step, value=1.0 + step).status_code == 200
        assert tell(client, study, trial, value=1.0).status_code == 200


@pytest.mark.slow  # another process loads scikit-learn
def test_importance_names_what_matters(client: AppClient) -> None:
    study = create(client, trials=15, sampler="random")
    assert client.get(f"{study}/importance").json()["importance"] is None
    for _ in range(15):
        trial = ask(client, study)
        tell(client, study, trial, value=trial["hyperparameters"]["x"] ** 2)
    found = client.get(f"{study}/importance").json()["importance"]
    assert max(found, key=found.get) == "x"


def test_the_same_seed_draws_the_same_trials(client: AppClient) -> None:
    drawn = []
    for name in ("one", "two"):
        study = create(client, name=name, sampler="random", seed=7)
        drawn.append([ask(client, study)["params"] for _ in range(3)])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]
