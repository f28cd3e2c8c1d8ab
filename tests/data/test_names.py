"""What a data set's name means."""

from pathlib import Path

import pytest

from caviar.data.names import absolute_data
from caviar.spec import DataSpec


def test_a_prepared_directory_keeps_its_place_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = tmp_path / "mine"
    prepared.mkdir()
    for name in ("dataset_info.json", "features.json"):
        (prepared / name).touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # holds no data
    (tmp_path / "rows.csv").touch()
    names = {
        name: absolute_data(DataSpec(dataset=name)).dataset for name in ("mine", "rows.csv", "digits", "a.b:c", "")
    }
    assert names.pop("mine") == str(prepared)
    assert names.pop("rows.csv") == str(tmp_path / "rows.csv")
    assert all(given == made for given, made in names.items())
