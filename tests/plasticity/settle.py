"""Many steps of a rule in one compiled loop: what it becomes, without a model around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_local.plasticity import PlasticityRule
from tests.support import array, compiled


def settle(
    rule: PlasticityRule,
    batches: np.ndarray,
    kernel: np.ndarray,
    step_size: float,
    epochs: int = 1,
    own: Sequence[np.ndarray] | None = None,
    decay: bool = True,
    modulator: float = 1.0,
) -> list[np.ndarray]:
    """Train on `(steps, batch, inputs)`, again and again; return the kernel and own weights.

    The step size falls linearly to zero over all steps, or stays.
    """
    ops = keras.ops
    declared = rule.own_weights(kernel.shape)
    if own is None:
        own = [
            array(keras.initializers.get(weight.initializer)(weight.shape, "float32"))
            for weight in declared
        ]
    total = epochs * len(batches)

    def step(i: Any, state: Any) -> Any:
        weights, *memory = state
        pre = ops.take(data, ops.mod(i, len(batches)), axis=0)
        post = rule.currents(pre, weights, *memory)
        factor = ops.full((1, 1), modulator)
        update = rule.update(pre, weights, *memory, post=post, modulator=factor)
        rate = step_size * (1.0 - ops.cast(i, "float32") / total if decay else 1.0)
        changes = rule.own_updates(pre, post, weights, *memory)
        moved = [
            old + rate * new if weight.trainable else new
            for old, new, weight in zip(memory, changes, declared, strict=True)
        ]
        weights = rule.constrain(weights + rate * update, *moved)
        return (weights, *moved)

    def run(*state: Any) -> Any:
        return ops.fori_loop(0, total, step, state)

    data = ops.convert_to_tensor(batches.astype("float32"))
    start = [ops.convert_to_tensor(np.asarray(each, "float32")) for each in (kernel, *own)]
    return [array(each) for each in compiled(run)(*start)]
