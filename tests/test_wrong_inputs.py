"""Wrong inputs of every verb: each ends with one clear message, no traceback, and nothing half created."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from caviar.cli import main
from caviar.cli.session import Session
from caviar.spec import read_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.studies import create_study

STUDY = """name = "toy"
[data]
dataset = "tests.toy_data:blobs"
[search]
trials = 4
sampler = "random"
"""
HOMED = ("--home", "home")  # has an empty study
NEW = ("--home", "new")
RUN = ("run", "toy.toml", *NEW)


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A directory with one sound study file, some unsound ones, and a home with a study."""
    place = tmp_path_factory.mktemp("wrong")
    texts = {
        "toy.toml": STUDY,
        "empty.toml": "",
        "unclosed.toml": "name = [",
        "twice.toml": f"{STUDY}[data]\n",
        "arrays.toml": f"{STUDY}x = {'[' * 2000}{']' * 2000}\n",
        "tables.toml": f"{STUDY}[{'.'.join('a' * 2000)}]\n",
        "inline.toml": f"{STUDY}sampler_options = {'{a=' * 400}1{'}' * 400}\n",
        "long.toml": STUDY.replace("toy", "x" * 10**5),
        "steering.toml": STUDY.replace("toy", r"a\u001b[31mb"),
        "key.toml": STUDY.replace("trials", r'"a\u001b[31mb"'),
        "large.toml": f"{STUDY}# {'x' * 2**20}",
    }
    for name, text in texts.items():
        (place / name).write_text(text)
    (place / "utf16.toml").write_bytes(STUDY.encode("utf-16"))
    (place / "latin.toml").write_bytes(f"# é\n{STUDY}".encode("latin-1"))
    (place / "binary.toml").write_bytes(bytes(range(256)))
    (place / "directory.toml").mkdir()
    os.mkfifo(place / "pipe.toml")
    (place / "home").mkdir()
    storage = open_storage(f"sqlite:///{place / 'home' / 'optuna.db'}", owner=new_owner(), create=True)
    create_study(storage, read_spec(place / "toy.toml"), attributes={})
    storage.engine.dispose()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield


def caviar(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def files() -> set[str]:
    """Return what is there, without what SQLite keeps beside a database while it is open."""
    return {str(path) for path in Path().rglob("*") if not path.name.endswith(("-shm", "-wal", ".lock"))}


def settings(*pairs: str) -> tuple[str, ...]:
    return tuple(part for pair in pairs for part in ("--set", pair))


FILES = [
    *(("missing.toml", "There is no study file"), ("directory.toml", "Is a directory"), ("/dev/zero", "larger than")),
    *(("empty.toml", "needs 'name'"), ("unclosed.toml", "not valid TOML"), ("twice.toml", "Cannot declare")),
    *(("arrays.toml", "too deeply"), ("tables.toml", "too deeply"), ("inline.toml", "too deeply")),
    *(("utf16.toml", "as UTF-8"), ("latin.toml", "as UTF-8"), ("binary.toml", "cannot be read")),
    *(("long.toml", "at most 100 long"), ("steering.toml", r"a\x1b[31mb"), ("key.toml", r"a\x1b[31mb")),
    *(("large.toml", "larger than"), ("pipe.toml", "needs 'name'"), (f"{'x' * 5000}.toml", "File name too long")),
    ("a\x1b[31mb.toml", r"a\x1b[31mb"),
]
SETTINGS = [
    *(("", "takes KEY=VALUE"), ("=", "takes KEY=VALUE"), ("x", "takes KEY=VALUE"), ("=1", "takes KEY=VALUE")),
    *(("x=1", "no key 'x'"), (".=1", "no key ''"), ("search..trials=1", "no key"), ("search=1", "must be a table")),
    *(("search.trials.x=1", "not a table"), ("search.trials=", "whole number"), ("search.trials=1e9", "whole number")),
    *(
        ("search.trials=4\nx=1", "whole number"),
        ("search.trials=true", "whole number"),
        ("search.trials=0", "at least"),
    ),
    *(("seed=-1", "seed must be"), ("name=..", "name must be"), ("name=a/b", "name must be")),
    *(("data.dataset=", "names no data set"), ("data.dataset=.", "no prepared"), ("data.dataset=a b", "no data set")),
    *(("data.validation_fraction=nan", "above 0 and below 1"), ("objective.metric=f1", "No metric")),
    *(("objective.network=build", "package.module:function"), ("search.timeout_s=inf", "at most 1000000000")),
    *(("search.lease_s=nan", "at least 1"), ("search.sampler=", "No sampler"), ("search.pruner=tests", "No pruner")),
    *(("search.sampler_options={seed=3}", "takes no option 'seed'. There is none"), ("space={}", "draws nothing")),
    *(("space.depth=[1,2]", "whole number"), ("space.units={low=8,high=4}", "low below high")),
    *(("space.learning_rate={low=nan,high=1}", "must be finite"), ("space.learning_rate={choices=[]}", "at least one")),
    *((f"search.trials={'[' * 5000}", "whole number"), (f"{'a.' * 3000}a=1", "too deeply"), ("a\x1b[31mb=1", r"\x1b")),
    ("objective.network=tests.toy_data:leaving", "called with (hyperparameters, dataset)"),
    ("objective.network=tests.toy_data:np", "no such function: it is of type module"),
    ("objective.network=tests.no_such:build", "no module 'tests.no_such'"),
    ("search.sampler=tests.toy_data:leaving", "SystemExit"),
    ("search.sampler=tests.toy_data:blobs", "must make an optuna.samplers.BaseSampler"),
    ("search.pruner=tests.toy_data:blobs", "must make an optuna.pruners.BasePruner"),
]
OTHERS = [
    (("run",), "Missing argument"),
    (("run", "toy.toml", "--nosuch"), "No such option"),
    (("nosuch",), "No such command"),
    ((*RUN, "--trials", "many"), "not a valid integer"),
    ((*RUN, "--workers", "-1"), "at least 1, but got -1"),
    ((*RUN, "--timeout", "nan"), "must be a number"),
    ((*RUN, "--trainer", "flet"), "Did you mean 'fleet'?"),
    ((*RUN, "--from", "nosuch"), "There is no study database"),
    ((*RUN, "--from", "missing.toml"), "There is no study file"),
    ((*RUN, "--dry-run", "--storage", "nonsense", "--set", "search.sampler=x"), "No sampler"),
    (("run", "toy.toml", "--home", "toy.toml"), "cannot be written"),
    (("run", "toy.toml", "--home", "x" * 300), "File name too long"),
    (("check",), "Missing argument"),
    (("zoom", "toy", *HOMED), "no trials yet"),
    (("zoom", "toy", "--keep", "2", *HOMED), "between 0 and 1"),
    (("zoom", "toy", "--keep", "nan", *HOMED), "between 0 and 1"),
    (("zoom", "toy", "--trials", "0", *HOMED), "at least 1"),
    (("compare", "toy.toml", *NEW), "Missing option '--samplers'"),
    (("compare", "missing.toml", "--samplers", "tpe,random", *NEW), "There is no study file"),
    (("compare", "toy.toml", "--samplers", "grid", *NEW), "two or more"),
    (("compare", "toy.toml", "--samplers", "grid,grid", *NEW), "two or more"),
    (("compare", "toy.toml", "--samplers", "grid,rndom", *NEW), "Did you mean 'random'?"),
    (("compare", "toy.toml", "--samplers", "tpe,random", "--repeats", "0", *NEW), "at least 1"),
    (("compare", "toy.toml", "--samplers", "tpe,random", "--budget-epochs", "1", *NEW), "one whole training"),
    (("datasets", "nosuch"), "No such command"),
    (("datasets", "prepare"), "Missing argument"),
    (("datasets", "prepare", "a b"), "names no data set"),
    (("datasets", "prepare", "tests.toy_data:blobs"), "needs no preparing"),
    (("datasets", "prepare", "digits", "--manual-dir", "missing"), "does not exist"),
    (("trials", "toy", "--csv", "--json", *HOMED), "exclude each other"),
]
NAMED = ("status", "trials", "report", "zoom", "sync", "delete", "worker")
STUDIES = [
    *((("nosuch", *HOMED), "There is no study 'nosuch'. Allowed: toy."), (("", *HOMED), "There is no study ''")),
    *(
        (("a\x1b[31mb", *HOMED), r"'a\x1b[31mb'"),
        (("x" * 3000, *HOMED), "…"),
        (("missing.toml", *HOMED), "no study file"),
    ),
    *((("toy", *NEW), "no study database"), (("toy", "--home", "toy.toml"), "no study database")),
    *((("toy", "--storage", "nonsense"), "SQLite or PostgreSQL"), (("toy", "--storage", "sqlite://"), "keeps nothing")),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *((("run", file, *NEW), message) for file, message in FILES),
        *((("check", file, *NEW), message) for file, message in FILES[:6]),
        *(((*RUN, *settings(setting)), message) for setting, message in SETTINGS),
        *OTHERS,
        *(((verb, *rest), message) for verb in NAMED for rest, message in STUDIES),
        *((("doctor", *rest), message) for rest, message in STUDIES if "file" in message),
    ],
    ids=lambda value: repr(" ".join(value))[1:80] if isinstance(value, tuple) else "",
)
def test_a_wrong_input_ends_with_2_one_message_and_nothing_created(arguments: Sequence[str], message: str) -> None:
    before = files()
    result = caviar(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)  # none that would be a traceback
    assert message in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert (len(result.output) < 2500, "\x1b" in result.output, result.stdout) == (True, False, "")
    assert files() == before


@pytest.mark.parametrize("verb", ["run", "check", "worker"])
def test_another_backend_of_keras_is_refused(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    by_environment = caviar(verb, "toy.toml", *HOMED)
    assert (by_environment.exit_code, "KERAS_BACKEND chose 'jax'" in by_environment.stderr) == (2, True)
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    by_file = caviar(verb, "toy.toml", *HOMED)
    assert (by_file.exit_code, "keras.json chose 'torch'" in by_file.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("raise ImportError('libfoo.so.12: cannot open')", "TensorFlow cannot be imported: ImportError: libfoo.so.12"),
        ("import os; os.kill(os.getpid(), 11)", "the process that loads TensorFlow for all of them has ended"),
    ],
)
def test_a_tensorflow_that_cannot_be_imported_is_said_to_be_so(contents: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(contents)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    command = [sys.executable, "-m", "caviar", *RUN]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (ended.returncode, message in ended.stderr) == (1, True), ended.stderr
    assert (ended.stderr.count("\n"), ended.stdout, Path("new").exists()) == (1, "", False)


def test_results_print_where_the_terminal_lacks_their_characters() -> None:
    runner = CliRunner(charset="latin-1")
    for arguments in (("datasets",), ("run", "--help"), ("run", "missing−é.toml"), ("status", "toy", *HOMED, "--json")):
        result = runner.invoke(main, arguments)
        assert isinstance(result.exception, SystemExit | None), result.exception
    assert r"hyperband, \u2026" in runner.invoke(main, ("run", "--help")).stdout


def test_names_of_others_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(
        home_path=Path("home"), storage=None, files=None, tracking_uri=None, as_json=False, results=sys.stdout
    )
    session.print({}, lambda: "width\x1b[31m\n×")
    assert capsys.readouterr().out == "width\\x1b[31m\n×\n"
