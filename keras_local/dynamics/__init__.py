"""Networks that learn in phases, as Keras models."""

from keras_local.dynamics.burstprop import BurstpropNetwork as BurstpropNetwork
from keras_local.dynamics.contrastive_hebbian import (
    ContrastiveHebbianNetwork as ContrastiveHebbianNetwork,
)
from keras_local.dynamics.conv_equilibrium import ConvEquilibriumNetwork as ConvEquilibriumNetwork
from keras_local.dynamics.conv_synapses import ConvSynapses as ConvSynapses
from keras_local.dynamics.difference_target import (
    DifferenceTargetPropagation as DifferenceTargetPropagation,
)
from keras_local.dynamics.equilibrium import EquilibriumNetwork as EquilibriumNetwork
from keras_local.dynamics.forward_forward import (
    ForwardForwardNetwork as ForwardForwardNetwork,
)
from keras_local.dynamics.local_backprop import LocalBackpropNetwork as LocalBackpropNetwork
from keras_local.dynamics.microcircuit import MicrocircuitNetwork as MicrocircuitNetwork
from keras_local.dynamics.network import Network as Network
from keras_local.dynamics.predictive_coding import (
    PredictiveCodingNetwork as PredictiveCodingNetwork,
)
from keras_local.dynamics.recirculation import (
    RecirculationAutoencoder as RecirculationAutoencoder,
)
from keras_local.dynamics.segregated_dendrites import (
    SegregatedDendritesNetwork as SegregatedDendritesNetwork,
)
from keras_local.dynamics.synapses import Synapses as Synapses
from keras_local.dynamics.temporal_difference import (
    TemporalDifferenceNetwork as TemporalDifferenceNetwork,
)

__all__ = [
    "BurstpropNetwork",
    "ContrastiveHebbianNetwork",
    "ConvEquilibriumNetwork",
    "ConvSynapses",
    "DifferenceTargetPropagation",
    "EquilibriumNetwork",
    "ForwardForwardNetwork",
    "LocalBackpropNetwork",
    "MicrocircuitNetwork",
    "Network",
    "PredictiveCodingNetwork",
    "RecirculationAutoencoder",
    "SegregatedDendritesNetwork",
    "Synapses",
    "TemporalDifferenceNetwork",
]
