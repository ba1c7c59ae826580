"""An optimizer is asked by its class whether its step depends on the gradient's scale."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local.dynamics import ContrastiveHebbianNetwork
from keras_local.dynamics.gradient_scale import ignores_gradient_scale
from keras_local.optimizers import BatchManhattan


class MyAdam(keras.optimizers.Adam):
    """A user's own, of another name."""


class Adam(keras.optimizers.SGD):
    """A user's own, of a name that misleads."""


class Signs(keras.optimizers.Optimizer):
    """A user's own that says what it is."""

    ignores_gradient_scale = True


class Scaled(keras.optimizers.RMSprop):
    """A user's own that says that it is not as its class."""

    ignores_gradient_scale = False


SCALE_FREE: list[Any] = [
    *map(keras.optimizers.get, ("adam", "adamw", "adamax", "nadam", "adagrad", "adadelta")),
    *map(keras.optimizers.get, ("rmsprop", "lion", "adafactor", "ftrl")),
    keras.optimizers.Lamb(),
    MyAdam(),
    Signs(learning_rate=0.1),
    BatchManhattan(0.1),
    keras.optimizers.LossScaleOptimizer(keras.optimizers.Lion(1e-3)),
    keras.optimizers.LossScaleOptimizer(MyAdam()),
]
SCALED: list[Any] = [
    keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    Adam(0.1),
    Scaled(0.1),
    keras.optimizers.LossScaleOptimizer(Adam(0.1)),
]


@pytest.mark.few(6)
@pytest.mark.parametrize("optimizer", SCALE_FREE, ids=lambda each: type(each).__name__)
def test_scale_free_optimizers_are_refused(optimizer: Any) -> None:
    assert ignores_gradient_scale(optimizer)
    network = ContrastiveHebbianNetwork([4, 5, 3])
    with pytest.raises(ValueError, match=r"`optimizer` must be one that keeps.*optimizers\.SGD"):
        network.compile(optimizer)
    assert not network.compiled


@pytest.mark.parametrize("optimizer", SCALED, ids=lambda each: type(each).__name__)
def test_optimizers_whose_step_follows_the_gradient_are_taken(optimizer: Any) -> None:
    assert not ignores_gradient_scale(optimizer)
    ContrastiveHebbianNetwork([4, 5, 3]).compile(optimizer)


@pytest.mark.few(8)
@pytest.mark.parametrize("optimizer", [*SCALE_FREE, *SCALED], ids=lambda each: type(each).__name__)
def test_what_the_optimizers_do(optimizer: Any) -> None:
    """A gradient a thousand times as large makes the same step, or one as much larger."""
    if type(optimizer) in (Signs, Scaled) or "LossScale" in type(optimizer).__name__:
        pytest.skip("does not do what it says, or is a wrapper")
    steps = []
    for scale in (1.0, 1000.0):
        copy = type(optimizer).from_config(optimizer.get_config())
        weight = keras.Variable(np.ones((2, 2), "float32"))
        for _ in range(3):
            copy.apply([keras.ops.full((2, 2), scale)], [weight])
        steps.append(abs(1.0 - float(weight[0, 0])))
    quotient = steps[1] / steps[0]
    assert quotient < 30 if ignores_gradient_scale(optimizer) else quotient > 900
