"""A feedback rule with a memory."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

import keras_local as kl


@keras.saving.register_keras_serializable(package="plugin")
class Homeostatic(kl.feedback.FeedbackRule):
    """Hebbian feedback weights; the more active a layer was, the less error goes through it.

        dB = decay * B - amplify * x^T y,    error kernel B / (1 + m),
        m <- m + (mean of y^2 - m) / tau

    with the activity `y` of the layer, and its memory `m`, one number.
    """

    def __init__(self, amplify: float = 0.1, decay: float = 0.1, tau: float = 4.0) -> None:
        self.amplify, self.decay, self.tau = amplify, decay, tau

    def weights(self, kernel: Any, initializer: Any) -> list[kl.feedback.FeedbackWeight]:
        shape = tuple(kernel.shape)
        return [
            kl.feedback.FeedbackWeight("feedback_kernel", shape, initializer, trainable=True),
            kl.feedback.FeedbackWeight("activity", (), "zeros", trainable=False),
        ]

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        sent, activity = feedback
        return sent / (1.0 + activity)

    def assignment(self, kernel: Any, feedback_kernel: Any) -> list[Any]:
        return [feedback_kernel, ops.zeros((), feedback_kernel.dtype)]

    def local_gradients(self, synapses: Any, inputs: Any, outputs: Any) -> tuple[Any, ...]:
        active = synapses.respond(outputs)
        seen = ops.mean(ops.square(active))
        # The same on each replica: the mean over all of them.
        seen = kl.ops.replica_sum(seen) / kl.ops.replica_count()
        _, memory = synapses.variables
        memory.assign(memory + (ops.cast(seen, memory.dtype) - memory) / self.tau)
        kernel, sent = synapses.kernel, synapses.feedback[0]
        product = synapses.linear_map.kernel_gradient(inputs, active, kernel)
        examples = ops.cast(ops.shape(inputs)[0], product.dtype)
        return None, self.decay * sent - self.amplify * product / examples, None

    def get_config(self) -> dict[str, Any]:
        return {"amplify": self.amplify, "decay": self.decay, "tau": self.tau}
