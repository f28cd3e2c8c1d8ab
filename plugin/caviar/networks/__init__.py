"""From a frozen configuration to a stock Keras network, and from a trained network to the one that is exported."""

from .build import BATCH_NORM_EPSILON, Variable, build_network, initial_values, network_variables
from .head import Output, check_probabilities, find_output, with_probabilities
from .normalization import Statistics, fit_normalization
from .saving import quiet_saving

__all__ = [
    "BATCH_NORM_EPSILON",
    "Output",
    "Statistics",
    "Variable",
    "build_network",
    "check_probabilities",
    "find_output",
    "fit_normalization",
    "initial_values",
    "network_variables",
    "quiet_saving",
    "with_probabilities",
]
