"""What several tests share: a study on disk without a network to train."""

import contextlib
import gc
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Engine
from sqlalchemy.util import LRUCache

from caviar.engines.quiet import import_tensorflow_quietly
from caviar.spec import StudySpec, parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.leased_storage import LeasedStorage

from .browser import Browser
from .object_store import serving_s3

if TYPE_CHECKING:
    from .postgresql import Server


#: Directories whose tests train networks.
_TRAINING = ("training", "worker")


def pytest_configure(config: pytest.Config) -> None:
    """Import TensorFlow as workers do where tests run, and look for no garbage meanwhile: that takes half as long."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        gc.disable()
        import_tensorflow_quietly()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no process is left with one when the others are done."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.path.parent.name in _TRAINING}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """Keep what the tests import out of the garbage collector's way: it would look through TensorFlow each time."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # what a test makes goes with it; to look for garbage took a twelfth of the time


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    """Undo what a test has set; what is set already is not set again, since that empties the cache of every logger."""
    if optuna.logging.get_verbosity() != optuna.logging.WARNING:
        optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is measured of the machine out of the user's cache; tests of another process leave things in theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _migrations_read_once() -> Iterator[None]:
    """Compile Optuna's migrations once a session, not with every storage: that takes a quarter of many tests' time."""
    heads: dict[str, str | None] = {}
    read_head = ScriptDirectory.get_current_head

    def get_current_head(directory: ScriptDirectory) -> str | None:
        if directory.dir not in heads:
            heads[directory.dir] = read_head(directory)
        return heads[directory.dir]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "get_current_head", get_current_head)
        yield


@pytest.fixture(scope="session", autouse=True)
def _statements_compiled_once() -> Iterator[None]:
    """Compile SQL once a session, not with every storage: SQLAlchemy keeps it with the engine, for that one's dialect.

    A dialect is the same for every database of a process: one SQLite, one server of PostgreSQL.
    """
    compiled: LRUCache[Any, Any] = LRUCache(5000)
    dialects = (SQLiteDialect_pysqlite, PGDialect_psycopg)
    begin = Engine.__init__

    def begin_with_all(engine: Engine, *arguments: Any, **options: Any) -> None:
        begin(engine, *arguments, **options)
        if type(engine.dialect) in dialects:
            engine._compiled_cache = compiled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "__init__", begin_with_all)
        for dialect in dialects:
            patch.setattr(dialect, "__eq__", lambda one, other: type(one) is type(other))
            patch.setattr(dialect, "__hash__", lambda one: hash(type(one)))
        yield


@pytest.fixture
def spec() -> StudySpec:
    return parse_spec({"name": "toy", "data": {"dataset": "digits"}, "search": {"trials": 4, "sampler": "random"}})


@pytest.fixture
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A study database of the test's own: an SQLite file, or as the test is parametrized (`EVERY_DATABASE`)."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'optuna.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def storage(storage_url: str) -> LeasedStorage:
    return open_storage(storage_url, owner=new_owner(), create=True)


@pytest.fixture(scope="session")
def postgresql() -> "Iterator[Server]":
    """A PostgreSQL server; the test is skipped where there is none. Each process of pytest-xdist starts its own."""
    pytest.importorskip("psycopg", reason="the package psycopg is not installed")
    from .postgresql import running_server

    with running_server() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: "Server") -> Iterator[str]:
    """A database of the test's own, with Optuna's empty tables."""
    with postgresql.study_database() as url:
        yield url


@pytest.fixture(scope="session")
def tracking_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database to be copied into a home: making one takes seconds."""
    from caviar.record.tracking import prepare_tracking

    path = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    prepare_tracking(f"sqlite:///{path}")
    return path


@pytest.fixture
def prepared_home(tmp_path: Path, tracking_template: Path) -> Path:
    """A home directory in which only MLflow's empty database stands."""
    path = tmp_path / "runs"
    path.mkdir()
    shutil.copy(tracking_template, path)
    return path


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The address of a directory in an S3 server; skipped with a reason where there is none."""
    with serving_s3() as url:
        yield url


@pytest.fixture(scope="session")
def _browser() -> Iterator[Browser]:
    """One for all tests: starting it takes seconds."""
    with contextlib.closing(Browser()) as browser:
        yield browser


@pytest.fixture
def browser(_browser: Browser) -> Iterator[Browser]:
    """A browser for the tests that are marked `BROWSER`; the page is left with the test, since it works on."""
    yield _browser
    _browser.leave()


@pytest.fixture
def memory_url() -> Iterator[str]:
    """The address of an empty directory in this process' memory."""
    import fsspec

    url = f"memory://files-{uuid.uuid4().hex}"
    yield url
    with contextlib.suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(url, recursive=True)
