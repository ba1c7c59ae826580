"""Both phases of a network, for tests that look at the changes themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tests.support import array, compiled

_FEW = 60
"""Up to so many steps, to compile takes longer than to run."""


def free_and_changes(
    network: Any, inputs: np.ndarray, targets: np.ndarray, steps: int
) -> tuple[list[np.ndarray], list[tuple[Any, np.ndarray]]]:
    """The free states of a network in float64, and its weights with their changes.

    Args:
        network: A `dynamics.Network`.
        inputs: Samples.
        targets: One-hot labels.
        steps: How many steps both phases take, about.
    """
    share = ops.full((len(inputs),), 1 / len(inputs), dtype="float64")
    weights: list[Any] = []

    def run(x: Any, y: Any) -> tuple[Any, Any]:
        free = network.free_phase(x)
        weights[:], changes = zip(*network.changes(x, y, free, share), strict=True)
        return list(free), list(changes)

    both = run if steps <= _FEW else compiled(run)
    free, changes = both(ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets))
    pairs = zip(weights, changes, strict=True)
    return [array(s) for s in free], [(weight, array(change)) for weight, change in pairs]
