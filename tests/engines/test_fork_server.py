"""The fork server's socket, and processes that outlive who started them."""

import importlib.util
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from caviar.engines import worker_process
from caviar.engines.fork_server import client_modules, start_fork_server


def test_the_fork_server_has_an_address_however_long_tmpdir_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 80)
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]  # where the directory is kept
    monkeypatch.setitem(config, "tempdir", None)
    addresses: list[str] = []

    def ensure_running() -> None:
        addresses.append(multiprocessing.connection.arbitrary_address("AF_UNIX"))  # type: ignore[attr-defined]

    monkeypatch.setattr(multiprocessing.forkserver, "ensure_running", ensure_running)
    start_fork_server()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(addresses[0])
    assert tempfile.gettempdir() == str(directory)


def test_a_process_is_asked_to_leave_when_the_one_that_started_it_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinel, parents = os.pipe()
    os.close(parents)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(sentinel=sentinel))
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    try:
        worker_process._leave_with_parent()
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(sentinel)
    assert asked == [signal.SIGTERM]


@pytest.mark.parametrize("address", ["", "sqlite:///runs/mlflow.db", "file:///runs"])
def test_mlflow_is_not_loaded_where_runs_are_written_without_its_client(address: str) -> None:
    assert client_modules(address) == ()


@pytest.mark.parametrize("address", ["http://host:5000", "https://me:word@host", "postgresql+psycopg://me@host/runs"])
def test_mlflow_is_loaded_once_for_all_workers_where_its_client_writes_the_runs(address: str) -> None:
    modules = client_modules(address)
    assert len(modules) == 1 + address.startswith("postgresql")
    assert all(importlib.util.find_spec(name) for name in modules)


@pytest.mark.slow
def test_loading_mlflow_starts_no_thread_that_a_fork_would_lose() -> None:
    modules = client_modules("postgresql://host/runs")
    code = "import importlib, sys, threading\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    code += "print(threading.active_count(), 'mlflow.store.tracking.sqlalchemy_store' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code, *modules], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["1", "True"], said.stderr
    assert said.stderr == ""
