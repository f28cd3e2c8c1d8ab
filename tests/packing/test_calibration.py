from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from caviar.packing import calibration
from caviar.packing.cost_model import TYPICAL, CostModel


@pytest.mark.slow
def test_prices_are_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache" / "prices.json"
    assert calibration.known_prices(path) == TYPICAL
    model = calibration.load_or_calibrate(path)
    assert len(model.prices) == len(TYPICAL.prices)
    assert np.isfinite(model.prices).all()
    assert min(model.prices) >= 0
    assert model.trace_s > 0
    monkeypatch.setattr(calibration, "calibrate", lambda: pytest.fail("measured again"))
    assert calibration.load_or_calibrate(path) == calibration.known_prices(path) == model


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(calibration, "calibrate", lambda: TYPICAL)
    assert calibration.load_or_calibrate(tmp_path / "file" / "prices.json") == TYPICAL


def test_prices_differ_by_threads_and_stand_in_the_user_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, two = (calibration.prices_path(threads=threads) for threads in (1, 2))
    assert one != two
    assert one.parent == tmp_path / "optuna-caviar"
    assert CostModel.load(one) is None


def cpuinfo(path: Path, *, model: str = "AMD EPYC", flags: str = "fpu avx2", megahertz: str = "2445") -> Path:
    path.write_text(f"model name\t: {model}\nflags\t: {flags}\ncpu MHz\t: {megahertz}\n" * 2)
    return path


@pytest.mark.parametrize("change", [{"model": "Intel Xeon"}, {"flags": "fpu avx2 avx512f"}], ids=str)
def test_prices_belong_to_a_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]) -> None:
    monkeypatch.setattr(calibration, "_PROCESSORS", cpuinfo(tmp_path / "cpuinfo"))
    path = calibration.prices_path(threads=1)
    cpuinfo(tmp_path / "cpuinfo", megahertz="3100")
    assert calibration.prices_path(threads=1) == path
    cpuinfo(tmp_path / "cpuinfo", **change)
    assert calibration.prices_path(threads=1) != path


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("importlib.metadata.version", "another"),
        ("platform.machine", "aarch64"),
        ("os.cpu_count", 96),
        ("caviar.packing.calibration._read_cache_bytes", 1),
        ("caviar.packing.calibration.sources_digest", "another"),
    ],
)
def test_prices_belong_to_the_machine_and_to_what_computes(
    monkeypatch: pytest.MonkeyPatch, target: str, value: object
) -> None:
    path = calibration.prices_path(threads=1)
    assert calibration.prices_path(threads=1) == path
    monkeypatch.setattr(target, lambda *_: value)
    assert calibration.prices_path(threads=1) != path


@pytest.mark.parametrize("variable", ["TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES"])
def test_prices_belong_to_what_the_environment_switches(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv(variable, raising=False)
    path = calibration.prices_path(threads=1)
    monkeypatch.setenv(variable, "0")
    assert calibration.prices_path(threads=1) != path


@pytest.mark.parametrize("damage", ["", "{}", "half", "NaN", "-1.0", "Infinity"])
def test_prices_that_cannot_be_right_are_measured_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "prices.json"
    TYPICAL.save(path)
    assert CostModel.load(path) == TYPICAL
    text = path.read_text()
    texts = {"half": text[: len(text) // 2], "": "", "{}": "{}"}
    path.write_text(texts[damage] if damage in texts else text.replace("2.5e-06", damage))
    assert CostModel.load(path) is None


def test_who_asks_while_another_process_measures_gets_typical_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "calibrate", lambda: pytest.fail("measured too"))
    path = tmp_path / "prices.json"
    with FileLock(f"{path}.lock"):  # flock excludes by open files, so within a process too
        assert calibration.load_or_calibrate(path) == TYPICAL
    assert not path.exists()
