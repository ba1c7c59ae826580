"""The interface of every feedback rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_local import ops
from keras_local._serialization import Strategy
from keras_local.ops import LinearMap, Signals
from keras_local.ops.backend import Tensor

Initializer = Callable[..., Tensor]


@dataclass(frozen=True)
class FeedbackWeight:
    """A weight that a rule asks its layer to hold: rules hold none themselves.

    Attributes:
        name: Name of the Keras variable.
        shape: Its shape.
        initializer: A Keras initializer, or any callable of shape and dtype.
        trainable: Whether the optimizer changes it.
        dtype: None for that of the kernel.
    """

    name: str
    shape: tuple[int, ...]
    initializer: Any
    trainable: bool
    dtype: str | None = None


@dataclass(frozen=True)
class Synapses:
    """What a layer hands to its rule in each call: its weights, and what it can do with them.

    Attributes:
        linear_map: The map that the kernel enters.
        kernel: Tensor of forward weights.
        feedback: Tensors of the rule's own weights, in the order in which it declared them.
        variables: The variables behind `feedback`.
        respond: Function from the map's outputs to the layer's activity: bias and activation.
        law: Draws a tensor of the kernel's shape from the law of the initial feedback kernel, anew
            at each call; None unless the rule `draws`.
        seed: Generator of seeds for the rule's own noise; None unless the rule `draws`.
        learn: Hands gradients to the optimizer, in the order of the kernel and then the rule's
            weights; None where there is nothing to learn. Loss scales and replicas are the
            layer's business: a gradient is the mean over the examples of the call.
    """

    linear_map: LinearMap
    kernel: Tensor
    feedback: tuple[Tensor, ...]
    variables: tuple[keras.Variable, ...]
    respond: Callable[[Tensor], Tensor]
    law: Callable[[], Tensor] | None
    seed: keras.random.SeedGenerator | None
    learn: Callable[[tuple[Tensor | None, ...]], None]


class FeedbackRule(Strategy, ABC):
    """Interface: which kernel carries the error back, and what the feedback weights receive.

    To write a rule, implement `weights`, `error_kernel` and `assignment`, and `get_config` if it
    has arguments. Feedback weights learn from the error in `feedback_gradients`, or from the
    layer's activity alone in `local_gradients`. Decorate the class with
    `keras.saving.register_keras_serializable`.
    """

    @property
    def draws(self) -> bool:
        """Whether the rule draws random numbers in training."""
        return False

    @property
    def innermost(self) -> FeedbackRule:
        """The rule inside of all wrappers; by default the rule itself."""
        return self

    @abstractmethod
    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare the weights of the rule for a layer's `kernel`.

        `initializer` is the layer's `feedback_initializer`: the law of the initial feedback kernel.
        """

    @abstractmethod
    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return the kernel that carries the error back, in the shape of `kernel`."""

    @abstractmethod
    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Return the values of the rule's weights for which the error kernel is as given."""

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """Return what the error teaches each weight of the rule; by default nothing."""
        return tuple(None for _ in signals.feedback)

    def local_gradients(
        self, synapses: Synapses, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return what activity alone teaches kernel and feedback weights; by default nothing.

        Called in training only, with the layer's inputs and the outputs of its map.
        """
        return None

    def signals(self, synapses: Synapses, training: bool | None) -> tuple[Tensor, ...]:
        """Return the tensors that `error_kernel` reads; by default the rule's weights."""
        return synapses.feedback

    def connect(self, synapses: Synapses, inputs: Tensor, training: bool | None) -> Tensor:
        """Apply the map with this rule's error path, and learn from activity in training."""
        feedback = self.signals(synapses, training)
        outputs = ops.asymmetric(synapses.linear_map, self, inputs, synapses.kernel, feedback)
        if training:
            detached = keras.ops.stop_gradient(inputs), keras.ops.stop_gradient(outputs)
            gradients = self.local_gradients(synapses, *detached)
            if gradients is not None:
                synapses.learn(gradients)
        return outputs

    def adapt(self, kernel_has_own_terms: bool) -> FeedbackRule:
        """Return the form of the rule for a layer whose kernel alone is regularised or constrained.

        By default the rule itself; see `KolenPollack` for one that has two forms.
        """
        return self
