"""Whole models: pretraining and readout, and conversion to built-in layers for shipping."""

from keras_local.models.export import export as export
from keras_local.models.pretrain import pretrain as pretrain
from keras_local.models.readout import Readout as Readout
from keras_local.models.readout import readout as readout
from keras_local.models.to_plain import to_plain as to_plain

__all__ = ["Readout", "export", "pretrain", "readout", "to_plain"]
