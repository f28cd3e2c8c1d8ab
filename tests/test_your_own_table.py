"""A real table with texts and missing values, from its CSV file to predictions: by four commands, and in four lines."""

import json
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sklearn.model_selection import train_test_split

from caviar import CaviarClassifier, load_champion
from caviar.cli import main

pytestmark = pytest.mark.slow

STUDY = """
name = "penguins"
data = {{ dataset = "{path}", label = "species" }}
objective = {{ epochs = 15 }}
search = {{ trials = 6, sampler = "random", pruner = "none" }}
space = {{ learning_rate = {{ low = 0.02, high = 0.3, scale = "log" }}, units = 16, depth = 1, batch_size = 16 }}
"""


def penguins() -> pd.DataFrame:
    return pd.read_csv(str(files("palmerpenguins") / "data" / "penguins.csv"))


def caviar(home: Path, *arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), "--home", str(home)])
    assert result.exit_code == 0, result.output
    return result


def test_four_commands_lead_from_a_csv_file_to_predictions(tmp_path: Path) -> None:
    known, unseen = train_test_split(penguins(), test_size=60, stratify=penguins()["species"], random_state=0)
    known.to_csv(tmp_path / "penguins.csv", index=False)
    unseen.drop(columns="species").to_csv(tmp_path / "unseen.csv", index=False)
    study, home = tmp_path / "penguins.toml", tmp_path / "runs"
    study.write_text(STUDY.format(path=tmp_path / "penguins.csv"), encoding="utf-8")

    checked = caviar(home, "check", study)
    assert "island" in checked.stdout
    caviar(home, "run", study)
    champion = json.loads(caviar(home, "champion", "penguins", "--top", "2", "--seeds", "2", "--json").stdout)
    caviar(home, "predict", "penguins", tmp_path / "unseen.csv", "--output", tmp_path / "labels.csv")

    labels = pd.read_csv(tmp_path / "labels.csv")
    assert (labels["label"].to_numpy() == unseen["species"].to_numpy()).mean() > 0.9
    assert champion["classes"] == ["Adelie", "Chinstrap", "Gentoo"]
    assert champion["input"]["columns"]["sex"] == "category"
    assert penguins()["sex"].isna().any()
    frame = unseen.drop(columns="species")
    assert load_champion("penguins", home=home).predict(frame).tolist() == labels["label"].tolist()


def test_four_lines_do_the_same() -> None:
    x, y = penguins().drop(columns="species"), penguins()["species"]
    x_train, x_new, y_train, y_new = train_test_split(x, y, stratify=y, random_state=0)
    classifier = CaviarClassifier(trials=5, epochs=15, random_state=0).fit(x_train, y_train)
    assert classifier.score(x_new, y_new) > 0.95
