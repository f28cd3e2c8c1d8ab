"""The house's order: a folder imports only from the floors below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "plugin" / "caviar"
#: From the ground up; modules on one floor may import each other.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset(
        {
            "atomic_write",
            "attributes",
            "config",
            "imports",
            "keras_backend",
            "memory",
            "metrics",
            "optuna_private",
            "parameters",
            "program_key",
            "sampler_table",
            "user_cache",
        }
    ),
    frozenset({"interventions", "space", "spec", "study_file"}),
    frozenset({"data"}),
    frozenset({"networks"}),
    frozenset({"training"}),
    frozenset({"storage"}),
    frozenset({"search"}),
    frozenset({"record"}),
    frozenset({"packing"}),
    frozenset({"worker"}),
    frozenset({"engines"}),
    frozenset({"health"}),
    frozenset({"insight"}),
    frozenset({"champion"}),
    frozenset({"commands"}),
    frozenset({"estimator"}),
    frozenset({"service"}),
    frozenset({"cli"}),
    frozenset({"__main__", "__init__"}),
)
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def floor_of(name: str) -> int:
    return next(index for index, floor in enumerate(FLOORS) if name in floor)


def imported_parts(path: Path) -> set[str]:
    """Return the top-level parts of the package that a module imports, at its head or inside a function."""
    inside = path.relative_to(PACKAGE).parts
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            parts |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("caviar.")}
        elif isinstance(node, ast.ImportFrom) and node.level == len(inside):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            parts |= {name.split(".")[0] for name in names}
    return parts - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for part in imported_parts(path):
        assert floor_of(part) <= floor_of(own), f"{own} stands below {part}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_grows_past_350_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
