"""deploy/ as far as it can be checked without an engine or a cluster: all parses, and names only what exists."""

import json
import os
import re
import shlex
import signal
import subprocess
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # MLflow brings it; its types are no package of ours

from caviar.attributes import SPEC
from caviar.cli import main
from caviar.cli.serving import serve
from caviar.spec import parse_spec

from .documents import ROOT
from .processes import wait_until

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
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"}
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


@pytest.fixture(scope="module")
def kubernetes() -> dict[tuple[str, str], Any]:
    """The manifest's objects, by kind and name."""
    manifest = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
    return {(item["kind"], item["metadata"]["name"]): item for item in manifest["items"]}


def pods(kubernetes: dict[tuple[str, str], Any]) -> Iterator[tuple[str, Any]]:
    """Give what starts pods, and what these are."""
    for (kind, name), item in kubernetes.items():
        spec = item.get("spec", {})
        template = spec.get("jobTargetRef", spec).get("template")
        if template is not None:
            yield f"{kind} {name}", template["spec"]


def test_the_manifest_holds_to_kubernetes_schemas(kubernetes: dict[tuple[str, str], Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    of_kubernetes = [item for item in kubernetes.values() if "keda.sh" not in item["apiVersion"]]
    scaled = kubernetes["ScaledJob", "caviar-worker"]["spec"]["jobTargetRef"]  # a Job's, under another name
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "worker"}, "spec": scaled}
    for item in [*of_kubernetes, job]:
        validator.validate(item, validator.latest_version(), strict=True)


def test_its_objects_name_only_one_another(kubernetes: dict[tuple[str, str], Any]) -> None:
    given = {"caviar-postgres"}  # the secret that the head of the file has one make
    for where, pod in pods(kubernetes):
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        claimed = kubernetes["StatefulSet", "postgres"]["spec"]["volumeClaimTemplates"]
        for volume in volumes.values():
            for kind, key, field in (
                ("ConfigMap", "configMap", "name"),
                ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ):
                assert key not in volume or (kind, volume[key][field]) in kubernetes, where
        for container in pod["containers"]:
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts <= {*volumes, *(claim["metadata"]["name"] for claim in claimed)}, where
            for source in container.get("envFrom", ()):
                assert ("ConfigMap", source["configMapRef"]["name"]) in kubernetes, where
            secrets = [one["valueFrom"]["secretKeyRef"]["name"] for one in container["env"] if "valueFrom" in one]
            assert set(secrets) <= given, where
    for (kind, name), item in kubernetes.items():
        if kind == "Service":
            assert any(pod == f"Deployment {name}" or pod == f"StatefulSet {name}" for pod, _ in pods(kubernetes))
            assert item["spec"]["selector"] == {"app": name}
    text = (DEPLOY / "kubernetes.yaml").read_text("utf-8")
    assert not re.search(r"://\w+:[^@\s]+@", text)
    assert "kind: Secret" not in text


def test_its_pods_run_as_a_user_and_caviar_takes_their_commands(kubernetes: dict[tuple[str, str], Any]) -> None:
    studies = kubernetes["ConfigMap", "caviar-study"]["data"]
    (study,) = [parse_spec(tomllib.loads(text)) for text in studies.values()]
    seen = set()
    for where, pod in pods(kubernetes):
        assert pod["automountServiceAccountToken"] is False, where
        for container in pod["containers"]:
            if container["image"] != "optuna-caviar":
                continue
            assert pod["securityContext"]["runAsNonRoot"], where
            assert container["securityContext"]["readOnlyRootFilesystem"], where
            if container["command"] == ["caviar"]:
                verb, *arguments = container["args"]
                seen.add(verb)
                parameters = main.commands[verb].make_context(verb, arguments).params
                assert parameters.get("study", study.name) == study.name
                assert Path(parameters.get("study_file", "digits.toml")).name in studies
    assert seen == {"serve", "run", "worker"}


def test_workers_are_scaled_by_what_is_left_of_the_study(kubernetes: dict[tuple[str, str], Any]) -> None:
    scaled = kubernetes["ScaledJob", "caviar-worker"]["spec"]
    (trigger,) = scaled["triggers"]
    metadata = trigger["metadata"]
    assert trigger["type"] == "postgresql"
    assert ("TriggerAuthentication", trigger["authenticationRef"]["name"]) in kubernetes
    environment = kubernetes["ConfigMap", "caviar-environment"]["data"]
    address = f"postgresql+psycopg://{metadata['userName']}@{metadata['host']}/{metadata['dbName']}"
    assert environment["CAVIAR_STORAGE"] == address
    assert ("Service", metadata["host"]) in kubernetes
    assert f"spec.key = '{SPEC}'" in metadata["query"]
    assert all(isinstance(value, str) for value in metadata.values())  # as KEDA wants them


def test_the_ray_cluster_file_holds_to_rays_schema_and_opens_the_ports_that_it_says() -> None:
    text = (DEPLOY / "ray-cluster.yaml").read_text("utf-8")
    file = yaml.safe_load(text)
    head, worker = (shlex.split(file[f"{kind}_start_ray_commands"][-1]) for kind in ("head", "worker"))
    (port,) = [word.partition("=")[2] for word in head if word.startswith("--ray-client-server-port=")]
    assert f"--ray-address ray://HEAD:{port}" in text
    for words in (head, worker):
        assert "RAY_AUTH_MODE=token" in words
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'optuna-caviar[ray]'")
    jsonschema = pytest.importorskip("jsonschema", reason="Ray brings it")
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(file, json.loads(schema.read_text("utf-8")))


SLURM = DEPLOY / "slurm-array.sh"


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """The environment of a task of the array, on a node whose caviar and scontrol note how they were called."""
    ends = "trap 'exit 130' TERM; while test -e $LOGS/waits; do sleep 0.05; done; exit $(cat $LOGS/code)"
    programs = {"caviar": ends, "scontrol": ""}
    for name, rest in programs.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/bash\necho "$*" > $LOGS/{name}\n{rest}\n')
        file.chmod(0o755)
    (tmp_path / "code").write_text("0")
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "LOGS": str(tmp_path),
        "STUDY": "my digits.toml",
        "CAVIAR_STORAGE": "postgresql+psycopg://caviar@db/caviar",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "CAVIAR_HOME": str(tmp_path),
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_ARRAY_TASK_ID": "3",
    }


def test_a_slurm_task_runs_one_worker_and_ends_as_it_does(node: dict[str, str], tmp_path: Path) -> None:
    for code in ("0", "2"):
        (tmp_path / "code").write_text(code)
        assert subprocess.run(["bash", SLURM], env=node, check=False).returncode == int(code)
    assert (tmp_path / "caviar").read_text() == "run my digits.toml --workers 1\n"
    assert main.commands["run"].make_context("run", ["my digits.toml", "--workers", "1"]).args == []
    assert not (tmp_path / "scontrol").exists()
    for name in ("STUDY", "CAVIAR_STORAGE", "MLFLOW_TRACKING_URI", "CAVIAR_HOME"):
        without = {key: value for key, value in node.items() if key != name}
        refused = subprocess.run(["bash", SLURM], env=without, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert name in refused.stderr


def test_a_slurm_task_whose_time_is_up_asks_its_worker_to_leave_and_is_queued_again(
    node: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "waits").touch()
    with subprocess.Popen(["bash", SLURM], env=node) as task:
        wait_until((tmp_path / "caviar").exists)
        task.send_signal(signal.SIGTERM)
        assert task.wait(20) == 0
    assert (tmp_path / "scontrol").read_text() == "requeue 77_3\n"


def test_slurm_is_asked_for_what_it_knows() -> None:
    options = re.findall(r"^#SBATCH --([a-z-]+)(?:=\S+)?$", SLURM.read_text("utf-8"), flags=re.MULTILINE)
    known = {"job-name", "array", "ntasks", "cpus-per-task", "mem", "time", "requeue", "open-mode", "output", "signal"}
    assert len(options) == SLURM.read_text("utf-8").count("#SBATCH")
    assert set(options) == known
