"""Gradients of blocks with losses of their own, against derivatives by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.ops import after
from keras_local.ops.blocks import Part, Updates, in_blocks
from tests.support import BACKEND, array

X = np.array([1.0, 2.0, -3.0], "float32")


def variable(value: float) -> keras.Variable:
    return keras.Variable(np.float32(value))


def test_each_block_gets_the_gradient_of_its_own_loss() -> None:
    """y = a x with the loss y^2, z = b y with the loss z: da = 2 a x^2, db = y, and no more."""
    low, middle, high = variable(2.0), variable(5.0), variable(0.5)
    inputs = ops.convert_to_tensor(X)

    def first(x):
        y = x * ops.convert_to_tensor(low)
        return y, ops.sum(ops.square(y)), ops.max(x)

    def silent(y):
        return y * ops.convert_to_tensor(middle), None, ops.max(y)

    def last(y):
        z = y * ops.convert_to_tensor(high)
        return z, ops.sum(z), None

    parts = [Part(first, [low]), Part(silent, [middle]), Part(last, [high])]
    outputs, gradients, others = in_blocks(parts, inputs)
    np.testing.assert_allclose(array(outputs), 2.0 * 5.0 * 0.5 * X)
    assert [None if each is None else float(array(each)) for each in others] == [2.0, 4.0, None]
    assert [len(each) for each in gradients] == [1, 1, 1]
    assert array(gradients[0][0]) == pytest.approx(2 * 2.0 * np.sum(X**2))
    assert gradients[1] == [None]
    assert array(gradients[2][0]) == pytest.approx(2.0 * 5.0 * np.sum(X))


@pytest.mark.parametrize("trained", [False, True])
def test_the_next_block_sees_the_mask(trained: bool) -> None:
    inputs = ops.convert_to_tensor(X)
    low = variable(2.0)

    def masked(x):
        y = x * ops.convert_to_tensor(low)
        y._keras_mask = ops.convert_to_tensor(X > 0)
        return y, ops.sum(y) if trained else None, None

    def last(y):
        np.testing.assert_array_equal(array(y._keras_mask), X > 0)
        return y, None, None

    outputs, _, _ = in_blocks([Part(masked, [low] if trained else []), Part(last, [])], inputs)
    np.testing.assert_array_equal(array(outputs), 2.0 * X)


def test_what_waits_keeps_its_bits() -> None:
    """Also zeros with a sign, and what is no number."""
    tensor = np.array([0.0, -0.0, np.nan, np.inf, -3.0], "float32")
    others = [ops.convert_to_tensor(np.array(value, "float32")) for value in (np.nan, 0.0, 2.0)]
    waited = array(after(ops.convert_to_tensor(tensor), others))
    assert waited.tobytes() == tensor.tobytes()


def schedule() -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.5, 0.25, 0.125])


OPTIMIZERS = {
    "schedule": lambda: keras.optimizers.SGD(schedule(), momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.1, clipnorm=0.5),
    "AdamW": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.1, centered=True),
    "global norm": lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.5),
    "Nadam": lambda: keras.optimizers.Nadam(0.1),
    "averages": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=3),
    "accumulation": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
}
IN_PARTS = ("schedule", "Adam", "AdamW", "RMSprop")


VALUES = (np.array([1.0, -2.0], "float32"), np.array([0.5], "float32"), np.ones(3, "float32"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_block_after_block_are_those_of_one_step(name: str) -> None:
    steps = 5

    def trained(groups: list[list[int]]) -> list[np.ndarray]:
        optimizer = OPTIMIZERS[name]()
        weights = [keras.Variable(value) for value in VALUES]
        optimizer.build(weights)
        for step in range(steps):
            gradients = [ops.convert_to_tensor((-0.7) ** step * value) for value in VALUES]
            updates, before = Updates(optimizer, weights), array(weights[2])
            for group in groups:
                updates.add([weights[n] for n in group], [gradients[n] for n in group])
                now = name in IN_PARTS and BACKEND == "tensorflow"
                assert np.array_equal(array(weights[2]), before) is not now
            updates.finish()
        for weight, value in zip(weights, VALUES, strict=True):
            assert np.abs(array(weight) - value).min() > 1e-3
        counted = optimizer.gradient_accumulation_steps or 1
        assert int(array(optimizer.iterations)) == steps // counted
        return [array(each) for each in (*weights, *optimizer.variables)]

    for one, other in zip(trained([[0, 1, 2]]), trained([[2], [0, 1]]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
def test_blocks_without_gradients_wait_for_the_others() -> None:
    weights = [keras.Variable(value) for value in VALUES]
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(weights)
    updates = Updates(optimizer, weights)
    updates.add(weights[:1], [None])
    updates.add(weights[1:], [ops.convert_to_tensor(value) for value in VALUES[1:]])
    updates.add([], [])
    updates.finish()
    assert [float(np.abs(array(each)).sum()) for each in weights] == [3.0, 0.0, 0.0]
