"""How credit returns in time: through all steps, or by traces that each synapse keeps for itself.

Over a whole sequence a rule with traces equals backpropagation in which some messages between
units carry no error. So a time rule is the feedback rule of the recurrent kernel.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import keras
from keras import ops

from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local._serialization import copied
from keras_local.feedback import Detached, FeedbackRule, FeedbackWeight
from keras_local.ops.backend import Tensor

TimeRule = Literal["bptt", "eprop", "snap1"]
"""The names of the time rules."""

NAMES = ("bptt", "eprop", "snap1")


class OwnUnit(FeedbackRule):
    """Errors return in time to the unit alone whose message they are about: SnAp-1.

    `delta_(t-1) = delta_t (U * I)^T`, with the identity in the columns of each gate. The synapse
    from a unit to itself is all that is read.
    """

    def weights(self, kernel: Any, initializer: Any) -> list[FeedbackWeight]:
        """No weights beside the kernel."""
        return []

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """The kernel's entries from units to themselves; zero elsewhere."""
        units, columns = kernel.shape
        return kernel * ops.tile(ops.eye(units, dtype=kernel.dtype), (1, columns // units))

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Refuse: there is nothing to assign."""
        raise ValueError("time_rule='snap1' has no feedback kernel to assign: it is of `kernel`.")


def recurrent_rule(time_rule: str, feedback: FeedbackRule, recurrent_feedback: Any) -> FeedbackRule:
    """Return the rule of the recurrent kernel, a copy of the inputs' rule if nothing else is said.

    Args:
        time_rule: One of `NAMES`.
        feedback: The rule of the inputs' kernel.
        recurrent_feedback: What the user gave.

    Raises:
        ValueError: For a rule where none has an effect.
    """
    if time_rule != "bptt":
        allowed = (
            f"None with time_rule={time_rule!r}, by which no error crosses a recurrent synapse"
        )
        check.require(recurrent_feedback is None, "recurrent_feedback", allowed, recurrent_feedback)
        return Detached() if time_rule == "eprop" else OwnUnit()
    if recurrent_feedback is None:
        return copied(feedback)
    return feedback_rules.get(recurrent_feedback, "recurrent_feedback")


def warn_without_memory(layer: keras.layers.Layer) -> None:
    """Warn of e-prop in a layer whose units keep nothing from step to step but their message."""
    warnings.warn(
        f"Layer {layer.name!r}: time_rule='eprop' credits what a unit keeps to itself, and the "
        "units of a simple recurrent layer keep nothing: each step gets credit for itself alone. "
        "`kl.layers.LeakyRNN` has units with a memory, and time_rule='snap1' credits the synapse "
        "of a unit to itself.",
        stacklevel=4,
    )
