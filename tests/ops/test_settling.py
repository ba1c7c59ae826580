"""Settling against loops in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from keras_local.ops import residual, settle, trajectory
from tests.support import array


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_settle_and_trajectory_repeat_the_step(steps: int) -> None:
    start = np.array([[1.0, -2.0]], "float32")

    def step(states):
        return (0.5 * states[0] + 1.0, states[1] - states[0])

    wanted = [(start, 3.0 * start)]
    for _ in range(steps):
        wanted.append(step(wanted[-1]))
    states = tuple(map(ops.convert_to_tensor, wanted[0]))
    settled, times = settle(step, states, steps), trajectory(step, states, steps)
    for layer in range(2):
        np.testing.assert_allclose(array(settled[layer]), wanted[-1][layer], rtol=1e-6)
        every = np.stack([each[layer] for each in wanted])
        np.testing.assert_allclose(array(times[layer]), every, rtol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_residual_is_the_largest_move_in_either_direction(sign: float) -> None:
    """A unit that falls moves as much as one that rises."""
    before = (np.zeros((3, 2, 2)), np.ones((3, 4)))
    after = tuple(layer.copy() for layer in before)
    after[0][0, 1, 0] += sign * 2.0
    after[1][0, 3] -= sign * 0.5
    after[1][1, 2] += sign * 0.25
    tensors = [tuple(map(ops.convert_to_tensor, states)) for states in (before, after)]
    np.testing.assert_allclose(array(residual(*tensors)), [2.0, 0.25, 0.0], rtol=1e-6)
