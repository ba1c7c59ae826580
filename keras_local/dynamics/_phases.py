"""Phases that several networks use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_local.ops import settle
from keras_local.ops.backend import Tensor

States = tuple[Tensor, ...]


def nudged_phases(
    step_of: Callable[[Tensor, Tensor, Tensor], Callable[[States], States]],
    inputs: Tensor,
    targets: Tensor,
    states: States,
    share: Tensor,
    steps: int,
    nudge: float,
    sign: Any = None,
) -> tuple[States, Tensor]:
    """Return two phases, joined along the batch axis, and the shares of their samples.

    The nudges of the two phases are `+nudge` and `-nudge`, or, with a `sign`, `sign * nudge` and 0.
    Shares times correlations, summed over the batch, are the contrast divided by the nudges.

    Args:
        step_of: Function of inputs, targets and strength that returns a function from states to
            states.
        inputs: Inputs of the batch.
        targets: Rows of targets.
        states: States of the free phase.
        share: How much each sample counts, `(batch,)`.
        steps: How many steps the nudged states make.
        nudge: Strength of the nudge.
        sign: A number or scalar tensor; None for both signs.
    """
    if sign is None:
        # Both signs run in one batch.
        one = ops.ones_like(targets[:, :1])
        strength = nudge * ops.concatenate([one, -one])
        step = step_of(_twice(inputs), _twice(targets), strength)
        phases = settle(step, tuple(map(_twice, states)), steps)
        count: Any = 0.5 / nudge
    else:
        step = step_of(inputs, targets, ops.convert_to_tensor(nudge * sign, share.dtype))
        nudged = settle(step, states, steps)
        phases = tuple(ops.concatenate(pair) for pair in zip(nudged, states, strict=True))
        count = sign / nudge
    return phases, ops.concatenate([count * share, -count * share])


def nudged_samples(
    phases: Tensor, targets: Tensor, share: Tensor, both_signs: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the nudged samples of a layer of `nudged_phases`, their targets and shares.

    The shares of a sample add up to its `share`, so that they give a mean over the nudged phases.

    Args:
        phases: One layer of the states that `nudged_phases` returned.
        targets: Rows of targets of the batch.
        share: How much each sample counts.
        both_signs: Whether the phases have both signs; otherwise one of them is the free phase.
    """
    if both_signs:
        half = 0.5 * share
        return phases, _twice(targets), ops.concatenate([half, half])
    return ops.split(phases, 2, axis=0)[0], targets, share


def joined(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """Return trajectories joined at a state that the first ends with and the second begins with."""
    pairs = zip(first, second, strict=True)
    return [ops.concatenate([before, after[1:]], axis=0) for before, after in pairs]


def _twice(tensor: Tensor) -> Tensor:
    return ops.concatenate([tensor, tensor])
