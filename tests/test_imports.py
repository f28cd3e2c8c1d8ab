import sys
from pathlib import Path

import pytest

from caviar.errors import DataError, SpecError
from caviar.imports import import_callable, users_code

MODULES = {
    "fine_of_a_test": "number = 3\n\ndef build(hyperparameters, dataset):\n    return number\n",
    "raises_of_a_test": "x = 1\n1 / 0\n",
    "leaves_of_a_test": "import sys\nsys.exit(0)\n",
    "recurses_of_a_test": "def f():\n    f()\nf()\n",
    "broken_of_a_test": "def build(:\n",
    "circle_of_a_test": "from circle_of_a_test_too import build\ndef other(): pass\n",
    "circle_of_a_test_too": "from circle_of_a_test import other\ndef build(): pass\n",
    "needy_of_a_test": "import no_such_package_of_a_test\n",
    "lazy_of_a_test": "def __getattr__(name):\n    raise RuntimeError(name)\n",
}


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("raises_of_a_test:build", r"raised ZeroDivisionError: division by zero \(raises_of_a_test.py, line 2\)"),
        ("leaves_of_a_test:build", r"raised SystemExit: 0 \(leaves_of_a_test.py, line 2\)"),
        ("recurses_of_a_test:build", "raised RecursionError"),
        ("broken_of_a_test:build", r"raised SyntaxError: .*broken_of_a_test.py, line 1"),
        ("circle_of_a_test:build", "raised ImportError: .*partially initialized"),
        ("needy_of_a_test:build", "its module needs 'no_such_package_of_a_test', which is not installed"),
        ("lazy_of_a_test:build", "raised RuntimeError: build"),
        ("missing_of_a_test:build", "there is no module 'missing_of_a_test'. Put its directory on PYTHONPATH"),
        ("fine_of_a_test.below:build", "there is no module 'fine_of_a_test.below'"),
        ("fine_of_a_test:biuld", r"no such function. Did you mean 'build'\?"),
        ("fine_of_a_test:number", "no such function: it is of type int"),
        ("fine_of_a_test:build", r"called with \(hyperparameters\), but its arguments are .*: missing a required"),
    ],
)
def test_whatever_a_named_module_does_is_one_error_that_names_it(path: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"^objective.network '{path}': .*{message}"):
        import_callable(path, what="objective.network", takes=("hyperparameters",))


def test_what_can_be_called_as_it_will_be_is_returned() -> None:
    build = import_callable("fine_of_a_test:build", what="objective.network", takes=("hyperparameters", "dataset"))
    assert build({}, None) == 3
    assert import_callable("builtins:max", what="search.sampler", takes=("a", "b")) is max  # it shows no signature


def test_errors_of_ours_and_a_ctrl_c_pass() -> None:
    for error in (DataError("known"), KeyboardInterrupt()):
        with pytest.raises(type(error)), users_code("calling it"):
            raise error
