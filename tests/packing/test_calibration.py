from pathlib import Path

import numpy as np
import pytest

from caviar.packing import calibration
from caviar.packing.cost_model import TYPICAL, CostModel
from caviar.storage.home import file_lock


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


def test_who_asks_while_another_process_measures_gets_typical_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "calibrate", lambda: pytest.fail("measured too"))
    path = tmp_path / "prices.json"
    with file_lock(path.with_name(path.name + ".lock")):  # flock excludes by open files, so within a process too
        assert calibration.load_or_calibrate(path) == TYPICAL
    assert not path.exists()
