"""A report of how errors return through each layer of a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers.graph_walks import parts, without_trained_weights_below
from keras_local.layers.inner_layers import directly_inside
from keras_local.layers.plain_form import (
    all_layers,
    around_inner_layers,
    error_kernels,
    forward_weights,
    has_one_kernel,
    inner_layers,
    rule_names,
    with_error_path,
)

WITHOUT_KERNELS = (
    keras.layers.BatchNormalization,
    keras.layers.Embedding,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.RMSNormalization,
)
"""Keras' layers that send no error down through their weights, whatever shape these have."""


@dataclass(frozen=True)
class LayerReport:
    """One line of a report, about a layer with kernels.

    Attributes:
        path: Names of the nested models around the layer and its own name, joined by "/".
        kind: Name of the layer's class.
        rules: Names of the feedback rules; empty if its errors return through the kernels.
        parameters: Number of its forward weights.
        feedback_parameters: Number of weights that its rules hold.
    """

    path: str
    kind: str
    rules: tuple[str, ...]
    parameters: int
    feedback_parameters: int


@dataclass(frozen=True)
class ConversionReport:
    """A report on the layers of a model that send errors down through a feedback rule.

    Attributes:
        model: Name of the model.
        converted: Layers with a feedback rule.
        left: Layers with kernels and without a rule: backpropagation, as in Keras.
        others: Number of layers of each class without kernels.
        idle: Paths of layers whose feedback kernel learns although nothing is trained below them.
    """

    model: str
    converted: tuple[LayerReport, ...]
    left: tuple[LayerReport, ...]
    others: dict[str, int]
    idle: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a table with one line for each layer, and layers that need no feedback kernel."""
        total = len(self.converted) + len(self.left)
        head = f"{self.model}: {len(self.converted)} of {total} layers with kernels have a rule"
        rows = [("layer", "class", "errors return by", "weights", "of the rule")]
        rows += [
            (
                row.path,
                row.kind,
                " + ".join(row.rules) or "backpropagation",
                f"{row.parameters:,}",
                f"{row.feedback_parameters:,}",
            )
            for row in (*self.converted, *self.left)
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if place > 2 else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        counts = ", ".join(f"{count} {kind}" for kind, count in self.others.items())
        lines.append(f"unchanged: {counts or 'no other layers'}")
        if self.idle:
            where = ", ".join(self.idle)
            lines.append(
                f"nothing is trained below {where}: no error needs its feedback kernel, which "
                "still learns (avoid this by lowest=False, or by a stock layer)"
            )
        return "\n".join([head, *lines])


def conversion_report(model: keras.Model) -> ConversionReport:
    """Return which layers of a model send errors down through feedback, and which do not.

    The report reads the layers of the model. Therefore it works for any model, converted or written
    by hand.

    Args:
        model: A model that is built.

    Raises:
        ValueError: For anything else.

    >>> import keras, keras_local as kl
    >>> layer = kl.layers.FeedbackDense(2, feedback="frfb", name="scores")
    >>> model = keras.Sequential([keras.Input((4,)), layer], name="net")
    >>> print(kl.models.conversion_report(model))
    net: 1 of 1 layers with kernels have a rule
    layer   class          errors return by   weights  of the rule
    scores  FeedbackDense  FeedbackAlignment       10            8
    unchanged: no other layers
    """
    check.require(
        isinstance(model, keras.Model) and model.built,
        "model",
        "a keras.Model that is built",
        type(model).__name__,
    )
    converted, left, idle = [], [], []
    nothing_below = without_trained_weights_below(model)
    others: Counter[str] = Counter()
    seen: set[int] = set()
    for path, layer in leaves(model):
        if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
            continue
        seen.add(id(layer))
        row = _row(path, layer)
        if row.rules:
            converted.append(row)
            # If a layer has several kernels, there are trained weights below the upper kernels.
            single = has_one_kernel(type(layer))
            if single and id(layer) in nothing_below and _learns_feedback(layer):
                idle.append(path)
        elif kernels(layer):
            left.append(row)
        else:
            others[row.kind] += 1
    counts = dict(others.most_common())
    return ConversionReport(model.name, tuple(converted), tuple(left), counts, tuple(idle))


def leaves(model: keras.Model, path: str = "") -> Iterator[tuple[str, Any]]:
    """Return path and layer of everything that is not itself a graph of layers, in order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model) and layer.layers:
            yield from leaves(layer, f"{path}{layer.name}/")
        elif inner_layers(layer):
            yield from _inside(layer, f"{path}{layer.name}/")
        else:
            yield path + layer.name, layer


def _inside(layer: keras.layers.Layer, path: str) -> Iterator[tuple[str, Any]]:
    """Return what has been exchanged inside of a layer, and what else has kernels there."""
    known: set[int] = set()
    for place, part in inner_layers(layer):
        known |= {id(each) for each in all_layers(part)}
        if isinstance(part, keras.Model) and part.layers:
            yield from leaves(part, f"{path}{place}/")
        else:
            yield path + place, part
    around, _ = around_inner_layers(layer)
    for place, part in _all_inside(around, path):
        if id(part) not in known and not directly_inside(part):
            yield place, part


def _all_inside(layer: keras.layers.Layer, path: str) -> Iterator[tuple[str, Any]]:
    for place, part in directly_inside(layer).items():
        yield path + place, part
        yield from _all_inside(part, f"{path}{place}/")


def kernels(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights through which backpropagation would send an error down.

    These are the learned weights with at least two axes. Gains, biases and statistics act on one
    channel each and carry nothing to another channel. A layer with `error_kernels` has no such
    weights, because it sends errors in its own way.
    """
    inside = (weight for part in parts(layer) for weight in kernels(part))
    silent = error_kernels(layer) is not None or type(layer) in WITHOUT_KERNELS
    return [] if silent else [*own_kernels(layer), *inside]


def own_kernels(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the `kernels` of a layer without those of the layers inside it."""
    if error_kernels(layer) is not None or type(layer) in WITHOUT_KERNELS:
        return []
    return [weight for weight in layer._trainable_variables if len(weight.shape) > 1]


def errors_by_rules(layer: keras.layers.Layer) -> list[Any]:
    """Return the outermost layers with `error_kernels`, among a layer and its parts."""
    own = error_kernels(layer)
    if own is not None:
        return [layer] if own else []
    return [found for part in parts(layer) for found in errors_by_rules(part)]


def _row(path: str, layer: keras.layers.Layer) -> LayerReport:
    senders = errors_by_rules(layer)
    rules = tuple(dict.fromkeys(name for sender in senders for name in rule_names(sender)))
    sizes = [sum(_size(w) for w in group) for group in (layer.weights, forward_weights(layer))]
    return LayerReport(path, type(layer).__name__, rules, sizes[1], sizes[0] - sizes[1])


def _learns_feedback(layer: keras.layers.Layer) -> bool:
    """Return whether the optimizer changes a feedback weight other than a scalar."""
    weights = [weight for part in with_error_path(layer) for weight in part.rule_weights]
    return any(weight.trainable and len(weight.shape) > 0 for weight in weights)


def _size(weight: keras.Variable) -> int:
    return math.prod(weight.shape)
