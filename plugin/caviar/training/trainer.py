"""What every trainer does, lane by lane: epochs, hyperparameters that change meanwhile, and whole states."""

import abc
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..config import TrainingConfig
from ..interventions import LiveHyperparameter, check_live
from ..networks import Output

Metrics = dict[str, float]
"""One lane's ``accuracy``, ``loss``, ``val_accuracy`` and ``val_loss`` of one epoch.

Where the data asks for them by class, ``val_balanced_accuracy`` and ``val_macro_f1`` too.
"""

_METRICS = ("accuracy", "loss", "val_accuracy", "val_loss", "val_balanced_accuracy", "val_macro_f1")

LaneState = dict[str, npt.NDArray[np.generic]]
"""One lane's whole state; `Trainer.lane_state` describes its keys."""


class Trainer(abc.ABC):
    """Trains the networks of one or more lanes, an epoch at a time.

    Lanes are numbered from 0 to n_lanes − 1. Randomness comes from each lane's seed alone: apart from the rounding of
    the program that runs it, a lane's curve depends neither on the process nor on its neighbours. A trainer is a
    context manager that closes itself.

    Raises:
        IndexError: If a method is given a lane that is not there; then it does nothing.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    @abc.abstractmethod
    def n_lanes(self) -> int:
        """Lanes that are training; 0 once all are dropped."""

    @property
    @abc.abstractmethod
    def output(self) -> Output:
        """What the networks that `lane_model` returns output for each class."""

    @abc.abstractmethod
    def run_epoch(self) -> list[Metrics]:
        """Train every lane for one epoch, and return each lane's metrics, in the order of the lanes.

        ``loss`` and ``val_loss`` are mean cross-entropies in nats, without the L2 penalty or other regularizers. Keras
        adds these to both, but then a search over L2 would compare different quantities. As in Keras, ``accuracy`` and
        ``loss`` are means over the epoch's steps, each before its update and in training mode (batch statistics,
        dropout); the validation metrics are computed after the last update.

        A lane that diverges raises no error: its losses become NaN or infinite, and its accuracies those of a guess.
        """

    @abc.abstractmethod
    def set_hyperparameter(self, lane: int, name: LiveHyperparameter, value: float) -> None:
        """Change a lane's hyperparameter from its next epoch on, without a new trace.

        ``learning_rate`` is the rate before decay; ``momentum`` is Adam's beta_1; ``dropout`` and ``l2`` set all of the
        lane's layers alike. The ranges are those of TrainingConfig and NetworkConfig.

        Raises:
            SpaceError: If the value is outside its range.
            SpecError: If the name is unknown, or this lane's network has nothing for it to act on.
        """

    @abc.abstractmethod
    def drop_lanes(self, lanes: Collection[int]) -> None:
        """End lanes, for instance pruned ones; the lanes behind them move up, keeping their order."""

    @abc.abstractmethod
    def lane_state(self, lane: int) -> LaneState:
        """Return a copy of all that a lane's next epochs depend on, as arrays that ``np.savez`` can hold.

        Loaded into a trainer that was made in the same way, the lane continues bit for bit as it would have. Keys:

        - ``epoch``: epochs done, int64; ``seed``: the lane's seed, uint64; the order of the examples and the dropout
          masks follow from these two.
        - ``hyperparameter.NAME``: float64, a scalar; dropout has one rate a layer, l2 one factor a kernel.
        - ``variable.I``: the I-th of the Keras model's ``variables``: weights, batch-norm statistics, random states.
        - ``slot.NAME.I``: the optimizer's slot NAME of the I-th of the model's ``trainable_variables``.
        """

    @abc.abstractmethod
    def load_lane_state(self, lane: int, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Load a state from `lane_state` into a lane.

        Raises:
            ValueError: If the state belongs to another network or optimizer; then the lane is unchanged.
        """

    @abc.abstractmethod
    def lane_model(self, lane: int) -> Any:
        """Return a lane's network as a Keras model whose predictions are the lane's.

        It outputs logits, or whatever a user's own network outputs. It may be a copy or the network that is still
        training, so take what you need from it before the next epoch.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End all lanes and release the compiled program; a second call does nothing."""


def named_metrics(values: Iterable[float]) -> Metrics:
    """Name a lane's four or six metrics as its program gives them."""
    return dict(zip(_METRICS, values, strict=False))


def check_hyperparameter(training: TrainingConfig, name: LiveHyperparameter, value: float) -> None:
    """Raise SpecError for an unknown hyperparameter, and SpaceError for a value that its config refuses."""
    check_live(name, value)
    if name == "decay_rate":
        dataclasses.replace(training, decay_rate=value)  # its range depends on the decay


def check_state(state: Mapping[str, npt.NDArray[np.generic]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError if a state's keys or shapes are not those of the lane; ``epoch`` and ``seed`` are scalars."""
    expected = {"epoch": (), "seed": (), **shapes}
    differing = sorted(
        key for key in expected.keys() | state.keys() if key not in state or state[key].shape != expected.get(key)
    )
    if differing:
        raise ValueError(
            f"The state is not that of this network and optimizer: {', '.join(differing[:5])} differ in presence or "
            "shape. Load it into a trainer of the same network and optimizer."
        )
