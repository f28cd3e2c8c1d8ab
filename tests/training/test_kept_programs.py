"""Programs kept on disk: the next process does not trace them, and whatever befalls the files, training goes on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from caviar.config import NetworkConfig, TrainingConfig
from caviar.training import FleetData, FleetPrograms, FleetTrainer, KeptPrograms, Lane, TensorSplits

TRAINING = TrainingConfig(epochs=4, batch_size=16, learning_rate=0.05)
LANES = [
    Lane(network=NetworkConfig(depth=depth, units=8, batch_norm="before_activation"), training=TRAINING, seed=depth)
    for depth in (1, 2)
]


def make_programs(directory: Path, *, n_examples: int = 60) -> FleetPrograms:
    rng = np.random.default_rng(1)
    features = tf.constant(rng.normal(size=(n_examples, 5)).astype(np.float32))
    labels = tf.constant(rng.integers(0, 3, n_examples).astype(np.int32))
    splits = TensorSplits(
        train_features=features,
        train_labels=labels,
        validation_features=features[:20],
        validation_labels=labels[:20],
        n_classes=3,
    )
    return FleetPrograms(FleetData.from_splits(splits, normalization=None), kept=KeptPrograms(directory))


def train(programs: FleetPrograms) -> list[dict[str, float]]:
    with FleetTrainer(LANES, programs) as fleet:
        fleet.run_epoch()
        return fleet.run_epoch()


def kept_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_a_kept_program_is_not_traced_again_and_computes_the_same(tmp_path: Path) -> None:
    first, second = make_programs(tmp_path), make_programs(tmp_path)
    expected = train(first)
    assert (first.n_traces, first.n_programs) == (1, 1)
    assert train(second) == expected
    assert (second.n_traces, second.n_programs) == (0, 1)
    assert len(kept_files(tmp_path)) == 1


def test_data_of_another_size_shares_the_kept_program(tmp_path: Path) -> None:
    train(make_programs(tmp_path))
    larger = make_programs(tmp_path, n_examples=90)
    with_kept = train(larger)
    assert larger.n_traces == 0
    assert with_kept == train(make_programs(tmp_path / "empty", n_examples=90))


@pytest.mark.slow
def test_another_process_takes_the_kept_program(tmp_path: Path) -> None:
    expected = train(make_programs(tmp_path))
    # A fleet of another family is traced first, so that names of functions would clash if the kept ones had the same.
    code = """if True:
        import sys
        from pathlib import Path
        from tests.training import test_kept_programs as here
        programs = here.make_programs(Path(sys.argv[1]))
        other = here.Lane(network=here.NetworkConfig(depth=2, units=8), training=here.TRAINING, seed=0)
        with here.FleetTrainer([other], programs) as fleet:
            fleet.run_epoch()
        print(here.train(programs), programs.n_traces, programs.n_programs)
    """
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=120,
        check=True,
    )
    assert result.stdout.split("\n")[-2] == f"{expected} 1 2"


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def overwrite(file: Path) -> None:
    file.write_bytes(bytes(1000))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [cut_off, overwrite, empty, remove])
def test_a_damaged_file_is_traced_again_and_replaced(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    expected = train(make_programs(tmp_path))
    damage(kept_files(tmp_path)[0])
    again = make_programs(tmp_path)
    assert train(again) == expected
    assert again.n_traces == 1
    healed = make_programs(tmp_path)
    train(healed)
    assert healed.n_traces == 0


def test_where_nothing_can_be_written_programs_are_traced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    for _ in range(2):
        programs = make_programs(tmp_path / "file")
        train(programs)
        assert programs.n_traces == 1


def test_programs_of_other_versions_go_after_a_month(tmp_path: Path) -> None:
    old, recent, other = tmp_path / "programs-old", tmp_path / "programs-recent", tmp_path / "prices"
    for directory in (old, recent, other):
        directory.mkdir()
        (directory / "file").write_text("")
    for directory in (old, other):
        os.utime(directory, times=(time.time() - 40 * 86_400,) * 2)
    train(make_programs(tmp_path))
    assert [directory.exists() for directory in (old, recent, other)] == [False, True, True]
