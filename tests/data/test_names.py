"""What a data set's name means."""

from pathlib import Path

import pytest

from caviar.data.names import absolute_name


def test_a_prepared_directory_keeps_its_place_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = tmp_path / "mine"
    prepared.mkdir()
    for name in ("dataset_info.json", "features.json"):
        (prepared / name).touch()
    monkeypatch.chdir(tmp_path)
    assert absolute_name("mine") == str(prepared)
    assert [absolute_name(name) for name in ("digits", "a.b:c", "")] == ["digits", "a.b:c", ""]
