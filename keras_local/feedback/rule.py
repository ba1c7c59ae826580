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
    """

    name: str
    shape: tuple[int, ...]
    initializer: Any
    trainable: bool


class FeedbackRule(Strategy, ABC):
    """Interface: which kernel carries the error back, and what the feedback weights receive.

    To write a rule, implement `weights`, `error_kernel` and `assignment`, `feedback_gradients` if
    the feedback weights learn, and `get_config` if it has arguments. Decorate the class with
    `keras.saving.register_keras_serializable`.
    """

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

    def kernel_gradient(self, signals: Signals) -> Tensor:
        """Return the forward kernel's gradient; by default that of backpropagation's product."""
        return signals.kernel_gradient

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """Return one gradient for each weight of the rule; by default none of them learns."""
        return tuple(None for _ in signals.feedback)

    def connect(
        self, linear_map: LinearMap, inputs: Tensor, kernel: keras.Variable, feedback: list[Any]
    ) -> Tensor:
        """Apply the map with this rule's error path."""
        weights = tuple(weight.value for weight in feedback)
        return ops.asymmetric(linear_map, self, inputs, kernel.value, weights)

    def adapt(self, kernel_has_own_terms: bool) -> FeedbackRule:
        """Return the form of the rule for a layer whose kernel alone is regularised or constrained.

        By default the rule itself; see `KolenPollack` for one that has two forms.
        """
        return self
