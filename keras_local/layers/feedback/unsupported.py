"""Quantisation and LoRA, which built-in layers offer and a layer with a feedback rule refuses.

Both replace the kernel by something else: integers, or the sum of a frozen kernel and a product of
two small ones. But a rule needs the kernel to define the error path. A model for serving needs no
rule, so that the plain model offers both.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, NoReturn

import keras

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local._types import LayerArguments

ADVICE = (
    '(convert to plain layers, then quantise: `kl.models.to_plain(model).quantize("int8")`; '
    "LoRA likewise)"
)


class StockArguments(LayerArguments, total=False):
    """Arguments of some built-in layers, which must be None in a feedback layer."""

    lora_rank: None
    lora_alpha: None
    quantization_config: None
    gptq_unpacked_column_size: None


def layer_arguments(
    dtype: Any, trainable: Any, activity_regularizer: Any, others: Mapping[str, Any]
) -> dict[str, Any]:
    """Return checked arguments for the constructor of `keras.layers.Layer`.

    Args:
        dtype: The user's argument.
        trainable: Whether the layer's weights learn.
        activity_regularizer: Regularizer of the outputs.
        others: The user's other keyword arguments.

    Raises:
        ValueError: For an argument that a feedback layer does not take; the message names it.
    """
    others = dict(others)
    for argument in StockArguments.__annotations__.keys() - LayerArguments.__annotations__.keys():
        value = others.pop(argument, None)
        check.require(value is None, argument, f"None for a feedback layer {ADVICE}", value)
    policy = objects.dtype_policy("dtype", dtype)
    refuse_quantised("dtype", policy)
    return {
        **others,
        "dtype": policy,
        "trainable": check.flag("trainable", trainable),
        "activity_regularizer": objects.regularizer("activity_regularizer", activity_regularizer),
    }


def refuse_quantised(argument: str, policy: Any) -> None:
    """Raise a `ValueError` for a policy of integers or of eight bits.

    Args:
        argument: Name of the argument that contains the policy.
        policy: A `keras.DTypePolicy`, or a layer, which finds its own policy in a map of policies.
    """
    quantised = getattr(policy, "quantization_mode", None) is not None
    allowed = f"a precision without quantisation for a feedback layer {ADVICE}"
    check.require(not quantised, argument, allowed, getattr(policy, "name", policy))


def refuse_in_a_loop(layer: keras.layers.Layer, rule: Any) -> None:
    """Raise a `ValueError` where a rule would learn or draw inside of a loop over time.

    What a layer hands on or writes inside of a loop of the backend does not come out of it.

    Args:
        layer: A layer that is being called in training.
        rule: Its feedback rule.
    """
    if not (rule.has_local_terms or rule.draws) or not _in_a_loop():
        return
    learns = "learns from activity" if rule.has_local_terms else "draws random numbers"
    raise ValueError(
        f"`feedback` must be a rule that learns from errors alone for {layer.name!r}, which is "
        f"called in the loop of a recurrent layer: {type(rule).__name__} {learns}, which a loop "
        "cannot hand on. Use `kl.layers.FeedbackSimpleRNN`, `FeedbackLSTM` or `FeedbackGRU`, or "
        "`unroll=True`"
    )


def _in_a_loop() -> bool:
    """Tell whether a recurrent layer of Keras with a loop is being called, around this call."""
    # A cell does not know its layer, and Keras' call context knows the outermost one alone.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is keras.layers.RNN.inner_loop.__code__:
            return not frame.f_locals["self"].unroll
        frame = frame.f_back
    return False


def _policy(self: keras.layers.Layer) -> Any:
    """The dtype policy of the layer."""
    return keras.layers.Layer.dtype_policy.fget(self)


def _set_policy(self: keras.layers.Layer, value: Any) -> None:
    policy = objects.dtype_policy("dtype_policy", value)
    refuse_quantised("dtype_policy", policy)
    keras.layers.Layer.dtype_policy.fset(self, policy)


# Every layer with a feedback rule assigns these as members of its class.

dtype_policy = property(_policy, _set_policy)


def quantize(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> NoReturn:
    """Raise an error: feedback layers are quantised as plain layers.

    Raises:
        NotImplementedError: Always. `keras.Model.quantize` turns it into a warning, as for every
            layer that cannot be quantised.
    """
    raise NotImplementedError(
        f"`quantize` of {self.name!r}: a feedback layer has no quantised form {ADVICE}"
    )


def enable_lora(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> NoReturn:
    """Raise an error: LoRA is for plain layers.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"`enable_lora` of {self.name!r}: a feedback layer has no LoRA {ADVICE}")
