"""`CaviarClassifier` against scikit-learn's methods on small real tables: test accuracy, at equal time for tuning.

    python benchmarks/tables.py [--seeds 5] [--trials 40]

For each table and seed a stratified third is held out for testing. `CaviarClassifier` fits first; scikit-learn's
MLPClassifier is then tuned for as long as that took, by random search with three-fold cross-validation, and refitted.
HistGradientBoosting and logistic regression take their defaults. All but gradient boosting, which takes categories as
codes, get the same columns: imputed, standardized, one-hot.

The tables are scikit-learn's iris, wine, breast cancer and digits, plotly's tips (was it lunch or dinner?) and the
penguins of the package palmerpenguins.
"""

import argparse
import importlib.resources
import os
import platform
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterSampler, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from caviar import CaviarClassifier

MLP_SPACE = {
    "mlp__learning_rate_init": stats.loguniform(1e-4, 1e-1),
    "mlp__hidden_layer_sizes": [(width,) * depth for width in (16, 32, 64, 128, 256) for depth in (1, 2, 3)],
    "mlp__alpha": stats.loguniform(1e-6, 1e-1),
    "mlp__batch_size": [16, 32, 64, 128],
}


def tables() -> dict[str, tuple[pd.DataFrame, pd.Series]]:
    found = {}
    for name, load in {
        "iris": load_iris,
        "wine": load_wine,
        "breast cancer": load_breast_cancer,
        "digits": load_digits,
    }.items():
        data = load(as_frame=True)
        found[name] = (data.data, data.target)
    import plotly.data

    tips = plotly.data.tips()
    found["tips"] = (tips.drop(columns="time"), tips["time"].astype(str))
    path = importlib.resources.files("palmerpenguins") / "data" / "penguins.csv"
    penguins = pd.read_csv(str(path))
    found["penguins"] = (penguins.drop(columns="species"), penguins["species"])
    return found


def columns(*, codes: bool = False) -> Any:
    numbers, texts = make_column_selector(dtype_include="number"), make_column_selector(dtype_exclude="number")
    if codes:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        return make_column_transformer(("passthrough", numbers), (encoder, texts))
    scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    return make_column_transformer((scaled, numbers), (OneHotEncoder(handle_unknown="ignore"), texts))


def tuned_mlp(x: Any, y: Any, *, seconds: float, seed: int) -> Pipeline:
    """Return the best of as many random configurations as fit in the time, refitted; at least one."""
    pipeline = Pipeline([("columns", columns()), ("mlp", MLPClassifier(random_state=seed, max_iter=200))])
    started, best, score = time.monotonic(), {}, -1.0
    for params in ParameterSampler(MLP_SPACE, n_iter=10_000, random_state=seed):
        found = cross_val_score(pipeline.set_params(**params), x, y, cv=3).mean()
        if found > score:
            best, score = params, found
        if time.monotonic() - started > seconds:
            break
    return pipeline.set_params(**best).fit(x, y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| table | rows | caviar | tuned MLP | gradient boosting | logistic regression | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, (x, y) in tables().items():
        rows, seconds = [], []
        for seed in range(options.seeds):
            parts = train_test_split(x, y, test_size=1 / 3, stratify=y, random_state=seed)
            x_train, x_test, y_train, y_test = parts
            started = time.monotonic()
            ours = CaviarClassifier(trials=options.trials, random_state=seed).fit(x_train, y_train)
            seconds.append(time.monotonic() - started)
            others = [
                tuned_mlp(x_train, y_train, seconds=seconds[-1], seed=seed),
                make_pipeline(columns(codes=True), HistGradientBoostingClassifier(random_state=seed)).fit(
                    x_train, y_train
                ),
                make_pipeline(columns(), LogisticRegression(max_iter=1000)).fit(x_train, y_train),
            ]
            rows.append([method.score(x_test, y_test) for method in (ours, *others)])
        scores = np.array(rows)
        cells = [
            f"{mean:.4f} ± {std:.4f}" for mean, std in zip(scores.mean(axis=0), scores.std(axis=0, ddof=1), strict=True)
        ]
        print(f"| {name} | {len(x)} | {' | '.join(cells)} | {np.mean(seconds):.1f} |", flush=True)


if __name__ == "__main__":
    main()
