"""What all readouts share: steep features of a frozen encoder, and the checks of labelled data."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.activations import RePU

_FEATURE_BATCH = 1000
_SAMPLES_FOR_SCALE = 10_000
_USED_BELOW = 1.2


def steep_features(encoder: keras.Model, power: float) -> keras.Model:
    """Return the model `RePU(encoder(x / |x|))`."""
    power = check.real("power", power, minimum=1.0)
    built = isinstance(encoder, keras.Model) and hasattr(encoder, "inputs")
    check.require(
        built and len(encoder.inputs) == 1 and len(encoder.outputs[0].shape) == 2,
        "encoder",
        "a built Sequential or functional keras.Model from one input to (batch, features)",
        getattr(encoder, "output_shape", encoder) if built else encoder,
    )
    inputs = keras.Input(encoder.input_shape[1:], name="inputs")
    axes = tuple(range(1, len(inputs.shape)))
    unit = keras.layers.UnitNormalization(axis=axes, name="unit_norm")(inputs)
    steep = keras.layers.Activation(RePU(power), name="repu")(encoder(unit, training=False))
    return keras.Model(inputs, steep, name="features")


def encode(features: keras.Model, inputs: Any) -> np.ndarray:
    """Return the features of an array of inputs."""
    return np.asarray(features.predict(inputs, batch_size=_FEATURE_BATCH, verbose=0))


def measure_scale(scale: Any, features: keras.Model, inputs: Any) -> None:
    """Let a `FeatureScale` measure the features of the first inputs."""
    inputs = inputs[:_SAMPLES_FOR_SCALE]
    finite = np.isfinite(ops.convert_to_numpy(inputs)).all()
    check.require(finite, "x", "finite", "NaN or infinite entries")
    encoded = encode(features, inputs)
    scale.adapt(encoded, used_features(features, encoded.shape[-1]))


def used_features(features: keras.Model, count: int) -> np.ndarray:
    """Leave out units that never won: they keep their large initial weights."""
    everything = np.ones(count, dtype=bool)
    plastic = [
        layer
        for layer in features._flatten_layers()
        if getattr(getattr(layer, "plasticity", None), "norm_exponent", None) is not None
    ]
    if not plastic or plastic[-1].units != count:
        return everything
    layer = plastic[-1]
    weights = np.abs(ops.convert_to_numpy(layer.kernel))
    used: np.ndarray = np.sum(weights**layer.plasticity.norm_exponent, axis=0) < _USED_BELOW
    if used.any():
        return used
    warnings.warn(
        f"No unit of layer {layer.name!r} has converged: the readout uses all of them. Has the "
        "encoder been pretrained (models.pretrain)?",
        stacklevel=4,
    )
    return everything


def check_labelled(x: Any, y: Any, features: keras.Model, classes: int) -> None:
    """Refuse inputs or labels that do not fit the model and each other."""
    inputs = np.asarray(ops.convert_to_numpy(x))
    wanted = tuple(features.input_shape)
    fits = inputs.ndim == len(wanted) and inputs.shape[1:] == wanted[1:]
    check.require(fits, "x", f"of the encoder's input shape {wanted}", inputs.shape)
    finite = all(np.isfinite(inputs[i : i + 4096]).all() for i in range(0, len(inputs), 4096))
    check.require(finite, "x", "finite", "NaN or infinite entries")
    labels = np.asarray([] if y is None else ops.convert_to_numpy(y))
    allowed = f"{len(inputs)} integer labels, or one-hot labels of {classes} classes"
    one_hot = labels.ndim == 2 and labels.shape[1] == classes
    integers = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    numeric = labels.dtype.kind in "biuf"
    fits = numeric and (one_hot or integers) and len(labels) == len(inputs)
    received = f"shape {labels.shape}" if numeric else f"{labels.dtype} labels"
    check.require(fits, "y", allowed, None if y is None else received)
    if one_hot:
        wrong = labels[(labels.sum(axis=1) != 1) | ~np.isin(labels, (0, 1)).all(axis=1)]
        allowed = "one-hot rows (one entry 1, all others 0)"
    else:
        wrong = labels[~np.isin(labels, np.arange(classes))]
        allowed = f"integers from 0 to {classes - 1}"
    check.require(wrong.size == 0, "y", allowed, wrong[:3].tolist())


def one_hot(labels: Any, classes: int, dtype: str) -> Any:
    """Return integer or one-hot labels as one-hot rows."""
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == 2 and labels.shape[1] == classes:
        return ops.cast(labels, dtype)
    return ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), classes, dtype=dtype)


def first_inputs(data: Any) -> np.ndarray:
    """Return inputs of the first batches of a dataset, enough to measure a scale."""
    batches: list[np.ndarray] = []
    for batch in data:
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        batches.append(np.asarray(ops.convert_to_numpy(inputs)))
        if sum(map(len, batches)) >= _SAMPLES_FOR_SCALE:
            break
    return np.concatenate(batches)
