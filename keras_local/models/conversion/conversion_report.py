"""What carries errors where in a model: read from the model itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers import FeedbackLayer, HebbianDense
from keras_local.layers.feedback.optimizer_warnings import learns_feedback
from keras_local.models.conversion.cloning import feedback_parts, forward_weights, sublayers
from keras_local.models.conversion.graph_walks import without_trained_weights_below

WITHOUT_KERNELS = (
    keras.layers.BatchNormalization,
    keras.layers.Embedding,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.RMSNormalization,
    HebbianDense,
)
"""Layers through whose weights no error is sent down, whatever shape the weights have."""


@dataclass(frozen=True)
class LayerReport:
    """One layer with kernels.

    Attributes:
        path: Names of the nested models around the layer and its own name, joined by "/".
        kind: Name of its class.
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
    """Which layers of a model send errors down through a feedback rule.

    Attributes:
        model: Name of the model.
        converted: Layers with a feedback rule.
        left: Layers with kernels and without a rule: backpropagation, as in Keras.
        others: How many layers there are of each class that has no kernels.
        idle: Paths of layers whose feedback kernel learns although nothing is trained below them.
    """

    model: str
    converted: tuple[LayerReport, ...]
    left: tuple[LayerReport, ...]
    others: dict[str, int]
    idle: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a table, one line a layer, and what could be spared."""
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
        lines.append(f"as they were: {counts or 'no other layers'}")
        if self.idle:
            where = ", ".join(self.idle)
            lines.append(
                f"nothing is trained below {where}: no error needs the feedback kernel that learns "
                "there (lowest=False, or a stock layer, spares it)"
            )
        return "\n".join([head, *lines])


def conversion_report(model: keras.Model) -> ConversionReport:
    """Return which layers of a model send errors down through feedback, and which do not.

    Read from the layers as they are, so it serves for any model, converted or written by hand.

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
    as they were: no other layers
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
            # Of a layer of several kernels, the upper ones stand above trained weights.
            single = isinstance(layer, FeedbackLayer)
            if single and id(layer) in nothing_below and learns_feedback(layer):
                idle.append(path)
        elif kernels(layer):
            left.append(row)
        else:
            others[row.kind] += 1
    counts = dict(others.most_common())
    return ConversionReport(model.name, tuple(converted), tuple(left), counts, tuple(idle))


def leaves(model: keras.Model, path: str = "") -> Iterator[tuple[str, Any]]:
    """Return path and layer of all that is not itself a graph of layers, in order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model) and layer.layers:
            yield from leaves(layer, f"{path}{layer.name}/")
        else:
            yield path + layer.name, layer


def kernels(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights through which backpropagation would send an error down.

    Those are the learned weights with at least two axes: gains, biases and statistics act on one
    channel each, and nothing is transported through them to another.
    """
    return [
        weight
        for part in (layer, *sublayers(layer))
        if type(part) not in WITHOUT_KERNELS
        for weight in part._trainable_variables
        if len(weight.shape) > 1
    ]


def _row(path: str, layer: keras.layers.Layer) -> LayerReport:
    parts: list[FeedbackLayer] = feedback_parts(layer)
    rules = tuple(dict.fromkeys(type(part.feedback).__name__ for part in parts))
    sizes = [sum(_size(w) for w in group) for group in (layer.weights, forward_weights(layer))]
    return LayerReport(path, type(layer).__name__, rules, sizes[1], sizes[0] - sizes[1])


def _size(weight: keras.Variable) -> int:
    size = 1
    for side in weight.shape:
        size *= side
    return size
