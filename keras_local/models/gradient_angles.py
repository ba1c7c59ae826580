"""Angles between the gradients under feedback rules and those of backpropagation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_local import _validation as check
from keras_local import ops
from keras_local.feedback import RuleContext, WrappedRule
from keras_local.layers.direct.layer import without_cuts
from keras_local.layers.plain_form import (
    all_layers,
    error_kernels,
    exact_errors,
    has_one_kernel,
    measured,
)
from keras_local.metrics import alignment_angle
from keras_local.ops import Signals
from keras_local.ops.backend import Tensor


def gradient_angles(
    model: keras.Model,
    inputs: Any,
    labels: Any,
    layers: Mapping[str, Any],
    others: Mapping[str, keras.Variable] | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the angles in degrees between each layer's gradient and that of backpropagation.

    There are two passes in training mode, with the same state of all random generators: one under
    the rules and one by backpropagation. If a layer sends errors down through its kernel itself, or
    sends none, only the second kind of angle is left out.

    Args:
        model: A compiled model with a loss, built.
        inputs: Inputs of the model.
        labels: Labels for its loss.
        layers: Layers of the model with one kernel that is trained and a rule that can be
            exchanged (`errors_by`).
        others: Trained kernels of layers without such a rule, for angles of the first kind.

    Raises:
        ValueError: If a layer sends errors by a rule that cannot be switched off (it has
            `error_kernels` but no `exact_errors`).
    """
    require_exact_errors(model)
    inputs, labels = keras.tree.map_structure(keras.ops.convert_to_tensor, (inputs, labels))
    loss = _loss(model, inputs, labels)
    watched = {**{name: layer.kernel for name, layer in layers.items()}, **(others or {})}
    variables = list(watched.values())
    kernels = [keras.ops.convert_to_tensor(variable.value) for variable in variables]
    probed = {name: layer for name, layer in layers.items() if layer.feedback_kernel is not None}

    def value(*tensors: Tensor) -> Tensor:
        # Values that the model writes (statistics, seeds, states of rules) are dropped with the
        # scope.
        with keras.StatelessScope(list(zip(variables, tensors[: len(variables)], strict=True))):
            return model.optimizer.scale_loss(loss(labels, _outputs(model, inputs)))

    def under_rules(*tensors: Tensor) -> Tensor:
        probes = tensors[len(variables) :]
        with ExitStack() as stack:
            for layer, probe in zip(probed.values(), probes, strict=True):
                stack.enter_context(layer.errors_by(partial(_Probed, probe=probe)))
            return value(*tensors)

    probes = [keras.ops.zeros((3,), "float32") for _ in probed]
    # The contexts include the backward pass, in which a layer may ask for its error kernel.
    with _outside_of_a_trainer(model):
        learned = ops.gradients(under_rules, [*kernels, *probes])
    with _by_the_chain_rule(model):
        exact = ops.gradients(value, kernels)
    found = zip(watched, learned[: len(kernels)], exact, strict=True)
    angles = {name: alignment_angle(gradient, other) for name, gradient, other in found}
    local = zip(probed, learned[len(kernels) :], strict=True)
    return angles, {name: _angle(products) for name, products in local}


class _Probed(WrappedRule):
    """Another rule, which also measures the error that is sent down and that of backpropagation.

    The gradient of `probe` is `(<b, w>, <b, b>, <w, w>)`, where `b` is the error sent down through
    the feedback kernel and `w` the error through the kernel, summed over all calls of a shared
    layer.
    """

    def __init__(self, rule: Any, probe: Tensor) -> None:
        super().__init__(rule)
        self.probe = probe

    def signals(self, synapses: RuleContext, training: bool | None) -> tuple[Tensor, ...]:
        return (*self.rule.signals(synapses, training), self.probe)

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        return self.rule.error_kernel(kernel, *feedback[:-1])

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        *others, _ = signals.feedback
        error_kernel = self.rule.error_kernel(signals.kernel, *others)
        sent, exact = (
            keras.ops.cast(
                signals.linear_map.input_gradient(signals.upstream, kernel, signals.inputs),
                "float32",
            )
            for kernel in (error_kernel, signals.kernel)
        )
        products = [keras.ops.sum(a * b) for a, b in ((sent, exact), (sent, sent), (exact, exact))]
        return (*(None for _ in others), keras.ops.stack(products))

    def local_gradients(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        return None


def _angle(products: Tensor) -> float:
    both, sent, exact = np.asarray(keras.ops.convert_to_numpy(products), "float64")
    length = math.sqrt(sent) * math.sqrt(exact)
    if not length > 0.0:
        return float("nan")
    return math.degrees(math.acos(min(1.0, max(-1.0, both / length))))


def _loss(model: keras.Model, inputs: Any, labels: Any) -> Callable[[Any, Any], Tensor]:
    """Return the compiled loss without the loss tracker of the model."""
    own = model._compile_loss
    loss = type(own)(own._user_loss, own._user_loss_weights, output_names=own.output_names)
    with keras.StatelessScope():
        outputs = _outputs(model, inputs)
    # Its counters are variables, which cannot be created in a scope without state.
    loss.build(labels, outputs)
    found: Callable[[Any, Any], Tensor] = loss
    return found


def _outputs(model: keras.Model, inputs: Any) -> Any:
    return model(inputs, training=True) if model._call_has_training_arg else model(inputs)


def sends_errors_directly(model: keras.Model) -> bool:
    """Return whether a layer of a model sends errors to hidden layers past all their kernels."""
    return any(
        exact_errors(layer) is not None and error_kernels(layer) == []
        for layer in all_layers(model)
        if not has_one_kernel(type(layer))
    )


def require_exact_errors(model: keras.Model) -> None:
    """Refuse a model with a layer that cannot send the errors of the chain rule."""
    unable = [
        f"{type(layer).__name__} {layer.name!r}"
        for layer in all_layers(model)
        if error_kernels(layer) and not any(exact_errors(part) for part in all_layers(layer))
    ]
    allowed = "a model whose layers with `error_kernels` have `exact_errors` too"
    check.require(not unable, "model", allowed, ", ".join(unable))


@contextmanager
def _by_the_chain_rule(model: keras.Model) -> Iterator[None]:
    with _entered(model, exact_errors), without_cuts(model):
        yield


def _outside_of_a_trainer(model: keras.Model) -> AbstractContextManager[None]:
    return _entered(model, measured)


@contextmanager
def _entered(model: keras.Model, offered: Callable[[Any], Any]) -> Iterator[None]:
    """Enter the context of each layer of a model that has one."""
    with ExitStack() as stack:
        for layer in all_layers(model):
            if context := offered(layer):
                stack.enter_context(context())
        yield
