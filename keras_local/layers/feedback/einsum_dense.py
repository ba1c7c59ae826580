"""A dense layer by an Einstein sum whose errors return by a feedback rule."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Unpack

import keras

from keras_local import _validation as check
from keras_local import ops
from keras_local._serialization import serializable
from keras_local._types import (
    Activation,
    ConstraintLike,
    DType,
    InitializerLike,
    RegularizerLike,
)
from keras_local.feedback import FeedbackLike, RuleContext
from keras_local.layers.feedback.idle import IdleFeedback
from keras_local.layers.feedback.layer import FeedbackLayer, Shape
from keras_local.layers.feedback.unsupported import StockArguments
from keras_local.ops.backend import Tensor

# By the identity of the layer. A replica has a thread, and a mask, of its own.
_PRESENT: ContextVar[Mapping[int, Tensor]] = ContextVar("present", default=MappingProxyType({}))


@serializable
class FeedbackEinsumDense(FeedbackLayer):
    """Dense layer by an Einstein sum over several axes; errors return through feedback weights.

    Forward `y = f(einsum(equation, x, W) + b)`; the error sent down is the Einstein sum of `delta`
    and `B` over the axes of the outputs: for `"ab,bc->ac"` it is `einsum("ac,bc->ab", delta, B)`.
    The kernel learns by `einsum("ab,ac->bc", x, delta)`, the product of the signals of the two
    neurons that each weight joins, summed over everything that shares the weight.

    With `feedback="symmetric"` it is `keras.layers.EinsumDense`, bit for bit.

    Args:
        equation: `"x,k->y"`, `"...x,k->...y"` or `"x...,k->y..."`, where `x`, `k` and `y` are the
            axes of inputs, kernel and outputs, one letter each. A letter that only the inputs have
            is summed without a weight; every other letter is in two terms or in three.
        output_shape: Sizes of the outputs' axes, without the batch and without the axes of an
            ellipsis; None for a size that the inputs have.
        activation: Activation function; none by default.
        bias_axes: The letters of the outputs' axes along which the bias differs; None for no bias.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel. Its numbers of inputs and outputs
            follow from the equation, as for the kernel.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        connectivity: Probability with which each forward and each feedback synapse exists; None for
            all.
        idle_feedback: What happens to a feedback kernel that no error uses, because nothing below
            the layer is trained. `"keep"`: it learns all the same. `"drop"`: until something is, it
            does not learn and costs no time; an error at the inputs of a model is refused in
            training.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, ...)`. Output shape: `(batch, ...)`. The equation defines both.

    Raises:
        ValueError: For a wrong argument, or inputs that do not fit the equation.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackEinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de")
    >>> tuple(layer(np.ones((1, 5, 8), "float32")).shape)
    (1, 5, 2, 4)
    """

    plain = keras.layers.EinsumDense

    def __init__(
        self,
        equation: str,
        output_shape: int | tuple[int | None, ...] | list[int | None],
        activation: Activation = None,
        bias_axes: str | None = None,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        *,
        kernel_initializer: InitializerLike | None = "glorot_uniform",
        bias_initializer: InitializerLike | None = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        connectivity: float | None = None,
        idle_feedback: IdleFeedback = "keep",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        linear_map = ops.Einsum(equation)
        _, k, y = terms = re.findall(r"[a-zA-Z]+", equation)
        output_shape = _output_shape(output_shape)
        given = bias_axes is None or (
            isinstance(bias_axes, str) and bool(bias_axes) and set(bias_axes) <= set(y)
        )
        check.require(given, "bias_axes", f"None or letters of the outputs {y!r}", bias_axes)
        given = "use_bias" not in kwargs
        check.require(given, "use_bias", "given by `bias_axes`", kwargs.get("use_bias"))
        super().__init__(
            activation,
            bias_axes is not None,
            feedback,
            feedback_initializer,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            connectivity=connectivity,
            idle_feedback=idle_feedback,
            name=name,
            dtype=dtype,
            trainable=trainable,
            **kwargs,
        )
        self.equation = equation
        self.partial_output_shape = output_shape
        self.bias_axes = bias_axes
        self._map, self._letters = linear_map, terms
        self._given = self.kernel_initializer, self.feedback_initializer
        axes = (
            [i for i, axis in enumerate(k) if axis not in y],
            [i for i, axis in enumerate(k) if axis in y],
        )
        self.kernel_initializer = _along(self.kernel_initializer, *axes)
        self.feedback_initializer = _along(self.feedback_initializer, *axes)

    @contextmanager
    def counting(self, mask: Tensor | None) -> Iterator[None]:
        """Let a rule that learns from activity leave out samples, in the calls within this context.

        Keras hands no masks to this layer.

        Args:
            mask: Boolean tensor of the first axes of the inputs; None for all samples.
        """
        if mask is None:
            yield
            return
        present = keras.ops.cast(mask, "bool")[..., None]
        token = _PRESENT.set({**_PRESENT.get(), id(self): present})
        try:
            yield
        finally:
            _PRESENT.reset(token)

    def _synapses(self) -> RuleContext:
        synapses, present = super()._synapses(), _PRESENT.get().get(id(self))
        return synapses if present is None else replace(synapses, present=present)

    @property
    def linear_map(self) -> ops.LinearMap:
        """Return the map `einsum(equation, x, kernel)`."""
        return self._map

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return the sizes of the kernel's axes, which are axes of inputs or outputs."""
        x, k, y = self._letters
        outputs = self.compute_output_shape(input_shape)
        first = self._first(input_shape)
        sizes = dict(zip(x, input_shape[first:], strict=False))
        for axis, size in zip(y, outputs[first:], strict=False):
            known = sizes.get(axis)
            if None not in (known, size) and known != size:
                raise ValueError(
                    f"`output_shape` must agree with the inputs on the axis {axis!r} of "
                    f"{self.equation!r}. Received: output_shape={self.partial_output_shape}, "
                    f"input_shape={tuple(input_shape)}"
                )
            sizes[axis] = known if size is None else size
        needed = k if self.bias_axes is None else k + self.bias_axes
        unknown = sorted({axis for axis in needed if sizes[axis] is None})
        if unknown:
            raise ValueError(
                f"The sizes of the axes {unknown} of {self.equation!r} must be defined. "
                f"Received: output_shape={self.partial_output_shape}, "
                f"input_shape={tuple(input_shape)}"
            )
        self._sizes = sizes
        self._elided_behind = len(input_shape) - len(x) if first == 0 else 0
        axes = {first + i: sizes[axis] for i, axis in enumerate(x) if axis in k}
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes=axes)
        return tuple(int(sizes[axis] or 0) for axis in k)

    def _first(self, input_shape: Shape) -> int:
        """Return the number of axes of an ellipsis in front."""
        return len(input_shape) - len(self._letters[0]) if self.equation[0] == "." else 0

    def bias_shape(self) -> tuple[int, ...]:
        """Return the bias's sizes from its first axis on; other axes have size 1."""
        bias, outputs = self.bias_axes or "", self._letters[2]
        start = min(map(outputs.index, bias))
        shape = [int(self._sizes[axis] or 0) if axis in bias else 1 for axis in outputs[start:]]
        return (*shape, *[1] * self._elided_behind)

    def bias_weight_shape(self) -> tuple[int, ...]:
        """Return the shape in which the bias is added."""
        return self.bias_shape()

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the batch, the axes of an ellipsis, and `output_shape`."""
        x, _, y = self._letters
        elided = len(input_shape) - len(x)
        fits = elided >= 0 if "." in self.equation else elided == 0
        allowed = f"of a rank that fits the equation {self.equation!r}"
        check.require(fits, "input_shape", allowed, tuple(input_shape))
        front = tuple(input_shape[: max(self._first(input_shape), 1)])
        behind = tuple(input_shape[len(x) :]) if self.equation[0] != "." else ()
        outputs = (*front, *self.partial_output_shape, *behind)
        check.require(
            len(outputs) == len(y) + elided,
            "output_shape",
            f"the sizes of {y!r} without the batch, for inputs of shape {tuple(input_shape)}",
            self.partial_output_shape,
        )
        return outputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["use_bias"]
        kernel_initializer, feedback_initializer = map(keras.initializers.serialize, self._given)
        return {
            **config,
            "equation": self.equation,
            "output_shape": self.partial_output_shape,
            "bias_axes": self.bias_axes,
            "kernel_initializer": kernel_initializer,
            "feedback_initializer": feedback_initializer,
        }


def _output_shape(value: Any) -> tuple[int | None, ...]:
    sizes = value if isinstance(value, list | tuple) else [value]
    valid = all(
        size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
        for size in sizes
    )
    allowed = "a positive integer, or several of them and None"
    check.require(valid and value is not None, "output_shape", allowed, value)
    return tuple(sizes)


def _along(initializer: Any, inputs: list[int], outputs: list[int]) -> Any:
    """Return an initializer that knows the kernel's input and output axes."""
    known = getattr(initializer, "input_axes", inputs), getattr(initializer, "output_axes", outputs)
    if None not in known:
        return initializer
    # Copying by the config would draw a seed.
    initializer = copy.copy(initializer)
    initializer.input_axes, initializer.output_axes = inputs, outputs
    return initializer
