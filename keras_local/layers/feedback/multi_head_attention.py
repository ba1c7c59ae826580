"""Attention whose errors return by a feedback rule."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Unpack

import keras
from keras import initializers

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local._serialization import copied, serializable
from keras_local._types import (
    ConstraintLike,
    DType,
    InitializerLike,
    RegularizerLike,
    Sizes,
)
from keras_local.feedback import FeedbackLike, FeedbackRule
from keras_local.layers.feedback.arguments import (
    connectivity_of,
    feedback_initializer_of,
    rule_for,
)
from keras_local.layers.feedback.einsum_dense import FeedbackEinsumDense
from keras_local.layers.feedback.unsupported import (
    StockArguments,
    dtype_policy,
    enable_lora,
    layer_arguments,
    quantize,
)
from keras_local.layers.plain_form import (
    ErrorKernel,
    PlainForm,
    forward_values,
    plain_twin,
    twin_config,
)
from keras_local.ops.backend import Tensor

_PROJECTIONS = ("_query_dense", "_key_dense", "_gate_dense", "_value_dense", "_output_dense")


@serializable
class FeedbackMultiHeadAttention(keras.layers.MultiHeadAttention):
    """Multi-head attention whose errors return through feedback weights.

    The projections to queries, keys and values, the gate if there is one, and the projection of the
    result are `FeedbackEinsumDense` layers, each with the rule and its own feedback weights.
    Between them there are no weights: errors go by the derivative of `softmax(q k^T) v`, which
    needs only activities of other positions.

    With `feedback="symmetric"` it is `keras.layers.MultiHeadAttention`, bit for bit.

    Args:
        num_heads: Number of heads.
        key_dim: Size of each head for queries and keys.
        feedback: A `keras_local.feedback` rule or its alias, for all projections.
        feedback_initializer: Initializer of the feedback kernels.
        connectivity: Probability with which each forward and each feedback synapse of the
            projections exists; None for all.
        value_dim: Size of each head for values; None means `key_dim`.
        dropout: Probability with which an attention weight is dropped in training.
        use_bias: Whether the projections have biases.
        output_shape: Size of the outputs, or several sizes; None means the size of the queries.
        attention_axes: Axes over which attention goes; None means all except batch, heads and
            features.
        sliding_window: Largest distance from a query to the keys that it attends to; None means
            any.
        flash_attention: Whether the fused operation is used; None means that Keras chooses.
        kernel_initializer: Initializer of the projections' kernels.
        bias_initializer: Initializer of their biases.
        kernel_regularizer: Regularizer of their kernels.
        bias_regularizer: Regularizer of their biases.
        activity_regularizer: Regularizer of their outputs.
        kernel_constraint: Constraint of their kernels.
        bias_constraint: Constraint of their biases.
        use_gate: Whether a projection of the queries gates the result.
        seed: Seed of the dropout.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Shapes: as in `keras.layers.MultiHeadAttention`.

    Raises:
        ValueError: For a wrong argument.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackMultiHeadAttention(2, 3, feedback="feedback_alignment")
    >>> x = np.ones((1, 4, 6), "float32")
    >>> tuple(layer(x, x).shape)
    (1, 4, 6)
    >>> tuple(layer.query_dense.feedback_kernel.shape)
    (6, 2, 3)
    """

    plain = keras.layers.MultiHeadAttention

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        connectivity: float | None = None,
        *,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Sizes | None = None,
        attention_axes: Sizes | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: InitializerLike | None = "glorot_uniform",
        bias_initializer: InitializerLike | None = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        use_gate: bool = False,
        seed: int | None = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        if value_dim is not None:
            value_dim = check.positive_integer("value_dim", value_dim)
        if flash_attention is not None:
            flash_attention = check.flag("flash_attention", flash_attention)
        super().__init__(
            check.positive_integer("num_heads", num_heads),
            check.positive_integer("key_dim", key_dim),
            value_dim=value_dim,
            dropout=check.real("dropout", dropout, minimum=0.0, maximum=1.0),
            use_bias=check.flag("use_bias", use_bias),
            output_shape=_integers("output_shape", output_shape, minimum=1),
            attention_axes=_integers("attention_axes", attention_axes, minimum=-check.LARGEST),
            flash_attention=flash_attention,
            # Keras copies both objects and has no form of None.
            kernel_initializer=objects.initializer(
                "kernel_initializer",
                "glorot_uniform" if kernel_initializer is None else kernel_initializer,
            ),
            bias_initializer=objects.initializer(
                "bias_initializer", "zeros" if bias_initializer is None else bias_initializer
            ),
            kernel_regularizer=objects.regularizer("kernel_regularizer", kernel_regularizer),
            bias_regularizer=objects.regularizer("bias_regularizer", bias_regularizer),
            kernel_constraint=objects.constraint("kernel_constraint", kernel_constraint),
            bias_constraint=objects.constraint("bias_constraint", bias_constraint),
            seed=check.seed("seed", seed),
            name=name,
            **_recent(sliding_window, use_gate),
            **layer_arguments(dtype, trainable, activity_regularizer, kwargs),
        )
        self._feedback = feedback_rules.get(feedback)
        self.feedback_initializer = feedback_initializer_of(feedback_initializer)
        self.connectivity = connectivity_of(connectivity)

    @property
    def feedback(self) -> FeedbackRule:
        """The feedback rule of the projections, which can be set until the layer is built."""
        return self._feedback

    @feedback.setter
    def feedback(self, rule: FeedbackLike) -> None:
        self._feedback = rule_for(self, rule)

    def passes_errors_to(self, inputs: list[Any]) -> list[Any]:
        """Return the inputs to which errors are sent down; none if the rule sends none."""
        return inputs if self.feedback.sends_errors else []

    dtype_policy = dtype_policy
    quantize = quantize
    enable_lora = enable_lora

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Create the projections as feedback layers."""
        super().build(query_shape, value_shape, key_shape)
        key_shape = value_shape if key_shape is None else key_shape
        shapes = {"_key_dense": key_shape, "_value_dense": value_shape}
        attended = (*query_shape[:-1], self.num_heads, self.value_dim)
        for name in _PROJECTIONS:
            old = getattr(self, name, None)
            if old is None:
                continue
            new = self._with_rule(old)
            new.build(attended if name == "_output_dense" else shapes.get(name, query_shape))
            # Setting only the attribute would keep the old layer as well. Keras knows layers by
            # `id`, which a new layer may get from a deleted one.
            self._tracker.replace_tracked_value("layers", old, new)
            setattr(self, name, new)

    def _with_rule(self, projection: keras.layers.EinsumDense) -> FeedbackEinsumDense:
        config = projection.get_config()
        for name in ("quantization_config", "kernel_initializer", "bias_initializer"):
            config.pop(name, None)
        return FeedbackEinsumDense(
            **config,
            # These are the initializer objects, with the seeds that they have drawn.
            kernel_initializer=projection.kernel_initializer,
            bias_initializer=projection.bias_initializer,
            feedback=copied(self.feedback),
            feedback_initializer=self.feedback_initializer,
            connectivity=self.connectivity,
        )

    def call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Attend as the built-in layer does.

        Rules that learn from activity learn nothing from masked queries, keys and values.
        """
        counted = {
            "_key_dense": value_mask if key is None else key_mask,
            "_value_dense": value_mask,
        }
        with ExitStack() as stack:
            for name in _PROJECTIONS:
                if (part := getattr(self, name, None)) is not None:
                    stack.enter_context(part.counting(counted.get(name, query_mask)))
            return super().call(
                query,
                value,
                key,
                query_mask,
                value_mask,
                key_mask,
                attention_mask,
                return_attention_scores,
                training,
                use_causal_mask,
            )

    def error_kernels(self) -> list[ErrorKernel]:
        """Return the error kernels of the projections, by their names."""
        return [part.error_kernels()[0]._replace(name=part.name) for part in self._projections()]

    def plain_form(self) -> PlainForm:
        """Return `keras.layers.MultiHeadAttention` with the weights of the projections."""
        plain = plain_twin(type(self))
        config = twin_config(self.get_config(), plain)
        return PlainForm(plain, config, forward_values(self))

    def _projections(self) -> list[FeedbackEinsumDense]:
        """Return the projections in the order in which the layer lists its weights."""
        wanted = {id(getattr(self, name, None)) for name in _PROJECTIONS}
        return [part for part in self._layers if id(part) in wanted]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = {
            **super().get_config(),
            "feedback": feedback_rules.serialize(self.feedback),
            "feedback_initializer": initializers.serialize(self.feedback_initializer),
        }
        # The built-in layer leaves out this entry, too.
        if self.connectivity is not None:
            config["connectivity"] = self.connectivity
        return config


def _recent(sliding_window: Any, use_gate: Any) -> dict[str, Any]:
    """Return the arguments that older versions of Keras do not have."""
    recent: dict[str, Any] = {}
    if sliding_window is not None:
        recent["sliding_window"] = check.positive_integer("sliding_window", sliding_window)
    if check.flag("use_gate", use_gate):
        recent["use_gate"] = True
    return recent


def _integers(argument: str, value: Any, minimum: int) -> Any:
    """Return None, an integer or a tuple of integers, as the built-in layer takes them."""
    if value is None or not isinstance(value, list | tuple):
        return None if value is None else check.positive_integer(argument, value, minimum)
    return tuple(check.positive_integer(argument, each, minimum) for each in value)
