"""Conversion of any Keras model to one whose hidden layers learn directly from the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers.direct.cut import Cut
from keras_local.layers.direct.layer import DirectLayer
from keras_local.layers.direct.resolve import DirectAlias, direct_layer
from keras_local.models.conversion.cloning import require_graph
from keras_local.models.conversion.dissolving import Dissolving

ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)
"""Layers that compute only an activation."""


def direct(
    model: keras.Model,
    feedback: DirectAlias | DirectLayer = "direct_feedback",
    hooks: Sequence[str] | None = None,
    keep_weights: bool = True,
) -> keras.Model:
    """Return a model with the same predictions whose hidden layers learn from the outputs.

    The output of every hook gets a direct error, and `keras.ops.stop_gradient` follows behind it.
    Therefore the layers between two hooks learn from the error of the upper hook, and the layers
    behind the last hook from the exact error of the outputs. Within such a block errors follow the
    chain rule, or the feedback rule of a layer that has one. A softmax or another activation of the
    outputs is kept, and the direct layer stands before it.

    By default every hidden activation is a hook: the outputs of a layer with an `activation`, or of
    an activation layer. Such a hook is behind a normalisation and before the pooling, as in Frenkel
    et al.; for hooks behind the pooling, as in Nokland, name the pooling layers. In a residual
    network the activation behind the sum is a hook, and both of its paths upwards are cut.

    `model` is not changed and shares no weight with the result. Nested models become parts of one
    graph. `to_plain` is the way back.

    Args:
        model: A built Sequential or functional model with one output, `(batch, classes)` or
            `(batch, time, classes)`. Over time, the error of a token goes to the hidden states of
            the same token, and lengths may be unknown. Between two hooks errors pass from token to
            token by the chain rule, as in attention; across hooks they do not. In a transformer,
            name the last layer of each block as a hook: what adds to the stream of residuals would
            otherwise carry errors past the hooks.
        feedback: `"direct_feedback"`, `"direct_random_target"`, or a `layers.DirectFeedback` or
            `layers.DirectRandomTarget` that is not built.
        hooks: Names of the layers whose outputs get a direct error.
        keep_weights: Whether the result starts with the weights of `model`, or with new ones.

    Returns:
        A functional model of the same name, not compiled.

    Raises:
        ValueError: For a model of another kind, an unknown hook, or a model without a possible
            hook.

    >>> import keras, keras_local as kl
    >>> hidden = [keras.layers.Dense(8, "relu"), keras.layers.Dense(8, "relu")]
    >>> model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(3, "softmax")])
    >>> directed = kl.models.direct(model)
    >>> [tuple(kernel.shape) for kernel in directed.get_layer("direct_feedback").feedback_kernels]
    [(3, 8), (3, 8)]

    Source: Nokland 2016; Frenkel, Lefebvre & Bol 2021. We do not know a published form for residual
    networks.
    """
    check.require(isinstance(model, keras.Model), "model", "a keras.Model", type(model).__name__)
    require_graph(model)
    flat = len(model.outputs) == 1 and len(model.outputs[0].shape) in (2, 3)
    allowed = "a model with one output (batch, classes) or (batch, time, classes)"
    check.require(flat, "model", allowed, [tuple(output.shape) for output in model.outputs])
    keep_weights = check.flag("keep_weights", keep_weights)
    layer = direct_layer("feedback", feedback)
    return _Direct(model, layer, hooks, keep_weights).model(model)


class _Direct(Dissolving):
    """A pass that copies all layers into one graph, with cuts behind the hooks."""

    def __init__(
        self, model: keras.Model, layer: DirectLayer, hooks: Any, keep_weights: bool
    ) -> None:
        super().__init__(keep_weights)
        self.direct = layer
        self.top = _top(model.outputs[0])
        self.hooks = {id(operation) for operation in _hooks(model, hooks, self.top)}
        self.hidden: list[Any] = []
        self.ended = False

    def call(self, operation: Any, *arguments: Any, **keywords: Any) -> Any:
        outputs = operation(*arguments, **keywords)
        old = self.old.get(id(operation))
        if old is None:
            return outputs
        if id(old) in self.hooks:
            self.hidden.append(outputs)
            masked = getattr(outputs, "_keras_mask", None) is not None
            return Cut()(outputs) if masked else keras.ops.stop_gradient(outputs)
        if old is self.top:
            allowed = "a model whose last layer is used once"
            check.require(not self.ended, "model", allowed, f"{old.name!r}, used again")
            self.ended = True
            outputs = self.direct([outputs, *self.hidden])
            if _ends_in_activation(old):
                name = f"{old.name}_activation"
                outputs = keras.layers.Activation(old.activation, name=name)(outputs)
        return outputs

    def layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer is self.top and _ends_in_activation(layer):
            return type(layer).from_config({**layer.get_config(), "activation": "linear"})
        return super().layer(layer)


def _top(output: Any) -> Any:
    """Return the operation whose outputs, without its activation, are the logits."""
    operation, node, position = output._keras_history
    if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        return _top(operation.outputs[position])
    if isinstance(operation, (keras.layers.Activation, keras.layers.Softmax)):
        return _top(operation._inbound_nodes[node].input_tensors[0])
    return operation


def _hooks(model: keras.Model, names: Any, top: Any) -> list[Any]:
    """Return the operations whose outputs get a direct error."""
    above = {id(operation) for operation in _above(model, top)}
    below = [operation for operation in _operations(model) if id(operation) not in above]
    if names is None:
        found = [operation for operation in below if _activation(operation) is not None]
        check.require(bool(found), "hooks", "given for a model without hidden activations", names)
        return found
    check.require(
        check.is_sequence(names) and len(names) > 0, "hooks", "a list of names of layers", names
    )
    known = {operation.name: operation for operation in below}
    unknown = [name for name in names if name not in known]
    check.require(not unknown, "hooks", f"among the hidden layers {list(known)}", unknown)
    return [known[name] for name in names]


def _operations(model: keras.Model) -> list[Any]:
    found: list[Any] = []
    for operation in model.operations if hasattr(model, "operations") else model.layers:
        if isinstance(operation, keras.Model):
            found += _operations(operation)
        elif not isinstance(operation, keras.layers.InputLayer):
            found.append(operation)
    return found


def _above(model: keras.Model, top: Any) -> list[Any]:
    """Return the operation of the logits and the activations behind it."""
    operations = _operations(model)
    return operations[operations.index(top) :]


def _ends_in_activation(operation: Any) -> bool:
    # Inside a recurrence the activation is not the last operation.
    return _activation(operation) is not None and not isinstance(operation, keras.layers.RNN)


def _activation(operation: Any) -> Any:
    """Return the activation of a layer, or None if it is linear."""
    if isinstance(operation, keras.layers.TimeDistributed):
        # The inner layer is the last operation of every step.
        return _activation(operation.layer)
    if isinstance(operation, ACTIVATIONS) and not hasattr(operation, "activation"):
        return operation
    function = getattr(operation, "activation", None)
    return None if function is keras.activations.linear else function
