"""A function that says whether the step of an optimizer depends on the gradient's scale."""

from __future__ import annotations

from typing import Any

from keras import optimizers

_NAMES = (
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Muon",
    "Nadam",
    "RMSprop",
    "ScheduleFreeAdamW",
)
# Some of them exist only in some versions of Keras.
_SCALE_FREE: tuple[Any, ...] = tuple(
    getattr(optimizers, name) for name in _NAMES if hasattr(optimizers, name)
)


def ignores_gradient_scale(optimizer: Any) -> bool:
    """Return whether an optimizer makes (about) the same step for a gradient twice as large.

    It is True for Keras' adaptive optimizers and all classes that derive from them, also inside a
    `LossScaleOptimizer`; it is False for `SGD` and classes that derive from it. If this is wrong
    for a class, set its attribute `ignores_gradient_scale` to True or False.

    Args:
        optimizer: A Keras optimizer.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return ignores_gradient_scale(inner)
    declared = getattr(type(optimizer), "ignores_gradient_scale", None)
    if declared is not None:
        return bool(declared)
    return isinstance(optimizer, _SCALE_FREE)
