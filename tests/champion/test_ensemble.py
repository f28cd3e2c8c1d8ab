"""An ensemble is kept where it is better than its members, and is one network of stock layers."""

import threading
from pathlib import Path

import keras
import numpy as np
import pytest

from caviar import load_champion
from caviar.champion.candidates import race_name
from caviar.champion.ensemble import compare_ensemble, judge, measure
from caviar.commands.champion import champion_lines, make_champion
from caviar.commands.run import run_study
from caviar.data.dataset import Split
from caviar.data.loading import open_data
from caviar.errors import SpecError
from caviar.spec import StudySpec, parse_spec
from caviar.storage.home import Home, locate_home
from caviar.storage.opening import open_existing

ALONE = [0.90, 0.91, 0.89, 0.90]


def test_an_ensemble_that_is_better_on_every_cut_is_kept() -> None:
    assert judge(ALONE, [value + 0.02 for value in ALONE], n_networks=3, maximize=True).is_kept
    assert not judge(ALONE, [value + 0.02 for value in ALONE], n_networks=3, maximize=False).is_kept
    assert judge(ALONE, [0.92, 0.935, 0.905, 0.925], n_networks=3, maximize=True).is_kept


@pytest.mark.parametrize("together", [ALONE, [0.93, 0.89, 0.91, 0.88]], ids=["equal", "unsteady"])
def test_an_ensemble_that_is_not_clearly_better_is_dropped(together: list[float]) -> None:
    assert not judge(ALONE, together, n_networks=3, maximize=True).is_kept


def test_metrics_are_those_of_the_trainers() -> None:
    split = Split(features=np.zeros((4, 1), np.float32), labels=np.array([0, 0, 0, 1], np.int32))
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3]])
    assert measure("val_accuracy", probabilities, split) == 0.75
    assert measure("val_balanced_accuracy", probabilities, split) == 0.5
    assert measure("val_macro_f1", probabilities, split) == pytest.approx(3 / 7)
    assert measure("val_loss", probabilities, split) == pytest.approx(-np.log([0.9, 0.8, 0.6, 0.3]).mean())


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, StudySpec]:
    directory = tmp_path_factory.mktemp("ensemble")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(160, 6)).astype(np.float32)
    y = np.where(np.abs(x[:, :3]).sum(axis=1) + generator.normal(0, 0.3, 160) > 2.2, "out", "in")
    np.savez(directory / "ball.npz", x=x, y=y)
    table = {
        "name": "ball",
        "data": {"dataset": str(directory / "ball.npz")},
        "objective": {"epochs": 6},
        "search": {"trials": 6, "pruner": "none", "sampler": "random"},
        "space": {"learning_rate": {"low": 0.01, "high": 0.5, "scale": "log"}, "units": 16, "batch_size": 16},
    }
    spec, home = parse_spec(table), locate_home(directory / "home")
    run_study(spec, home)
    return home, spec


@pytest.mark.slow
def test_a_champion_may_be_an_ensemble(searched: tuple[Home, StudySpec], monkeypatch: pytest.MonkeyPatch) -> None:
    home, spec = searched
    monkeypatch.setattr("caviar.champion.ensemble.LEVEL", 1.1)  # whatever the test says
    result = make_champion(home, "ball", top=3, seeds=3, ensemble=3)
    assert result.description is not None
    assert isinstance(result.directory, Path)
    ensemble = result.description["ensemble"]
    assert (ensemble["n_networks"], len(ensemble["alone"]), ensemble["is_kept"]) == (3, 3, True)
    assert any(line.endswith("the champion averages 3") for line in champion_lines(result))
    assert "the champion averages 3" in (result.directory / "README.md").read_text(encoding="utf-8")
    loaded = keras.saving.load_model(result.directory / "network.keras", compile=False)
    members = [layer for layer in loaded.layers if layer.name.startswith("member_")]
    x = open_data(spec.data).examples.features[:20]
    mean = np.mean([np.asarray(member(x)) for member in members], axis=0)
    assert len(members) == 3
    np.testing.assert_allclose(load_champion("ball", home=home.path).predict_proba(x), mean, atol=1e-6)


@pytest.mark.slow
def test_no_training_of_a_race_is_pruned(searched: tuple[Home, StudySpec]) -> None:
    home, _ = searched
    make_champion(home, "ball", top=4, seeds=5, fresh=True)
    race = open_existing(home, race_name("ball"))[1]
    assert len(race.trials) > 12
    assert {trial.state.name for trial in race.trials} == {"COMPLETE"}


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on_where_it_was(searched: tuple[Home, StudySpec]) -> None:
    home, spec = searched
    _, study = open_existing(home, "ball")
    stop, data = threading.Event(), open_data(spec.data)

    def compare(n_cuts: int) -> object:
        params = study.best_trial.params
        return compare_ensemble(study, data, spec, params, epochs=3, n_networks=2, n_cuts=n_cuts, stop=stop)

    compare(2)
    stop.set()
    assert compare(3) is None
    assert compare(2) is not None  # nothing is left to train


@pytest.mark.slow
def test_one_network_is_no_ensemble(searched: tuple[Home, StudySpec], tmp_path: Path) -> None:
    del tmp_path
    with pytest.raises(SpecError, match="--ensemble must be at least 2 networks, but got 1"):
        make_champion(searched[0], "ball", ensemble=1)
