"""Programs kept on disk: the next process does not trace them, and whatever befalls the files, training goes on."""

import dataclasses
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from caviar.config import NetworkConfig, Optimizer, TrainingConfig
from caviar.training import FleetData, FleetPrograms, FleetTrainer, KeptPrograms, Lane, TensorSplits
from caviar.training.fleet import kept

TRAINING = TrainingConfig(epochs=4, batch_size=16, learning_rate=0.05)
LANES = [
    Lane(network=NetworkConfig(depth=depth, units=8, batch_norm="before_activation"), training=TRAINING, seed=depth)
    for depth in (1, 2)
]


def make_programs(
    directory: Path,
    *,
    n_examples: int = 60,
    n_features: int = 5,
    n_classes: int = 3,
    dtype: str = "float32",
    largest_normalized_bytes: int = 1 << 20,
    weighted: bool = False,
    by_class: bool = False,
    kept: Any = None,
) -> FleetPrograms:
    rng = np.random.default_rng(1)
    features = tf.constant(rng.normal(scale=3.0, size=(n_examples, n_features)).astype(dtype))
    labels = tf.constant(rng.integers(0, n_classes, n_examples).astype(np.int32))
    splits = TensorSplits(
        train_features=features,
        train_labels=labels,
        validation_features=features[:20],
        validation_labels=labels[:20],
        n_classes=n_classes,
        class_weights=tf.ones([n_classes]) if weighted else None,
        by_class=by_class,
    )
    normalization = (np.zeros(n_features, np.float32), np.ones(n_features, np.float32))
    data = FleetData.from_splits(splits, normalization=normalization, largest_normalized_bytes=largest_normalized_bytes)
    return FleetPrograms(data, kept=kept or KeptPrograms(directory))


def train(programs: FleetPrograms, lanes: Sequence[Lane] = LANES) -> list[dict[str, float]]:
    with FleetTrainer(lanes, programs) as fleet:
        fleet.run_epoch()
        return fleet.run_epoch()


def kept_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def curve_and_directory(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, float]], Path]:
    """What training gives, and a directory that keeps its program; traced once for all tests."""
    directory = tmp_path_factory.mktemp("kept")
    programs = make_programs(directory)
    curve = train(programs)
    assert (programs.n_traces, len(programs.keys)) == (1, 1)
    return curve, directory


@pytest.fixture
def curve(curve_and_directory: tuple[list[dict[str, float]], Path]) -> list[dict[str, float]]:
    return curve_and_directory[0]


@pytest.fixture
def directory(curve_and_directory: tuple[list[dict[str, float]], Path], tmp_path: Path) -> Path:
    """A directory of the test's own that keeps the program."""
    return shutil.copytree(curve_and_directory[1], tmp_path / "kept")


def test_a_kept_program_is_not_traced_again_and_computes_the_same(
    directory: Path, curve: list[dict[str, float]]
) -> None:
    programs = make_programs(directory)
    assert train(programs) == curve
    assert (programs.n_traces, len(programs.keys)) == (0, 1)
    assert len(kept_files(directory)) == 1


def test_data_of_another_size_shares_the_kept_program(directory: Path, tmp_path: Path) -> None:
    larger = make_programs(directory, n_examples=90)
    with_kept = train(larger)
    assert larger.n_traces == 0
    assert with_kept == train(make_programs(tmp_path / "empty", n_examples=90))


class AskedError(Exception):
    """Holds the name under which a program is looked for."""


class Asked:
    """Keeps nothing, and tells the name that it is asked for."""

    def load(self, name: str) -> None:
        raise AskedError(name)


def name_of(lanes: Sequence[Lane], **data: Any) -> str:
    """Return the name under which the program of these lanes and this data is kept; nothing is traced."""
    with pytest.raises(AskedError) as asked:
        train(make_programs(Path("nowhere"), kept=Asked(), **data), lanes)
    return str(asked.value)


def lane(*, optimizer: Optimizer = "sgd", batch_size: int = 16, **network: Any) -> Lane:
    training = dataclasses.replace(TRAINING, optimizer=optimizer, batch_size=batch_size)
    return Lane(network=NetworkConfig(**{"depth": 1, "units": 8, **network}), training=training, seed=0)


@pytest.mark.parametrize(
    "change", [{"n_features": 6}, {"n_classes": 4}, {"dtype": "int16"}, {"weighted": True}, {"by_class": True}], ids=str
)
def test_a_kept_program_depends_on_the_form_of_its_data(change: dict[str, Any]) -> None:
    in_steps = {"largest_normalized_bytes": 0}  # so that the features keep their type
    assert name_of([lane()], **in_steps) != name_of([lane()], **in_steps, **change)


def test_a_kept_program_depends_on_where_its_data_is_normalised_and_not_on_its_size() -> None:
    assert name_of([lane()]) != name_of([lane()], largest_normalized_bytes=0)
    assert name_of([lane()]) == name_of([lane()], n_examples=90)


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 2},
        {"activation": "tanh"},
        {"batch_norm": "after_activation"},
        {"dropout": 0.5},
        {"l2": 0.01},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_a_kept_program_depends_on_what_is_constant_in_it(change: dict[str, Any]) -> None:
    assert name_of([lane()]) != name_of([lane(**change)])


def test_a_kept_program_depends_on_whether_batch_sizes_differ_and_not_on_sizes() -> None:
    assert name_of([lane(), lane()]) != name_of([lane(), lane(batch_size=32)])
    assert name_of([lane()]) == name_of([lane(batch_size=32, units=9)]) == name_of([lane(), lane()])


def test_a_kept_program_depends_on_the_float_type() -> None:
    before, name = keras.config.floatx(), name_of([lane()])
    keras.config.set_floatx("float64")
    try:
        assert name_of([lane()]) != name
    finally:
        keras.config.set_floatx(before)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (tf, "__version__"),
        (tf.version, "GIT_VERSION"),
        (keras, "__version__"),
        (np, "__version__"),
        (platform, "python_version"),
        (platform, "machine"),
        (kept, "sources_digest"),
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_programs_belong_to_who_traced_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    traced = tf.function(lambda x: x + 1.0, input_signature=[tf.TensorSpec([], tf.float32)]).get_concrete_function()
    KeptPrograms(tmp_path).save("addition", traced)
    assert KeptPrograms(tmp_path).load("addition") is not None
    monkeypatch.setattr(module, name, (lambda: "another") if callable(getattr(module, name)) else "another")
    assert KeptPrograms(tmp_path).load("addition") is None


def test_a_kept_program_that_does_not_fit_its_data_is_traced_again_and_replaced(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_programs(tmp_path / "own", n_classes=4)
    expected = train(other)
    assert other.n_traces == 1  # data of another form has a program of its own
    (wrong,), (own,) = kept_files(directory), kept_files(tmp_path / "own")
    own.write_bytes(wrong.read_bytes())
    again, healed = (make_programs(tmp_path / "own", n_classes=4) for _ in range(2))
    assert train(again) == expected
    assert again.n_traces == 1
    assert "does not fit its data" in caplog.text
    assert train(healed) == expected
    assert healed.n_traces == 0


@pytest.mark.slow
def test_another_process_takes_the_kept_program(directory: Path, curve: list[dict[str, float]]) -> None:
    # A fleet of another kind is traced first, so that names of functions would clash if the kept ones had the same.
    code = """if True:
        import sys
        from pathlib import Path
        from caviar.engines.quiet import import_tensorflow_quietly
        import_tensorflow_quietly()  # in half the time
        from tests.training import test_kept_programs as here
        programs = here.make_programs(Path(sys.argv[1]))
        other = here.Lane(network=here.NetworkConfig(depth=2, units=8), training=here.TRAINING, seed=0)
        with here.FleetTrainer([other], programs) as fleet:
            fleet.run_epoch()
        print(here.train(programs), programs.n_traces, len(programs.keys))
    """
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        timeout=120,
        check=True,
    )
    assert result.stdout.split("\n")[-2] == f"{curve} 1 2"


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def overwrite(file: Path) -> None:
    file.write_bytes(bytes(1000))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [cut_off, overwrite, empty, remove])
def test_a_damaged_file_is_traced_again_and_replaced(
    directory: Path, curve: list[dict[str, float]], damage: Callable[[Path], None]
) -> None:
    damage(kept_files(directory)[0])
    again = make_programs(directory)
    assert train(again) == curve
    assert again.n_traces == 1
    healed = make_programs(directory)
    train(healed)
    assert healed.n_traces == 0


def test_where_nothing_can_be_written_programs_are_traced(tmp_path: Path, curve: list[dict[str, float]]) -> None:
    (tmp_path / "file").write_text("no directory")
    programs = make_programs(tmp_path / "file")
    assert train(programs) == curve
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
