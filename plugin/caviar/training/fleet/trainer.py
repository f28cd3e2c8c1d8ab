"""The trainer of a fleet: many networks of the same family in one program."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...errors import SpecError
from ...networks import Output, build_network
from ..tensorflow_private import without_graph_rewriting
from ..trainer import Hyperparameter, LaneState, Metrics, Trainer, check_hyperparameter, check_state, named_metrics
from .lane import Lane, RunningLane
from .plan import lasting_parts, make_plan, program_key
from .program import FleetPrograms
from .stacks import LaneArrays, Layout, stack, unstack


@final
class FleetTrainer(Trainer):
    """Trains several configurable dense networks at once, an epoch a call, each as `SoloTrainer` would alone.

    Lanes may differ in depth, widths, batch size, decay, dropout, L2 and every number; they share activation, placement
    of batch norm and optimizer. Lanes can join and leave between epochs, each at an epoch of its own. What a lane
    computes does not depend on its neighbours, except for rounding.

    Args:
        lanes: What to train, any number.
        programs: The process's programs, and their data.

    Raises:
        SpecError: If the lanes do not share activation, placement of batch norm and optimizer.

    Example:
        >>> programs = FleetPrograms(FleetData.from_splits(splits, normalization=None))  # doctest: +SKIP
        >>> with FleetTrainer(lanes, programs) as fleet:  # doctest: +SKIP
        ...     fleet.run_epoch()
        [{'accuracy': 0.31, …}, {'accuracy': 0.27, …}]
    """

    def __init__(self, lanes: Sequence[Lane], programs: FleetPrograms) -> None:
        self._programs = programs
        self._dtype = keras.config.floatx()
        self._lanes: list[RunningLane] = []
        # Either each lane's own arrays, or all lanes' stacked, in the order of _order, with the layout.
        self._own: list[LaneArrays] | None = []
        self._stacked: list[Any] = []
        self._templates: list[LaneArrays] = []
        self._order: list[int] = []
        self._layout: Layout | None = None
        self._lasting: dict[str, Any] | None = None  # parts of the plan, until lanes or hyperparameters change
        self.add_lanes(lanes)

    @property
    def n_lanes(self) -> int:
        """Lanes that are training."""
        return len(self._lanes)

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """Add lanes behind those that are there, each from its first epoch on.

        Raises:
            SpecError: If they do not share activation, placement of batch norm and optimizer with the fleet's; then
                none joins.
        """
        kinds = {
            (lane.network.activation, lane.network.batch_norm, lane.training.optimizer)
            for lane in [*(running.spec for running in self._lanes), *lanes]
        }
        if len(kinds) > 1:
            raise SpecError(
                "The lanes of a fleet must have the same activation, placement of batch norm and optimizer, but got "
                f"{', '.join(map(str, sorted(kinds)))}. Make a fleet of each."
            )
        own = self._unstacked()
        joining = [RunningLane(lane, self._programs.data) for lane in lanes]
        own.extend(lane.initial_arrays(self._programs.data) for lane in joining)
        self._lanes.extend(joining)

    @property
    def output(self) -> Output:
        """Logits; see `Trainer.output`."""
        return "logits"

    def run_epoch(self) -> list[Metrics]:
        """Train every lane for one epoch; see `Trainer.run_epoch`."""
        if not self._lanes:
            return []
        layout = self._stack()
        ordered = [self._lanes[index] for index in self._order]
        key = program_key(ordered, depth=layout.depth, dtype=self._dtype)
        data = self._programs.data
        if self._lasting is None:
            self._lasting = lasting_parts(ordered, layout, key, data)
        plan = make_plan(ordered, key, data, lasting=self._lasting)
        with without_graph_rewriting():
            metrics, *self._stacked = self._programs.run(key, plan, self._stacked)
        results: list[Metrics] = [{} for _ in self._lanes]
        for index, values in zip(self._order, metrics.numpy().T.tolist(), strict=True):
            results[index] = named_metrics(values)
        for lane in self._lanes:
            lane.epoch += 1
        return results

    def set_hyperparameter(self, lane: int, name: Hyperparameter, value: float) -> None:
        """Change a lane's hyperparameter from its next epoch on; see `Trainer.set_hyperparameter`.

        The first dropout or L2 above 0 in a fleet needs another program, which may have to be traced.
        """
        running = self._lanes[self._checked(lane)]
        check_hyperparameter(running.spec.training, name, value)
        running.live[name] = np.full_like(running.live[name], value)
        self._lasting = None

    def drop_lanes(self, lanes: Collection[int]) -> None:
        """End lanes; see `Trainer.drop_lanes`."""
        dropped = {self._checked(lane) for lane in lanes}
        if not dropped:
            return
        own = self._unstacked()
        self._own = [arrays for index, arrays in enumerate(own) if index not in dropped]
        self._lanes = [running for index, running in enumerate(self._lanes) if index not in dropped]

    def lane_state(self, lane: int) -> LaneState:
        """Return a copy of a lane's state; see `Trainer.lane_state`."""
        return self._lanes[self._checked(lane)].state(self._arrays_of(lane))

    def load_lane_state(self, lane: int, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Put a state into a lane; see `Trainer.load_lane_state`. A solo trainer's fits too."""
        expected = self.lane_state(lane)
        check_state(state, {key: value.shape for key, value in expected.items()})
        own = self._unstacked()
        own[lane] = self._lanes[lane].load(state, own[lane])

    def lane_model(self, lane: int) -> Any:
        """Return a new Keras network with the lane's variables; see `Trainer.lane_model`."""
        spec, data = self._lanes[self._checked(lane)].spec, self._programs.data
        model = build_network(
            spec.network,
            feature_shape=data.feature_shape,
            n_classes=data.n_classes,
            normalization=data.normalization,
            seed=spec.seed,
        )
        for variable, value in zip(model.variables, self._arrays_of(lane).values, strict=True):
            variable.assign(value)
        return model

    def close(self) -> None:
        """End all lanes; see `Trainer.close`."""
        self._lanes, self._own, self._stacked, self._templates = [], [], [], []

    def _checked(self, lane: int) -> int:
        if not 0 <= lane < len(self._lanes):
            raise IndexError(f"There is no lane {lane}: the fleet has {len(self._lanes)}, from 0.")
        return lane

    def _arrays_of(self, lane: int) -> LaneArrays:
        if self._own is not None:
            return self._own[lane]
        assert self._layout is not None
        place = self._order.index(lane)
        # Views of the tensors' memory, not copies of the whole stacks.
        return unstack([np.asarray(part) for part in self._stacked], self._layout, self._templates[lane], place)

    def _unstacked(self) -> list[LaneArrays]:
        """Return each lane's own arrays, which take the place of the stacked ones."""
        self._lasting = None
        if self._own is None:
            self._own = [self._arrays_of(lane) for lane in range(len(self._lanes))]
            self._stacked, self._templates = [], []
        return self._own

    def _stack(self) -> Layout:
        """Stack the lanes' arrays, if they are not stacked, and return the layout."""
        if self._own is None:
            assert self._layout is not None
            return self._layout
        networks = [lane.spec.network for lane in self._lanes]
        self._order = sorted(range(len(networks)), key=lambda index: -networks[index].depth)
        data = self._programs.data
        ordered = [networks[index] for index in self._order]
        depth = self._programs.depth_for(ordered[0].depth)
        self._layout = Layout.of(ordered, depth=depth, n_features=data.n_features, n_classes=data.n_classes)
        arrays = stack([self._own[index] for index in self._order], self._layout, dtype=self._dtype)
        self._stacked = [tf.constant(array) for array in arrays]
        self._templates, self._own = self._own, None
        return self._layout
