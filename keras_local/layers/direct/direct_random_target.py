"""Direct random target projection: hidden layers learn from the target, not from an error."""

from __future__ import annotations

import keras
from keras import ops

from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, RegularizerLike
from keras_local.layers.direct.layer import DirectLayer
from keras_local.layers.feedback.layer import Shape
from keras_local.ops import assured
from keras_local.ops.backend import Tensor

_CLEAR = 0.25
_SEVERAL = (
    "`DirectRandomTarget` teaches one class for each example, but an example in this batch has "
    "errors of several classes: targets must be integers or one-hot, the loss softmax or sigmoid "
    "cross-entropy or `losses.LocalHinge`. `DirectFeedback` takes every target and loss."
)


@serializable
class DirectRandomTarget(DirectLayer):
    """Direct random target projection (DRTP): targets go directly to hidden layers.

    `delta_l = share (t D_l) * f'`, with the one-hot target `t`; `share` is 1 over the batch. `D_l`
    has one weight for each class and unit of the hidden tensor, fixed and random. The last layer
    gets the exact error. Use it like `DirectFeedback`.

    It can teach one class for each example, among at least two. The layer sees no labels: it infers
    the class from the error at the logits, in which only the entry of the true class is negative.
    This is so for integer or one-hot labels under softmax cross-entropy, sigmoid cross-entropy and
    `losses.LocalHinge`. Logits of one sigmoid unit have no such target and are refused. Examples
    with several labels have several negative entries, and so may unbounded outputs under a squared
    error. Then the step stops with an error, except in graphs that XLA compiles, and on JAX, which
    cannot stop. For slightly smoothed labels the most negative entry is taken. An example without a
    negative entry sends nothing: its sample weight is zero, or it is learned so well that its error
    is zero in the precision used. In the published rule a learned example continues to send its
    target.

    `share` makes the signal a mean over the batch, like the loss, also under loss scales and over
    replicas. In the code of Frenkel et al. the hidden layers get `t D_l` undivided. Their step is
    larger by a factor: the size of the batch, times the number of classes if the loss is a mean
    over classes. A training loop of your own has to add the model's `losses`, as `fit` does,
    because the layer finds the factors of the trainer there.

    Local: each hidden synapse sees its presynaptic activity and a signal that depends only on the
    class and the neuron; no error is needed below the last layer.

    Args:
        feedback_initializer: Keras initializer of the weights, a matrix `(classes, units)`. None
            for that of Frenkel et al., uniform within `sqrt(6 / units)`. Each hidden tensor gets
            its own seed, derived from the seed of the initializer.
        activity_regularizer: Regularizer of the logits.
        name: Name of the layer.
        dtype: Precision of the weights, or a Keras dtype policy.
        trainable: As in every Keras layer; the weights of this layer never learn.

    Inputs: `[logits, hidden_1, ...]`, `(batch, classes)` and `(batch, ...)`. Outputs: the logits.
    Over time, logits `(batch, time, classes)` send the target of each token to the same token of
    hidden tensors `(batch, time, ...)`; a token without an error, such as a masked one, sends none.

    Raises:
        ValueError: For inputs of other shapes, logits of one class, or a hidden tensor that errors
            reach by the chain rule.

    >>> import keras, keras_local as kl
    >>> inputs = keras.Input((8,))
    >>> hidden = kl.layers.FeedbackDense(6, "tanh", feedback="detached")(inputs)
    >>> logits = kl.layers.FeedbackDense(3, feedback="detached")(hidden)
    >>> outputs = kl.layers.DirectRandomTarget()([logits, hidden])
    >>> keras.Model(inputs, outputs).output_shape
    (None, 3)

    Source: Frenkel, Lefebvre & Bol 2021, "Learning without feedback: fixed random learning signals
    allow for feedforward training of deep neural networks"; the initial weights are as in the
    authors' code.
    """

    def __init__(
        self,
        feedback_initializer: InitializerLike | None = None,
        *,
        activity_regularizer: RegularizerLike = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        if feedback_initializer is None:
            feedback_initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "uniform")
        super().__init__(
            feedback_initializer,
            activity_regularizer=activity_regularizer,
            name=name,
            dtype=dtype,
            trainable=trainable,
        )

    def build(self, input_shape: list[Shape]) -> None:
        """Create the weights, or refuse logits of fewer than two classes."""
        logits = tuple(input_shape[0])
        if logits[-1] == 1:
            raise ValueError(
                "`DirectRandomTarget` sends a one-hot target, so that the logits must be of at "
                "least two classes. For two classes, use two units and softmax in place of one "
                f"sigmoid unit. Received: logits of shape {logits}"
            )
        super().build(input_shape)

    def checked(self, error: Tensor, share: Tensor) -> Tensor:
        """Return the error; stop if the errors of an example point to several classes."""
        # The unit is the largest entry of a loss that is a mean over the classes. The entries of
        # smoothed labels lie above this limit.
        classes = error.shape[-1]
        limit = -_CLEAR / classes * ops.cast(share, error.dtype)
        lowest = ops.min(error, axis=-1, keepdims=True)
        negative = ops.logical_and(error < limit, error <= 0.5 * lowest)
        labels = ops.max(ops.sum(ops.cast(negative, "int32"), axis=-1))
        # An empty batch has no share, nor has a call outside a training step.
        single = ops.logical_or(labels <= 1, ops.equal(share, 0))
        return assured(error, single, _SEVERAL)

    @property
    def reads_share(self) -> bool:
        """Return True: a target does not contain the scale of the error."""
        return True

    def signal(self, error: Tensor, share: Tensor) -> Tensor:
        """Return `share t`."""
        target = ops.one_hot(ops.argmin(error, axis=-1), error.shape[-1], dtype=error.dtype)
        known = ops.cast(ops.min(error, axis=-1, keepdims=True) < 0, error.dtype)
        return target * known * ops.cast(share, error.dtype)
