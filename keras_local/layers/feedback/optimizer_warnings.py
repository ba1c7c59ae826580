"""Warnings about regularizers and optimizers that are not suitable for trained feedback kernels."""

from __future__ import annotations

import warnings
from typing import Any

import keras
from keras.src.backend.common.global_state import get_global_attribute


def warn_of_regularizer(layer: Any) -> None:
    """Warn if a regularizer acts on the kernel but not on its feedback kernel."""
    if layer.kernel_regularizer is not None and layer.feedback.follows_kernel:
        warnings.warn(
            f"Layer {layer.name!r}: `kernel_regularizer` acts on the kernel alone, so that the "
            "feedback kernel no longer follows the kernel. Use the optimizer's decoupled "
            "`weight_decay`, which acts on both.",
            stacklevel=5,
        )


def learns_feedback(layer: Any) -> bool:
    """Return whether the optimizer changes a feedback weight other than a scalar."""
    return any(weight.trainable and len(weight.shape) for weight in layer._feedback_weights)


def warn_of_optimizer(layer: Any, optimizer: Any) -> None:
    """Warn of an optimizer that treats kernel and feedback kernel unequally."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    learns = learns_feedback(layer)
    if learns and getattr(optimizer, "global_clipnorm", None) is not None:
        warnings.warn(
            f"Layer {layer.name!r}: `global_clipnorm` counts the gradients of the feedback kernel "
            "and of the kernel, so that it clips earlier than without feedback weights. Use "
            "`clipnorm`, which clips each weight by itself.",
            stacklevel=2,
        )
    coupled = layer.kernel_regularizer is not None and not isinstance(
        optimizer, keras.optimizers.SGD
    )
    if coupled and layer.feedback.follows_kernel:
        warnings.warn(
            f"Layer {layer.name!r}: {type(optimizer).__name__} rescales the gradient of the "
            "`kernel_regularizer`, so that kernel and feedback kernel decay unequally. "
            "Use the optimizer's decoupled `weight_decay` (AdamW).",
            stacklevel=2,
        )


def training_optimizer() -> Any:
    """Return the optimizer of the model in whose training step a layer is called, if any.

    It is None on JAX, where Keras calls the layers without telling them the model.
    """
    # Not public: tests/layers/feedback/test_optimizer_warnings.py fails if Keras changes this. A
    # layer's own method would begin a call where there is none, and nothing would end it.
    context = get_global_attribute("current_call_ctx")
    return getattr(getattr(context, "entry_layer", None), "optimizer", None)
