"""The packer counts the programs that training traces."""

import pytest

from caviar.data.loading import load_dataset
from caviar.packing.cost_model import TYPICAL, DataShape, LaneShape
from caviar.packing.packing import Packer
from caviar.program_key import program_depth
from caviar.space import make_configs


@pytest.mark.parametrize(
    ("deepest", "expected"), [(None, [1, 2, 5, 9]), (3, [3, 3, 5, 9]), (6, [4, 4, 6, 9]), (12, [4, 4, 8, 12])]
)
def test_depths_are_rounded_up_but_not_beyond_the_deepest_that_will_come(
    deepest: int | None, expected: list[int]
) -> None:
    assert [program_depth(depth, deepest=deepest) for depth in (1, 2, 5, 9)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("deepest", [None, 3])
def test_the_packer_predicts_exactly_the_traces_that_happen(deepest: int | None) -> None:
    from caviar.training import FleetData, FleetPrograms, FleetTrainer, Lane, TensorSplits

    splits = TensorSplits.from_dataset(load_dataset("tests.toy_data:blobs"))
    programs = FleetPrograms(FleetData.from_splits(splits, normalization=None), deepest=deepest)
    data = DataShape(
        n_train=len(splits.train_labels), n_validation=len(splits.validation_labels), n_features=4, n_classes=3
    )
    packer = Packer(cost=TYPICAL, data=data, memory_bytes=1 << 30, deepest=deepest)
    drawn = [{"depth": 1 + n % 3, "units": 4, "batch_size": 32 << (n % 2), "dropout": 0.2 * (n > 5)} for n in range(8)]
    configs = [make_configs(hyperparameters, epochs=2) for hyperparameters in drawn]
    shapes = [LaneShape(network=network, training=training) for network, training in configs]
    fleets = [[shape] for shape in shapes] + [[shapes[place] for place in fleet] for fleet in packer.plan(shapes)]
    for fleet in fleets:
        lanes = [Lane(network=shape.network, training=shape.training, seed=0) for shape in fleet]
        with FleetTrainer(lanes, programs) as trainer:
            trainer.run_epoch()
        assert packer.program_key(fleet) in programs.keys
    predicted = {packer.program_key(fleet) for fleet in fleets}
    assert programs.n_traces == len(predicted) == len(programs.keys)
    assert set(programs.keys) == predicted
