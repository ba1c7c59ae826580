"""Functions for whole models: conversion, export, pretraining, readouts, reference networks."""

from keras_local.models import local as local
from keras_local.models import reference as reference
from keras_local.models.conversion.conversion_report import ConversionReport as ConversionReport
from keras_local.models.conversion.conversion_report import LayerReport as LayerReport
from keras_local.models.conversion.conversion_report import conversion_report as conversion_report
from keras_local.models.conversion.convert import convert as convert
from keras_local.models.conversion.direct import direct as direct
from keras_local.models.conversion.export import export as export
from keras_local.models.conversion.registry import register_conversion as register_conversion
from keras_local.models.conversion.to_plain import to_plain as to_plain
from keras_local.models.learners.export_learner import LearnerReport as LearnerReport
from keras_local.models.learners.export_learner import export_learner as export_learner
from keras_local.models.local.local_losses import local_losses as local_losses
from keras_local.models.local.model import LocalLosses as LocalLosses
from keras_local.models.pretraining.align import align as align
from keras_local.models.pretraining.pretrain import pretrain as pretrain
from keras_local.models.pretraining.reseed import reseed as reseed
from keras_local.models.readouts.class_means import ClassMeans as ClassMeans
from keras_local.models.readouts.class_means import hebbian_readout as hebbian_readout
from keras_local.models.readouts.linear import Readout as Readout
from keras_local.models.readouts.linear import readout as readout
from keras_local.models.readouts.nearest_neighbours import NearestNeighbours as NearestNeighbours
from keras_local.models.readouts.nearest_neighbours import nearest_neighbours as nearest_neighbours

__all__ = [
    "ClassMeans",
    "ConversionReport",
    "LayerReport",
    "LearnerReport",
    "LocalLosses",
    "NearestNeighbours",
    "Readout",
    "align",
    "conversion_report",
    "convert",
    "direct",
    "export",
    "export_learner",
    "hebbian_readout",
    "local",
    "local_losses",
    "nearest_neighbours",
    "pretrain",
    "readout",
    "reference",
    "register_conversion",
    "reseed",
    "to_plain",
]
