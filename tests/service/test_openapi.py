"""Whatever the OpenAPI allows, and much that it does not, is sent: no answer is a server's error, all are described."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from caviar.service.app import make_app
from caviar.service.settings import ServiceSettings
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.studies import create_study

from .asgi import listening

schemathesis = pytest.importorskip("schemathesis")
requests = pytest.importorskip("requests")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]


@schemathesis.serializer("application/toml")  # type: ignore[untyped-decorator]  # not there for every type check
def send_text(_context: Any, value: Any) -> bytes:
    return str(value).encode(errors="replace")


NEW = {"name": "toy", "direction": "minimize", "space": {"x": {"low": 0.0, "high": 1.0}}, "trials": 1000}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = locate_home(tmp_path_factory.mktemp("openapi") / "runs")
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    create_study(storage, parse_spec({"name": "digits", "data": {"dataset": "digits"}}), attributes={})
    storage.engine.dispose()
    with listening(make_app(ServiceSettings(home=home, requests_per_s=10_000))) as port:
        address = f"http://localhost:{port}"
        requests.post(f"{address}/v1/asked", json=NEW, headers={"X-Caviar": "1"}, timeout=10).raise_for_status()
        yield address


def send_and_check(case: Any, address: str) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    answer = case.call(base_url=address, headers={"X-Caviar": "1"}, timeout=20)
    checks = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
    case.validate_response(answer, checks=checks)


def test_no_request_is_answered_with_a_servers_error(address: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/v1/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        def send(case: Any) -> None:
            send_and_check(case, address)
            known = "toy" if "/asked/" in case.path else "digits"
            if "name" in case.path_parameters and not case.path.endswith(("/stream", "/champion", "/report")):
                case.path_parameters["name"] = known
                send_and_check(case, address)

        send()
