"""Whole models: pretraining and readout, and conversion to feedback layers and back."""

from keras_local.models import reference as reference
from keras_local.models.align import align as align
from keras_local.models.convert import convert as convert
from keras_local.models.direct import direct as direct
from keras_local.models.export import export as export
from keras_local.models.hebbian_readout import ClassMeans as ClassMeans
from keras_local.models.hebbian_readout import hebbian_readout as hebbian_readout
from keras_local.models.nearest_neighbours import NearestNeighbours as NearestNeighbours
from keras_local.models.nearest_neighbours import nearest_neighbours as nearest_neighbours
from keras_local.models.pretrain import pretrain as pretrain
from keras_local.models.readout import Readout as Readout
from keras_local.models.readout import readout as readout
from keras_local.models.report import ConversionReport as ConversionReport
from keras_local.models.report import LayerReport as LayerReport
from keras_local.models.report import conversion_report as conversion_report
from keras_local.models.reseed import reseed as reseed
from keras_local.models.to_plain import to_plain as to_plain

__all__ = [
    "ClassMeans",
    "ConversionReport",
    "LayerReport",
    "NearestNeighbours",
    "Readout",
    "align",
    "conversion_report",
    "convert",
    "direct",
    "export",
    "hebbian_readout",
    "nearest_neighbours",
    "pretrain",
    "readout",
    "reference",
    "reseed",
    "to_plain",
]
