import platform
import subprocess
import sys

from caviar.record import environment_versions


def test_versions_name_python_and_what_decides_a_result() -> None:
    versions = environment_versions()
    assert versions["python"] == platform.python_version()
    assert {"platform", "tensorflow", "keras", "numpy", "optuna", "mlflow"} <= set(versions)
    assert all(versions.values())


def test_versions_can_be_changed_without_changing_the_next_answer() -> None:
    environment_versions()["python"] = "0"
    assert environment_versions()["python"] == platform.python_version()


def test_reading_them_and_making_a_mirror_imports_neither_mlflow_nor_tensorflow() -> None:
    code = (
        "import sys; from caviar.record import *; environment_versions(); "
        "MlflowMirror('sqlite:///nowhere/mlflow.db', study_name='x'); "
        "print([name for name in ('mlflow', 'tensorflow', 'keras') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
