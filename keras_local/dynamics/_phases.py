"""Phases that several networks have in common."""

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
    """Return two phases, one behind the other in a batch of twice the size, and their shares.

    The phases are those of `+nudge` and `-nudge`, or with a `sign` those of `sign * nudge` and of
    none. The sum over the batch of shares times correlations is the contrast over the nudges.

    Args:
        step_of: Function of inputs, targets and strength to that from states to states.
        inputs: Inputs of the batch.
        targets: Rows of targets.
        states: Those of the free phase.
        share: What each sample counts, `(batch,)`.
        steps: How many steps the nudged states make.
        nudge: Its strength.
        sign: A number or scalar tensor; None for both signs.
    """
    if sign is None:
        # Both signs at once.
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
    """Return those of a layer of `nudged_phases` that are nudged, their targets and shares.

    The shares of a sample add up to its `share`: they are those of a mean over the nudged phases.

    Args:
        phases: One layer of the states that `nudged_phases` returned.
        targets: Rows of targets of the batch.
        share: What each sample counts.
        both_signs: Whether the phases are those of both signs; else one of them is the free one.
    """
    if both_signs:
        half = 0.5 * share
        return phases, _twice(targets), ops.concatenate([half, half])
    return ops.split(phases, 2, axis=0)[0], targets, share


def joined(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """Return trajectories of which the second begins where the first ends."""
    pairs = zip(first, second, strict=True)
    return [ops.concatenate([before, after[1:]], axis=0) for before, after in pairs]


def _twice(tensor: Tensor) -> Tensor:
    return ops.concatenate([tensor, tensor])
