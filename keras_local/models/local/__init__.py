"""Losses of blocks, for `keras_local.models.local_losses`."""

from keras_local.models.local.losses import LocalLoss as LocalLoss
from keras_local.models.local.losses import Mixed as Mixed
from keras_local.models.local.losses import Prediction as Prediction
from keras_local.models.local.losses import Similarity as Similarity

__all__ = ["LocalLoss", "Mixed", "Prediction", "Similarity"]
