"""The trainer of a fleet: many networks of the same kind in one program."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...errors import SpecError
from ...interventions import LiveHyperparameter
from ...networks import Output, build_network
from ..tensorflow_private import without_graph_rewriting
from ..trainer import LaneState, Metrics, Trainer, check_hyperparameter, check_state, named_metrics
from .lanes import Array, Lane, Layout, RunningLane, stack, unstack
from .plan import lasting_parts, make_plan, program_key
from .program import FleetPrograms


@final
class FleetTrainer(Trainer):
    """Trains several configurable dense networks at once, an epoch per call, each as `SoloTrainer` would.

    Lanes share activation, placement of batch norm and optimizer; they may differ in everything else. They can join and
    leave between epochs, each at an epoch of its own. What a lane computes does not depend on its neighbours, except
    for rounding. The programs and their data are shared by all fleets of the process.

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
        # Without a layout, each lane's own arrays hold its state; with one, the stacked arrays do, as _ordered.
        self._layout: Layout | None = None
        self._stacked: list[Any] = []
        self._ordered: list[RunningLane] = []
        self._lasting: dict[str, Any] | None = None  # parts of the plan, until lanes or hyperparameters change
        self.add_lanes(lanes)

    @property
    def n_lanes(self) -> int:
        """Lanes that are training."""
        return len(self._lanes)

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """Add lanes behind the present ones, each at its first epoch.

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
        self._unstack()
        self._lanes.extend([RunningLane(lane, self._programs.data) for lane in lanes])

    @property
    def output(self) -> Output:
        """Logits; see `Trainer.output`."""
        return "logits"

    def run_epoch(self) -> list[Metrics]:
        """Train every lane for one epoch; see `Trainer.run_epoch`."""
        if not self._lanes:
            return []
        layout = self._stack()
        key = program_key(self._ordered, depth=layout.depth, dtype=self._dtype)
        data = self._programs.data
        if self._lasting is None:
            self._lasting = lasting_parts(self._ordered, layout, key, data)
        plan = make_plan(self._ordered, key, data, lasting=self._lasting)
        with without_graph_rewriting():
            metrics, *self._stacked = self._programs.run(key, plan, self._stacked)
        columns = metrics.numpy().T.tolist()
        results = {id(lane): named_metrics(values) for lane, values in zip(self._ordered, columns, strict=True)}
        for lane in self._lanes:
            lane.epoch += 1
        return [results[id(lane)] for lane in self._lanes]

    def set_hyperparameter(self, lane: int, name: LiveHyperparameter, value: float) -> None:
        """Change a lane's hyperparameter from its next epoch on; see `Trainer.set_hyperparameter`.

        The first dropout or L2 above 0 in a fleet needs another program, which may have to be traced.
        """
        running = self._running(lane)
        check_hyperparameter(running.spec.training, name, value)
        running.live[name] = np.full_like(running.live[name], value)
        self._lasting = None

    def drop_lanes(self, lanes: Collection[int]) -> None:
        """End lanes; see `Trainer.drop_lanes`."""
        dropped = [self._running(lane) for lane in lanes]
        if dropped:
            self._unstack()
            self._lanes = [lane for lane in self._lanes if lane not in dropped]

    def lane_state(self, lane: int) -> LaneState:
        """Return a copy of a lane's state; see `Trainer.lane_state`."""
        running = self._running(lane)
        return running.state(self._arrays_of(running))

    def load_lane_state(self, lane: int, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Put a state into a lane; see `Trainer.load_lane_state`. A solo trainer's fits too."""
        expected = self.lane_state(lane)
        check_state(state, {key: value.shape for key, value in expected.items()})
        self._unstack()
        self._lanes[lane].load(state)

    def lane_model(self, lane: int) -> Any:
        """Return a new Keras network with the lane's variables; see `Trainer.lane_model`."""
        running, data = self._running(lane), self._programs.data
        arrays = self._arrays_of(running)
        model = build_network(
            running.spec.network,
            feature_shape=data.feature_shape,
            n_classes=data.n_classes,
            normalization=data.normalization,
            seed=running.spec.seed,
        )
        for i, variable in enumerate(model.variables):
            variable.assign(arrays[f"variable.{i}"])
        return model

    def close(self) -> None:
        """End all lanes; see `Trainer.close`."""
        self._lanes, self._layout, self._stacked, self._ordered = [], None, [], []

    def _running(self, lane: int) -> RunningLane:
        if not 0 <= lane < len(self._lanes):
            raise IndexError(f"There is no lane {lane}: the fleet has {len(self._lanes)}, from 0.")
        return self._lanes[lane]

    def _arrays_of(self, lane: RunningLane) -> dict[str, Array]:
        if self._layout is None:
            return lane.arrays
        # Views of the tensors' memory, not copies of the whole stacks.
        shared = [np.asarray(part) for part in self._stacked]
        return unstack(shared, self._layout, lane, self._ordered.index(lane))

    def _unstack(self) -> None:
        """Copy the stacked arrays back into each lane's own."""
        self._lasting = None
        for lane in self._lanes:
            lane.arrays = self._arrays_of(lane)
        self._layout, self._stacked, self._ordered = None, [], []

    def _stack(self) -> Layout:
        """Stack the lanes' arrays unless they are stacked, and return the layout."""
        if self._layout is None:
            self._ordered = sorted(self._lanes, key=lambda lane: -lane.spec.network.depth)
            depth = self._programs.depth_for(self._ordered[0].spec.network.depth)
            self._layout = Layout.of(self._ordered, self._programs.data, depth=depth)
            arrays = stack(self._ordered, self._layout, dtype=self._dtype)
            self._stacked = [tf.constant(array) for array in arrays]
        return self._layout
