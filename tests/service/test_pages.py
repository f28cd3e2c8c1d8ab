"""The pages as HTML: what they show, and that nothing in a study's name or errors is taken for markup."""

import html
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import optuna
import pytest
from fastapi import FastAPI

from caviar.attributes import FAIL_REASON
from caviar.service.app import make_app
from caviar.service.recent import Recent
from caviar.service.runs import RunInfo
from caviar.service.settings import ServiceSettings
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import create_study, stored_spec

from .asgi import calling

Get = Callable[..., httpx.Response]
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def home(prepared_home: Path) -> Home:
    return locate_home(prepared_home)


@pytest.fixture
def storage(home: Home) -> LeasedStorage:
    return open_storage(home.storage, owner=new_owner(), create=True)


@pytest.fixture
def app(home: Home) -> FastAPI:
    return make_app(ServiceSettings(home=home))


@pytest.fixture
def get(app: FastAPI) -> Iterator[Get]:
    with calling(app) as client:
        yield lambda path, **headers: client.get(path, headers=headers)


@pytest.fixture
def study(storage: LeasedStorage) -> optuna.Study:
    spec = parse_spec(
        {"name": "toy", "data": {"dataset": "digits"}, "search": {"trials": 4, "sampler": "random"}, "objective": {}}
    )
    study = create_study(storage, spec, attributes={})
    for value in (0.5, 0.75):
        trial = study.ask(fixed_distributions={"one_minus_momentum": optuna.distributions.FloatDistribution(0.01, 0.5)})
        trial.report(value, 0)
        study.tell(trial, value)
    failed = study.ask()
    failed.set_user_attr(FAIL_REASON, f"no {SCRIPT}")
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    return study


def test_the_front_page_invites_where_there_is_nothing(get: Get) -> None:
    answer = get("/")
    assert answer.status_code == 200
    assert "There are no studies yet" in answer.text


def test_the_front_page_shows_every_study(get: Get, study: optuna.Study, storage: LeasedStorage) -> None:
    optuna.create_study(storage=storage, study_name=f"another {SCRIPT}")
    page = get("/").text
    assert '<a href="/studies/toy">toy</a>' in page
    assert "2 of 4" in page
    assert "0.7500" in page
    assert "&lt;script&gt;" in page
    assert SCRIPT not in page


def test_a_study_has_its_page(get: Get, study: optuna.Study) -> None:
    answer = get("/studies/toy")
    assert "2 of 4" in answer.text
    assert "0.7500" in answer.text
    assert "momentum" in answer.text
    assert 'href="/dashboard/studies/1"' in answer.text
    assert "Trial 2 failed: no &lt;script&gt;" in answer.text
    assert SCRIPT not in answer.text


def test_the_form_has_a_studys_own_file_to_go_on_with(get: Get, study: optuna.Study) -> None:
    page = get("/new?study=toy").text
    text = html.unescape(re.search(r"<textarea[^>]*>(.*)</textarea>", page, re.DOTALL)[1])  # type: ignore[index]
    assert parse_spec(tomllib.loads(text)) == stored_spec(study)
    assert "[search]\n" in text
    assert get("/new?study=other").status_code == 404


def test_a_study_without_a_file_has_a_page_too(get: Get, storage: LeasedStorage) -> None:
    name = "theirs/ä b?"
    optuna.create_study(storage=storage, study_name=name).add_trial(optuna.create_trial(value=1.0))
    page = get("/studies/theirs%2F%C3%A4%20b%3F")
    assert "not made from a study file" in page.text
    assert "<h1>theirs/ä b?</h1>" in page.text


def test_a_study_that_is_called_like_a_directory_shows_nothing_of_it(
    get: Get, storage: LeasedStorage, tmp_path: Path
) -> None:
    test, race = {"accuracy": [0.9, 0.8, 1.0], "n": 5}, {"winner": 3, "metric": "x", "confirmed": [0.9, 0.8, 1.0]}
    (tmp_path / "champion.json").write_text(json.dumps({"test": test, "race": race, "input": {"kind": "table"}}))
    study = optuna.create_study(storage=storage, study_name=str(tmp_path))
    study.add_trial(optuna.create_trial(value=0.5))
    page = get(f"/studies/{quote(str(tmp_path), safe='')}")
    assert page.status_code == 200
    assert "won the race" not in page.text


def test_a_study_that_is_not_there_is_an_error_with_a_way_out(get: Get, study: optuna.Study) -> None:
    answer = get("/studies/tyo")
    assert answer.status_code == 404
    assert "Did you mean 'toy'?" in answer.text


def test_a_study_that_starts_is_told_so(get: Get, app: Any) -> None:
    runs = app.state.runs
    runs.directory.mkdir(parents=True, exist_ok=True)
    run = RunInfo(id="new~20261127T000000~abcdef", study="new", verb="run", began_at="2026-11-27T00:00:00+00:00")
    runs._write(run)
    (runs.directory / f"{run.id}.log").write_text(f"Error: {SCRIPT} is no data set\n")
    page = get("/studies/new").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is no data set" in page
    assert SCRIPT not in page


@pytest.mark.parametrize("path", ["/", "/new", "/studies/toy"])
def test_pages_have_a_strict_policy_and_nothing_inline(get: Get, study: optuna.Study, path: str) -> None:
    answer = get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=|https?://", answer.text)


@pytest.mark.parametrize("path", ["/", "/new", "/studies/toy"])
def test_pages_can_be_used_by_ear_and_keyboard(get: Get, study: optuna.Study, path: str) -> None:
    page = get(path).text
    assert '<html lang="en">' in page
    assert page.count("<h1") == 1
    assert 'class="skip"' in page
    labelled = set(re.findall(r'<label for="([^"]+)"', page))
    fields = set(re.findall(r'<(?:input|select|textarea)[^>]* id="([^"]+)"', page))
    assert fields - labelled <= {"fresh"}, "every field has a label; the box's stands around it"
    identities = re.findall(r' id="([^"]+)"', page)
    assert len(identities) == len(set(identities))
    assert all("scope=" in cell for cell in re.findall(r"<th[^>]*>", page) if not cell.startswith("<thead"))


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("caviar.css", "text/css"),
        ("caviar.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
        ("plotly.js", "text/"),
    ],
)
def test_assets_come_from_here_and_are_kept(get: Get, name: str, media: str) -> None:
    answer = get(f"/assets/{name}")
    assert answer.headers["content-type"].startswith(media)
    again = get(f"/assets/{name}", **{"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_plotly_is_sent_packed(get: Get) -> None:
    packed = get("/assets/plotly.js", **{"Accept-Encoding": "gzip"})
    plain = get("/assets/plotly.js", **{"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert packed.text == plain.text


@pytest.mark.parametrize("path", ["/assets/nothing.js", "/assets/pages.py", "/assets/..%2fpages.py"])
def test_no_other_file_is_an_asset(get: Get, path: str) -> None:
    assert get(path).status_code in (400, 404)


def test_an_answer_is_kept_while_it_is_fresh_and_longer_if_it_took_long() -> None:
    now, asked = [0.0], []

    def work_out() -> int:
        asked.append(now[0])
        now[0] += 2
        return len(asked)

    async def check() -> None:
        recent = Recent(clock=lambda: now[0])
        assert await recent.get("key", work_out, fresh_s=1) == 1
        now[0] = 31.9  # twenty times as long, but at most half a minute
        assert await recent.get("key", work_out, fresh_s=1) == 1
        now[0] = 32.0
        assert await recent.get("key", work_out, fresh_s=1) == 2

    anyio.run(check)


def test_what_takes_long_is_worked_out_meanwhile() -> None:
    async def check() -> None:
        recent = Recent()
        assert recent.get_later("key", lambda: "answer", fresh_s=60) is None
        assert await recent.get("key", lambda: "answer", fresh_s=60) == "answer"
        assert recent.get_later("key", lambda: "another", fresh_s=60) == "answer"
        await recent.close()

    anyio.run(check)
