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
    "`DirectRandomTarget` teaches one class for each example, but the errors of a batch are those "
    "of several labels at once: the target must be an integer or one-hot, under softmax or sigmoid "
    "cross-entropy or `losses.LocalHinge`. `DirectFeedback` takes every target and loss."
)


@serializable
class DirectRandomTarget(DirectLayer):
    """Send the one-hot target directly to hidden layers, through fixed random weights (DRTP).

    `delta_l = share (t D_l) * f'`, `t` the one-hot target and `share` 1 over the batch. `D_l` has
    one weight for each class and unit of the hidden tensor, and never changes. The last layer gets
    the exact error. Use it as `DirectFeedback`.

    It can teach one class for each example, among at least two. The layer sees no labels: it reads
    the class off the error at the logits, of which only the entry of the true class is negative.
    That holds for integer or one-hot labels under softmax cross-entropy, sigmoid cross-entropy and
    `losses.LocalHinge`. One sigmoid unit has no such target and is refused. Several labels at once
    have several, and outputs without bounds under a squared error may look like it: the step stops
    with an error, but for graphs that XLA compiles, and so on JAX, which cannot stop. Of slightly
    smoothed labels the most negative entry is taken. An example without a negative entry sends
    nothing: one whose sample weight is zero, or one so well learned that its error is zero in the
    precision used. In the published rule a learned example goes on to send its target.

    `share` makes the signal one of the same batch mean as the loss, under loss scales and over
    replicas too. In the reference code of Frenkel et al. the hidden layers get `t D_l` undivided,
    and so a step that is larger by the size of the batch times, for losses that are means over
    classes, their number. A training loop of your own has to add the model's `losses`, as `fit`
    does: the layer finds the factors of the trainer there.

    Local: each hidden synapse sees the activity before it and a signal that depends on the class
    and the neuron alone; no error is needed below the last layer.

    Args:
        feedback_initializer: Keras initializer of the weights, a matrix
            `(classes, units)`. None for that of Frenkel et al., uniform within `sqrt(6 / units)`.
            Each hidden tensor gets a seed of its own, derived from the initializer's.
        activity_regularizer: Regularizer of the logits.
        name: Name of the layer.
        dtype: Precision of the weights, or a Keras dtype policy.
        trainable: As in every Keras layer; the weights of this one never learn.

    Inputs: `[logits, hidden_1, ...]`, `(batch, classes)` and `(batch, ...)`. Outputs: the logits.

    Raises:
        ValueError: For inputs of other shapes, logits of one class, or a hidden tensor that errors
            reach by the chain.

    >>> import keras, keras_local as kl
    >>> inputs = keras.Input((8,))
    >>> hidden = kl.layers.FeedbackDense(6, "tanh", feedback="detached")(inputs)
    >>> logits = kl.layers.FeedbackDense(3, feedback="detached")(hidden)
    >>> outputs = kl.layers.DirectRandomTarget()([logits, hidden])
    >>> keras.Model(inputs, outputs).output_shape
    (None, 3)

    Source: Frenkel, Lefebvre & Bol 2021, "Learning without feedback: fixed random learning signals
    allow for feedforward training of deep neural networks"; the initial weights are those of the
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
        """Create the weights, if the logits are of several classes."""
        logits = tuple(input_shape[0])
        if logits[-1] == 1:
            raise ValueError(
                "`DirectRandomTarget` sends a one-hot target, so that the logits must be of at "
                "least two classes. For two classes, use two units and softmax in place of one "
                f"sigmoid unit. Received: logits of shape {logits}"
            )
        super().build(input_shape)

    def checked(self, error: Tensor, share: Tensor) -> Tensor:
        """Stop where two entries of an example are as negative as that of a true class may be."""
        # In units of the largest entry of a loss that is a mean over the classes. What smoothing
        # leaves of a label lies above.
        classes = error.shape[-1]
        limit = -_CLEAR / classes * ops.cast(share, error.dtype)
        lowest = ops.min(error, axis=-1, keepdims=True)
        negative = ops.logical_and(error < limit, error <= 0.5 * lowest)
        labels = ops.max(ops.sum(ops.cast(negative, "int32"), axis=-1))
        # In a batch that is empty, or outside of a training step, there is no share.
        single = ops.logical_or(labels <= 1, ops.equal(share, 0))
        return assured(error, single, _SEVERAL)

    @property
    def reads_share(self) -> bool:
        """True: a target has no scale of its own."""
        return True

    def signal(self, error: Tensor, share: Tensor) -> Tensor:
        """`share t`."""
        target = ops.one_hot(ops.argmin(error, axis=-1), error.shape[-1], dtype=error.dtype)
        known = ops.cast(ops.min(error, axis=-1, keepdims=True) < 0, error.dtype)
        return target * known * ops.cast(share, error.dtype)
