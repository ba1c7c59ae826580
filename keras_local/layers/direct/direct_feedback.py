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
    """Direct feedback alignment (DFA): errors of the logits go directly to hidden layers.

    `delta_l = (e D_l) * f'`, `e = dL/dlogits`. `D_l` has one weight for each class and unit of the
    hidden tensor, fixed and random. The logits, and therefore the last layer, get `e` itself.

    Put it behind the logits, before a softmax if there is one, and call it with the logits and the
    outputs of the hidden activations. All paths from them to the logits have to be cut, or the
    chain rule would add its own error: give the layers in between `feedback="detached"`, or call
    them with `keras.ops.stop_gradient(hidden)`. A path that is not cut is refused. It is found in a
    graph of Keras layers, but not inside a `call` method of your own. Behind the last hidden
    tensor, the layers up to the logits learn from the exact error.

    `e` is the derivative of the loss without any other factor: if the loss is a mean over the
    batch, hidden layers and output layer both learn from that mean, with one step size. In the code
    of Frenkel et al. the hidden layers get the error of each example undivided. Their step is
    larger by a factor: the size of the batch, times the number of classes if the loss is a mean
    over classes.

    Local: each hidden synapse sees its presynaptic activity and an error that reaches the
    postsynaptic neuron through separate weights.

    Args:
        sign: Whether only the sign of the error is sent: `delta_l = share (sign(e) D_l) * f'`. The
            `share` is 1 over the batch, so that step sizes stay comparable. A training loop of your
            own then has to add the model's `losses`, as `fit` does. It is better for two classes
            than for many: under cross-entropy `sign(e)` is `1 - 2t`, mostly the same for all
            examples.
        feedback_initializer: Keras initializer of the weights, a matrix `(classes, units)`. None
            for Nokland's, uniform within `1 / sqrt(units)`. Each hidden tensor gets its own seed,
            derived from the seed of the initializer.
        activity_regularizer: Regularizer of the logits.
        name: Name of the layer.
        dtype: Precision of the weights, or a Keras dtype policy.
        trainable: As in every Keras layer; the weights of this layer never learn.

    Inputs: `[logits, hidden_1, ...]`, `(batch, classes)` and `(batch, ...)`. Outputs: the logits.
    Over time, logits `(batch, time, classes)` send the error of each token to the same token of
    hidden tensors `(batch, time, ...)`, through weights without a time axis, so that lengths may
    be unknown; a hidden tensor `(batch, units)` gets the sum over time.

    Raises:
        ValueError: For inputs of other shapes, or a hidden tensor that errors reach by the chain
            rule.

    >>> import keras, keras_local as kl
    >>> inputs = keras.Input((8,))
    >>> hidden_1 = kl.layers.FeedbackDense(6, "tanh", feedback="detached")(inputs)
    >>> hidden_2 = kl.layers.FeedbackDense(5, "tanh", feedback="detached")(hidden_1)
    >>> logits = kl.layers.FeedbackDense(3, feedback="detached")(hidden_2)
    >>> outputs = kl.layers.DirectFeedback()([logits, hidden_1, hidden_2])
    >>> keras.Model(inputs, outputs).output_shape
    (None, 3)

    Source: Nokland 2016, "Direct feedback alignment provides learning in deep neural networks"; the
    initial weights are as in the author's code.
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
        """Return whether signs are sent, which do not contain the scale of the error."""
        return self.sign

    def signal(self, error: Tensor, share: Tensor) -> Tensor:
        """Return `e`, or `share sign(e)`."""
        return ops.sign(error) * ops.cast(share, error.dtype) if self.sign else error

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "sign": self.sign}
