"""The interface of the layers that send errors from the outputs directly to hidden layers."""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import initializers

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local import ops
from keras_local._types import DType, InitializerLike, RegularizerLike
from keras_local.layers.direct.cut import is_cut
from keras_local.layers.direct.error_paths import open_path
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.feedback.unsupported import layer_arguments
from keras_local.layers.own_losses import OwnLosses
from keras_local.layers.plain_form import ErrorKernel, PlainForm
from keras_local.ops.backend import Tensor


class DirectLayer(OwnLosses, keras.layers.Layer):
    """Interface of a layer with the inputs `[logits, hidden_1, ...]` that returns the logits.

    The logits get their exact error. Each hidden tensor gets what `signal` computes from this
    error, through its own fixed random weights.
    """

    def __init__(
        self,
        feedback_initializer: InitializerLike,
        *,
        activity_regularizer: RegularizerLike = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        # The logits may have a higher precision than the hidden layers, and keep it.
        super().__init__(
            autocast=False,
            name=name,
            **layer_arguments(dtype, trainable, activity_regularizer, {}),
        )
        self.feedback_initializer = objects.initializer(
            "feedback_initializer", feedback_initializer
        )
        self.supports_masking = True
        self._exact = False
        self._measured = False

    @abstractmethod
    def signal(self, error: Tensor, share: Tensor) -> Tensor:
        """Return the signal that goes through the feedback weights, `(batch, classes)`.

        Args:
            error: Derivative of the loss at the logits.
            share: Scalar, the share of one example in the loss: 1 over the batch, times the factor
                by which the trainer multiplies losses.
        """

    def checked(self, error: Tensor, share: Tensor) -> Tensor:
        """Return the error; a layer that cannot read every error stops the step here."""
        return error

    @property
    @abstractmethod
    def reads_share(self) -> bool:
        """Return whether `signal` reads `share`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, after a check of the graph that leads to its inputs."""
        inputs: Any = args[0] if args else kwargs.get("inputs")
        several = isinstance(inputs, (list, tuple)) and len(inputs) > 1
        check.require(several, "inputs", "a list [logits, hidden_1, ...]", _shapes(inputs))
        if all(isinstance(tensor, keras.KerasTensor) for tensor in inputs):
            self._refuse_chains(list(inputs))
        return super().__call__(*args, **kwargs)

    def _refuse_chains(self, inputs: list[Any]) -> None:
        names = [_name(tensor) for tensor in inputs]
        distinct = len({id(tensor) for tensor in inputs}) == len(inputs)
        check.require(distinct, "inputs", "different tensors", names)
        for start, name in zip(inputs, names, strict=True):
            found = open_path(start, inputs[1:])
            if found is None:
                continue
            sender, place = found
            raise ValueError(
                f"`{type(self).__name__}` sends its own error to the output of "
                f"{names[place + 1]!r}, but the error at {name!r} reaches it as well, through "
                f"{sender.name!r}, and the two would add up. Give {sender.name!r} (or a layer "
                "between the two) feedback='detached' if it is a feedback layer, or call it with "
                f"keras.ops.stop_gradient(...) of the output of {names[place + 1]!r}."
            )

    def passes_errors_to(self, inputs: list[Any]) -> list[Any]:
        """Return the logits: errors continue there, and not at the hidden tensors."""
        return inputs[:1]

    def build(self, input_shape: list[Shape]) -> None:
        """Create the weights `(classes, *units)` for each hidden tensor."""
        logits, *hidden = (tuple(shape) for shape in input_shape)
        allowed = "logits (batch, classes) or (batch, time, classes)"
        check.require(len(logits) in (2, 3) and logits[-1] is not None, "inputs", allowed, logits)
        units = [_units(logits, shape) for shape in hidden]
        self.feedback_kernels = [
            self.add_weight(
                name=f"feedback_kernel_{place}",
                shape=(logits[-1], *shape),
                initializer=self._initializer(place),
                trainable=False,
            )
            for place, shape in enumerate(units, start=1)
        ]
        self.built = True

    def _initializer(self, place: int) -> Callable[..., Tensor]:
        """Return an initializer that draws a matrix `(classes, units)`, with another seed for each.

        With the same seed, all hidden tensors of one shape would get the same weights.
        """
        initializer = self.feedback_initializer
        seed = getattr(initializer, "seed", None)
        if isinstance(seed, int):
            derived = random.Random(f"direct feedback {place} of {seed}").randrange(1, 10**9)
            config = {**initializer.get_config(), "seed": derived}
            initializer = type(initializer).from_config(config)

        def draw(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
            matrix = initializer((shape[0], math.prod(shape[1:])), dtype=dtype)
            return keras.ops.reshape(matrix, shape)

        return draw

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Return the logits."""
        logits, *hidden = inputs
        if self._exact:
            return logits
        signal = self._signal_of_mean if self._measured else self.signal
        weights = [weight.value for weight in self.feedback_kernels]
        if len(logits.shape) == 3:
            hidden = [_in_step(tensor, logits) for tensor in hidden]
        outputs, loss = ops.direct(signal, logits, hidden, weights, self.checked)
        if self.reads_share:
            self.add_loss(loss)
        return outputs

    def compute_mask(self, inputs: list[Tensor], previous_mask: Any) -> Any:
        """Return the mask of the logits."""
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """Return the shape of the logits."""
        return tuple(input_shape[0])

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        """Return a symbolic tensor of the logits' shape and precision."""
        return keras.KerasTensor(inputs[0].shape, dtype=inputs[0].dtype)

    def _signal_of_mean(self, error: Tensor, share: Tensor) -> Tensor:
        share = 1.0 / ops.direct_examples(error, "float32")
        return self.signal(error, share)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Use 1 over the batch as share, for measurements without a trainer."""
        self._measured = True
        try:
            yield
        finally:
            self._measured = False

    @contextmanager
    def exact_errors(self) -> Iterator[None]:
        """Send no errors directly, for measurements: only the chain rule acts."""
        self._exact = True
        try:
            yield
        finally:
            self._exact = False

    def error_kernels(self) -> list[ErrorKernel]:
        """Return none: errors go directly to hidden tensors, past all kernels."""
        return []

    def plain_form(self) -> PlainForm:
        """Return a plain form without a layer, which returns the logits."""
        return PlainForm(None, {}, [], before=_logits)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        initializer = initializers.serialize(self.feedback_initializer)
        return {**super().get_config(), "feedback_initializer": initializer}


def _units(logits: tuple[Any, ...], hidden: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the axes of the units of a hidden tensor, without those of examples and tokens."""
    units = hidden[1:]
    if len(logits) == 3 and len(hidden) > 2:
        allowed = (
            f"hidden tensors with the time axis of the logits {logits}, or without one: "
            "(batch, time, ...) or (batch, units)"
        )
        check.require(hidden[1] == logits[1], "inputs", allowed, hidden)
        units = hidden[2:]
    defined = len(hidden) > 1 and None not in units
    check.require(defined, "inputs", "hidden tensors of defined shapes", hidden)
    return units


def _in_step(hidden: Tensor, logits: Tensor) -> Tensor:
    """Return a hidden tensor; stop where it has not as many steps as the logits."""
    if len(hidden.shape) < 3:
        return hidden
    allowed = "hidden tensors with as many time steps as the logits"
    if None not in (hidden.shape[1], logits.shape[1]):
        same = hidden.shape[1] == logits.shape[1]
        check.require(same, "inputs", f"{allowed}, {logits.shape[1]}", tuple(hidden.shape))
        return hidden
    shapes = (keras.ops.shape(tensor)[1] for tensor in (hidden, logits))
    return ops.assured(hidden, keras.ops.equal(*shapes), f"`inputs` must be {allowed}")


@contextmanager
def without_cuts(model: keras.Model) -> Iterator[None]:
    """Let errors pass the cuts that a graph has for a direct layer, for measurements."""
    cuts = [operation for operation in operations_of(model) if cuts_for_direct_layer(operation)]
    try:
        for cut in cuts:
            cut.call = _unchanged
        yield
    finally:
        for cut in cuts:
            vars(cut).pop("call", None)


def operations_of(model: Any) -> list[Any]:
    """Return all operations in the graph of a model and of its nested models."""
    found: list[Any] = []
    # The operations of a subclassed model are not known.
    for operation in getattr(model, "operations", model.layers):
        inner = operations_of(operation) if isinstance(operation, keras.Model) else []
        found += [operation, *inner]
    return found


def _unchanged(inputs: Tensor) -> Tensor:
    return inputs


def _logits(inputs: list[Any]) -> Any:
    return inputs[0]


def cuts_for_direct_layer(operation: Any) -> bool:
    """Return whether an operation is a `stop_gradient` above a direct layer's hidden tensor."""
    if not is_cut(operation):
        return False
    tensor = operation._inbound_nodes[0].input_tensors[0]
    above = tensor._keras_history.operation._outbound_nodes
    return any(
        isinstance(node.operation, DirectLayer)
        and any(tensor is hidden for hidden in node.input_tensors[1:])
        for node in above
    )


def _name(tensor: Any) -> str:
    history = getattr(tensor, "_keras_history", None)
    return str(tensor.name if history is None else history.operation.name)


def _shapes(inputs: Any) -> Any:
    if isinstance(inputs, (list, tuple)):
        return [_shapes(each) for each in inputs]
    return getattr(inputs, "shape", inputs)
