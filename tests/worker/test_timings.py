import json
from pathlib import Path

from caviar.worker.crew import Timings


def test_phases_add_up_and_are_written(tmp_path: Path) -> None:
    timings = Timings()
    timings.add("training_s", 1.5)
    with timings.phase("training_s"):
        pass
    assert timings.training_s >= 1.5
    timings.save(tmp_path / "timings" / "toy.json")
    table = json.loads((tmp_path / "timings" / "toy.json").read_text())
    assert table["training_s"] == timings.training_s
    assert table["compile_s"] == 0.0


def test_a_directory_that_cannot_be_made_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Timings().save(tmp_path / "file" / "toy.json")
