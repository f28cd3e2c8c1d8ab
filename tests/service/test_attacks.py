"""Attacks and wrong requests, each really sent: all are refused, in one form, and nothing is left of them."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caviar.service.app import make_app
from caviar.service.settings import ServiceSettings
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.studies import create_study

from .asgi import TOKEN, AppClient, calling

STUDY = 'name = "fresh"\n[data]\ndataset = "digits"\n'
TOML = {"Content-Type": "application/toml"}
JSON = {"Content-Type": "application/json"}
ASKED: dict[str, Any] = {"name": "toy", "direction": "minimize", "space": {"x": {"low": 0.0, "high": 1.0}}, "trials": 5}


@dataclasses.dataclass(frozen=True)
class Attack:
    """One request, and the statuses that refuse it.

    Attributes:
        says: A part of the message that answers it.
    """

    what: str
    method: str
    path: str
    status: int
    says: str = ""
    headers: dict[str, str | None] = dataclasses.field(default_factory=dict)
    content: dict[str, Any] = dataclasses.field(default_factory=dict)


def study_file(what: str, text: str, says: str = "", status: int = 400) -> Attack:
    return Attack(what, "POST", "/v1/studies", status, says, {**TOML}, {"content": text.encode()})


def data(what: str, dataset: str, says: str = "no other file and no code", status: int = 400) -> Attack:
    return study_file(what, f'name = "fresh"\n[data]\ndataset = {json.dumps(dataset)}\n', says, status)


def asked(what: str, says: str = "", status: int = 422, **changes: Any) -> Attack:
    return Attack(what, "POST", "/v1/asked", status, says, content={"json": ASKED | {"name": "other"} | changes})


def body(what: str, path: str, text: str | bytes, says: str = "", status: int = 422) -> Attack:
    return Attack(what, "POST", path, status, says, {**JSON}, {"content": text})


def upload(what: str, name: str, content: bytes, says: str = "", status: int = 400) -> Attack:
    return Attack(what, "PUT", f"/v1/uploads/{name}", status, says, content={"content": content})


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def lying_archive() -> bytes:
    """An archive whose array says that it has a trillion numbers."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("x.npy", head.getvalue() + bytes(64))
    return file.getvalue()


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("x.npy", bytes(2**26))
    return file.getvalue()


def broken_archive() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.arange(1000.0))
    whole = bytearray(file.getvalue())
    whole[30 + whole[26] + whole[28]] = 0xFF  # the first packed byte, behind the head, the name and the extra field
    return bytes(whole)


def repeated_values() -> bytes:
    """A file of a hundred bytes a column, whose rows would fill the memory."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300_000, np.int8)), pa.array(["x" * 100]))
    file = io.BytesIO()
    pq.write_table(pa.table({f"c{n}": column for n in range(40)}), file)
    return file.getvalue()


REPORT = "/v1/asked/toy/trials/0/report"
DEEP = "[" * 5000 + "]" * 5000
ATTACKS = [
    # who asks, and from where
    Attack("a foreign host", "GET", "/v1/studies", 403, "not called", {"Host": "evil.example"}),
    Attack("a rebound host with our port", "GET", "/v1/studies", 403, "not called", {"Host": "evil.example:8000"}),
    Attack("a host that begins as ours", "GET", "/v1/studies", 403, "", {"Host": "localhost.evil.example"}),
    Attack("a host with a user", "GET", "/v1/studies", 403, "", {"Host": "localhost@evil.example"}),
    Attack("a host with a strange port", "GET", "/v1/studies", 403, "", {"Host": "localhost:80@evil"}),
    Attack("a foreign host at the dashboard", "GET", "/dashboard/", 403, "not called", {"Host": "evil.example"}),
    Attack("a foreign host at MLflow", "GET", "/mlflow/", 403, "not called", {"Host": "evil.example"}),
    Attack("a foreign origin", "POST", "/v1/asked", 403, "from elsewhere", {"Origin": "https://evil.example"}),
    Attack("a null origin", "POST", "/v1/asked", 403, "from elsewhere", {"Origin": "null"}),
    Attack("our host at another port", "POST", "/v1/asked", 403, "", {"Origin": "http://localhost:3000"}),
    Attack("another site", "POST", "/v1/asked", 403, "from elsewhere", {"Sec-Fetch-Site": "cross-site"}),
    Attack("the same site, another origin", "POST", "/v1/asked", 403, "", {"Sec-Fetch-Site": "same-site"}),
    Attack("another site, deleting", "DELETE", "/v1/uploads/a.csv", 403, "", {"Sec-Fetch-Site": "cross-site"}),
    Attack("another site at the dashboard", "POST", "/api/studies", 403, "", {"Sec-Fetch-Site": "cross-site"}),
    Attack("a foreign origin at MLflow", "POST", "/mlflow/graphql", 403, "", {"Origin": "https://evil.example"}),
    Attack("a preflight", "OPTIONS", "/v1/asked", 403, "", {"Origin": "https://evil.example"}),
    Attack("a foreign login form", "POST", "/login", 403, "", {"Origin": "https://evil.example"}),
    Attack("a write without our header", "POST", "/v1/asked", 403, "X-Caviar", {"X-Caviar": None}),
    Attack("a write with another header", "POST", "/v1/asked", 403, "X-Caviar", {"X-Caviar": "0"}),
    Attack("TRACE", "TRACE", "/v1/studies", 405, "not possible"),
    Attack("an invented method", "BREW", "/v1/studies", 405, "not possible"),
    # paths
    Attack("up and away", "GET", "/v1/studies/..%2f..%2fetc%2fpasswd", 400, "path"),
    Attack("up, as it is", "GET", "/assets/../../settings.py", 404),
    Attack("up by the assets", "GET", "/assets/..%2f..%2fsettings.py", 400, "path"),
    Attack("a backslash", "GET", "/v1/studies/..%5cx", 400, "path"),
    Attack("a zero byte", "GET", "/v1/studies/a%00b", 400, "path"),
    Attack("a line break", "GET", "/v1/studies/a%0d%0aSet-Cookie:x", 400, "path"),
    Attack("a study file of the service's directory", "GET", "/v1/studies/pyproject.toml", 404, "no study"),
    Attack("SQL in a name", "GET", "/v1/studies/x'%20OR%201=1--", 422),
    Attack("a name without end", "GET", f"/v1/studies/{'x' * 5000}", 422),
    Attack("a champion elsewhere", "GET", "/v1/champions/..%2f..%2ftmp", 400, "path"),
    Attack("a champion that is a directory here", "POST", "/v1/champions/plugin/predict", 404, "no champion", {},
           {"json": {"rows": [[1]]}}),
    Attack("a run elsewhere", "GET", "/v1/runs/..%2fx", 400, "path"),
    Attack("no such run", "GET", "/v1/runs/nothing", 404, "no run"),
    Attack("no such study", "GET", "/v1/studies/nothing", 404, "no study"),
    Attack("no such stream", "GET", "/v1/studies/nothing/stream", 404, "no study"),
    Attack("no report yet", "GET", "/v1/studies/digits/report", 404, "no report"),
    Attack("nothing there", "GET", "/v1/nothing", 404, "nothing at"),
    Attack("a trial beyond all", "POST", "/v1/asked/toy/trials/99999999999999999999/tell", 422, "", {},
           {"json": {"lease": "x", "value": 1.0}}),
    Attack("a study that is not asked", "POST", "/v1/asked/digits/ask", 409, "workers of its own"),
    # study files
    data("a function", "os:system", "no code"),
    data("a function of a package", "tests.toy_data:blobs"),
    data("an absolute path", "/etc/passwd"),
    data("an absolute table", "/etc/secret.csv"),
    data("a way up", "../secret.csv"),
    data("a way up through the uploads", "uploads/../../secret.csv"),
    data("the user's home", "~/secret.csv"),
    data("an address", "https://evil.example/x.csv"),
    data("a bucket", "gs://evil/x.csv"),
    data("a link out of the uploads", "link.csv", "no upload"),
    data("an upload that is not there", "absent.csv", "no upload"),
    data("a directory here", "service_images", "of the service's own"),
    study_file("a test file elsewhere", f'{STUDY}test = "/etc/passwd"\n', "no other file"),
    study_file("a name of a file", STUDY.replace("fresh", "fresh.toml"), "study file"),
    study_file("a network of code", f'{STUDY}[objective]\nnetwork = "os:system"\n', "may not name code"),
    study_file("a sampler of code", f'{STUDY}[search]\nsampler = "os:system"\n', "may not name code"),
    study_file("a pruner of code", f'{STUDY}[search]\npruner = "os:system"\n', "may not name code"),
    study_file("a wrapped pruner of code",
               f'{STUDY}[search]\npruner = "patient"\npruner_options = {{wrapped = "os:system"}}\n', "name code"),
    study_file("code deep in options",
               f'{STUDY}[search]\nsampler = "tpe"\nsampler_options = {{a = [{{b = "os:system"}}]}}\n', "name code"),
    study_file("a name that is a path", STUDY.replace("fresh", "../fresh"), "name must be"),
    study_file("more workers than the machine", f"{STUDY}[search]\nworkers = 999\n", "search.workers"),
    study_file("a budget without end", f"{STUDY}[search]\ntrials = 99999999999\n", "search.trials"),
    study_file("a number without end", f"{STUDY}[search]\ntrials = {'9' * 10_000}\n", "TOML"),
    study_file("a range of NaN", f"{STUDY}[space]\nlearning_rate = {{low = nan, high = inf}}\n", "finite"),
    study_file("a range beyond floats", f"{STUDY}[space]\nlearning_rate = {{low = -1e308, high = 1e308}}\n"),
    study_file("a network that fills the memory", f"{STUDY}[space]\nunits = {{low = 1, high = 9007199254740992}}\n"),
    study_file("deep arrays", f"{STUDY}x = {DEEP}\n", "nested"),
    study_file("deep tables", f"{STUDY}[{'.'.join('a' * 2000)}]\n", "nested"),
    study_file("no TOML", "name = [", "TOML"),
    study_file("a file too large", f"{STUDY}# {'x' * 70_000}\n", "larger than", 413),
    Attack("a study file that is no text", "POST", "/v1/validate", 400, "UTF-8", {**TOML}, {"content": b"\xff\x00"}),
    Attack("a study file as a form", "POST", "/v1/studies", 415, "application/toml",
           {"Content-Type": "multipart/form-data; boundary=x"}, {"content": b"--x--"}),
    # numbers and JSON
    body("NaN", REPORT, '{"lease": "x", "step": 0, "value": NaN}', "NaN"),
    body("infinity", REPORT, '{"lease": "x", "step": 0, "value": -Infinity}', "Infinity"),
    body("1e309", REPORT, '{"lease": "x", "step": 0, "value": 1e309}', "too large"),
    body("1e308", REPORT, '{"lease": "x", "step": 0, "value": 1e308}', "value"),
    body("a whole number without end", REPORT, f'{{"lease": "x", "step": {"9" * 5000}, "value": 1}}', "digits"),
    body("a step before the first", REPORT, '{"lease": "x", "step": -1, "value": 1}', "step"),
    body("a step beyond the last", REPORT, '{"lease": "LEASE", "step": 5000, "value": 1}', "last step", 409),
    body("a step that is true", REPORT, '{"lease": "x", "step": true, "value": 1}', "step"),
    body("a value that is text", REPORT, '{"lease": "x", "step": 0, "value": "1"}', "value"),
    body("a lease of somebody else's", REPORT, '{"lease": "host:1:00", "step": 0, "value": 1}', "run out", 409),
    body("a lease without end", REPORT, f'{{"lease": "{"x" * 5000}", "step": 0, "value": 1}}', "lease"),
    body("a key too many", REPORT, '{"lease": "x", "step": 0, "value": 1, "admin": true}', "admin"),
    body("deep JSON", REPORT, DEEP, "nested", 400),
    body("no JSON", REPORT, "{", "JSON", 400),
    body("half a character", REPORT, b'{"lease": "\xff"}', "UTF-8", 400),
    body("half a surrogate", "/v1/asked/toy/trials/0/tell", r'{"lease": "\ud800", "value": 1}'),
    body("a body too large", "/v1/asked", json.dumps({"name": "x" * 2**21}), "at most", 413),
    Attack("JSON that says it is text", "POST", REPORT, 422, "", {"Content-Type": "text/plain"},
           {"content": '{"lease": "x", "step": 0, "value": 1}'}),
    body("complete without a value", "/v1/asked/toy/trials/0/tell", '{"lease": "LEASE"}', "with a value"),
    body("a trial that is not there", "/v1/asked/toy/trials/77/tell", '{"lease": "x", "value": 1}', "no trial 77", 404),
    asked("a parameter named as a path", space={"../x": {"low": 0, "high": 1}}),
    asked("no parameter", space={}),
    asked("nothing drawn", "draws nothing", 400, space={"x": 1.0}),
    asked("too many parameters", space={f"p{n}": {"low": 0.0, "high": 1.0} for n in range(201)}),
    asked("too many choices", space={"x": {"choices": list(range(1001))}}),
    asked("a range that is upside down", "low below high", 400, space={"x": {"low": 1.0, "high": 0.0}}),
    asked("a log of zero", "log scale", 400, space={"x": {"low": 0.0, "high": 1.0, "scale": "log"}}),
    asked("a lease that never ends", lease_s=1e12),
    asked("a sampler of code by asking", "may not name code", 400, sampler="os:system"),
    asked("a wrapped pruner of code by asking", "may not name code", 400, pruner="patient",
          pruner_options={"wrapped": "os:system"}),
    asked("a name of a study file", "study file", name="other.toml"),
    body("half of a surrogate pair", "/v1/asked", r'{"name": "\ud800"}', "surrogate"),
    asked("a pruner that pauses", "promotion", 400, pruner="promotion"),
    asked("a sampler's option that kills", "at most", 400, sampler_options={"n_ei_candidates": 10**12}),
    asked("a sampler's option that kills, as a float", "at most", 400, sampler_options={"n_startup_trials": 1e12}),
    asked("a sampler's option of another type", "", 400, sampler_options={"gamma": "exec"}),
    asked("a study of another kind", "another study", 409, name="digits"),
    # uploads
    upload("an upload elsewhere", "..%2fx.csv", b"a,b\n", "path"),
    upload("a hidden upload", ".x.csv", b"a,b\n", "", 422),
    upload("a program", "x.py", b"import os\n", "", 422),
    upload("a page", "x.html", b"<script>", "", 422),
    upload("an upload too large", "x.csv", bytes(2**20 + 1), "at most", 413),
    upload("an empty upload", "x.csv", b"", "empty", 422),
    upload("an upload that is there", "there.csv", b"a,b\n", "already", 409),
    upload("a pickle", "x.npy", b"\x80\x04\x95", "cannot be read"),
    upload("Python objects", "x.npz", archive(x=np.array([{}], dtype=object)), "Python objects"),
    upload("an archive that lies", "x.npz", lying_archive(), "cut off"),
    upload("a bomb", "x.npz", bomb(), "too much"),
    upload("an archive that is broken", "x.npz", broken_archive(), "x.npz cannot be read"),
    upload("an array's head without end", "x.npy", b"\x93NUMPY\x01\x00\x04\x00((((", "x.npy cannot be read"),
    upload("a value that is repeated without end", "x.parquet", repeated_values(), "too much"),
    upload("no archive", "x.npz", b"PK\x03\x04nothing", "cannot be read"),
    upload("no Parquet", "x.parquet", b"PAR1" + bytes(100) + b"PAR1", "cannot be read"),
    Attack("removing what is not there", "DELETE", "/v1/uploads/absent.csv", 404, "no upload"),
    # champions and control
    Attack("rows for nobody", "POST", "/v1/champions/nobody/predict", 404, "no champion", {},
           {"json": {"rows": [[1]]}}),
    Attack("no rows", "POST", "/v1/champions/nobody/predict", 422, "rows", {}, {"json": {"rows": []}}),
    Attack("a format of code", "POST", "/v1/champions/nobody/predict-file?format=pkl", 422, "format", {},
           {"content": b"x"}),
    Attack("an invented action", "POST", "/v1/studies/digits/trials/0/control", 422, "action", {},
           {"json": {"action": "explode"}}),
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AppClient, ServiceSettings, str]]:
    """A service whose home has a study, an asked one with a trial given out, and uploads, one of them a link."""
    place = tmp_path_factory.mktemp("attacked")
    (place / "service_images" / "class").mkdir(parents=True)
    (place / "service_images" / "class" / "one.png").write_bytes(b"")
    (place / "pyproject.toml").write_text(STUDY)
    (place / "plugin").mkdir()
    (place / "plugin" / "champion.json").write_text("{}")
    home = locate_home(place / "runs")
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    create_study(storage, parse_spec({"name": "digits", "data": {"dataset": "digits"}}), attributes={})
    storage.engine.dispose()
    settings = ServiceSettings(home=home, max_upload_bytes=2**20)
    settings.uploads.mkdir(parents=True)
    (settings.uploads / "there.csv").write_text("a,b\n")
    (settings.uploads / "link.csv").symlink_to("/etc/passwd")
    with pytest.MonkeyPatch.context() as patch, calling(make_app(settings)) as client:
        patch.chdir(place)
        assert client.post("/v1/asked", json=ASKED).status_code == 201
        lease = client.post("/v1/asked/toy/ask").json()["lease"]
        yield client, settings, lease


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.what.replace(" ", "-") for attack in ATTACKS])
def test_it_is_refused(served: tuple[AppClient, ServiceSettings, str], attack: Attack) -> None:
    client, settings, lease = served
    before = snapshot(settings.home.path)
    content = dict(attack.content)
    if isinstance(content.get("content"), str):
        content["content"] = content["content"].replace("LEASE", lease)
    answer = client.send(attack.method, attack.path, headers=attack.headers, **content)
    assert answer.status_code == attack.status, answer.text[:500]
    check_form(answer)
    assert attack.says in answer.json()["error"]["message"]
    assert snapshot(settings.home.path) == before


def check_form(answer: httpx.Response) -> None:
    """A refusal is JSON of one form, of a bounded length, without a traceback, and has the headers of every answer."""
    error = answer.json()["error"]
    assert error.keys() <= {"message", "way_out"}
    assert 0 < len(error["message"]) <= 2500
    assert "Traceback" not in answer.text
    assert "site-packages" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers


def snapshot(home: Path) -> set[str]:
    """Return what stands below a home, but for what SQLite makes and what a lock leaves."""
    paths = (path.relative_to(home) for path in home.rglob("*"))
    return {str(path) for path in paths if not path.name.endswith(("-wal", "-shm", ".lock"))}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[AppClient]:
    home = locate_home(tmp_path / "runs")
    with calling(make_app(ServiceSettings(home=home, token=TOKEN, hosts=("panda.example",)))) as client:
        yield client


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {'x' * 20_000}"},
        {"Cookie": f"caviar={TOKEN}"},
        {"Cookie": "caviar="},
        {"Cookie": 'caviar="\\'},
        {"X-Forwarded-For": "127.0.0.1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/studies", "/dashboard/", "/api/studies", "/mlflow/", "/v1/openapi.json", "/"])
def test_without_the_token_nothing_is_shown(guarded: AppClient, path: str, shown: dict[str, str | None]) -> None:
    answer = guarded.get(path, headers=shown)
    assert answer.status_code == 401
    check_form(answer)


def test_with_the_token_everything_is(guarded: AppClient) -> None:
    shown: dict[str, str | None] = {"Authorization": f"Bearer {TOKEN}", "Host": "panda.example"}
    assert guarded.get("/v1/studies", headers=shown).json() == []


def test_the_login_form_sets_a_cookie_that_opens_and_is_not_the_token(guarded: AppClient) -> None:
    assert guarded.get("/", headers={"Accept": "text/html"}).headers["Location"] == "/login"
    wrong = guarded.post("/login", data={"token": "wrong"}, headers={"X-Caviar": None})
    assert (wrong.status_code, "Set-Cookie" in wrong.headers) == (401, False)
    right = guarded.post("/login", data={"token": TOKEN}, headers={"X-Caviar": None, "Sec-Fetch-Site": "same-origin"})
    cookie = right.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert TOKEN not in cookie
    others = 'theme={"dark": 1}; '  # of another server of this machine, say
    assert guarded.get("/v1/studies", headers={"Cookie": others + cookie.partition(";")[0]}).status_code == 200


def test_a_cookie_that_is_set_through_https_stays_there(guarded: AppClient) -> None:
    """A proxy speaks HTTPS for the service, which itself is asked by HTTP."""
    for scheme, is_secure in (("https", True), ("http", False)):
        headers: dict[str, str | None] = {"Origin": f"{scheme}://localhost:8000"}
        answer = guarded.post("/login", data={"token": TOKEN}, headers=headers)
        assert ("Secure" in answer.headers["Set-Cookie"].split("; ")) == is_secure


def test_nobody_fills_the_memory_by_logging_in(guarded: AppClient) -> None:
    answer = guarded.post("/login", data={"token": "x" * 5000})
    assert (answer.status_code, "at most 4096" in answer.json()["error"]["message"]) == (413, True)


def test_a_cookie_alone_writes_nothing(guarded: AppClient) -> None:
    cookie = guarded.post("/login", data={"token": TOKEN}).headers["Set-Cookie"].partition(";")[0]
    answer = guarded.post("/v1/asked", json=ASKED, headers={"Cookie": cookie, "X-Caviar": None})
    assert answer.status_code == 403


def test_guesses_are_slowed_and_the_owner_is_not_locked_out(guarded: AppClient) -> None:
    guesses = [
        guarded.get("/v1/studies", headers={"Authorization": f"Bearer guess-{n}"}).status_code for n in range(15)
    ]
    assert guesses[:10] == [401] * 10
    assert guesses[-1] == 429
    assert guarded.get("/v1/studies", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_requests_without_end_are_slowed(tmp_path: Path) -> None:
    settings = ServiceSettings(home=locate_home(tmp_path / "runs"), requests_per_s=5)
    with calling(make_app(settings)) as client:
        found = [client.get("/v1/studies") for _ in range(40)]
    assert found[0].status_code == 200
    refused = [answer for answer in found if answer.status_code == 429]
    assert refused
    check_form(refused[0])
    assert refused[0].headers["Retry-After"] == "1"


def test_another_machine_is_refused_where_there_is_no_token(tmp_path: Path) -> None:
    app = make_app(ServiceSettings(home=locate_home(tmp_path / "runs")))
    with calling(app, address="192.0.2.7") as client:
        assert client.get("/v1/studies").status_code == 403
        assert client.get("/dashboard/").status_code == 403


def test_pages_allow_no_inline_script(guarded: AppClient) -> None:
    policy = guarded.get("/login").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_an_unexpected_error_gives_a_number_and_no_traceback(settings: ServiceSettings) -> None:
    app = make_app(settings)

    @app.get("/v1/broken")
    def broken() -> None:
        raise RuntimeError("the secret reason")

    with calling(app) as client:
        answer = client.get("/v1/broken")
    assert answer.status_code == 500
    check_form(answer)
    assert "secret" not in answer.text
