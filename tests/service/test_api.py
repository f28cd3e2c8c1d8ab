"""REST: studies, curves, streams, runs, uploads and champions, as a client sees them."""

import dataclasses
import json
import os
import threading
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import optuna
import pytest

from caviar.attributes import REQUEST
from caviar.champion import saved
from caviar.data.images import read_image
from caviar.errors import DataError
from caviar.service import api_studies
from caviar.service.app import make_app
from caviar.service.predicting import check_data_file
from caviar.service.runs import RunInfo, Runs
from caviar.service.settings import ServiceSettings
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.places import write_at
from caviar.storage.studies import create_study, delete_study, open_study

from ..processes import wait_until
from .asgi import AppClient, calling, listening

STUDY = 'name = "fresh"\n[data]\ndataset = "digits"\n'
TOML = {"Content-Type": "application/toml"}


@pytest.fixture
def storage(settings: ServiceSettings) -> LeasedStorage:
    return open_storage(settings.home.storage, owner=new_owner(), create=True)


@pytest.fixture
def study(storage: LeasedStorage) -> optuna.Study:
    """A study with a finished trial, a diverged one and one that runs."""
    spec = parse_spec({"name": "digits", "data": {"dataset": "digits"}, "search": {"trials": 4, "sampler": "random"}})
    study = create_study(storage, spec, attributes={})
    for curve in ([0.5, 0.75], [0.25, float("nan")]):
        trial = study.ask()
        for name, distribution in spec.space.distributions().items():
            trial._suggest(name, distribution)
        for step, value in enumerate(curve):
            trial.report(value, step)
        study.tell(trial, curve[0])
    study.ask().report(0.125, 0)
    return study


def test_studies_are_listed_with_how_far_they_are(client: AppClient, study: optuna.Study) -> None:
    listed = client.get("/v1/studies").json()
    assert [(one["study"], one["kind"], one["budget"], one["metric"]) for one in listed] == [
        ("digits", "caviar", 4, "val_accuracy")
    ]
    assert listed[0]["trials"] == {"running": 1, "complete": 2, "pruned": 0, "fail": 0, "waiting": 0}
    assert listed[0]["best"] == {"number": 0, "value": 0.5}


def test_before_the_first_study_there_is_none_and_no_database_is_made(
    client: AppClient, settings: ServiceSettings
) -> None:
    assert client.get("/v1/studies").json() == []
    assert not (settings.home.path / "optuna.db").exists()


def test_a_study_tells_its_status_trials_and_curves(client: AppClient, study: optuna.Study) -> None:
    assert client.get("/v1/studies/digits").json()["best"]["number"] == 0
    assert [trial["state"] for trial in client.get("/v1/studies/digits/trials").json()] == [
        "COMPLETE",
        "COMPLETE",
        "RUNNING",
    ]
    curves = client.get("/v1/studies/digits/curves", params={"trials": [1, 2]}).json()
    whole = {"whole": True, "changes": []}
    assert curves[0] == {"number": 1, "state": "complete", "value": 0.25, "values": [[0, 0.25], [1, None]], **whole}
    assert curves[1]["values"] == [[0, 0.125]]
    assert [one["number"] for one in client.get("/v1/studies/digits/curves", params={"last": 1}).json()] == [2]


def test_a_study_that_took_anothers_name_is_not_mistaken_for_it(
    client: AppClient, storage: LeasedStorage, study: optuna.Study
) -> None:
    assert client.get("/v1/studies/digits/curves").json()
    delete_study(storage, open_study(storage, "digits"))
    other = parse_spec({"name": "other", "data": {"dataset": "digits"}})
    create_study(storage, other, attributes={})  # SQLite gives it the id that is free again
    assert client.get("/v1/studies/digits/curves", params={"last": 7}).status_code == 404
    assert client.get("/v1/studies/other/curves").json() == []


def test_a_study_that_is_deleted_while_it_is_read_is_told(
    client: AppClient, storage: LeasedStorage, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_and_read(found: optuna.Study) -> dict[str, Any]:
        delete_study(storage, open_study(storage, "digits"))
        return found.user_attrs

    monkeypatch.setattr(api_studies, "trials_of", delete_and_read)
    answer = client.get("/v1/studies/digits/trials")
    assert (answer.status_code, "just deleted" in answer.json()["error"]["message"]) == (404, True), answer.text


def test_a_trial_is_asked_something_by_whom_and_from_where(client: AppClient, study: optuna.Study) -> None:
    wish = {"action": "set", "values": {"learning_rate": 0.01}, "who": "browser", "wait_s": 0}
    answer = client.post("/v1/studies/digits/trials/2/control", json=wish)
    assert (answer.status_code, answer.json()["done"]) == (200, False)
    assert "takes effect before the trial's next epoch" in answer.json()["message"]
    (asked,) = (v for k, v in study.trials[2].system_attrs.items() if k.startswith(REQUEST))
    assert (asked["who"], asked["values"]) == ("browser@127.0.0.1", {"learning_rate": 0.01})


def test_a_waiting_trial_is_paused_and_resumed_and_any_trial_forked(client: AppClient, study: optuna.Study) -> None:
    study.enqueue_trial({})
    path = "/v1/studies/digits/trials/3/control"
    assert client.post(path, json={"action": "pause"}).json()["done"]
    assert client.get("/v1/studies/digits/curves", params={"trials": 3}).json()[0]["state"] == "paused"
    assert client.post(path, json={"action": "resume"}).json()["done"]
    forked = client.post("/v1/studies/digits/trials/0/control", json={"action": "fork", "values": {"dropout": 0.25}})
    assert (forked.json()["trial"], forked.json()["epoch"]) == (4, 2)
    changes = client.get("/v1/studies/digits/curves", params={"trials": 4}).json()[0]["changes"]
    assert [epoch for epoch, _ in changes] == [2, 2]
    assert "dropout 0 → 0.25 (client@127.0.0.1)" in changes[1][1]


@pytest.mark.parametrize(
    ("number", "wish", "status", "said"),
    [
        (0, {"action": "pause"}, 409, "has ended"),
        (0, {"action": "fork", "epoch": 9}, 409, "has done"),
        (9, {"action": "pause"}, 404, "has no trial 9"),
        (2, {"action": "resume"}, 409, "nothing to resume"),
        (2, {"action": "set", "values": {"width": 3.0}}, 422, "width"),
        (2, {"action": "set", "values": {"learning_rate": -1.0}}, 400, "learning_rate"),
        (2, {"action": "set"}, 400, "at least one value"),
        (2, {"action": "pause", "epochs": 3}, 400, "epochs does not go with"),
        (2, {"action": "back"}, 400, "needs epoch"),
        (2, {"action": "explode"}, 422, "action"),
        (2, {"action": "pause", "who": "<b>"}, 422, "who"),
    ],
)
def test_what_cannot_be_asked_of_a_trial_is_answered(
    client: AppClient, study: optuna.Study, number: int, wish: dict[str, Any], status: int, said: str
) -> None:
    answer = client.post(f"/v1/studies/digits/trials/{number}/control", json=wish)
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True), answer.text


def test_a_request_waits_for_its_trial_and_leaves_the_others_alone(client: AppClient, study: optuna.Study) -> None:
    path, wish = "/v1/studies/digits/trials/2/control", {"action": "pause", "wait_s": 30}
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(client.post, path, json=wish) for _ in range(60)]  # more than there are threads
        wait_until(lambda: sum(key.startswith(REQUEST) for key in study.trials[2].system_attrs) == 60, timeout_s=30)
        assert client.post(path, json=wish | {"wait_s": 0}).json()["done"] is False
        assert client.get("/v1/studies/digits/curves", params={"last": 2}).status_code == 200
        study.tell(2, 0.5)
        answers = [one.result() for one in waiting]
    assert {answer.status_code for answer in answers} == {409}
    assert "ended (COMPLETE) before" in answers[0].json()["error"]["message"]


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def test_a_stream_shows_the_picture_then_what_changes_and_ends_with_the_study(
    settings: ServiceSettings, storage: LeasedStorage, study: optuna.Study
) -> None:
    app = make_app(dataclasses.replace(settings, poll_s=0.05))
    with (
        listening(app) as port,
        httpx.Client(base_url=f"http://localhost:{port}", timeout=20) as client,
        client.stream("GET", "/v1/studies/digits/stream") as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        told = events(answer.iter_lines())
        kind, picture = next(told)
        assert (kind, picture["counts"]["running"], picture["best"]) == ("picture", 1, {"number": 0, "value": 0.5})
        (running_trial,) = picture["trials"]
        assert (running_trial["number"], running_trial["state"], running_trial["values"]) == (
            2,
            "running",
            [[0, 0.125]],
        )
        running = optuna.Trial(study, study.get_trials(deepcopy=False)[2]._trial_id)
        running.report(0.25, 1)
        assert next(told)[1]["trials"][0]["values"][-1] == [1, 0.25]
        study.tell(2, 0.875)
        kind, update = next(told)
        assert (kind, update["trials"][0]["state"], update["best"]["number"]) == ("update", "complete", 2)
        delete_study(storage, open_study(storage, "digits"))
        assert next(told)[0] == "gone"
        assert next(told, None) is None


def test_all_streams_of_a_study_share_one_look_and_end_with_their_clients(
    settings: ServiceSettings, study: optuna.Study
) -> None:
    app = make_app(dataclasses.replace(settings, poll_s=0.05, max_streams=3))
    streams = app.state.makings.streams
    with listening(app) as port, httpx.Client(base_url=f"http://localhost:{port}", timeout=20) as client:
        answers = [client.send(client.build_request("GET", "/v1/studies/digits/stream"), stream=True) for _ in range(3)]
        lines = [answer.iter_lines() for answer in answers]  # one that is dropped closes its answer
        for line in lines:
            next(line)
        assert streams.n_open == 3
        assert streams.n_looked_at == 1
        with client.stream("GET", "/v1/studies/digits/stream") as refused:
            assert refused.status_code == 429
        for answer in answers:
            answer.close()
        wait_for(lambda: streams.n_open == 0 and streams.n_looked_at == 0)


def test_streams_that_begin_at_once_are_no_more_than_may(settings: ServiceSettings, study: optuna.Study) -> None:
    streams = make_app(dataclasses.replace(settings, max_streams=2)).state.makings.streams

    async def check() -> None:
        begun = [await streams.watch("digits") for _ in range(5)]
        first = [await anext(lines) for lines in begun]
        assert [b"event: picture" in one for one in first] == [True, True, False, False, False]
        assert [one async for one in begun[2]] == []
        for lines in begun:
            await lines.aclose()
        assert streams.n_open == 0
        await streams.close()

    anyio.run(check)


def wait_for(happened: Any) -> None:
    waiting = threading.Event()
    for _ in range(200):
        if happened():
            return
        waiting.wait(0.05)
    raise AssertionError("it did not happen")


def test_a_study_file_is_checked_and_every_default_written_out(client: AppClient) -> None:
    checked = client.post("/v1/validate", content=STUDY, headers=TOML).json()
    assert checked["study"] == "fresh"
    assert checked["file"]["search"]["sampler"] == "zoom"
    wrong = client.post("/v1/validate", content=STUDY + "[search]\nsampler = 'tpee'\n", headers=TOML)
    assert (wrong.status_code, "Did you mean 'tpe'" in wrong.json()["error"]["message"]) == (400, True)


class KeptRuns(Runs):
    """Runs that are written down instead of started."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def start(self, text: str, *, settings: Sequence[str] = (), fresh: bool = False) -> RunInfo:
        self.texts.append(text)
        return RunInfo(id="fresh~1", study="fresh", verb="run", began_at="2026-11-27T00:00:00")


def test_a_study_file_that_names_an_upload_is_started_with_its_path(settings: ServiceSettings) -> None:
    app = make_app(settings)
    app.state.runs = runs = KeptRuns()
    with calling(app) as client:
        sent = client.send("PUT", "/v1/uploads/rows.csv", content=b"size,kind\n1,a\n2,b\n")
        assert (sent.status_code, sent.json()["bytes"]) == (201, 18)
        assert [one["name"] for one in client.get("/v1/uploads").json()] == ["rows.csv"]
        text = 'name = "fresh"\n[data]\ndataset = "rows.csv"\nlabel = "kind"\n[space]\ndropout = {low=0.1, high=0.5}\n'
        started = client.post("/v1/studies", content=text, headers=TOML)
        assert (started.status_code, started.json()["study"]) == (202, "fresh")
        table = tomllib.loads(runs.texts[0])
        assert table["data"]["dataset"] == str(settings.uploads / "rows.csv")
        assert parse_spec(table).space == parse_spec(tomllib.loads(text)).space
        assert client.send("DELETE", "/v1/uploads/rows.csv").status_code == 204
        assert client.post("/v1/studies", content=text, headers=TOML).status_code == 400


def test_uploads_share_their_room_and_what_a_killed_service_left_is_removed(settings: ServiceSettings) -> None:
    settings.uploads.mkdir(parents=True)
    left, coming = settings.uploads / "~left.csv", settings.uploads / "~coming.csv"
    for path in (left, coming):
        path.write_bytes(b"a,b\n")
    os.utime(left, (0, 0))
    small = dataclasses.replace(settings, max_upload_bytes=1000, max_uploads_bytes=1500)
    app, begun, go_on = make_app(small), threading.Event(), threading.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"a,b\n" * 100
        begun.set()
        await anyio.to_thread.run_sync(go_on.wait)

    with calling(app) as client, ThreadPoolExecutor(1) as pool:
        assert (left.exists(), coming.exists()) == (False, True)
        slow = pool.submit(client.send, "PUT", "/v1/uploads/slow.csv", content=slow_body())
        begun.wait(20)
        assert client.send("PUT", "/v1/uploads/b.csv", content=b"x" * 600).status_code == 413
        go_on.set()
        assert slow.result().status_code == 201
        assert client.send("PUT", "/v1/uploads/b.csv", content=b"x" * 600).status_code == 201


@pytest.mark.parametrize("name", ["x.png", "x.tiff"])
def test_postscript_is_no_image(tmp_path: Path, name: str) -> None:
    """Pillow would run Ghostscript on it."""
    path = tmp_path / name
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n")
    with pytest.raises(DataError, match="not an image"):
        check_data_file(path, 1000)
    with pytest.raises(DataError, match="cannot be read"):
        read_image(path, size=(4, 4), color="rgb")


def test_a_report_is_written_and_shown_where_its_scripts_can_ask_nothing(
    client: AppClient, settings: ServiceSettings, study: optuna.Study
) -> None:
    page = settings.home.path / "reports" / "digits.html"
    page.parent.mkdir(parents=True)
    page.write_text("<script>1</script>")
    answer = client.get("/v1/studies/digits/report")
    assert answer.text == "<script>1</script>"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox allow-scripts; default-src 'none'")


def test_reports_and_champions_are_shown_from_a_store_elsewhere(tmp_path: Path, memory_url: str) -> None:
    home = locate_home(tmp_path / "runs", files=memory_url)
    race, test = {"metric": "val_accuracy"}, {"accuracy": [0.9, 0.8, 1.0]}
    table = {"name": "pair", "classes": ["a", "b"], "input": {"kind": "array"}, "race": race, "test": test}
    with calling(make_app(ServiceSettings(home=home))) as client:
        assert client.get("/v1/champions").json() == []
        assert client.get("/v1/studies/pair/report").status_code == 404
        write_at(home.champions / "pair" / saved.DESCRIPTION, json.dumps(table))
        write_at(home.report_files("pair")[0], "<script>1</script>")
        assert client.get("/v1/champions/pair").json()["test"] == test
        answer = client.get("/v1/studies/pair/report")
        assert (answer.text, answer.headers["Content-Type"].partition(";")[0]) == ("<script>1</script>", "text/html")
        assert answer.headers["Content-Security-Policy"].startswith("sandbox allow-scripts")


@pytest.fixture
def champion(settings: ServiceSettings) -> Path:
    """A champion of arrays whose network is a softmax of the first two numbers."""
    import keras

    path = settings.home.path / "champions" / "pair"
    path.mkdir(parents=True)
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Softmax()(inputs)).save(path / saved.NETWORK)
    form = {"kind": "array", "shape": [2], "dtype": "float32"}
    race = {"metric": "val_accuracy"}
    table = {"format": saved.FORMAT, "name": "pair", "classes": ["a", "b"], "label_type": "text", "input": form}
    (path / saved.DESCRIPTION).write_text(json.dumps(table | {"race": race, "test": {"accuracy": [0.9, 0.8, 1.0]}}))
    return path


@pytest.mark.slow  # another process loads TensorFlow
def test_a_champion_predicts_rows_and_files(client: AppClient, champion: Path, tmp_path: Path) -> None:
    assert client.get("/v1/champions").json()[0]["test_accuracy"] == 0.9
    answer = client.post("/v1/champions/pair/predict", json={"rows": [[3, 0], [0.0, 1]]})
    assert [one["label"] for one in answer.json()["predictions"]] == ["a", "b"]
    wrong = client.post("/v1/champions/pair/predict", json={"rows": [[3, 0, 1]]})
    assert (wrong.status_code, "shape" in wrong.json()["error"]["message"]) == (400, True)
    np.savez(tmp_path / "x.npz", x=np.eye(2))
    sent = client.post("/v1/champions/pair/predict-file?format=npz", content=(tmp_path / "x.npz").read_bytes())
    assert sent.headers["Content-Type"].startswith("text/csv")
    assert [line.partition(",")[0] for line in sent.text.splitlines()] == ["label", "a", "b"]
    table = client.post("/v1/champions/pair/predict-file?format=csv", content=b"p,q\n1,0\n")
    assert table.text.splitlines()[1].startswith("a,")
