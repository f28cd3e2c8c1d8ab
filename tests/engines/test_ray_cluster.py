"""Which hosts of a Ray cluster may work on a study, and what is said where Ray is missing; no cluster is needed."""

import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from caviar.cli import main
from caviar.engines import ray_cluster
from caviar.engines.opening import open_engine
from caviar.engines.ray_cluster import check_shared_storage
from caviar.errors import FatalError, SpecError, StorageError
from caviar.spec import SearchSpec
from caviar.storage.home import locate_home

ELSEWHERE = "203.0.113.7"  # of the block for documentation


def node(address: str, *, alive: bool = True) -> dict[str, Any]:
    return {"NodeManagerAddress": address, "Alive": alive}


def own_address() -> str:
    return str(psutil.net_if_addrs()["lo"][0].address)


def test_sqlite_is_refused_where_nodes_are_on_other_hosts(tmp_path: Path) -> None:
    nodes = [node(own_address()), node(ELSEWHERE)]
    with pytest.raises(
        StorageError, match=rf"optuna.db.*1 others \({ELSEWHERE}\). Use PostgreSQL.*--storage postgresql"
    ):
        check_shared_storage(locate_home(tmp_path), nodes)
    server = locate_home(tmp_path, storage="postgresql+psycopg://ann:secret@db/studies")
    with pytest.raises(StorageError, match=r"mlflow.db.*--tracking-uri http"):
        check_shared_storage(server, nodes)


def test_sqlite_binds_the_workers_to_this_host_and_servers_bind_none(tmp_path: Path) -> None:
    nodes = [node(own_address()), node(own_address()), node(ELSEWHERE, alive=False)]
    assert check_shared_storage(locate_home(tmp_path), nodes) == own_address()
    servers = locate_home(tmp_path, storage="postgresql+psycopg://ann@db/studies", tracking_uri="http://mlflow:5000")
    assert check_shared_storage(servers, [node(ELSEWHERE)]) is None


def test_where_ray_is_missing_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _name: None)
    engine = open_engine(SearchSpec(engine="ray"), locate_home(tmp_path))
    with pytest.raises(SpecError, match=r"pip install 'optuna-caviar\[ray\]'"), engine:
        pass


def test_a_cluster_that_is_not_there_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'optuna-caviar[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{port}")
    engine = open_engine(SearchSpec(engine="ray"), locate_home(tmp_path))
    with pytest.raises(FatalError, match=rf"no Ray cluster at ray://127.0.0.1:{port}: .*refused"), engine:
        pass


def test_an_address_without_the_engine_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "toy.toml"
    file.write_text('name = "toy"\n[data]\ndataset = "digits"\n')
    result = CliRunner().invoke(main, ["run", str(file), "--home", str(tmp_path / "runs"), "--ray-address", "auto"])
    assert result.exit_code == 2
    assert "Add --engine ray" in result.stderr
