"""Local, biologically plausible learning for Keras 3.

Layers whose errors return through feedback weights (`layers`, `feedback`), layers that learn
without labels by a local rule (`layers`, `plasticity`), networks that learn in phases (`dynamics`),
and tools for them (`models`, `callbacks`, `metrics`, `plots`, `datasets`, `distribute`).
"""

from keras_local import activations as activations
from keras_local import callbacks as callbacks
from keras_local import constraints as constraints
from keras_local import datasets as datasets
from keras_local import distribute as distribute
from keras_local import dynamics as dynamics
from keras_local import feedback as feedback
from keras_local import layers as layers
from keras_local import losses as losses
from keras_local import metrics as metrics
from keras_local import models as models
from keras_local import ops as ops
from keras_local import optimizers as optimizers
from keras_local import plasticity as plasticity
from keras_local import plots as plots
from keras_local import reproduce as reproduce
from keras_local import testing as testing

__version__ = "0.1.0"
