"""Angles between the gradients under feedback rules and the true ones; the model stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_local import ops
from keras_local.feedback import Symmetric, Synapses, WrappedRule
from keras_local.layers import FeedbackLayer
from keras_local.layers.direct.layer import DirectLayer, cuts_for_direct_layer
from keras_local.metrics import alignment_angle
from keras_local.models.conversion.cloning import sublayers
from keras_local.ops import Signals
from keras_local.ops.backend import Tensor


def gradient_angles(
    model: keras.Model, inputs: Any, labels: Any, layers: Mapping[str, FeedbackLayer]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the gradient angle and the local gradient angle of each layer, in degrees.

    Two passes in training mode, from the same state of all random generators: one under the rules
    and one by backpropagation. Only the second kind of angle is left out where the layer sends
    errors down through its kernel itself, or none.

    Args:
        model: A compiled model with a loss, built.
        inputs: What the model takes.
        labels: What its loss takes.
        layers: Layers of the model with a kernel that is trained.
    """
    inputs, labels = keras.tree.map_structure(keras.ops.convert_to_tensor, (inputs, labels))
    loss = _loss(model, inputs, labels)
    kernels = [keras.ops.convert_to_tensor(layer.kernel.value) for layer in layers.values()]
    probed = {name: layer for name, layer in layers.items() if layer.feedback_kernel is not None}
    variables = [layer.kernel for layer in layers.values()]

    def value(*tensors: Tensor) -> Tensor:
        # What the model writes (statistics, seeds, states of rules) ends with the scope.
        with keras.StatelessScope(list(zip(variables, tensors[: len(variables)], strict=True))):
            return model.optimizer.scale_loss(loss(labels, _outputs(model, inputs)))

    def under_rules(*tensors: Tensor) -> Tensor:
        probes = tensors[len(variables) :]
        rules = [
            (layer, {"_rule": _Probed(layer._rule, probe)})
            for layer, probe in zip(probed.values(), probes, strict=True)
        ]
        with _exchanged([*rules, *_without_share(model)]):
            return value(*tensors)

    def true(*tensors: Tensor) -> Tensor:
        with _exchanged(_backpropagation(model)):
            return value(*tensors)

    probes = [keras.ops.zeros((3,), "float32") for _ in probed]
    learned = ops.gradients(under_rules, [*kernels, *probes])
    exact = ops.gradients(true, kernels)
    found = zip(layers, learned[: len(kernels)], exact, strict=True)
    angles = {name: alignment_angle(gradient, other) for name, gradient, other in found}
    local = zip(probed, learned[len(kernels) :], strict=True)
    return angles, {name: _angle(products) for name, products in local}


class _Probed(WrappedRule):
    """Another rule, which also tells what the layer sends down and what backpropagation would.

    The gradient of `probe` is `(<b, w>, <b, b>, <w, w>)`, with `b` the error sent down through the
    feedback kernel and `w` the same through the kernel: summed over all calls of a shared layer.
    """

    def __init__(self, rule: Any, probe: Tensor) -> None:
        super().__init__(rule)
        self.probe = probe

    def signals(self, synapses: Synapses, training: bool | None) -> tuple[Tensor, ...]:
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
        self, synapses: Synapses, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        return None


def _angle(products: Tensor) -> float:
    both, sent, exact = np.asarray(keras.ops.convert_to_numpy(products), "float64")
    length = math.sqrt(sent) * math.sqrt(exact)
    if not length > 0.0:
        return float("nan")
    return math.degrees(math.acos(min(1.0, max(-1.0, both / length))))


def _loss(model: keras.Model, inputs: Any, labels: Any) -> Callable[[Any, Any], Tensor]:
    """Return the compiled loss, apart from the model's own, which counts what it sees."""
    own = model._compile_loss
    loss = type(own)(own._user_loss, own._user_loss_weights, output_names=own.output_names)
    with keras.StatelessScope():
        outputs = _outputs(model, inputs)
    # Its counters are variables, which a scope without state would not let it make.
    loss.build(labels, outputs)
    found: Callable[[Any, Any], Tensor] = loss
    return found


def _outputs(model: keras.Model, inputs: Any) -> Any:
    return model(inputs, training=True) if model._call_has_training_arg else model(inputs)


def _without_share(model: keras.Model) -> list[tuple[Any, dict[str, Any]]]:
    """Return how direct layers get the share of an example without a loss among the model's."""
    layers = [layer for layer in sublayers(model) if isinstance(layer, DirectLayer)]
    return [(layer, {"signal": partial(_with_share, layer)}) for layer in layers]


def _with_share(layer: DirectLayer, error: Tensor, share: Tensor) -> Tensor:
    share = 1.0 / keras.ops.cast(keras.ops.shape(error)[0], "float32")
    return type(layer).signal(layer, error, share)


def _backpropagation(model: keras.Model) -> list[tuple[Any, dict[str, Any]]]:
    """Return what makes all errors of a model go by the chain rule."""
    changes: list[tuple[Any, dict[str, Any]]] = []
    for layer in sublayers(model):
        if isinstance(layer, FeedbackLayer):
            changes.append((layer, {"_rule": Symmetric()}))
        elif isinstance(layer, DirectLayer):
            changes.append((layer, {"call": _first}))
    for operation in getattr(model, "operations", ()):
        if cuts_for_direct_layer(operation):
            changes.append((operation, {"call": _same}))
    return changes


def _first(inputs: list[Tensor]) -> Tensor:
    return inputs[0]


def _same(inputs: Tensor) -> Tensor:
    return inputs


@contextmanager
def _exchanged(changes: list[tuple[Any, dict[str, Any]]]) -> Iterator[None]:
    """Let objects have other attributes, and their own ones again afterwards."""
    before = [(vars(owner), dict(vars(owner))) for owner, _ in changes]
    try:
        for owner, attributes in changes:
            vars(owner).update(attributes)
        yield
    finally:
        for (now, then), (_, attributes) in zip(before, changes, strict=True):
            for name in attributes:
                if name in then:
                    now[name] = then[name]
                else:
                    now.pop(name, None)
