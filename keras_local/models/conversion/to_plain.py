"""Conversion to built-in layers, for shipping: no feedback weights, no need of this package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import PACKAGE
from keras_local.layers import FeedbackLayer, HebbianLayer, ZCAWhitening
from keras_local.layers.direct.layer import DirectLayer, cuts_for_direct_layer
from keras_local.layers.feedback.locally_connected import LocallyConnected
from keras_local.models.conversion import plain_hebbian, plain_locally_connected
from keras_local.models.conversion.cloning import (
    Cloning,
    copy_of,
    forward_values,
    has_rule,
    sublayers,
)
from keras_local.models.readouts.class_means import ClassMeans
from keras_local.models.readouts.linear import Readout
from keras_local.models.readouts.nearest_neighbours import NearestNeighbours


def to_plain(model: keras.Model) -> keras.Model:
    """Return a model of built-in layers and operations that predicts the same.

    Feedback layers become the Keras layers of the same name, locally connected ones become slices
    of their inputs and a `keras.layers.EinsumDense`, Hebbian layers become the Keras layers of
    their kind without bias, with lateral weights solved into the kernel, and the activations of
    this package become built-in operations. The feature scale of a `Readout` goes into its last
    kernel, which has columns of unit norm if it is that of a `hebbian_readout`. Of
    `nearest_neighbours` the stored samples become the kernel of a `keras.layers.Dense`, their
    labels that of an embedding. Feedback weights, which only carry errors, are left out, and so are
    `DirectFeedback` and `DirectRandomTarget` with the `stop_gradient` behind their hidden tensors.
    The weights are copies: the two models do not share them.

    Args:
        model: A Sequential or functional model, nested or not, a `Readout`, or a fitted
            `NearestNeighbours`.

    Returns:
        A functional model, not compiled, which can be saved, loaded and served where keras_local is
        not installed.

    Raises:
        ValueError: For a model that is not built or has a `call` of its own, and for a layer of
            this package inside of a wrapper, which has no plain form.

    >>> import keras, keras_local as kl
    >>> model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(2)])
    >>> [type(layer).__name__ for layer in kl.models.to_plain(model).layers]
    ['InputLayer', 'Dense']
    """
    check.require(isinstance(model, keras.Model), "model", "a keras.Model", type(model).__name__)
    return _ToPlain().model(model)


class _ToPlain(Cloning):
    """Built-in layers in place of ours; the built-in form of an activation is called after them."""

    keeps_sequential = False

    def __init__(self) -> None:
        super().__init__()
        self.activations: dict[int, Callable[[Any], Any]] = {}
        self.before: dict[int, Callable[[Any], Any]] = {}
        self.behind: dict[int, Callable[[Any, Any], Any]] = {}

    def model(self, model: keras.Model) -> keras.Model:
        if isinstance(model, Readout):
            return self._readout(model)
        if isinstance(model, NearestNeighbours):
            return self._nearest_neighbours(model)
        return super().model(model)

    def operation(self, operation: Any) -> Any:
        if isinstance(operation, DirectLayer):
            return _logits
        return _same if cuts_for_direct_layer(operation) else super().operation(operation)

    def call(self, operation: Any, *arguments: Any, **keywords: Any) -> Any:
        before, behind = self.before.get(id(operation)), self.behind.get(id(operation))
        if before is not None:
            # Of a plastic layer, without the third factor, which changes learning only.
            arguments, keywords = (before(arguments[0]),), {}
        outputs = operation(*arguments, **keywords)
        if behind is not None:
            outputs = behind(arguments[0], outputs)
        activation = self.activations.get(id(operation))
        return outputs if activation is None else activation(outputs)

    def carry(self, layer: keras.layers.Layer, new: keras.layers.Layer) -> None:
        if isinstance(layer, ZCAWhitening):
            mean, matrix = (ops.convert_to_numpy(weight) for weight in layer.weights)
            new.set_weights([matrix, -mean @ matrix])
        elif isinstance(layer, HebbianLayer):
            kernel = ops.convert_to_numpy(layer.used_kernel)
            new.set_weights([kernel.reshape(new.weights[0].shape)])
        else:
            new.set_weights(forward_values(layer))

    def layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        kind, config = type(layer), layer.get_config()
        plain = getattr(kind, "plain", None)
        if isinstance(layer, HebbianLayer):
            kind, config = plain_hebbian.twin(layer)
        elif isinstance(layer, ZCAWhitening):
            kind = layer.plain
            del config["epsilon"]
            config["units"] = layer.mean.shape[0]
        elif isinstance(layer, LocallyConnected):
            kind, config = keras.layers.EinsumDense, plain_locally_connected.einsum_dense(layer)
        elif has_rule(kind) and plain is not None:
            kind = plain
            for name in ("feedback", "feedback_initializer", "connectivity"):
                config.pop(name, None)
        else:
            self._refuse_wrapped(layer)
        activation = getattr(layer, "activation", None)
        ours = getattr(activation, "plain", None)
        if getattr(layer, "patch_norm", False) and ours is None:
            # The quotient comes before the activation.
            ours = activation
        # Inside of a recurrence the activation does not come last.
        if isinstance(layer, keras.layers.RNN):
            ours = None
        if ours is not None:
            config["activation"] = "linear"
        check.require(
            not kind.__module__.startswith(PACKAGE) and f"'{PACKAGE}" not in str(config),
            "model",
            "a model in which all that is of keras_local has a plain form",
            f"{kind.__name__} {layer.name!r}",
        )
        new = copy_of(layer) if kind is keras.layers.Lambda else kind.from_config(config)
        if ours is not None:
            self.activations[id(new)] = ours
        if isinstance(layer, LocallyConnected):
            self.before[id(new)] = partial(plain_locally_connected.patches, layer)
        if isinstance(layer, HebbianLayer):
            self.before[id(new)] = partial(plain_hebbian.arranged, layer)
            if getattr(layer, "patch_norm", False):
                self.behind[id(new)] = partial(plain_hebbian.normalised, layer)
        return new

    def _refuse_wrapped(self, layer: Any) -> None:
        ours = (FeedbackLayer, HebbianLayer)
        inner = [part for part in sublayers(layer) if isinstance(part, ours)]
        check.require(
            not inner,
            "model",
            "a model whose keras_local layers stand alone, not inside of another layer",
            f"{type(inner[0]).__name__} inside of {type(layer).__name__}" if inner else None,
        )

    def _readout(self, model: Readout) -> keras.Model:
        scale, scores = model.head.layers
        inputs = keras.Input(model.features.input_shape[1:], name="inputs")
        features = self.model(model.features)(inputs)
        if isinstance(scores, ClassMeans):
            plain = keras.layers.Dense(
                scores.classes, use_bias=False, name=scores.name, dtype=scores.dtype_policy
            )
            weights = [ops.convert_to_numpy(scores.directions())]
        else:
            plain = keras.layers.Dense.from_config(scores.get_config())
            weights = scores.get_weights()
        clone = keras.Model(inputs, plain(features), name=model.name)
        gain = ops.convert_to_numpy(scale.scale)
        plain.set_weights([gain[:, None] * weights[0], *weights[1:]])
        return clone

    def _nearest_neighbours(self, model: NearestNeighbours) -> keras.Model:
        check.require(model.memory is not None, "model", "fitted", "one that has stored nothing")
        memory, offset, teacher = map(
            ops.convert_to_numpy, (model.memory, model.offset, model.teacher)
        )
        gain = ops.convert_to_numpy(model.scale.scale)
        # In half precision near samples could not be told apart.
        nearness = keras.layers.Dense(len(memory), name="nearness", dtype="float32")
        votes = keras.layers.Embedding(*teacher.shape, name="votes", dtype="float32")
        inputs = keras.Input(model.features.input_shape[1:], name="inputs")
        _, nearest = ops.top_k(nearness(self.model(model.features)(inputs)), model.neighbours)
        clone = keras.Model(inputs, ops.mean(votes(nearest), axis=1), name=model.name)
        nearness.set_weights([gain[:, None] * memory.T, offset])
        votes.set_weights([teacher])
        return clone


def _logits(inputs: list[Any], **_: Any) -> Any:
    return inputs[0]


def _same(inputs: Any, **_: Any) -> Any:
    return inputs
