"""What optuna-dashboard shows with the trials that matter, read as the dashboard reads it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from optuna_dashboard import wsgi
from optuna_dashboard.artifact._backend import list_trial_artifacts

from caviar.attributes import CURVES, FAIL_REASON
from caviar.insight.dashboard_private import note_of_trial, note_trial
from caviar.insight.trial_notes import curves_svg, network_summary, note_trials
from caviar.optuna_private import id_of_study
from caviar.space import parse_space

SPACE = parse_space({"learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"}, "depth": 1})
CHAMPION = {
    "race": {"winner": 1},
    "classes": ["cat", "<dog>"],
    "test": {"accuracy": [0.8765432, 0.8, 0.9], "confusion": [[9, 1], [2, 8]]},
}


def make_study(path: Path) -> optuna.Study:
    study = optuna.create_study(storage=f"sqlite:///{path / 'optuna.db'}", study_name="toy", direction="maximize")
    drawn: dict[str, Any] = {
        "params": {"learning_rate": 0.0123456789},
        "distributions": {"learning_rate": FloatDistribution(1e-4, 1.0, log=True)},
    }
    curves = {"val_accuracy": [0.25, 0.5, 0.75], "val_loss": [1.0, 0.75, 0.5]}
    study.add_trial(create_trial(value=0.123456789, user_attrs={CURVES: curves, "best_epoch": 2}, **drawn))
    study.add_trial(create_trial(value=0.1, user_attrs={CURVES: curves}, **drawn))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={FAIL_REASON: "<out of memory>"}, **drawn))
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.05, **drawn))
    return study


def write_network(path: Path) -> Path:
    layers = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 4], "dtype": "float32"}},
        {"class_name": "Dense", "config": {"units": 3, "activation": "softmax"}},
    ]
    with zipfile.ZipFile(path / "0.keras", "w") as file:
        file.writestr("config.json", json.dumps({"config": {"layers": layers}}))
    return path / "0.keras"


def show(study: optuna.Study, path: Path) -> list[int]:
    return note_trials(
        study,
        0,
        space=SPACE,
        metric="val_accuracy",
        network=write_network(path),
        champion=CHAMPION,
        artifacts=path / "artifacts",
    )


def test_the_trials_that_matter_have_notes_and_pictures_once(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    ids = [trial._trial_id for trial in study.trials]
    note_trial(study, ids[0], "My own words.")
    for _ in range(2):
        assert show(study, tmp_path) == [0, 1, 2]
    best, champion, failed, pruned = (note_of_trial(study, trial_id) for trial_id in ids)
    assert best.startswith("My own words.")
    assert best.count("## The best trial") == 1
    for words in ("val_accuracy **0.1235** after epoch 3", "| learning_rate | 0.01235 |", "| Dense | units 3, activa"):
        assert words in best
    assert "| &lt;dog&gt; | 2 | 8 |" in champion
    assert "Test accuracy **0.8765**" in champion
    assert "It failed: &lt;out of memory&gt;" in failed
    assert pruned == ""
    attributes = study._storage.get_study_system_attrs(id_of_study(study))
    kept = [list_trial_artifacts(attributes, trial.system_attrs, trial) for trial in study.trials]
    assert [[meta["filename"] for meta in metas] for metas in kept] == [
        ["trial-0-curves.svg"],
        ["trial-1-curves.svg"],
        [],
        [],
    ]
    assert kept[0][0]["mimetype"] == "image/svg+xml"
    assert (tmp_path / "artifacts" / kept[0][0]["artifact_id"]).read_text().startswith("<svg")
    assert callable(wsgi(study._storage))


def test_a_curve_of_one_epoch_or_one_value_is_drawn() -> None:
    assert curves_svg({}) == curves_svg({"loss": []}) == ""
    assert "polyline" in curves_svg({"loss": [1.0]})
    assert curves_svg({"val_accuracy": [0.5, 0.5], "val_loss": [1.0, 2.0]}).count("polyline") == 2


def test_a_network_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "0.keras").write_text("torn")
    assert network_summary(tmp_path / "0.keras") == ["Its file cannot be read."]
