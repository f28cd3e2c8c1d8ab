"""The variables of a network, known without building it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.config import CHOICES, NetworkConfig
from caviar.networks import build_network, initial_values, network_variables

CONFIGS = st.integers(1, 3).flatmap(
    lambda depth: st.builds(
        NetworkConfig,
        depth=st.just(depth),
        units=st.tuples(*[st.integers(1, 9)] * depth),
        activation=st.sampled_from(CHOICES["activation"]),
        batch_norm=st.sampled_from(CHOICES["batch_norm"]),
        dropout=st.sampled_from([0.0, 0.3]),
    )
)


@settings(max_examples=8, deadline=None)
@given(config=CONFIGS, seed=st.integers(0, 2**32))
def test_variables_and_their_first_values_are_those_of_the_built_network(config: NetworkConfig, seed: int) -> None:
    model = build_network(config, feature_shape=(2, 3), n_classes=4, normalization=None, seed=seed)
    variables = network_variables(config, n_features=6, n_classes=4)
    values = initial_values(config, variables, seed=seed)
    assert [variable.shape for variable in variables] == [tuple(variable.shape) for variable in model.variables]
    assert sum(variable.trainable for variable in variables) == len(model.trainable_variables)
    for variable, value, built in zip(variables, values, model.variables, strict=True):
        assert value.dtype == np.dtype(built.dtype)
        np.testing.assert_array_equal(value, built.numpy(), err_msg=str(variable))


def test_trainable_variables_keep_their_order() -> None:
    config = NetworkConfig(depth=2, units=3, batch_norm="after_activation", dropout=0.1)
    model = build_network(config, feature_shape=(5,), n_classes=2, normalization=None, seed=0)
    variables = [v for v in network_variables(config, n_features=5, n_classes=2) if v.trainable]
    names = {"kernel": "kernel", "bias": "bias", "gamma": "gamma", "beta": "beta"}
    assert [names[variable.kind] for variable in variables] == [v.name for v in model.trainable_variables]


@pytest.mark.parametrize("batch_norm", ["none", "before_activation"])
def test_bias_is_dropped_where_batch_norm_follows_directly(batch_norm: str) -> None:
    config = NetworkConfig(depth=1, batch_norm=batch_norm)  # type: ignore[arg-type]  # one of the choices
    kinds = {v.kind for v in network_variables(config, n_features=5, n_classes=2) if v.layer == 0}
    assert ("bias" in kinds) == (batch_norm == "none")
