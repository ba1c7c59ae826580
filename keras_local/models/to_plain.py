"""Conversion to built-in layers, for shipping: no feedback weights, no need of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import PACKAGE
from keras_local.layers import FeedbackLayer, HebbianDense
from keras_local.models.readout import Readout


def to_plain(model: keras.Model) -> keras.Model:
    """Return a model of built-in layers and operations that predicts the same.

    Feedback layers become the Keras layers of the same name, `HebbianDense` becomes
    `keras.layers.Dense` without bias, and the activations of this package become built-in
    operations. The feature scale of a `Readout` goes into its last kernel. Feedback weights, which
    only carry errors, are left out. The weights are copies: the two models do not share them.

    Args:
        model: A Sequential or functional model, nested or not, or a `Readout`.

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
    return _Conversion().model(model)


class _Conversion:
    """One pass over a model; remembers what it made, so that shared layers stay shared."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}
        self.activations: dict[int, Callable[[Any], Any]] = {}

    def model(self, model: keras.Model) -> keras.Model:
        if isinstance(model, Readout):
            return self._readout(model)
        graph = hasattr(model, "inputs") and hasattr(model, "operations")
        if isinstance(model, keras.Sequential):
            graph = model.built
        check.require(
            graph and bool(model.inputs),
            "model",
            "a built Sequential or functional model, or a Readout",
            f"{type(model).__name__} {model.name!r}",
        )
        # A model of the same graph that is not compiled: the clone shall not be, either.
        # `input` of a Sequential is that of the call in which it stands inside of another model.
        sequential = isinstance(model, keras.Sequential)
        ends = (model.inputs[0], model.outputs[0]) if sequential else (model.input, model.output)
        bare = keras.Model(*ends, name=model.name)
        call = keras.Sequential.call if sequential else type(bare).call
        check.require(
            type(model).call is call,
            "model",
            "a model without a `call` of its own",
            f"{type(model).__name__} {model.name!r}",
        )
        clone = keras.models.clone_model(
            bare, clone_function=self.operation, call_function=self.call
        )
        for layer in bare.layers:
            if id(layer) in self.made and not isinstance(layer, keras.Model):
                self.made[id(layer)].set_weights(_plain_weights(layer))
        return clone

    def operation(self, operation: Any) -> Any:
        """Return the plain form of a layer, or of an operation, which is itself."""
        if id(operation) not in self.made:
            self.made[id(operation)] = self._plain(operation)
        return self.made[id(operation)]

    def call(self, operation: Any, *arguments: Any, **keywords: Any) -> Any:
        """Call a plain layer and then the built-in form of its activation."""
        outputs = operation(*arguments, **keywords)
        activation = self.activations.get(id(operation))
        return outputs if activation is None else activation(outputs)

    def _plain(self, operation: Any) -> Any:
        if not isinstance(operation, keras.layers.Layer):
            return operation
        if isinstance(operation, keras.Model):
            return self.model(operation)
        kind, config = type(operation), operation.get_config()
        if isinstance(operation, FeedbackLayer):
            kind = operation.plain
            del config["feedback"], config["feedback_initializer"]
        elif isinstance(operation, HebbianDense):
            kind = operation.plain
            del config["plasticity"]
            config["use_bias"] = False
        self._refuse_wrapped(operation)
        ours = getattr(getattr(operation, "activation", None), "plain", None)
        # Inside of a recurrence the activation does not come last.
        if isinstance(operation, keras.layers.RNN):
            ours = None
        if ours is not None:
            config["activation"] = "linear"
        check.require(
            not kind.__module__.startswith(PACKAGE) and f"'{PACKAGE}" not in str(config),
            "model",
            "a model in which all that is of keras_local has a plain form",
            f"{kind.__name__} {operation.name!r}",
        )
        layer = kind.from_config(config)
        if ours is not None:
            self.activations[id(layer)] = ours
        return layer

    def _refuse_wrapped(self, layer: Any) -> None:
        ours = (FeedbackLayer, HebbianDense)
        inner = [part for part in _sublayers(layer) if isinstance(part, ours)]
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
        plain = keras.layers.Dense.from_config(scores.get_config())
        clone = keras.Model(inputs, plain(features), name=model.name)
        kernel, *bias = scores.get_weights()
        gain = ops.convert_to_numpy(scale.scale)
        plain.set_weights([gain[:, None] * kernel, *bias])
        return clone


def _sublayers(layer: keras.layers.Layer) -> list[Any]:
    found: list[Any] = layer._flatten_layers(include_self=False)
    return found


def _plain_weights(layer: keras.layers.Layer) -> list[Any]:
    if isinstance(layer, FeedbackLayer):
        bias = [] if layer.bias is None else [layer.bias]
        return [ops.convert_to_numpy(weight) for weight in (layer.kernel, *bias)]
    return list(layer.get_weights())
