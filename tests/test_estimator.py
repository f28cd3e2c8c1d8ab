"""`CaviarClassifier` keeps scikit-learn's contract, and takes tables as they are."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from caviar import CaviarClassifier

#: Small enough for scikit-learn's sixty checks, and good enough for those that ask for accuracy.
SPACE = {
    "learning_rate": {"low": 0.05, "high": 0.3, "scale": "log"},
    "depth": 1,
    "units": 16,
    "batch_size": 16,
}


def classifier(**options: Any) -> CaviarClassifier:
    return CaviarClassifier(**{"trials": 2, "epochs": 8, "ensemble": 2, "space": SPACE, "random_state": 0, **options})


@pytest.mark.slow
@parametrize_with_checks([classifier()])  # type: ignore[untyped-decorator]  # scikit-learn has no types
def test_it_keeps_scikit_learns_contract(estimator: Any, check: Any) -> None:
    check(estimator)


def table(n: int = 90) -> tuple[pd.DataFrame, pd.Series]:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": generator.normal(0, 1, n),
            "color": generator.choice(["red", "green", "blue"], n),
            "sold": generator.choice([True, False], n),
        }
    )
    answers = pd.Series(np.where((frame["size"] > 0) ^ (frame["color"] == "red"), "yes", "no"))
    frame.loc[::9, "size"] = np.nan
    return frame, answers


def test_a_table_with_texts_and_holes_is_taken_as_it_is() -> None:
    x, y = table()
    fitted = classifier(epochs=20).fit(x, y)
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert fitted.score(x, y) > 0.8
    assert fitted.predict_proba(x).sum(axis=1) == pytest.approx(np.ones(len(x)))
    shuffled = x[["sold", "size", "color"]]
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(shuffled)
    assert isinstance(fitted.study_, optuna.Study)
    assert len(fitted.study_.trials) == 2
    assert set(SPACE) <= set(fitted.best_params_)
    assert fitted.best_score_ is not None


def test_it_is_cloned_pickled_and_cross_validated_with_the_same_result() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + 5
    fitted = classifier().fit(x, y)
    again = clone(fitted).fit(x, y)
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(x), fitted.predict_proba(x))
    assert set(fitted.predict(x)) <= {5, 6}
    assert len(cross_val_score(classifier(epochs=2), x, y, cv=2)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("is_table", [True, False])
def test_a_home_keeps_the_study_and_its_data(tmp_path: Path, is_table: bool) -> None:
    from caviar.commands.status import study_status
    from caviar.storage.home import locate_home

    x, y = table()
    given = x if is_table else x[["size"]].fillna(0.0).to_numpy()
    fitted = classifier(home=tmp_path / "home", epochs=3).fit(given, y)
    status = study_status(locate_home(tmp_path / "home"), fitted.study_.study_name)
    assert status["trials"]["complete"] + status["trials"]["pruned"] == 2
    assert fitted.predict(given).shape == (90,)


def test_nothing_is_left_on_disk_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    x, y = table()
    classifier(epochs=1).fit(x, y)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "search.trials must be at least 1"),
        ({"metric": "auc"}, "No metric is called 'auc'"),
        ({"columns": {"siz": "number"}}, "no column 'siz'"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_fitted(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        classifier(**options).fit(*table())
