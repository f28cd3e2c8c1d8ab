"""The objective: one trial of any Optuna study becomes one Keras network, trained epoch by epoch."""

import copy
import dataclasses
import datetime
import functools
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from ..config import MAX_EPOCHS
from ..data.dataset import Dataset
from ..data.loading import load_dataset
from ..errors import SpaceError, SpecError, TrialFailed
from ..imports import import_callable
from ..interventions import Intervention
from ..keras_backend import check_keras_backend
from ..metrics import CLASS_METRICS, direction_of
from ..packing.cost_model import LaneShape
from ..search.given_params import take_given
from ..search.seeds import trial_seed
from ..search.sequences import origin_of
from ..space import DEFAULT_SPACE_TABLE, SearchSpace, make_configs, parse_space
from ..spec import OUTPUTS, StudySpec, check_class_weight
from ..user_cache import user_cache
from .mirroring import Mirroring, mirror_trials
from .trial_run import Decision, TrialRun, decide

if TYPE_CHECKING:
    import keras

    from ..networks import Output
    from ..record.mlflow_mirror import MlflowMirror
    from ..training import FleetPrograms, SoloTrainer, TensorSplits

_logger = logging.getLogger(__name__)

#: Builds a user's own network from the trial's hyperparameters and the data set.
NetworkFunction = Callable[[Mapping[str, Any], Dataset], "keras.Model"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneSpec:
    """What one trial trains."""

    hyperparameters: Mapping[str, Any]  # as the user thinks of them, for the user's own network function
    shape: LaneShape  # the network that they describe otherwise, and its training
    seed: int  # for weights, batches and dropout


class KerasObjective:
    """An objective for ``study.optimize``: draws hyperparameters, trains a Keras network, reports every epoch.

    It works with any stock storage, sampler and pruner. It writes to the study alone, unless you give a
    ``tracking_uri``.

    Args:
        dataset: A TFDS name, a directory of one, ``package.module:function`` that returns arrays, or a loaded
            ``Dataset``.
        epochs: Passes over the training split of a trial that is not pruned, at least 1.
        metric: The metric to optimise and report: val_accuracy, val_loss, val_balanced_accuracy, val_macro_f1, accuracy
            or loss.
        space: The search space, as a ``SearchSpace`` or a study file's ``[space]`` table; None for the default six
            hyperparameters.
        network: Builds your own network from (hyperparameters, dataset), instead of the configurable dense one. It
            ends in logits or in a softmax.
        output: The output of your own network, ``logits`` or ``probabilities``; None to find out from its values.
        class_weight: ``balanced`` weighs an example of class c by n / (n_classes · n_c) in the training loss, so that
            rare classes count as much as frequent ones; a mapping gives weights by class; None weighs all alike.
        seed: Together with the trial's number, the seed of weights, batches and dropout, and of all that your own
            network draws.
        tracking_uri: Where MLflow logs every trial; None logs nothing.

    Raises:
        SpecError: If the metric, the space or the number of epochs is not allowed, or Keras has another backend than
            TensorFlow.

    Example:
        >>> study = optuna.create_study(direction="maximize")
        >>> study.optimize(KerasObjective("digits"), n_trials=50)
    """

    def __init__(
        self,
        dataset: str | Dataset,
        *,
        epochs: int = 20,
        metric: str = "val_accuracy",
        space: SearchSpace | Mapping[str, Any] | None = None,
        network: NetworkFunction | None = None,
        output: "Output | None" = None,
        class_weight: str | Mapping[str, float] | None = None,
        seed: int = 0,
        tracking_uri: str | None = None,
    ) -> None:
        if not isinstance(epochs, int) or isinstance(epochs, bool) or not 1 <= epochs <= MAX_EPOCHS:
            raise SpecError(f"epochs must be a whole number from 1 to {MAX_EPOCHS}, but got {epochs!r}.")
        check_keras_backend()
        self.direction = direction_of(metric)
        self.metric = metric
        self.epochs = epochs
        self.seed = seed
        if not isinstance(space, SearchSpace):
            space = parse_space(DEFAULT_SPACE_TABLE if space is None else space, own_names=network is not None)
        self.space = space
        if output not in (None, *OUTPUTS):
            raise SpecError(f"output must be one of {', '.join(OUTPUTS)} or None, but got {output!r}.")
        if class_weight is not None:
            check_class_weight(class_weight, where="class_weight")
        self._class_weight, self._network, self._output = class_weight, network, output
        self._tracking_uri = tracking_uri
        self._has_warned = False
        self._mirror: MlflowMirror | None = None
        self._source = dataset

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set, loaded on first use; one that was given by name is split by this objective's seed."""
        return load_dataset(self._source, seed=self.seed) if isinstance(self._source, str) else self._source

    def __call__(self, trial: optuna.trial.BaseTrial) -> float:
        """Run one trial of a stock study, or train a network again outside any study.

        Args:
            trial: A study's trial; or a ``FixedTrial`` or ``FrozenTrial``, for which nothing is stored or logged. Its
                number decides the seeds: a ``FrozenTrial`` trains as it did in its study.

        Returns:
            The best epoch's metric.

        Raises:
            SpecError: If the study's direction contradicts the metric.
            TrialFailed: If the trial was given a value outside the space.
            optuna.TrialPruned: If the pruner ended it, or it diverged.
        """
        if not isinstance(trial, optuna.Trial):
            origin = origin_of(trial) if isinstance(trial, optuna.trial.FrozenTrial) else None
            return self._run(copy.deepcopy(trial), origin=origin)
        self._check_directions(trial.study)
        try:
            value = self._run(trial)
        except optuna.TrialPruned:
            self._mirror_trial(trial, state=TrialState.PRUNED)
            raise
        except Exception:
            self._mirror_trial(trial, state=TrialState.FAIL)
            raise
        self._mirror_trial(trial, state=TrialState.COMPLETE, value=value)
        return value

    def _run(self, trial: optuna.trial.BaseTrial, *, origin: int | None = None) -> float:
        lane, run = self.draw(trial, origin=origin), self.make_run(trial)
        decision, started = Decision.GO_ON, time.monotonic()
        with self.make_trainer(lane.hyperparameters, seed=lane.seed) as trainer:
            run.output = trainer.output
            while decision is Decision.GO_ON:
                (metrics,) = trainer.run_epoch()
                run.train_seconds += time.monotonic() - started
                pruned = not run.record(metrics)
                decision = decide(epochs=run.epochs, max_epochs=self.epochs, pruned=pruned)
                started = time.monotonic()
        run.store()
        if decision is Decision.PRUNE:
            raise optuna.TrialPruned("Training diverged." if run.diverged else None)
        assert run.best_value is not None
        return run.best_value

    def draw(self, trial: optuna.trial.BaseTrial, *, origin: int | None = None) -> LaneSpec:
        """Draw a trial's hyperparameters, and return what it trains; its seeds derive from ``origin`` or its number.

        Raises TrialFailed if the trial was given a value outside the space.
        """
        try:
            take_given(trial, self.space)
            hyperparameters = self.space.suggest(trial)
            network, training = make_configs(hyperparameters, epochs=self.epochs)
        except SpaceError as error:
            raise TrialFailed(str(error)) from error
        seed = trial_seed(self.seed, trial.number if origin is None else origin, "training")
        shape = LaneShape(network=network, training=training)
        return LaneSpec(hyperparameters=hyperparameters, shape=shape, seed=seed)

    def make_run(
        self,
        trial: optuna.trial.BaseTrial,
        *,
        reported: Collection[int] = frozenset(),
        interventions: Collection[Intervention] = (),
        rewrite: Callable[[int, float], None] | None = None,
    ) -> TrialRun:
        """Return a trial's run; see `TrialRun` for its arguments."""
        return TrialRun(
            trial,
            interventions=interventions,
            rewrite=rewrite,
            metric=self.metric,
            n_classes=self.dataset.n_classes,
            reported=reported,
            tells_output=self._network is not None,
        )

    def make_trainer(self, hyperparameters: Mapping[str, Any], *, seed: int) -> "SoloTrainer":
        """Build the network of these hyperparameters and its trainer; close the trainer after use."""
        from ..networks import build_network
        from ..training import SoloTrainer, seeded_libraries

        tensors, normalization = self._loaded
        network, training = make_configs(hyperparameters, epochs=self.epochs)
        if self._network is not None:
            with seeded_libraries(seed):
                model = self._network(hyperparameters, self.dataset)
                trainer = SoloTrainer(model, tensors, training, seed=seed, output=self._output)
            self._warn_of_rounding(trainer)
            return trainer
        model = build_network(
            network,
            feature_shape=self.dataset.feature_shape,
            n_classes=self.dataset.n_classes,
            normalization=normalization,
            seed=seed,
        )
        return SoloTrainer(model, tensors, training, seed=seed, output="logits")

    @functools.cached_property
    def programs(self) -> "FleetPrograms":
        """The programs of this process' fleets."""
        from ..training import FleetData, FleetPrograms, KeptPrograms

        tensors, normalization = self._loaded
        data = FleetData.from_splits(tensors, normalization=normalization)
        return FleetPrograms(data, deepest=self.space.largest("depth"), kept=KeptPrograms(user_cache()))

    @functools.cached_property
    def _loaded(self) -> tuple["TensorSplits", tuple[Any, Any]]:
        """The splits on the device and their normalisation."""
        from ..networks import fit_normalization
        from ..training import TensorSplits

        by_class = self.metric in CLASS_METRICS
        tensors = TensorSplits.from_dataset(self.dataset, class_weight=self._class_weight, by_class=by_class)
        return tensors, fit_normalization(self.dataset.train.features)

    def _warn_of_rounding(self, trainer: "SoloTrainer") -> None:
        """Warn, once, that the user's own network rounds features to float32 that float32 cannot tell apart."""
        wide = self.dataset.train.features.dtype
        if wide == np.float64 and trainer.input_type != wide and not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "The features of %r are float64, since float32 cannot tell some of their values apart, but the network "
                "takes %s. Begin it with keras.Input(shape, dtype='float64') and a keras.layers.Rescaling of "
                "dtype='float64' that subtracts the mean, or scale the features in your data set.",
                *(self.dataset.name, trainer.input_type),
            )

    def _check_directions(self, study: optuna.Study) -> None:
        directions = [direction.name.lower() for direction in study.directions]
        if directions != [self.direction]:
            raise SpecError(
                f"{self.metric} is one value to {self.direction}, but the study's directions are {directions}. "
                f'Create it with optuna.create_study(direction="{self.direction}").'
            )

    def _mirror_trial(self, trial: optuna.Trial, *, state: TrialState, value: float | None = None) -> None:
        """Log a stock study's trial to MLflow; Optuna stores its end only after the objective has returned."""
        if self._tracking_uri is None:
            return
        from ..record.mlflow_mirror import MlflowMirror

        if self._mirror is None:
            self._mirror = MlflowMirror(self._tracking_uri, study_name=trial.study.study_name)
        trials = trial.study.get_trials(deepcopy=False)
        ended = copy.deepcopy(next(frozen for frozen in reversed(trials) if frozen.number == trial.number))
        last = ended.intermediate_values.get(ended.last_step) if ended.last_step is not None else None
        ended.state = state
        ended.value = value if state == TrialState.COMPLETE else last if state == TrialState.PRUNED else None
        ended.datetime_complete = datetime.datetime.now()  # noqa: DTZ005  (Optuna's times are naive local ones)
        mirror_trials(self._mirror, [ended], Mirroring(space=self.space, metric=self.metric))


def network_function(spec: StudySpec) -> NetworkFunction | None:
    """Return the function that builds a study file's networks, or None; raises SpecError if it cannot be called."""
    path = spec.objective.network
    takes = ("hyperparameters", "dataset")
    return None if path is None else import_callable(path, what="objective.network", takes=takes)


def objective_of(spec: StudySpec, dataset: Dataset) -> KerasObjective:
    """Return the objective that a study file describes, on its data set; raises as `network_function` does."""
    return KerasObjective(
        dataset,
        epochs=spec.objective.epochs,
        metric=spec.objective.metric,
        space=spec.space,
        network=network_function(spec),
        output=spec.objective.output,
        class_weight=spec.objective.class_weight,
        seed=spec.seed,
    )
