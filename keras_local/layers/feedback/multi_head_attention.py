"""Attention whose errors return by a feedback rule."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers

from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local._serialization import serializable
from keras_local.layers.feedback.einsum_dense import FeedbackEinsumDense
from keras_local.layers.feedback.layer import feedback_initializer_of
from keras_local.layers.plain_form import ErrorKernel, PlainForm, plain_twin, twin_config

_PROJECTIONS = ("_query_dense", "_key_dense", "_gate_dense", "_value_dense", "_output_dense")


@serializable
class FeedbackMultiHeadAttention(keras.layers.MultiHeadAttention):
    """Multi-head attention whose errors return through feedback weights.

    The projections to queries, keys and values, the gate if there is one, and the projection of the
    result are `FeedbackEinsumDense`, each with the rule and feedback weights of its own. In between
    there are no weights: errors go by the derivative of `softmax(q k^T) v`, which needs activities
    of other positions only.

    With `feedback="symmetric"` it is `keras.layers.MultiHeadAttention`, bit for bit.

    Args:
        num_heads: Number of heads.
        key_dim: Size of each head for queries and keys.
        feedback: A `keras_local.feedback` rule or its alias, for all projections.
        feedback_initializer: Law of the initial feedback kernels.
        connectivity: Probability with which each forward and each feedback synapse of the
            projections exists; None for all.
        **attention_args: As in `keras.layers.MultiHeadAttention`.

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
        feedback: Any = "kolen_pollack",
        feedback_initializer: Any = "glorot_uniform",
        connectivity: float | None = None,
        **attention_args: Any,
    ) -> None:
        super().__init__(num_heads, key_dim, **attention_args)
        self.feedback = feedback_rules.get(feedback)
        self.feedback_initializer = feedback_initializer_of(feedback_initializer)
        self.connectivity = connectivity
        if connectivity is not None:
            self.connectivity = check.real(
                "connectivity", connectivity, minimum=0.0, maximum=1.0, exclusive=True
            )

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Create the projections, and put feedback layers in their places."""
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
            # Setting the attribute alone would keep the old layer as well. Keras knows layers by
            # their `id`, which a new one may take over from one that is gone.
            self._tracker.replace_tracked_value("layers", old, new)
            setattr(self, name, new)

    def _with_rule(self, projection: keras.layers.EinsumDense) -> FeedbackEinsumDense:
        config = projection.get_config()
        for name in ("quantization_config", "kernel_initializer", "bias_initializer"):
            config.pop(name, None)
        return FeedbackEinsumDense(
            **config,
            # The objects, with the seeds that they have drawn.
            kernel_initializer=projection.kernel_initializer,
            bias_initializer=projection.bias_initializer,
            feedback=type(self.feedback).from_config(self.feedback.get_config()),
            feedback_initializer=self.feedback_initializer,
            connectivity=self.connectivity,
        )

    def error_kernels(self) -> list[ErrorKernel]:
        """Return those of the projections, by their names."""
        return [part.error_kernels()[0]._replace(name=part.name) for part in self._projections()]

    def plain_form(self) -> PlainForm:
        """Return `keras.layers.MultiHeadAttention` with the weights of the projections."""
        plain = plain_twin(type(self))
        weights = [value for part in self._projections() for value in part.plain_form().weights]
        return PlainForm(plain, twin_config(self.get_config(), plain), weights)

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
        # As in the built-in layer's config where there is nothing to say.
        if self.connectivity is not None:
            config["connectivity"] = self.connectivity
        return config
