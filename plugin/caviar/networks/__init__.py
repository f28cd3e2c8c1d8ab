"""From a frozen configuration to a stock Keras network, and from a trained network to the one that is exported."""

from .build import build_network
from .head import gives_probabilities, with_probabilities
from .normalization import fit_normalization

__all__ = ["build_network", "fit_normalization", "gives_probabilities", "with_probabilities"]
