"""A champion in its directory: what it takes, what it refuses, and that a fresh process gives the same."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.processes import environment

from caviar import load_champion
from caviar.champion.registered import quiet_mlflow_registry
from caviar.champion.saved import DESCRIPTION, NETWORK, Champion
from caviar.champion.standing import champion_directory, champion_names, publish
from caviar.commands.champion import champion_lines, make_champion
from caviar.commands.predict import predict_file
from caviar.commands.run import run_study
from caviar.errors import DataError, SpecError, StorageError
from caviar.record.tracking import connect
from caviar.spec import parse_spec
from caviar.storage.home import Home, locate_home
from caviar.storage.places import parse_files, write_at
from caviar.storage.remote import RemotePath

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

TINY = {"learning_rate": {"low": 0.05, "high": 0.3, "scale": "log"}, "depth": 1, "units": 8, "batch_size": 16}


def rows(n: int = 120) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"size": generator.normal(0, 1, n), "color": generator.choice(["red", "green"], n)})
    frame["kind"] = np.where((frame["size"] > 0) ^ (frame["color"] == "red"), "good", "bad")
    frame.loc[::11, "size"] = np.nan
    return frame


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with the champions of a table and of images as arrays."""
    directory = tmp_path_factory.mktemp("champions")
    rows().to_csv(directory / "rows.csv", index=False)
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (80, 4, 4), np.uint8)
    np.savez(directory / "images.npz", x=x, y=(x.mean(axis=(1, 2)) > 127).astype(int) + 7)
    home = locate_home(directory / "home")
    for name, data in {
        "table": {"dataset": str(directory / "rows.csv"), "label": "kind"},
        "images": {"dataset": str(directory / "images.npz")},
    }.items():
        search = {"trials": 3, "pruner": "none", "sampler": "random"}
        spec = parse_spec({"name": name, "data": data, "objective": {"epochs": 4}, "search": search, "space": TINY})
        run_study(spec, home)
        make_champion(home, name, top=2, seeds=2)
    return home


def test_the_champion_is_described_with_its_figures(home: Home) -> None:
    champion = load_champion("table", home=home.path)
    table = champion.description
    assert champion.classes.tolist() == ["bad", "good"]
    assert table["input"]["columns"] == {"size": "number", "color": "category"}
    low, high = table["test"]["accuracy"][1:]
    assert 0 <= low <= table["test"]["accuracy"][0] <= high <= 1
    assert sum(map(sum, table["test"]["confusion"])) == table["test"]["n"] == 24
    assert set(table["test"]["baselines"]) == {"majority class", "logistic regression", "gradient boosting"}
    assert table["race"]["n_trainings"] >= 4
    card = (champion.path / "README.md").read_text(encoding="utf-8")
    assert "95 % interval" in card
    assert "gradient boosting" in card


def test_the_test_split_is_read_once_unless_it_is_forced_and_that_is_written_down(home: Home, memory_url: str) -> None:
    with pytest.raises(SpecError, match="A second reading makes its figures too good"):
        make_champion(home, "images", top=2, seeds=2)
    elsewhere = dataclasses.replace(home, files=parse_files(memory_url))
    result = make_champion(elsewhere, "images", top=2, seeds=2, again=True)
    assert result.description is not None
    assert any("test accuracy" in line for line in champion_lines(result))
    assert champion_lines(result)[-2] == str(elsewhere.champions / "images")
    written = load_champion("images", home=home.path, files=memory_url).description
    assert written == json.loads(json.dumps(result.description))
    with pytest.raises(SpecError, match="top differs"):
        make_champion(home, "images", top=3, seeds=2, again=True)


def test_the_race_is_a_study_of_its_own(home: Home) -> None:
    from caviar.commands.status import study_status

    status, n = study_status(home, "table-champion"), load_champion("table", home=home.path).description["race"]
    assert status["trials"]["complete"] == n["n_trainings"]
    client = connect(home.tracking_uri)
    experiment = client.get_experiment_by_name("table-champion")
    assert experiment is not None
    names = {run.info.run_name for run in client.search_runs([experiment.experiment_id])}
    assert names == {f"table-champion #{number}" for number in range(n["n_trainings"])} | {"table champion"}


def test_a_fresh_process_predicts_the_same(home: Home, tmp_path: Path) -> None:
    champion = load_champion("table", home=home.path)
    expected = champion.predict_proba(rows())
    rows().drop(columns="kind").to_csv(tmp_path / "new.csv", index=False)
    command = [sys.executable, "-m", "caviar", "predict", "table", "new.csv", "--home", str(home.path)]
    run = subprocess.run(
        [*command, "--output", "out.parquet"], cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr.decode()
    given = pd.read_parquet(tmp_path / "out.parquet")
    np.testing.assert_allclose(given[["p_bad", "p_good"]].to_numpy(), expected, atol=1e-6)
    assert given["label"].tolist() == champion.predict(rows()).tolist()


@pytest.mark.parametrize("name", ["table", "images"])
def test_mlflow_loads_the_registered_model_and_it_predicts_the_same(home: Home, name: str) -> None:
    import mlflow

    champion = load_champion(name, home=home.path)
    raw = rows().drop(columns="kind") if name == "table" else np.zeros((3, 4, 4), np.uint8)
    with quiet_mlflow_registry(home.tracking_uri):
        given = mlflow.pyfunc.load_model(f"models:/{name}@champion").predict(raw)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert given["label"].tolist() == champion.predict(raw).tolist()
    np.testing.assert_allclose(given.drop(columns="label").to_numpy(), champion.predict_proba(raw), atol=1e-6)


def test_labels_keep_their_type_and_every_output_says_the_same(home: Home, tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (5, 4, 4), np.uint8)
    np.save(tmp_path / "new.npy", x)
    labels = load_champion("images", home=home.path).predict(x)
    assert labels.dtype.kind == "i"
    assert set(labels.tolist()) <= {7, 8}
    readers: dict[str, Callable[[Path], list[int]]] = {
        ".csv": lambda path: pd.read_csv(path)["label"].tolist(),
        ".parquet": lambda path: pd.read_parquet(path)["label"].tolist(),
        ".json": lambda path: [row["label"] for row in json.loads(path.read_text())],
    }
    for suffix, read in readers.items():
        output = tmp_path / f"out{suffix}"
        assert predict_file(home, "images", tmp_path / "new.npy", output=output, results=sys.stdout) == 5
        assert read(output) == labels.tolist()


def test_images_are_read_one_by_one_or_from_a_folder(home: Home, tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (3, 4, 4), np.uint8)
    for number, image in enumerate(x):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    champion = load_champion("images", home=home.path)
    (one,) = champion.file_features(tmp_path / "1.png")
    np.testing.assert_array_equal(one, x[1:2])
    np.testing.assert_array_equal(np.concatenate(list(champion.file_features(tmp_path))), x)


@pytest.mark.parametrize(
    ("champion", "name", "content", "message"),
    [
        ("images", "a.npy", np.zeros((2, 5, 4)), "takes examples of shape (4, 4)"),
        ("images", "a.npy", np.full((2, 4, 4), np.nan), "example 0 (from 0) has NaN"),
        ("images", "a.npy", np.full((2, 4, 4), 300), "whole numbers from 0 to 255"),
        ("images", "a.png", np.zeros((5, 5), np.uint8), "has 5×5 pixels, but this champion takes 4×4"),
        ("images", "a.txt", "x", "is none of what can be read"),
        ("images", "a.npz", {"y": np.zeros(2)}, "must have an array x"),
        ("table", "a.npy", np.zeros((2, 2)), "takes a table with the columns size, color"),
        ("table", "a.csv", "size\n1\n", "column 'color' is missing"),
        ("table", "a.csv", "size,color\nbig,red\n", "column 'size' has numbers, but row 2 has 'big'"),
        ("table", "a.csv", "size,color\n1\n", "Expected 2 columns, got 1"),
        ("table", "b.csv", None, "There is no table"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_is_written(
    home: Home, tmp_path: Path, champion: str, name: str, content: Any, message: str
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None and name.endswith(".png"):
        Image.fromarray(content).save(path)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(DataError) as told:
        predict_file(home, champion, path, output=tmp_path / "out.csv", results=sys.stdout)
    assert message in str(told.value)
    assert [child.name for child in tmp_path.iterdir()] == ([] if content is None else [name])


def test_an_unknown_category_shares_the_bucket_of_unknown_ones(home: Home) -> None:
    given = load_champion("table", home=home.path).predict(pd.DataFrame({"size": [1.0], "color": ["blue"]}))
    assert given.tolist() in (["bad"], ["good"])


def new_rows(path: Path) -> Path:
    """Write rows of which one has a colour that training did not have."""
    path.write_text("size,color\n1,red\n-1,green\n1,blue\n", encoding="utf-8")
    return path


def test_values_that_training_did_not_have_are_named_once(
    home: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    printed = io.StringIO()
    assert predict_file(home, "table", new_rows(tmp_path / "new.csv"), output=None, results=printed) == 3
    assert len(printed.getvalue().splitlines()) == 4
    (record,) = caplog.records
    assert record.getMessage() == "Column 'color': 1 row has a value that no row of training had, such as 'blue'."


@pytest.mark.parametrize("to_file", [True, False])
def test_strict_refuses_them_before_anything_is_written(home: Home, tmp_path: Path, to_file: bool) -> None:
    path, printed = new_rows(tmp_path / "new.csv"), io.StringIO()
    output = tmp_path / "out.csv" if to_file else None
    with pytest.raises(DataError, match=r"row 4: column 'color' has 'blue', which no row of training had"):
        predict_file(home, "table", path, output=output, results=printed, strict=True)
    assert printed.getvalue() == ""
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_is_missing_where_none_was_in_training(home: Home, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("size,color\n,red\n1,\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 3: column 'color' has no value"):  # sizes were missing in training
        predict_file(home, "table", tmp_path / "new.csv", output=None, results=sys.stdout, strict=True)


def test_a_reader_that_leaves_ends_the_command_quietly(home: Home, tmp_path: Path) -> None:
    pd.concat([rows().drop(columns="kind")] * 400).to_csv(tmp_path / "many.csv", index=False)
    command = f"{sys.executable} -m caviar predict table many.csv --home {home.path} | head -n 1"
    run = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "label,p_bad,p_good\n", "")


def test_damaged_and_other_champions_are_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="There is no champion"):
        load_champion("nobody", home=home.path)
    (tmp_path / DESCRIPTION).write_text("{", encoding="utf-8")
    with pytest.raises(StorageError, match="is damaged"):
        Champion(tmp_path)
    description = load_champion("images", home=home.path).description
    (tmp_path / DESCRIPTION).write_text(json.dumps({**description, "format": 99}), encoding="utf-8")
    with pytest.raises(StorageError, match="has format 99"):
        Champion(tmp_path)
    (tmp_path / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    (tmp_path / NETWORK).write_bytes(b"no archive")
    with pytest.raises(StorageError, match="cannot be loaded"):
        Champion(tmp_path).predict(np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(SpecError, match="--output must end in"):
        predict_file(home, "images", tmp_path / "x.npy", output=tmp_path / "out.txt", results=sys.stdout)


@pytest.mark.parametrize("store", ["memory_url", "s3_url"])
def test_a_champion_in_a_store_is_replaced_by_one_request_and_predicts_the_same(
    home: Home, tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    files = f"{request.getfixturevalue(store)}/{tmp_path.name}"
    elsewhere, first = locate_home(home.path, files=files), home.path / "champions" / "table"
    with pytest.raises(StorageError, match=r"There is no champion in.*champion\.json"):
        load_champion("table", home=home.path, files=files)
    publish(first, elsewhere.champions / "table")
    champion = load_champion("table", home=home.path, files=files)
    expected = load_champion("table", home=home.path).predict_proba(rows())
    np.testing.assert_array_equal(champion.predict_proba(rows()), expected)
    assert champion_names(elsewhere.champions) == ["table"]

    second = tmp_path / "table"
    shutil.copytree(first, second)
    description = json.loads((second / DESCRIPTION).read_text()) | {"seed": 4711}
    (second / DESCRIPTION).write_text(json.dumps(description))
    publish(second, elsewhere.champions / "table")
    assert load_champion("table", home=home.path, files=files).description["seed"] == 4711
    assert champion_directory(elsewhere.champions / "table") != champion.path
    assert isinstance(elsewhere.champions, RemotePath)
    assert len((elsewhere.champions / "table").names()) == 2, "the description, and one directory"


def test_a_champion_whose_files_are_missing_in_a_store_is_damaged(home: Home, memory_url: str) -> None:
    place = locate_home(home.path, files=memory_url).champions / "table"
    write_at(place / DESCRIPTION, (home.path / "champions" / "table" / DESCRIPTION).read_bytes())
    with pytest.raises(StorageError, match="damaged: its files are missing"):
        load_champion("table", home=home.path, files=memory_url)
