"""The interface of every feedback rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import keras

from keras_local._serialization import Strategy
from keras_local.ops import LinearMap, Signals
from keras_local.ops.asymmetric import transmitted
from keras_local.ops.backend import Tensor

Initializer = Callable[..., Tensor]


@dataclass(frozen=True)
class FeedbackWeight:
    """Declaration of a weight that a layer holds for its rule.

    A weight that a rule changes by itself is a memory: declare it with `trainable=False`, and
    assign to it (`synapses.variables[i].assign(...)`) in `signals` or `local_gradients`. Under
    `tf.distribute` all replicas then hold the mean of what each of them assigns.

    Attributes:
        name: Name of the Keras variable.
        shape: Its shape.
        initializer: A Keras initializer, or any callable of shape and dtype. It must not read
            another variable, since TensorFlow cannot create such a weight inside a compiled step.
        trainable: Whether the optimizer changes it.
        dtype: The dtype; None for the dtype of the kernel.
        starts_from_kernel: Whether the initializer is called with the kernel's first value as well:
            `initializer(shape, dtype=dtype, kernel=tensor)`.
    """

    name: str
    shape: tuple[int, ...]
    initializer: Any
    trainable: bool
    dtype: str | None = None
    starts_from_kernel: bool = False

    def first_values(self, kernel: Callable[..., Tensor]) -> Any:
        """Return the initializer for a layer whose kernel's first value is `kernel(shape, dtype)`.

        Args:
            kernel: Function of shape and dtype that returns the kernel's first value; called only
                if the weight starts from it.
        """
        if not self.starts_from_kernel:
            return self.initializer

        def initializer(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
            return self.initializer(shape, dtype=dtype, kernel=kernel(shape, dtype=dtype))

        return initializer


@dataclass(frozen=True)
class RuleContext:
    """The weights and functions that a layer gives to its rule in each call.

    Attributes:
        linear_map: The linear map that uses the kernel.
        kernel: Tensor of forward weights.
        feedback: Tensors of the rule's own weights, in the order in which it declared them.
        variables: The variables of `feedback`. A value that is assigned to one of them is averaged
            over the replicas of `tf.distribute`, so that all replicas hold the same value.
        respond: Function from the map's outputs to the layer's activity: bias and activation.
        draw_kernel: Function that draws a new tensor of the kernel's shape from the layer's
            `feedback_initializer` at each call; None unless the rule `draws`.
        seed: Generator of seeds for the rule's own noise; None unless the rule `draws`.
        learn: Function that passes gradients to the optimizer, of the kernel and then of the rule's
            weights; None if nothing can learn. A gradient is the mean over the examples of the
            call; the layer takes care of loss scales and replicas.
        present: Which samples a mask keeps, a boolean tensor of the inputs' shape with a last axis
            of 1; None without a mask. What learns from activity leaves the others out. Axes of
            which all or none count, such as heads, may be missing behind the last one.
    """

    linear_map: LinearMap
    kernel: Tensor
    feedback: tuple[Tensor, ...]
    variables: tuple[keras.Variable, ...]
    respond: Callable[[Tensor], Tensor]
    draw_kernel: Callable[[], Tensor] | None
    seed: keras.random.SeedGenerator | None
    learn: Callable[[tuple[Tensor | None, ...]], None]
    present: Tensor | None = None


class FeedbackRule(Strategy, ABC):
    """Interface of feedback rules: which kernel carries the error back, and how it learns.

    To write a rule, implement `weights`, `error_kernel` and `assignment`, and `get_config` if it
    has arguments. Feedback weights learn from the error in `feedback_gradients`, or from the
    layer's activity alone in `local_gradients`. Decorate the class with
    `keras.saving.register_keras_serializable`.

    The properties `sends_errors`, `has_own_kernel`, `learns_from_activity`, `follows_kernel`,
    `feedback_teaches_kernel` and `draws` say what the rule does. The rest of the package asks for
    them and never for the class, so that your own rule is treated like the rules of the package.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a class that overrides `connect`."""
        super().__init_subclass__(**kwargs)
        if cls.connect is not FeedbackRule.connect:
            raise TypeError(
                f"{cls.__name__}.connect: `FeedbackRule.connect` is final. Define the rule by "
                "`signals`, `error_kernel`, `feedback_gradients` and `local_gradients`, and by "
                "the properties `sends_errors` and `has_own_kernel`."
            )

    @property
    def sends_errors(self) -> bool:
        """Return whether errors go through the layer to the layers below; True by default."""
        return True

    @property
    def has_own_kernel(self) -> bool:
        """Return whether errors return through another kernel than `W`; True by default.

        If not, and the rule has no weights, the layer computes what the built-in layer computes, at
        the same cost.
        """
        return True

    @property
    def learns_from_activity(self) -> bool:
        """Return whether feedback weights learn without any error, in `local_gradients`.

        By default this is True if the rule overrides that method. `models.align` trains such rules.
        """
        return type(self).local_gradients is not FeedbackRule.local_gradients

    @property
    def has_local_terms(self) -> bool:
        """Whether `local_gradients` may return anything; by default, whether there is one.

        Such a rule needs to see the activity of a whole call: a layer that is called in a loop over
        time cannot use it, and a recurrent layer asks it behind its loop.
        """
        return type(self).local_gradients is not FeedbackRule.local_gradients

    @property
    def feedback_teaches_kernel(self) -> bool:
        """Whether the kernel's part of `local_gradients` may depend on the feedback weights.

        Then they are of use also where no error needs them. By default this is True if the rule
        overrides that method.
        """
        return type(self).local_gradients is not FeedbackRule.local_gradients

    @property
    def follows_kernel(self) -> bool:
        """Return whether the feedback kernel receives the kernel's updates; False by default.

        If True, the layer warns of anything that acts only on the kernel, such as a regularizer.
        """
        return False

    @property
    def draws(self) -> bool:
        """Return whether the rule draws random numbers in training; False by default."""
        return False

    @property
    def innermost(self) -> FeedbackRule:
        """Return the rule inside all wrappers; by default the rule itself."""
        return self

    @abstractmethod
    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare the weights of the rule for a layer's `kernel`.

        `initializer` is the layer's `feedback_initializer`, for the initial feedback kernel.
        """

    @abstractmethod
    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return the kernel that carries the error back, in the shape of `kernel`."""

    @abstractmethod
    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Return values of the rule's weights that give this error kernel."""

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """Return the gradients of the rule's weights from an error; none by default."""
        return tuple(None for _ in signals.feedback)

    def local_gradients(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return gradients of kernel and feedback weights from activity; none by default.

        It is called only in training, with the layer's inputs and the outputs of its map.
        """
        return None

    def signals(self, synapses: RuleContext, training: bool | None) -> tuple[Tensor, ...]:
        """Return the tensors that `error_kernel` reads; by default the rule's weights."""
        return synapses.feedback

    @final
    def connect(self, synapses: RuleContext, inputs: Tensor, training: bool | None) -> Tensor:
        """Apply the map with this rule's error path, and learn from activity in training.

        This method is final. A rule changes what it does by its other methods and properties.
        """
        outputs = self.transmit(synapses, inputs, training)
        if training:
            self.learn_locally(synapses, inputs, outputs)
        return outputs

    @final
    def transmit(self, synapses: RuleContext, inputs: Tensor, training: bool | None) -> Tensor:
        """Apply the map with this rule's error path; half of `connect`, for layers with a loop."""
        feedback = self.signals(synapses, training)
        return transmitted(synapses.linear_map, self, inputs, synapses.kernel, feedback)

    @final
    def learn_locally(self, synapses: RuleContext, inputs: Tensor, outputs: Tensor) -> None:
        """Hand on what activity alone teaches; the other half of `connect`."""
        detached = keras.ops.stop_gradient(inputs), keras.ops.stop_gradient(outputs)
        gradients = self.local_gradients(synapses, *detached)
        if gradients is not None:
            synapses.learn(gradients)

    def adapt(self, kernel_has_own_terms: bool) -> FeedbackRule:
        """Return the form of the rule for a layer whose kernel is regularised or constrained.

        By default this is the rule itself. `KolenPollack` is a rule with two forms.
        """
        return self
