"""`CaviarClassifier`: the search for scikit-learn's users, who know `fit` and `predict`."""

import contextlib
import functools
import hashlib
import json
import os
import pickle
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .atomic_write import written_whole
from .attributes import BEST_EPOCH, FINGERPRINT
from .champion.saved import compiled
from .data.loading import Data, data_of
from .errors import DataError, SpecError
from .search.samplers import make_sampler_factory
from .search.stages import keep_stages, plan_of_study
from .space import DEFAULT_SPACE_TABLE
from .spec import StudySpec, parse_spec
from .storage.database import new_owner, open_storage
from .storage.home import locate_home
from .storage.opening import open_existing
from .storage.studies import create_study

#: Rows that the network takes at a time, always so many: what it gives for one does not depend on the others.
_ROWS: Final = 64
_ROWS_SEEN: Final = 30_000
_FEW_ROWS: Final = 1000
_LABEL: Final = "label of the row"


class CaviarClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Finds the best dense Keras network for a table or an array, and trains it on all of the data.

    The search is the one of ``caviar run``; a fifth of the data judges its trials. Then the best configuration is
    trained on everything.

    Args:
        trials: Trials of the search, at least 1.
        epochs: Passes over the data of a trial that is not pruned; None for as many as show 30,000 rows, from 20 to
            200: small tables need more.
        timeout_s: Seconds after which no new trial starts; None for no limit.
        metric: What decides: ``val_accuracy``, ``val_loss``, ``val_balanced_accuracy`` or ``val_macro_f1``; None for
            the loss where fewer than 1,000 rows validate, on which accuracy is too coarse.
        class_weight: ``balanced`` weighs an example of class c by n / (n_classes · n_c) in the training loss; a mapping
            gives the weights by label; None weighs all alike.
        space: A study file's ``[space]`` as a dict; None for the default space, with smaller batches for few rows.
        sampler: A study file's ``search.sampler``.
        validation_fraction: Share of the data that judges trials, in (0, 1).
        ensemble: Networks of the best configuration that are trained on all of the data and averaged, at least 1. They
            train together in one fleet, so five take little longer than one.
        columns: Column of a DataFrame → ``number``, ``category`` or ``ignore``, where what is inferred is wrong.
        random_state: From which every random choice derives: a number, a RandomState, or None for another each time.
        workers: Processes that share the search; 1 searches in this one.
        home: A home directory, in which the study and its data are kept for the dashboards and ``caviar``'s commands;
            None to leave nothing on disk.

    Attributes:
        classes_: The labels, sorted, in the order of the probabilities.
        n_features_in_: Columns of the data.
        best_params_: The hyperparameters of the best trial.
        best_score_: Its value: the best of many, and so too good.
        study_: The search, an Optuna study.
        network_: The trained network, a keras.Model that gives probabilities: the mean of the ensemble's.
        preprocessing_: What makes a DataFrame's columns numbers; None for arrays.

    Example:
        >>> CaviarClassifier(trials=20).fit(x, y).predict(x_new)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        trials: int = 50,
        epochs: int | None = None,
        timeout_s: float | None = None,
        metric: str | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        space: Mapping[str, Any] | None = None,
        sampler: str = "zoom",
        validation_fraction: float = 0.2,
        ensemble: int = 5,
        columns: Mapping[str, str] | None = None,
        random_state: Any = None,
        workers: int = 1,
        home: str | Path | None = None,
    ) -> None:
        self.trials = trials
        self.epochs = epochs
        self.timeout_s = timeout_s
        self.metric = metric
        self.class_weight = class_weight
        self.space = space
        self.sampler = sampler
        self.validation_fraction = validation_fraction
        self.ensemble = ensemble
        self.columns = columns
        self.random_state = random_state
        self.workers = workers
        self.home = home

    def fit(self, X: Any, y: Any) -> "CaviarClassifier":  # noqa: N803  (scikit-learn's name)
        """Search, and train the best configuration on all of the data.

        Args:
            X: An array (n, k) of numbers, or a DataFrame with numbers, texts, booleans and missing values.
            y: Labels, shape (n,).

        Raises:
            ValueError: If the data is not fit for classification.
            CaviarError: If an argument is outside its range.
        """
        if self.ensemble < 1:
            raise SpecError(f"ensemble must be a whole number of at least 1, but got {self.ensemble!r}.")
        features, labels = self._checked(X, y)
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"At least two classes are needed, but y has 1 class: {self.classes_[0]!r}.")
        seed = int(check_random_state(self.random_state).randint(2**31))
        named = labels if _are_names(labels) else encoded
        try:
            data = data_of(features, named, columns=self.columns or {}, name="X")
        except DataError as error:
            raise ValueError(str(error)) from error
        with _quiet_optuna():
            study, spec = self._search(data, seed)
        self._refit(data, study, spec)
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the label of each row, shape (n,)."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class for each row, shape (n, n_classes), in the order of ``classes_``.

        Raises:
            ValueError: If the columns are not those of training.
        """
        check_is_fitted(self)
        if self.preprocessing_ is None:
            features = validate_data(self, X, reset=False, dtype="numeric")
        else:
            validate_data(self, X, reset=False, skip_check_array=True)
            try:
                features = self.preprocessing_.transform(X, where="X")
            except DataError as error:
                raise ValueError(str(error)) from error
        rows = np.ascontiguousarray(features, dtype=self.network_.inputs[0].dtype)
        given = [self._ask(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]
        probabilities = np.concatenate(given).astype(np.float64)
        return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_ask_network", None)
        if "network_" in state:
            from .networks import quiet_saving

            with quiet_saving():
                state["network_"] = pickle.dumps(state["network_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "network_" in state:
            self._keep(pickle.loads(state["network_"]))  # noqa: S301  (part of a pickle that is being loaded)

    def _checked(self, x: Any, y: Any) -> tuple[Any, NDArray[Any]]:
        """Return features, an array or a DataFrame that numbers alone do not make up, and labels."""
        if _is_mixed_frame(x) or self.columns:
            validate_data(self, x, skip_check_array=True)
            features = x
        else:
            features, y = validate_data(self, x, y, dtype="numeric", ensure_min_samples=2)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(labels) != len(features):
            raise ValueError(f"X has {len(features)} rows, but y has {len(labels)}.")
        return features, labels

    def _search(self, data: Data, seed: int) -> tuple[optuna.Study, StudySpec]:
        from .engines.work import prepare_devices

        prepare_devices(threads=os.cpu_count() or 1)
        if self.home is not None:
            return self._search_in(Path(self.home), data, seed)
        with tempfile.TemporaryDirectory(prefix="caviar-") as directory:
            if self.workers > 1:
                study, spec = self._search_in(Path(directory), data, seed)
            else:
                spec = self._spec(data, seed, dataset="X")
                study = self._search_here(Path(directory), data, spec)
            return _in_memory(study), spec

    def _search_here(self, directory: Path, data: Data, spec: StudySpec) -> optuna.Study:
        """Search in this process, in a database that is removed at the end."""
        from .engines.work import work_here

        home = locate_home(directory)
        storage = open_storage(home.storage, owner=new_owner(), create=True)
        study = create_study(storage, spec, attributes={FINGERPRINT: data.fingerprint})
        keep_stages(study, spec.search)
        plan = plan_of_study(study, spec.search)
        work_here(
            study,
            storage,
            spec,
            data.cut(validation_fraction=self.validation_fraction, seed=spec.seed),
            home=home,
            make_sampler=make_sampler_factory(spec.search, spec.space, seed=spec.seed, plan=plan),
            deadline_s=None if self.timeout_s is None else time.monotonic() + self.timeout_s,
        )
        return study

    def _search_in(self, directory: Path, data: Data, seed: int) -> tuple[optuna.Study, StudySpec]:
        """Search as ``caviar run`` does, in a home with the data in a file."""
        from .commands.run import run_study

        home = locate_home(directory)
        spec = self._spec(data, seed, dataset=str(_write_data(data, home.path / "data")))
        run_study(spec, home)
        return open_existing(home, spec.name)[1], spec

    def _spec(self, data: Data, seed: int, *, dataset: str) -> StudySpec:
        is_table, n = data.kinds is not None, len(data.examples.labels)
        metric = self.metric or ("val_loss" if n * self.validation_fraction < _FEW_ROWS else "val_accuracy")
        epochs = self.epochs if self.epochs is not None else min(max(_ROWS_SEEN // n, 20), 200)
        small = {"batch_size": {"choices": [16, 32, 64]}} if n < _FEW_ROWS else {}
        table: dict[str, Any] = {
            "name": "classifier",
            "seed": seed,
            "data": {"dataset": dataset, "validation_fraction": self.validation_fraction}
            | ({"label": _LABEL, "test": str(Path(dataset).with_name("no_rows.parquet"))} if is_table else {})
            | ({"columns": dict(self.columns)} if self.columns else {}),
            "objective": {"metric": metric, "epochs": epochs}
            | ({} if self.class_weight is None else {"class_weight": self._named_weights(data)}),
            "search": {"trials": self.trials, "sampler": self.sampler, "workers": self.workers}
            | ({} if self.timeout_s is None else {"timeout_s": self.timeout_s}),
            "space": dict({**DEFAULT_SPACE_TABLE, **small} if self.space is None else self.space),
        }
        named = hashlib.sha256(json.dumps([data.fingerprint, table]).encode()).hexdigest()[:10]
        return parse_spec(table | {"name": f"classifier-{named}"})

    def _named_weights(self, data: Data) -> Any:
        """Return the class weights by the names that the data's classes have."""
        if not isinstance(self.class_weight, Mapping):
            return self.class_weight
        names = dict(zip(self.classes_.tolist(), data.class_names, strict=True))
        return {names.get(label, str(label)): weight for label, weight in self.class_weight.items()}

    def _refit(self, data: Data, study: optuna.Study, spec: StudySpec) -> None:
        from .champion.refit import refit

        try:
            best = study.best_trial
        except ValueError as error:
            raise ValueError("No trial was completed, so there is no network. Raise trials or timeout_s.") from error
        epochs = int(best.user_attrs.get(BEST_EPOCH, spec.objective.epochs - 1)) + 1
        trained = refit(data, spec, best.params, epochs=epochs, n_networks=self.ensemble)
        self.study_ = study
        self.best_params_ = trained.hyperparameters
        self.best_score_ = best.value
        self._keep(trained.model)
        self.preprocessing_ = trained.preprocessing

    def _keep(self, network: Any) -> None:
        """Keep a network, and the program that asks it."""
        self.network_ = network
        self._ask_network = _Program(network)

    def _ask(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        import tensorflow as tf

        padded = np.zeros((_ROWS, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        return np.asarray(self._ask_network(tf.constant(padded)))[: len(rows)]


class _Program:
    """Gives a network's probabilities; compiled once it is first asked, which many an estimator never is."""

    def __init__(self, network: Any) -> None:
        inputs = network.inputs[0]
        self._compile = functools.cache(functools.partial(compiled, network, tuple(inputs.shape[1:]), inputs.dtype))

    def __call__(self, rows: Any) -> Any:
        return self._compile()(rows)


def _is_mixed_frame(x: Any) -> bool:
    """Tell whether something is a DataFrame with more than numbers in it, or with holes."""
    if not hasattr(x, "iloc") or not hasattr(x, "columns"):
        return False
    return any(dtype.kind not in "iuf" for dtype in x.dtypes) or bool(x.isna().to_numpy().any())


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _are_names(labels: NDArray[Any]) -> bool:
    """Tell whether labels can name classes: texts, whole numbers or booleans."""
    return labels.dtype.kind in "biuU" or all(isinstance(label, str) for label in labels)


def _write_data(data: Data, directory: Path) -> Path:
    """Write data to a file that a study can name, with a test split of no rows: all rows are to learn from."""
    directory = directory / data.fingerprint[:16]
    path = directory / ("rows.parquet" if data.kinds is not None else "rows.npz")
    if path.exists():
        return path
    names = np.array(data.class_names)[data.examples.labels]
    with written_whole(path) as beside:
        if data.kinds is None:
            x = data.examples.features
            np.savez(beside, x_train=x, y_train=names, x_test=x[:0], y_test=names[:0])
        else:
            frame = data.examples.features.assign(**{_LABEL: names})
            frame.iloc[:0].to_parquet(directory / "no_rows.parquet")
            frame.to_parquet(beside)
    return path


def _in_memory(study: optuna.Study) -> optuna.Study:
    """Return a copy of a study that needs no database, and can be pickled."""
    copy = optuna.create_study(study_name=study.study_name, direction=study.direction)
    copy.add_trials(study.get_trials())
    return copy
