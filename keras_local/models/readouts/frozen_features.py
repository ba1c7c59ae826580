"""Functions that all readouts use: the features of a frozen encoder, and their scale."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._data_gate import Gate
from keras_local._targets import Expected, largest_value, least_outputs, target_kind
from keras_local._types import Targets
from keras_local.activations import RePU
from keras_local.layers.graph_walks import calls_of
from keras_local.layers.plain_form import all_layers, learns_by_plasticity, norm_exponent
from keras_local.ops.precision import precise

_FEATURE_BATCH = 1000
_USED_BELOW = 1.2
SAMPLES_FOR_SCALE = 10_000
"""The number of inputs on which the scale of the features is measured."""

_MOVE_ONLY = (
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.InputLayer,
    keras.layers.Permute,
    keras.layers.Reshape,
)
"""Layers that move entries without changing them, so that the norm of a sample is kept."""


def check_encoder(encoder: Any) -> None:
    """Refuse anything except a built model from one input to features."""
    built = isinstance(encoder, keras.Model) and bool(getattr(encoder, "inputs", None))
    check.require(
        built and len(encoder.inputs) == len(encoder.outputs) == 1 and _is_flat(encoder),
        "encoder",
        "a built Sequential or functional keras.Model from one input to (batch, features)",
        getattr(encoder, "output_shape", encoder) if built else encoder,
    )


def _is_flat(encoder: keras.Model) -> bool:
    shape = tuple(encoder.outputs[0].shape)
    return len(shape) == 2 and shape[1] is not None


def steep_features(encoder: keras.Model, power: float) -> keras.Model:
    """Return the model `RePU(above(z / |z|))` with `z = below(x)`: the encoder, cut in two.

    `z` are the inputs of the lowest Hebbian layer (in an encoder without one, of the lowest layer
    with a kernel), so that preprocessing in the encoder gets unchanged inputs. If there is only a
    change of shape before that layer, `z` is `x`. What a mask leaves out of `z` is 0 in `|z|`.
    """
    power = check.real("power", power, minimum=1.0)
    check_encoder(encoder)
    below, above = _halves(encoder)
    inputs = keras.Input(encoder.input_shape[1:], name="inputs", dtype=encoder.inputs[0].dtype)
    received = inputs if below is None else below(inputs, training=False)
    masks: list[Any] = []
    if isinstance(received, list):
        received, mask = received
        masks = [mask]
        for _ in range(len(received.shape) - len(mask.shape)):
            mask = ops.expand_dims(mask, -1)
        received = ops.where(mask, received, 0.0)
    axes = tuple(range(1, len(received.shape)))
    # In half precision an image's sum of squares may be infinite.
    dtype = precise(keras.config.floatx())
    unit = keras.layers.UnitNormalization(axis=axes, name="unit_norm", dtype=dtype)(received)
    features = above([unit, *masks] if masks else unit, training=False)
    steep = keras.layers.Activation(RePU(power), name="repu")(features)
    return keras.Model(inputs, steep, name="features")


def _halves(model: keras.Model) -> tuple[keras.Model | None, keras.Model]:
    """Cut a model at the inputs of its lowest Hebbian layer, and at their mask if they have one."""
    calls = calls_of(model)
    cut = next((call for call in calls if _holds_plasticity(call[0])), None)
    if cut is None:
        cut = next((call for call in calls if _holds_kernel(call[0])), None)
    if cut is None:
        return None, model
    operation, received, output = cut
    nested = isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))
    lower, upper = _halves(operation) if nested else (None, operation)
    start = received[0]
    if lower is None and _moves_only(calls, start, model.inputs[0]):
        return None, model
    try:
        if lower is None:
            mask = getattr(start, "_keras_mask", None)
            starts = start if mask is None else [start, mask]
            return keras.Model(model.inputs[0], starts), keras.Model(starts, model.outputs[0])
        split = keras.Input(lower.output_shape[1:], dtype=lower.outputs[0].dtype)
        ends = upper(split)
        if output is not model.outputs[0]:
            ends = keras.Model(output, model.outputs[0])(ends)
        return keras.Model(model.inputs[0], lower(start)), keras.Model(split, ends)
    except ValueError as error:
        allowed = "a model in which all that goes up passes through one tensor that is preprocessed"
        raise ValueError(check.refusal("encoder", allowed, model.name)) from error


def _moves_only(calls: list[Any], tensor: Any, start: Any) -> bool:
    """Return whether a tensor contains the entries of `start` in another order or shape."""
    made = {id(output): (operation, inputs) for operation, inputs, output in calls}
    while tensor is not start:
        operation, inputs = made[id(tensor)]
        if not isinstance(operation, _MOVE_ONLY) or len(inputs) > 1:
            return False
        if not inputs:
            return True
        tensor = inputs[0]
    return True


def _holds_plasticity(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and bool(plastic_layers(operation))


def _holds_kernel(operation: Any) -> bool:
    weights = operation.weights if isinstance(operation, keras.layers.Layer) else []
    return any(len(weight.shape) > 1 for weight in weights)


def plastic_layers(model: Any) -> list[Any]:
    """Return the Hebbian layers in a model or layer, also inside nested models and wrappers."""
    return [layer for layer in all_layers(model) if learns_by_plasticity(layer)]


def gate_of(features: keras.Model, outputs: int, kind: Targets = "classes") -> Gate:
    """Return the gate for inputs of the features and targets of a kind."""
    limit = largest_value("float32", outputs)
    targets = Expected(outputs, kind, low=-limit, high=limit)
    return Gate(tuple(features.input_shape[1:]), outputs, features.compute_dtype, targets=targets)


def checked_targets(targets: Any, model: str, classes: Any) -> Expected:
    """Return what a readout is to learn, or refuse it by the name of the argument."""
    kind = target_kind(targets, model)
    outputs = check.positive_integer("classes", classes, minimum=least_outputs(kind))
    return Expected(outputs, kind)


def encode(features: keras.Model, inputs: Any) -> np.ndarray:
    """Return the features of an array of inputs."""
    return np.asarray(features.predict(inputs, batch_size=_FEATURE_BATCH, verbose=0))


def measure_scale(scale: Any, features: keras.Model, inputs: Any, stacklevel: int = 4) -> None:
    """Let a `FeatureScale` measure the features of the first inputs."""
    encoded = encode(features, inputs[:SAMPLES_FOR_SCALE])
    used = used_features(features, encoded.shape[-1], stacklevel + 1)
    if not encoded[:, used].any():  # Better than no features.
        used = np.ones_like(used)
    scale.adapt(encoded, used)


@contextmanager
def scale_for(scale: Any, features: keras.Model, gate: Gate, x: Any) -> Iterator[Any]:
    """Measure a missing scale on `x` for one call, and remove it afterwards.

    Yields:
        `x`. If its first batches were drawn to measure the scale, they have been put back.
    """
    if scale.adapted:
        yield x
        return
    first, x = gate.peeked(x, SAMPLES_FOR_SCALE)
    try:
        measure_scale(scale, features, first, stacklevel=5)
        yield x
    finally:
        scale.reset()


def used_features(features: keras.Model, count: int, stacklevel: int = 4) -> np.ndarray:
    """Leave out units that never won: they keep their large initial weights."""
    everything = np.ones(count, dtype=bool)
    layer = next(reversed(plastic_layers(features)), None)
    exponent = norm_exponent(layer)
    if layer is None or exponent is None:
        return everything
    kernel = np.abs(np.asarray(ops.convert_to_numpy(layer.kernel), dtype="float64"))
    units = [axis % kernel.ndim for axis in layer.linear_map.unit_axes(kernel.ndim)]
    others = tuple(axis for axis in range(kernel.ndim) if axis not in units)
    norms = np.sum(kernel**exponent, axis=others)
    if norms.size != count:
        return everything
    used: np.ndarray = norms.reshape(-1) < _USED_BELOW
    if used.any():
        return used
    warnings.warn(
        f"No unit of layer {layer.name!r} has converged: the readout uses all of them. Has the "
        "encoder been pretrained (models.pretrain)?",
        stacklevel=stacklevel,
    )
    return everything


def resolved_optimizer(optimizer: Any, default: Any, *arguments: Any) -> Any:
    """Return the optimizer that the user gave, or a new default."""
    if optimizer is None:
        return default(*arguments)
    return check.resolved("optimizer", optimizer, keras.optimizers.get, "a Keras optimizer")


def export_from(
    model: Any, features: keras.Model, export: Any, filepath: Any, *arguments: Any, **keywords: Any
) -> None:
    """Export a model with its inputs, if it was never called or only called on features."""
    inputs = features.inputs[0]
    if "input_signature" not in keywords:
        spec = keras.layers.InputSpec(shape=inputs.shape, dtype=inputs.dtype, name="inputs")
        keywords["input_signature"] = [spec]
    shape = (1, *(size or 1 for size in inputs.shape[1:]))
    model(ops.zeros(shape, inputs.dtype))
    export(filepath, *arguments, **keywords)
