"""Settling: the same step, repeated until the states are at rest.

The number of steps is fixed, so that one compiled graph can be used for every batch. How far the
states are from rest at the end can be measured, but nothing in the graph depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_local.ops.backend import Tensor

States = Any
"""One tensor or a structure of tensors, the batch axis first."""


def settle(step: Callable[[States], States], states: States, steps: int) -> States:
    """Return the states after `steps` steps, `states <- step(states)`.

    No gradient passes: a network that settles learns by comparing states.

    Args:
        step: Function from states to states of the same shapes and dtypes.
        states: The first states.
        steps: Number of steps.

    Returns:
        States of the same structure.

    >>> from keras import ops
    >>> from keras_local.ops import settle
    >>> float(settle(lambda x: 0.5 * x, ops.ones(()), 3))
    0.125
    """
    states = keras.tree.map_structure(ops.stop_gradient, states)
    settled = ops.fori_loop(0, steps, lambda _, states: step(states), states)
    return keras.tree.map_structure(ops.stop_gradient, settled)


def trajectory(step: Callable[[States], States], states: States, steps: int) -> States:
    """Return the states before and after each of `steps` steps.

    Args:
        step: As for `settle`.
        states: As for `settle`.
        steps: As for `settle`.

    Returns:
        States of the same structure with a time axis of length `steps + 1` in front.

    >>> from keras import ops
    >>> from keras_local.ops import trajectory
    >>> ops.convert_to_numpy(trajectory(lambda x: 0.5 * x, ops.ones(()), 2)).tolist()
    [1.0, 0.5, 0.25]
    """
    start = keras.tree.map_structure(ops.stop_gradient, states)

    def record(states: States, _: Any) -> tuple[States, States]:
        states = step(states)
        return states, states

    _, recorded = ops.scan(record, start, length=steps)
    return keras.tree.map_structure(
        lambda first, rest: ops.concatenate([first[None], rest], axis=0), start, recorded
    )


def residual(before: States, after: States) -> Tensor:
    """Return how far each sample moved in a step: the largest change of any of its units.

    Args:
        before: States of a batch.
        after: States of the same batch, a step later.

    Returns:
        Tensor `(batch,)`; compare it with a tolerance to find the share of the batch at rest.

    >>> from keras import ops
    >>> from keras_local.ops import residual
    >>> moved = residual((ops.zeros((2, 3)),), (ops.array([[0.0, -2.0, 1.0], [0.0, 0.0, 0.0]]),))
    >>> ops.convert_to_numpy(moved).tolist()
    [2.0, 0.0]
    """
    moved = [
        ops.max(ops.reshape(ops.abs(b - a), (ops.shape(a)[0], -1)), axis=-1)
        for a, b in zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True)
    ]
    return ops.max(ops.stack(moved), axis=0)
