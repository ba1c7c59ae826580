"""Forward-Forward: each layer learns to distinguish right labels from wrong ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Targets
from keras_local.dynamics._arguments import initializer
from keras_local.dynamics._counters import advance, counter, places
from keras_local.dynamics.network import Changes, Network
from keras_local.dynamics.synapses import Synapses, correlate, fresh, total
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]

_DRAWS = 16381
"""A prime number, so that data sets of any size, read in order, use all draws."""


@serializable
class ForwardForwardNetwork(Network):
    """Network of the forward-forward algorithm: two forward passes, and a loss for each layer.

    The label is a part of the input: it is written one-hot over the first `classes` inputs. Every
    layer sees the direction of the activity below, not its length,

        n_l = h_{l-1} / (|h_{l-1}| + 1e-4),    h_l = relu(n_l W_l + b_l),    h_0 = inputs,

    and its goodness `g_l` is the sum of `h_l^2` over its units. The goodness of a sample with its
    own label should be above `threshold`, and with a wrong label, drawn again each time, below it:

        L_l = softplus(threshold - g_l^right) + softplus(g_l^wrong - threshold)
        dW_l = 2 < p^right n_l^right h_l^right - p^wrong n_l^wrong h_l^wrong >
        p^right = sigmoid(threshold - g_l^right),    p^wrong = sigmoid(g_l^wrong - threshold).

    This is the gradient of `L_l` with respect to `W_l` alone, in closed form: no error passes from
    one layer to another, and the next layer cannot infer the goodness of this layer from the length
    of its inputs. The score of a class is the goodness, summed over layers, with that label
    written.

    Local: a weight sees its presynaptic activity, the activity of its own unit, and one number for
    the layer.

    A call of the network runs a pass for each class, all in one batch. The loss in the logs is the
    cross-entropy of the softmax of the scores; the layers do not descend this loss but their own.

    Args:
        sizes: Number of inputs, which must be more than classes; of units of each hidden layer; of
            classes. There is no layer of classes.
        goodness: `"sum"` of the squares, or their `"mean"`, which divides by the number of units.
            The mean also divides `dW`, and Glorot's initial weights are then far below a threshold
            of 2.
        threshold: Threshold of the goodness, greater than 0.
        scored: Which layers count in the scores: `"all"`, or `"upper"`, all except the first.
        kernel_initializer: Initializer of the weights.
        seed: Seed of the wrong labels.
        targets: `"classes"`; the rule cannot learn other targets.
        name: Name of the network.
        dtype: As for `EquilibriumNetwork`.
        trainable: Whether the network learns; if not, training changes nothing.

    Input shape: `(batch, sizes[0])`, without labels; the values of the first `classes` inputs are
    ignored. Output shape: `(batch, sizes[-1])`, the goodness with each label.

    Raises:
        ValueError: If an argument is out of range or unknown, there is no hidden layer or no scored
            layer, or there are not more inputs than classes.

    >>> import numpy as np, keras, keras_local as kl
    >>> network = kl.dynamics.ForwardForwardNetwork([7, 8, 3])
    >>> network.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    >>> history = network.fit(np.eye(7)[3:], np.array([0, 1, 2, 0]), verbose=0)
    >>> network.predict(np.eye(7)[3:], verbose=0).shape
    (4, 3)

    Source: Hinton 2022, "The forward-forward algorithm: some preliminary investigations"; the
    normalisation and the mean in place of the sum are as in public implementations.
    """

    refused_targets: ClassVar[Mapping[str, str]] = {
        "labels": "the label is a part of the input, and a wrong one is drawn from the other "
        "classes. For a binary label use two classes; for several, a network for each, or "
        "PredictiveCodingNetwork or BurstpropNetwork",
        "values": "the label is a part of the input, and a wrong one is drawn from the other "
        "classes. Use PredictiveCodingNetwork, ContrastiveHebbianNetwork or "
        "DifferenceTargetPropagation",
    }

    def __init__(
        self,
        sizes: Sequence[int],
        goodness: Literal["sum", "mean"] = "sum",
        threshold: float = 2.0,
        scored: Literal["all", "upper"] = "all",
        kernel_initializer: InitializerLike = "glorot_uniform",
        seed: int = 0,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(sizes, targets=targets, name=name, dtype=dtype, trainable=trainable)
        self.goodness_name = check.one_of("goodness", goodness, ("mean", "sum"))
        self.threshold = check.real("threshold", threshold, minimum=0.0, exclusive=True)
        self.scored = check.one_of("scored", scored, ("all", "upper"))
        self.seed = check.positive_integer("seed", seed, minimum=0)
        least = 2 if scored == "all" else 3
        allowed = f"more than {least} sizes, so that there is a layer to score"
        check.require(len(self.sizes) > least, "sizes", allowed, sizes)
        allowed = "more inputs than classes: the label takes the place of as many"
        check.require(self.sizes[0] > self.classes, "sizes", allowed, sizes)
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer)
        self.synapses = [
            Synapses(
                units,
                kernel_initializer=fresh(self.kernel_initializer),
                dtype=self.working_dtype,
                name=f"synapses_{index + 1}",
            )
            for index, units in enumerate(self.sizes[1:-1])
        ]
        self.build((None, self.sizes[0]))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, and the counter of random draws."""
        if self.synapses[0].built:
            return
        for synapses, inputs in zip(self.synapses, self.sizes, strict=False):
            synapses.build((None, inputs))
        # Keras saves weights, but not the state of its own generators.
        self.draw_count = self.add_weight(**counter("draw_count"))
        self.built = True

    @property
    def smoothed(self) -> bool:
        """Return False: a single label is written into the input."""
        return False

    def default_optimizer(self) -> Any:
        """Return `Adam(0.01)`."""
        return keras.optimizers.Adam(0.01)

    def free_phase(self, inputs: Tensor) -> States:
        """Return the activities `(batch, classes, units)` of all layers, with each label."""
        labels = ops.tile(ops.arange(self.classes, dtype="int32"), ops.shape(inputs)[:1])
        below = self._labelled(ops.repeat(inputs, self.classes, axis=0), labels)
        layers = []
        for synapses in self.synapses:
            below = ops.relu(synapses.read().forward(_direction(below)))
            layers.append(ops.reshape(below, (-1, self.classes, synapses.units)))
        return tuple(layers)

    def goodness(self, states: States) -> list[Tensor]:
        """Return the goodness of each layer, tensors of the states' shape without the units."""
        reduce = ops.mean if self.goodness_name == "mean" else ops.sum
        return [reduce(ops.square(layer), axis=-1) for layer in states]

    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the goodness with each label, summed over the layers that count."""
        return sum(self.goodness(states)[1 if self.scored == "upper" else 0 :])

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return the cross-entropy of the softmax of the scores."""
        return -ops.sum(targets * ops.log_softmax(scores, axis=-1), axis=-1)

    def draw_negatives(self, labels: Tensor) -> Tensor:
        """Return a wrong label for each label, all others equally likely, and count the draws.

        Args:
            labels: Integers `(batch,)`.
        """
        steps = np.random.default_rng(self.seed).integers(1, self.classes, _DRAWS, dtype="int32")
        samples = ops.shape(labels)[0]
        drawn = ops.take(ops.convert_to_tensor(steps), places(self.draw_count, samples, _DRAWS))
        advance(self.draw_count, samples, _DRAWS)
        return ops.mod(labels + drawn, self.classes)

    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Compare each sample with its label and with a wrong one, in each layer separately."""
        right = ops.cast(ops.argmax(targets, axis=-1), "int32")
        labels = ops.concatenate([right, self.draw_negatives(right)])
        ones = ops.ones_like(share)
        sign = ops.concatenate([ones, -ones])
        # A label that is not a class has targets of NaN and must end the training.
        share = share * ops.sum(targets, axis=-1)
        shares = sign * ops.concatenate([share, share])
        rows = self.classes * ops.arange(ops.shape(right)[0], dtype="int32")
        chosen = ops.concatenate([rows, rows]) + labels
        below = self._labelled(ops.concatenate([inputs, inputs]), labels)
        found: list[tuple[Any, Tensor]] = []
        for synapses, layer in zip(self.synapses, states, strict=True):
            # The free phase contains both passes.
            active = ops.take(ops.reshape(layer, (-1, synapses.units)), chosen, axis=0)
            (goodness,) = self.goodness((active,))
            wanting = shares * ops.sigmoid(sign * (self.threshold - goodness))
            slope = active * (2.0 / synapses.units if self.goodness_name == "mean" else 2.0)
            found.append((synapses.kernel, correlate(_direction(below), slope, wanting)))
            found.append((synapses.bias, total(slope, wanting)))
            below = active
        return found

    def _labelled(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the inputs with labels `(batch,)` written over the first inputs."""
        written = ops.one_hot(labels, self.classes, dtype=inputs.dtype)
        return ops.concatenate([written, inputs[:, self.classes :]], axis=1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "goodness": self.goodness_name,
            "threshold": self.threshold,
            "scored": self.scored,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
        }


def _direction(activity: Tensor) -> Tensor:
    """Return rows of length about 1, or of zeros where there is no activity."""
    length = ops.sqrt(ops.sum(ops.square(activity), axis=-1, keepdims=True))
    return activity / (length + 1e-4)
