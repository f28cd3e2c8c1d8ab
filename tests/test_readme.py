"""The README is true: its study is the project's, its Python runs, its make targets exist."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_study_shown_is_the_default_study() -> None:
    (shown,) = blocks("toml")
    assert tomllib.loads(shown) == tomllib.loads((ROOT / "studies" / "digits.toml").read_text(encoding="utf-8"))


def test_the_output_shown_was_produced_and_not_left_out() -> None:
    assert "@@" not in README
    assert "trials done" in README


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[-1][:60])
def test_the_python_shown_runs_and_leaves_nothing_behind(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_make_target_shown_exists_and_help_lists_it() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    targets = set(re.findall(r"(?:`|^    )make ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"study", "test", "dashboard", "mlflow"} <= targets
    assert all(f"make {target} " in listed for target in targets)


def test_every_document_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)
