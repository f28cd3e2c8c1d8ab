from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from caviar.data.columns import infer_kinds, odd_columns
from caviar.data.loading import make_dataset, open_data
from caviar.data.preprocessing import Preprocessing
from caviar.data.tables import read_table, read_table_parts
from caviar.errors import DataError
from caviar.spec import DataSpec


def frame(n: int = 120) -> pd.DataFrame:
    """A table with numbers, texts, booleans, codes and holes, whose label is a text."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": generator.normal(40, 10, n).round(1),
            "city": generator.choice(["Bern", "Köln", "Lima"], n),
            "member": generator.choice([True, False], n),
            "rooms": generator.choice([1.0, 2.0, np.nan], n),
        }
    )
    table.loc[3, "city"] = None
    table["kind"] = np.where(table["age"] + generator.normal(0, 5, n) > 40, "old", "new")
    return table


@pytest.fixture(params=["csv", "parquet", "semicolons"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made = tmp_path / ("rows.parquet" if request.param == "parquet" else "rows.csv")
    if request.param == "parquet":
        frame().to_parquet(made)
    else:
        frame().to_csv(made, index=False, sep=";" if request.param == "semicolons" else ",")
    return made


def spec_of(path: Path, **options: Any) -> DataSpec:
    return DataSpec(**{"dataset": str(path), "label": "kind", **options})


def test_a_table_becomes_features_fitted_on_the_training_split_alone(path: Path) -> None:
    data = open_data(spec_of(path))
    assert data.kinds == {"age": "number", "city": "category", "member": "category", "rooms": "number"}
    dataset = data.cut(validation_fraction=0.25, seed=0)
    assert dataset.class_names == ("new", "old")
    assert len(dataset.train.labels) + len(dataset.validation.labels) == 96  # a fifth of 120 is held out
    assert dataset.train.features.dtype == np.float32
    # age, rooms, whether rooms is missing; 3 cities and (missing) among the rare; member
    assert dataset.feature_shape == (len(dataset.preprocessing.transformer.get_feature_names_out()),)  # type: ignore[union-attr]
    numbers = dataset.train.features[:, :2]
    assert numbers.mean(axis=0) == pytest.approx([0, 0], abs=1e-5)
    assert numbers.std(axis=0) == pytest.approx([1, 1], abs=1e-5)
    assert abs(dataset.validation.features[:, :2].mean()) > 1e-4
    assert len(data.test(dataset.preprocessing).labels) == 24


def test_the_same_rows_give_the_same_features_from_any_file_and_in_parts(tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.parquet")
    features = table.drop(columns="kind")
    fitted = Preprocessing.fit(features, infer_kinds(features, given={}, where="rows"), where="rows")
    expected = fitted.transform(features, where="rows")
    fitted.save(tmp_path / "fitted.skops")
    loaded = Preprocessing.load(tmp_path / "fitted.skops")
    for parts in (
        [read_table(tmp_path / "rows.csv")],
        read_table_parts(tmp_path / "rows.csv"),
        read_table_parts(tmp_path / "rows.parquet", rows=7),
    ):
        np.testing.assert_array_equal(np.concatenate([loaded.transform(p, where="rows") for p in parts]), expected)


def test_unknown_categories_share_the_input_of_the_rare_ones() -> None:
    table = pd.DataFrame({"city": ["Bern"] * 5 + ["Lima"] * 5 + ["Oslo"]})
    fitted = Preprocessing.fit(table, {"city": "category"}, where="rows")
    given = fitted.transform(pd.DataFrame({"city": ["Bern", "Oslo", "Rome"]}), where="rows")
    assert given.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_codes_and_booleans_are_the_same_category_however_they_are_written() -> None:
    fitted = Preprocessing.fit(
        pd.DataFrame({"code": [1, 1, 2, 2], "ok": [True, True, False, False]}),
        {"code": "category", "ok": "category"},
        where="rows",
    )
    same = pd.DataFrame({"code": ["1", 1.0, "2.0", 2], "ok": ["true", "True", "FALSE", False]})
    assert fitted.transform(same, where="rows").tolist() == [[1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0]]


def test_labels_of_any_kind_keep_their_names() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    for labels, names in (
        ([5, 7] * 10, ("5", "7")),
        ([True, False] * 10, ("False", "True")),
        (["b", "a"] * 10, ("a", "b")),
    ):
        dataset = make_dataset(x, np.array(labels))
        assert dataset.class_names == names
        assert set(dataset.train.labels.tolist()) == {0, 1}
    assert make_dataset(frame().drop(columns="kind"), frame()["kind"]).class_names == ("new", "old")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty"),
        ("a,kind\n", {}, "has no rows"),
        ("a,kind\n1,x\n2\n", {}, "Row #3: Expected 2 columns, got 1"),
        ("a,kind\n1,x\n2,y\n", {"label": "kin"}, "no column 'kin' for the labels. Did you mean 'kind'"),
        ("a,kind\n1,x\n2,y\n", {"label": None}, "which column has the labels"),
        ("kind\nx\ny\n", {}, "nothing to learn from"),
        ("a,kind\n1,x\n2,\n", {}, "row 3 has none in 'kind'"),
        ("a,kind\n1,1.5\n2,2\n", {}, "row 2 has 1.5 in 'kind'. Regression is not supported"),
        ("a,kind\n" + "1,x\n" * 40 + "?,y\n", {}, "column 'a' has numbers, but row 42 has '?'"),
        ("a,kind\n" + "1,x\n" * 40 + "inf,y\n", {}, "column 'a' must be finite, but row 42 has inf"),
        ("a,kind\n2020-01-01,x\n2020-01-02,y\n", {}, "column 'a' has dates"),
        ("a,a,kind\n1,2,x\n", {}, "two columns named 'a'"),
        ("a,kind\n" + "1,x\n2,x\n" * 5, {}, "every label is 'x'"),
        ("a,kind\n" + "1,x\n2,x\n" * 5 + "3,y\n", {}, "class 'y' has 1"),
        ("a,kind\n1,x\n2,y\n", {"columns": {"b": "number"}}, "no column 'b'"),
        ("a,kind\nz,x\n2,y\n", {"columns": {"a": "number"}}, "column 'a' has numbers, but row 2 has 'z'"),
        ("a,kind\n1,x\n2,y\n", {"columns": {"a": "ignore"}}, "no column is left"),
    ],
)
def test_bad_tables_are_refused_with_row_column_and_rule(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as told:
        open_data(spec_of(path, **options))
    assert message in str(told.value)


def test_a_table_in_another_encoding_is_refused_with_its_first_row(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("a,kind\nx,x\nKöln,y\n".encode("latin-1"))
    with pytest.raises(DataError, match="column 'a' is not UTF-8, the first time in row 3"):
        open_data(spec_of(tmp_path / "latin.csv"))


def test_a_table_of_its_own_to_test_on_is_read_when_it_is_asked_for(path: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    frame(30).to_csv(test, index=False)
    data = open_data(spec_of(path, test=str(test)))
    assert len(data.examples.labels) == 120
    _, preprocessing = data.whole()
    assert len(data.test(preprocessing).labels) == 30
    frame(30).assign(kind="other").to_csv(test, index=False)
    with pytest.raises(DataError, match="label 'other' is none of the 2 classes"):
        data.test(preprocessing)


def test_columns_that_one_should_look_at_are_named() -> None:
    table = frame(400)
    labels = (table.pop("kind") == "old").to_numpy().astype(np.int32)
    table["constant"], table["row"], table["name"] = 1, np.arange(400), [f"n{i}" for i in range(400)]
    table["answer"] = np.where(labels == 1, "yes", "no")
    told = odd_columns(table, labels, infer_kinds(table, given={}, where="rows"))
    assert [("constant" in told[0]), ("'row', 'name'" in told[1]), ("'answer' gives nearly all" in told[2])] == [
        True
    ] * 3
    assert len(told) == 3


def test_predicting_needs_the_columns_of_training(tmp_path: Path) -> None:
    features = frame().drop(columns="kind")
    fitted = Preprocessing.fit(features, infer_kinds(features, given={}, where="rows"), where="rows")
    with pytest.raises(DataError, match="new rows: column 'city' is missing"):
        fitted.transform(features.drop(columns="city"), where="new rows")
    (tmp_path / "broken.skops").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="cannot be read"):
        Preprocessing.load(tmp_path / "broken.skops")
