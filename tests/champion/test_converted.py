"""A champion as an ONNX or TFLite file gives what it gives itself."""

import sys
from pathlib import Path

import numpy as np
import pytest

from caviar import load_champion
from caviar.champion.saved import Champion
from caviar.commands.champion import make_champion
from caviar.commands.predict import export_champion
from caviar.commands.run import run_study
from caviar.errors import SpecError, StorageError
from caviar.spec import parse_spec
from caviar.storage.home import Home, locate_home

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    directory = tmp_path_factory.mktemp("converted")
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (80, 4, 4), np.uint8)
    np.savez(directory / "images.npz", x=x, y=x.mean(axis=(1, 2)) > 127)
    table = {
        "name": "images",
        "data": {"dataset": str(directory / "images.npz")},
        "objective": {"epochs": 3},
        "search": {"trials": 2, "pruner": "none", "sampler": "random"},
        "space": {
            "learning_rate": {"low": 0.01, "high": 0.1, "scale": "log"},
            "units": 8,
            "batch_size": 16,
            "batch_norm": "after_activation",
        },
    }
    home = locate_home(directory / "home")
    run_study(parse_spec(table), home)
    make_champion(home, "images", top=1, seeds=2)
    return home


@pytest.fixture
def champion(home: Home) -> Champion:
    return load_champion("images", home=home.path)


X = np.random.default_rng(1).integers(0, 256, (9, 4, 4), np.uint8)


def test_onnx_takes_raw_images_and_gives_the_probabilities(home: Home, champion: Champion, tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    export_champion(home, "images", tmp_path / "images.onnx")
    session = runtime.InferenceSession(tmp_path / "images.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.run(["probabilities"], {"features": X})
    np.testing.assert_allclose(given, champion.predict_proba(X), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tflite_takes_raw_images_and_gives_the_probabilities(home: Home, champion: Champion, tmp_path: Path) -> None:
    import tensorflow as tf

    export_champion(home, "images", tmp_path / "images.tflite")
    interpreter = tf.lite.Interpreter(model_path=str(tmp_path / "images.tflite"))
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(takes["index"], X.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(takes["index"], X)
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_tensor(gives["index"]), champion.predict_proba(X), atol=1e-6)


def test_another_suffix_and_a_missing_converter_are_said(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpecError, match=r"to a \.onnx or \.tflite file, but got .*network\.pt"):
        export_champion(home, "images", tmp_path / "network.pt")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(
        SpecError, match=r"needs tf2onnx, which is not installed: `pip install 'optuna-caviar\[onnx\]'`"
    ):
        export_champion(home, "images", tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_would_give_something_else_is_not_written(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caviar.champion.converted._TOLERANCE", -1.0)
    with pytest.raises(StorageError, match="gives other probabilities as"):
        export_champion(home, "images", tmp_path / "network.tflite")
    assert list(tmp_path.iterdir()) == []
