"""Direct feedback alignment: the error of the outputs goes directly to every hidden layer."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, RegularizerLike
from keras_local.layers.direct.layer import DirectLayer
from keras_local.ops.backend import Tensor


@serializable
class DirectFeedback(DirectLayer):
    """Send the error of the logits directly to hidden layers, through fixed random weights (DFA).

    `delta_l = (e D_l) * f'`, `e = dL/dlogits`. `D_l` has one weight for each class and unit of the
    hidden tensor, and never changes. The logits, and so the last layer, get `e` itself.

    Put it behind the logits, before a softmax if there is one, and hand it the outputs of the
    hidden activations. All that leads from them to the logits has to be cut, or the chain would add
    its own error: give the layers in between `feedback="detached"`, or hand them
    `keras.ops.stop_gradient(hidden)`. A chain that is left open is refused (where the graph is one
    of Keras; between the layers of a `call` of your own nobody looks). Behind the last hidden
    tensor, the layers up to the logits learn from the exact error.

    `e` is the derivative of the loss as it is: if the loss is a mean over the batch, hidden
    layers and output layer both learn from that mean, with one step size. In the reference code of
    Frenkel et al. the hidden layers get the error of each example undivided, and so a step that is
    larger by the size of the batch times, for losses that are means over classes, their number.

    Local: each hidden synapse sees the activity before it and an error that reached the neuron
    behind it through weights of its own.

    Args:
        sign: Whether only the sign of the error is sent: `delta_l = share (sign(e) D_l) * f'`, with
            1 over the batch as `share`, so that step sizes stay comparable. A training loop of your
            own then has to add the model's `losses`, as `fit` does. Better for two classes than for
            many: under cross-entropy `sign(e)` is `1 - 2t`, most of it the same for all examples.
        feedback_initializer: Keras initializer of the weights, a matrix
            `(classes, units)`. None for Nokland's, uniform within `1 / sqrt(units)`. Each
            hidden tensor gets a seed of its own, derived from the initializer's.
        activity_regularizer: Regularizer of the logits.
        name: Name of the layer.
        dtype: Precision of the weights, or a Keras dtype policy.
        trainable: As in every Keras layer; the weights of this one never learn.

    Inputs: `[logits, hidden_1, ...]`, `(batch, classes)` and `(batch, ...)`. Outputs: the logits.

    Raises:
        ValueError: For inputs of other shapes, or a hidden tensor that errors reach by the chain.

    >>> import keras, keras_local as kl
    >>> inputs = keras.Input((8,))
    >>> hidden_1 = kl.layers.FeedbackDense(6, "tanh", feedback="detached")(inputs)
    >>> hidden_2 = kl.layers.FeedbackDense(5, "tanh", feedback="detached")(hidden_1)
    >>> logits = kl.layers.FeedbackDense(3, feedback="detached")(hidden_2)
    >>> outputs = kl.layers.DirectFeedback()([logits, hidden_1, hidden_2])
    >>> keras.Model(inputs, outputs).output_shape
    (None, 3)

    Source: Nokland 2016, "Direct feedback alignment provides learning in deep neural networks"; the
    initial weights are those of the author's code.
    """

    def __init__(
        self,
        sign: bool = False,
        feedback_initializer: InitializerLike | None = None,
        *,
        activity_regularizer: RegularizerLike = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        sign = check.flag("sign", sign)
        if feedback_initializer is None:
            feedback_initializer = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
        super().__init__(
            feedback_initializer,
            activity_regularizer=activity_regularizer,
            name=name,
            dtype=dtype,
            trainable=trainable,
        )
        self.sign = sign

    @property
    def reads_share(self) -> bool:
        """True for signs, since they do not contain the scale of the error."""
        return self.sign

    def signal(self, error: Tensor, share: Tensor) -> Tensor:
        """`e`, or `share sign(e)`."""
        return ops.sign(error) * ops.cast(share, error.dtype) if self.sign else error

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "sign": self.sign}
