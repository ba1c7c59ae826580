"""A network with phases of its own."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

import keras_local as kl


@keras.saving.register_keras_serializable(package="plugin")
class TwoPasses(kl.dynamics.Network):
    """Forward with `tanh` units; then the error of the classes comes back by fixed weights.

    It counts the steps that it has learned, as an example of a state of its own.
    """

    def __init__(self, sizes: Any, gain: float = 1.0, **kwargs: Any) -> None:
        super().__init__(sizes, **kwargs)
        self.gain = gain
        lower, upper = self.sizes[1:]
        self.below = kl.dynamics.Synapses(lower, name="below")
        self.above = kl.dynamics.Synapses(upper, tied=False, feedback_trainable=False, name="above")
        self.build((None, self.sizes[0]))

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        self.below.build((None, self.sizes[0]))
        self.above.build((None, self.sizes[1]))
        self.learned = self.add_weight(
            name="learned", shape=(), initializer="zeros", trainable=False, dtype="float32"
        )
        self.built = True

    def free_phase(self, inputs: Any) -> Any:
        hidden = ops.tanh(self.below.read().forward(inputs))
        return hidden, self.above.read().forward(hidden)

    def scores(self, inputs: Any, states: Any) -> Any:
        return states[-1]

    def changes(self, inputs: Any, targets: Any, states: Any, share: Any) -> Any:
        hidden, outputs = states
        error = share[:, None] * (targets - outputs)
        back = self.above.read().backward(error) * (1.0 - hidden**2)
        self.learned.assign(self.learned + 1.0)
        return [
            (self.above.kernel, ops.matmul(ops.transpose(hidden), error)),
            (self.above.bias, ops.sum(error, axis=0)),
            (self.below.kernel, self.gain * ops.matmul(ops.transpose(inputs), back)),
            (self.below.bias, self.gain * ops.sum(back, axis=0)),
        ]

    def layer_rates(self) -> Any:
        return self.gain, 1.0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gain": self.gain}
