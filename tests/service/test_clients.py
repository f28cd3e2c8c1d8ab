"""The two clients that the page on the service shows: both are run against a real server."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.service.app import make_app
from caviar.service.settings import ServiceSettings
from caviar.storage.home import locate_home
from tests.documents import blocks

from .asgi import TOKEN, listening

#: Threads of the service make samplers at once, and share Python's filters with the tests.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    settings = ServiceSettings(home=locate_home(tmp_path / "runs"), token=TOKEN)
    with listening(make_app(settings)) as port:
        yield {**os.environ, "CAVIAR_SERVICE": f"http://localhost:{port}", "CAVIAR_TOKEN": TOKEN, "NO_PROXY": "*"}


def test_two_clients_in_python_share_the_budget(environment: dict[str, str]) -> None:
    (code,) = blocks("docs/service.md", "python")
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 30
    clients = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for client in clients:
        output, _ = client.communicate(timeout=60)
        assert client.returncode == 0
        assert json.loads(output.replace("'", '"'))["value"] < 10


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_client_in_curl_spends_the_budget(environment: dict[str, str]) -> None:
    code, _control = blocks("docs/service.md", "sh")
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 30
    done = subprocess.run(["sh", "-eu", "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count('{"ended":true}') == 5
    assert json.loads(done.stdout[done.stdout.rindex('{"number"') :])["state"] == "complete"
