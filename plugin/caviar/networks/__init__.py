"""From a frozen configuration to a stock Keras network, and from a trained network to the one that is exported."""

from .build import BATCH_NORM_EPSILON as BATCH_NORM_EPSILON
from .build import Variable as Variable
from .build import build_network as build_network
from .build import initial_values as initial_values
from .build import network_variables as network_variables
from .head import Output as Output
from .head import check_probabilities as check_probabilities
from .head import find_output as find_output
from .head import quiet_saving as quiet_saving
from .head import with_probabilities as with_probabilities
from .normalization import Statistics as Statistics
from .normalization import fit_normalization as fit_normalization
