"""deploy/ as far as it can be checked without a container engine: both files parse, and name only what exists."""

import json
import re
import shlex
import warnings
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # MLflow brings it; its types are no package of ours

from caviar.cli import main
from caviar.cli.serving import serve

from .documents import ROOT

DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """Return the Containerfile's instructions, continued lines joined."""
    lines = [line for line in (DEPLOY / "Containerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def test_the_containerfile_has_only_instructions_that_there_are() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {word for word, _ in instructions()} <= known
    assert instructions()[0][0] == "FROM"


def test_what_is_copied_into_the_image_is_there() -> None:
    copied = [shlex.split(rest)[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    names = [name for part in copied for name in part]
    assert "pyproject.toml" in names
    assert all((ROOT / name).exists() for name in names)


def test_the_image_runs_as_a_user_and_serves() -> None:
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    assert user != "root"
    (command,) = [json.loads(rest) for word, rest in instructions() if word == "CMD"]
    assert command[:2] == ["caviar", "serve"]
    options = serve.make_context("serve", command[2:]).params
    assert (options["host"], options["port"]) == ("0.0.0.0", 8000)
    assert any((word, rest) == ("EXPOSE", "8000") for word, rest in instructions())


def test_an_image_for_the_python_that_the_package_takes() -> None:
    images = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert {image.rpartition(":")[2] for image in images} == {"3.13-slim"}
    assert "<3.14" in (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_compose_file_has_the_service_its_database_and_mlflow(compose: Any) -> None:
    assert set(compose["services"]) == {"caviar", "worker", "mlflow", "postgres"}
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).is_file()
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_nothing_is_reached_from_elsewhere_and_no_password_stands_in_it(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert not service.get("privileged")
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    assert not re.search(r"://\w+:[^@\s]+@", text)
    assert text.count("${POSTGRES_PASSWORD:?") == 2


def test_its_commands_are_those_of_the_programs(compose: Any) -> None:
    program, verb, *_ = compose["services"]["worker"]["command"]
    assert program == "caviar"
    assert verb in main.commands
    environment = compose["services"]["caviar"]["environment"]
    assert {"CAVIAR_STORAGE", "MLFLOW_TRACKING_URI"} <= set(environment)
    assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


@pytest.mark.slow
def test_mlflow_takes_the_options_that_it_is_given(compose: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # between MLflow and the packages it uses
        from mlflow.cli import cli

    program, verb, *options = compose["services"]["mlflow"]["command"]
    assert program == "mlflow"
    known = {name for parameter in cli.commands[verb].params for name in parameter.opts}
    assert {option.partition("=")[0] for option in options} <= known
