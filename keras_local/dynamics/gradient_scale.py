"""Whether the step of an optimizer depends on the scale of the gradient."""

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
# Which of them there are depends on the version of Keras.
_SCALE_FREE: tuple[Any, ...] = tuple(
    getattr(optimizers, name) for name in _NAMES if hasattr(optimizers, name)
)


def ignores_gradient_scale(optimizer: Any) -> bool:
    """Return whether a gradient twice as large makes (about) the same step.

    True for Keras' adaptive optimizers and all classes that derive from them, also inside a
    `LossScaleOptimizer`; False for `SGD` and what derives from it. A class of optimizers for which
    this is not right says so by an attribute `ignores_gradient_scale`, True or False.

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
