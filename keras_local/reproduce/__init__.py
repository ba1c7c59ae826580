"""Experiments: `compare` for rules on a model of your own, and the command `keras-local`."""

from keras_local.reproduce.compare import compare as compare
from keras_local.reproduce.comparison import Comparison as Comparison
from keras_local.reproduce.comparison import Row as Row

__all__ = ["Comparison", "Row", "compare"]
