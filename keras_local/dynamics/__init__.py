"""Networks that learn by settling: the network owns time, and `compile` and `fit` work as ever."""

from keras_local.dynamics.equilibrium import EquilibriumNetwork as EquilibriumNetwork
from keras_local.dynamics.network import Network as Network
from keras_local.dynamics.synapses import Synapses as Synapses

__all__ = ["EquilibriumNetwork", "Network", "Synapses"]
