import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from caviar.data.loading import load_dataset, load_test_split
from caviar.errors import DataError, SpecError

X = np.arange(40, dtype=np.float64).reshape(20, 2)
Y = np.arange(20) % 2


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """Makes a module whose function returns the given value, and returns its name as a data set."""

    def make(value: Any) -> str:
        sys.modules["arrays_of_a_test"].load = lambda: value  # type: ignore[attr-defined]
        return "arrays_of_a_test:load"

    (tmp_path / "arrays_of_a_test.py").write_text(
        "def broken():\n    raise ZeroDivisionError('oh')\n\nnumber = 3\n"
        "def picky(split):\n    pass\n\ndef leaving():\n    raise SystemExit(0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "arrays_of_a_test", raising=False)
    __import__("arrays_of_a_test")
    return make


def prepare(directory: Path, features: dict[str, Any], splits: dict[str, list[Any]], keys: Any = None) -> str:
    """Prepares a TFDS data set of these examples, and returns the name of its directory."""

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features_dict = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(
                builder=self, features=features_dict, supervised_keys=keys, disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            return {name: iter(enumerate(examples)) for name, examples in splits.items()}

        def _generate_examples(self) -> Any:
            raise NotImplementedError

    builder = Tiny(data_dir=directory)
    builder.download_and_prepare()
    return str(builder.data_dir)


# --- digits ---------------------------------------------------------------------------------------------------------


def test_digits_are_split_into_train_and_validation_and_test_stays_apart(data_dir: Path) -> None:
    dataset = load_dataset("digits", data_dir=data_dir)
    test = load_test_split("digits", data_dir=data_dir)
    assert dataset.train.features.shape == (1149, 8, 8, 1)
    assert dataset.validation.features.shape == (288, 8, 8, 1)
    assert test.features.shape == (360, 8, 8, 1)
    assert dataset.feature_shape == (8, 8, 1)
    assert dataset.n_classes == 10
    assert dataset.class_names == tuple("0123456789")
    for split in (dataset.train, dataset.validation, test):
        assert split.features.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert split.labels.shape == (len(split.features),)
    parts = [{image.tobytes() for image in split.features} for split in (dataset.train, dataset.validation, test)]
    assert len(set.union(*parts)) == sum(len(part) for part in parts) == 1797


def test_validation_is_stratified_and_follows_the_seed(data_dir: Path) -> None:
    first, again, other = (load_dataset("digits", data_dir=data_dir, seed=seed) for seed in (0, 0, 1))
    whole = np.bincount(np.concatenate([first.train.labels, first.validation.labels]))
    assert np.all(np.abs(np.bincount(first.validation.labels) - whole * 0.2) < 1)
    assert np.array_equal(first.validation.features, again.validation.features)
    assert not np.array_equal(first.validation.features, other.validation.features)


def test_validation_fraction_is_the_share_cut_off(data_dir: Path) -> None:
    assert len(load_dataset("digits", data_dir=data_dir, validation_fraction=0.5).validation.labels) == 719


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_a_cut_of_less_than_one_example_is_refused(data_dir: Path, fraction: float) -> None:
    with pytest.raises(SpecError, match=r"at least one of the 1437 examples .* between 0.0007 and 0.999304"):
        load_dataset("digits", data_dir=data_dir, validation_fraction=fraction)


def test_fingerprint_is_of_the_data_alone(data_dir: Path) -> None:
    first = load_dataset("digits", data_dir=data_dir).fingerprint
    other_cut = load_dataset("digits", data_dir=data_dir, seed=3, validation_fraction=0.4).fingerprint
    # Written down: a change of this value means that every stored study refuses its data.
    assert first == other_cut == "95a4dddabeb8c481c5b938492437cf3e726226fc8b70c26c954c26ce49080854"


def test_data_dir_comes_from_tfds_own_variable(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_dataset("digits", data_dir=data_dir)
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    monkeypatch.setattr("caviar.data.prepare.create_builder", None)  # would be called to prepare it
    assert len(load_test_split("digits").labels) == 360


@pytest.mark.slow
def test_importing_the_package_and_listing_names_does_not_load_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, caviar.data.loading\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        "from caviar.data.catalogue import list_datasets\n"
        "list_datasets(pathlib.Path(sys.argv[1]))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


# --- functions ------------------------------------------------------------------------------------------------------


def test_function_returns_train_and_test(source: Callable[[Any], str]) -> None:
    name = source(((X, Y), (X[:5] + 100, Y[:5])))
    dataset = load_dataset(name)
    assert len(dataset.train.labels) == 16
    assert len(dataset.validation.labels) == 4
    assert dataset.feature_shape == (2,)
    assert dataset.train.features.dtype == np.float32
    assert np.array_equal(load_test_split(name).features, X[:5] + 100)


def test_test_split_is_cut_off_first_where_the_source_has_none(source: Callable[[Any], str]) -> None:
    name = source((X, Y))
    test = {row.tobytes() for row in load_test_split(name).features}
    assert len(test) == 4
    assert np.bincount(load_test_split(name).labels).tolist() == [2, 2]
    for seed in range(5):
        dataset = load_dataset(name, seed=seed)
        searched = {row.tobytes() for row in np.concatenate([dataset.train.features, dataset.validation.features])}
        assert not test & searched
        assert len(searched) == 16


def test_fingerprint_follows_features_labels_and_class_names(source: Callable[[Any], str]) -> None:
    changed = X.copy()
    changed[3, 1] += 1
    trains = [(X, Y), (changed, Y), (X, 1 - Y), (X, Y + 1), (X.reshape(20, 2, 1), Y)]
    values = [((features, labels), (features[:2], labels[:2])) for features, labels in trains]
    assert len({load_dataset(source(value)).fingerprint for value in values}) == len(values)
    assert (
        load_dataset(source((X, Y))).fingerprint == load_dataset(source((X.astype(">f4"), Y.astype("u1")))).fingerprint
    )


@pytest.mark.parametrize(
    ("labels", "class_names"),
    [
        (np.where(Y, "dog", "cat"), ("cat", "dog")),
        (np.where(Y, b"dog", b"cat"), ("cat", "dog")),
        (np.array(["dog" if y else "cat" for y in Y], dtype=object), ("cat", "dog")),
        (["dog" if y else "cat" for y in Y], ("cat", "dog")),
        (Y * 3 - 1, ("-1", "2")),
        (Y[:, None], ("0", "1")),
        (Y.astype(bool), ("False", "True")),
        (Y.astype(object), ("0", "1")),
    ],
)
def test_labels_are_encoded_in_sorted_order(source: Callable[[Any], str], labels: Any, class_names: tuple[str]) -> None:
    dataset = load_dataset(source((X, labels)))
    assert dataset.class_names == class_names
    assert np.array_equal(dataset.train.labels, (dataset.train.features[:, 0] // 2 % 2).astype(np.int32))


def test_test_labels_are_encoded_as_train_labels(source: Callable[[Any], str]) -> None:
    test = load_test_split(source(((X, np.array(list("abcd") * 5)), (X[:2], np.array(["d", "b"])))))
    assert test.labels.tolist() == [3, 1]


def test_longer_unknown_test_label_is_not_taken_for_its_beginning(source: Callable[[Any], str]) -> None:
    name = source(((X, np.where(Y, "b", "a")), (X[:2], np.array(["a", "bc"]))))
    with pytest.raises(DataError, match="test split: label 'bc' is none of the 2 classes"):
        load_test_split(name)


def test_images_of_uint8_stay_and_flat_vectors_become_float32(source: Callable[[Any], str]) -> None:
    images = np.full((20, 4, 4), 200, dtype=np.uint8)
    assert load_dataset(source((images, Y))).train.features.dtype == np.uint8
    assert load_dataset(source((images.reshape(20, 16), Y))).train.features.dtype == np.float32
    assert load_dataset(source((images.astype(np.uint16), Y))).train.features.dtype == np.float32


def test_features_stay_float64_where_float32_would_lose_their_differences(source: Callable[[Any], str]) -> None:
    stamps = 1.7e9 + np.random.default_rng(0).normal(size=(20, 4))
    name = source(((stamps, Y), (stamps, Y)))
    dataset = load_dataset(name)
    assert dataset.train.features.dtype == dataset.validation.features.dtype == np.float64
    assert np.isin(dataset.train.features, stamps).all()
    np.testing.assert_array_equal(load_test_split(name).features, stamps)


def with_nan() -> Any:
    features = X.copy()
    features[7, 1] = np.nan
    return features


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((with_nan(), Y), "1 of 20 examples have NaN or infinite values, or larger ones, the first at position 7"),
        ((X * 1e300, Y), r"must be finite and at most 1e\+150 in size"),
        ((X, Y[:-1]), "one label an example is needed, but there are 20 and 19"),
        ((X, np.zeros(20, dtype=int)), "at least two classes are needed, but every label is '0'"),
        ((X, np.where(np.arange(20) == 3, 2, Y)), "class '2' has 1"),
        ((X, Y + 0.5), "Regression is not supported"),
        ((X, np.eye(2)[Y]), r"labels have shape \(20, 2\).*argmax"),
        ((X, [None, *Y[1:]]), "of types NoneType, int"),
        ((X.astype(str), Y), "features must be numbers, but their dtype is <U"),
        ((X[:, 0], Y), r"flat vectors \(n, k\) or images"),
        ((X[:0], Y[:0]), "features are empty"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "ragged"),
        (X, "must return .* but it returned ndarray of 20"),
        (None, "it returned NoneType"),
        (((X, Y), (X[:, :1], Y)), r"one shape, but have \(2,\) and \(1,\)"),
    ],
)
def test_arrays_not_fit_for_classification_are_refused(source: Callable[[Any], str], value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(source(value))


def test_class_too_small_for_a_test_split_is_named(source: Callable[[Any], str]) -> None:
    labels = np.where(np.arange(20) < 2, 2, Y)
    with pytest.raises(DataError, match=r"after 20% were cut off to test on\).* class '2' has 1"):
        load_dataset(source((X, labels)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arrays_of_a_test:brokn", "no such function. Did you mean 'broken'"),
        ("arrays_of_a_test:broken", "the function raised ZeroDivisionError: oh"),
        ("arrays_of_a_test:number", "no such function"),
        ("arrays_of_a_test:picky", r"called with \(\), but its arguments are \(split\): missing a required argument"),
        ("arrays_of_a_test:leaving", "the function raised SystemExit: 0"),
        ("arrays_of_no_test:load", "there is no module 'arrays_of_no_test'. Put its directory on PYTHONPATH"),
        ("not a name", "names no data set. Allowed are"),
        ("", "names no data set. Allowed are"),
        ("dgits", "no data set named 'dgits'. Did you mean 'digits'"),
        ("digits:2.0.0", "cannot be loaded at version 2.0.0, only: 1.0.0"),
        ("digits/large", "has no config 'large'. It has no configs"),
        ("emnist/leters", "has no config 'leters'. Did you mean 'letters'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(
    source: Callable[[Any], str], data_dir: Path, name: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(name, data_dir=data_dir)
    assert len(str(caught.value)) < 600


def test_a_prepared_data_set_without_a_builder_names_what_there_is_and_never_itself(tmp_path: Path) -> None:
    directory = tmp_path / "plain" / "1.0.0"
    directory.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        (directory / name).touch()
    with pytest.raises(DataError, match=f"'plain:2.0.0' is not prepared.*under this name: {directory}") as caught:
        load_dataset("plain:2.0.0", data_dir=tmp_path)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("options", [{"validation_fraction": 0.0}, {"validation_fraction": 1.0}, {"seed": -1}])
def test_options_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(options))):
        load_dataset("digits", **options)


# --- prepared TFDS data sets ----------------------------------------------------------------------------------------


def test_directory_of_a_prepared_data_set_is_loaded(tmp_path: Path) -> None:
    features = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(names=["no", "yes"])}
    examples = [{"image": np.full((4, 4, 3), i, np.uint8), "label": i % 2} for i in range(10)]
    name = prepare(tmp_path, features, {"train": examples, "test": examples[:4]}, ("image", "label"))
    dataset = load_dataset(name)
    assert dataset.class_names == ("no", "yes")
    assert dataset.train.features.shape == (8, 4, 4, 3)
    assert load_test_split(name).labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(DataError, match=r"holds no prepared TFDS data set.*1\.0\.0"):
        load_dataset(str(tmp_path))


def test_prepared_data_set_without_a_builder_is_found_by_name(tmp_path: Path) -> None:
    features = {"x": np.float32, "label": tfds.features.ClassLabel(num_classes=2)}
    prepare(tmp_path, features, {"train": [{"x": i, "label": i % 2} for i in range(10)]})
    for name in ("tiny", "tiny:1.0.0", "tiny:1.*.*"):
        assert load_dataset(name, data_dir=tmp_path).feature_shape == (1,)


def test_dict_of_features_is_concatenated_in_the_order_of_keys(tmp_path: Path) -> None:
    features = {
        "b": tfds.features.Tensor(shape=(2,), dtype=np.float64),
        "a": np.int64,
        "c": {"z": np.bool_, "colour": tfds.features.ClassLabel(num_classes=3)},
        "id": tfds.features.Text(),
        "kind": tfds.features.Text(),
    }
    examples = [
        {"b": [i, i + 0.5], "a": -i, "c": {"z": True, "colour": i % 3}, "id": str(i), "kind": "xy"[i % 2]}
        for i in range(10)
    ]
    keys = ({"b": "b", "a": "a", "c": "c"}, "kind")
    name = prepare(tmp_path, features, {"train": examples, "test": examples[:3]}, keys)
    test = load_test_split(name)
    # a, b, c/colour as one-hot, c/z
    assert test.features.tolist() == [
        [0, 0, 0.5, 1, 0, 0, 1],
        [-1, 1, 1.5, 0, 1, 0, 1],
        [-2, 2, 2.5, 0, 0, 1, 1],
    ]
    assert test.labels.tolist() == [0, 1, 0]
    assert load_dataset(name).class_names == ("x", "y")


def test_joined_features_keep_what_float32_would_lose(tmp_path: Path) -> None:
    features = {"at": np.int64, "x": np.float32, "label": tfds.features.ClassLabel(num_classes=2)}
    examples = [{"at": 1_700_000_000 + i, "x": 0.5 * i, "label": i % 2} for i in range(10)]
    name = prepare(tmp_path, features, {"train": examples, "test": examples}, ({"at": "at", "x": "x"}, "label"))
    for _ in range(2):  # from the files, and as it was kept
        test = load_test_split(name)
        assert test.features.tolist() == [[1_700_000_000 + i, 0.5 * i] for i in range(10)]


def test_declared_class_without_examples_is_allowed(tmp_path: Path) -> None:
    features = {"x": np.float32, "label": tfds.features.ClassLabel(num_classes=5)}
    examples = [{"x": i, "label": 1 + i % 2} for i in range(10)]
    dataset = load_dataset(prepare(tmp_path, features, {"everything": examples}, ("x", "label")))
    assert dataset.n_classes == 5
    assert set(dataset.train.labels) == {1, 2}


def test_withheld_test_labels_are_refused_only_when_the_test_split_is_read(tmp_path: Path) -> None:
    features = {"x": np.float32, "label": tfds.features.ClassLabel(num_classes=2)}
    splits = {
        "train": [{"x": i, "label": i % 2} for i in range(10)],
        "test": [{"x": i, "label": -1} for i in range(4)],
    }
    name = prepare(tmp_path, features, splits, ("x", "label"))
    assert len(load_dataset(name).train.labels) == 8
    with pytest.raises(DataError, match="withheld"):
        load_test_split(name)


LABEL = tfds.features.ClassLabel(num_classes=2)


@pytest.mark.parametrize(
    ("features", "example", "keys", "message"),
    [
        ({"x": tfds.features.Text(), "y": LABEL}, {"x": "a", "y": 0}, ("x", "y"), "'x' is Text, but only"),
        (
            {"x": tfds.features.Sequence(np.float32), "y": LABEL},
            {"x": [1.0], "y": 0},
            ("x", "y"),
            "'x' is Sequence, but only",
        ),
        (
            {"x": tfds.features.Image(shape=(None, None, 1)), "y": LABEL},
            {"x": np.zeros((2, 2, 1), np.uint8), "y": 0},
            ("x", "y"),
            "'x' has no fixed shape",
        ),
        ({"x": np.float32, "y": np.float32}, {"x": 1.0, "y": 0.5}, ("x", "y"), "regression is not supported"),
        (
            {"x": np.float32, "y": tfds.features.Sequence(LABEL)},
            {"x": 1.0, "y": [0, 1]},
            ("x", "y"),
            "several labels an example",
        ),
        ({"x": np.float32, "y": np.float32}, {"x": 1.0, "y": 0.5}, None, "among its features .* is no class"),
        ({"x": LABEL, "y": LABEL}, {"x": 1, "y": 0}, None, "several classes: x, y"),
    ],
)
def test_tfds_data_sets_not_fit_for_classification_are_refused(
    tmp_path: Path, features: dict[str, Any], example: dict[str, Any], keys: Any, message: str
) -> None:
    name = prepare(tmp_path, features, {"train": [example] * 4}, keys)
    with pytest.raises(DataError, match=message):
        load_dataset(name)
