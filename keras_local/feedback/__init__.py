"""How errors return: one rule a file, each a few lines of formula.

A rule says which kernel carries the error back and what change the feedback weights receive. It
knows no layer: it works with the two adjoints of any linear map.

| alias | rule |
|---|---|
| `"symmetric"` | `Symmetric`: backpropagation, the stock Keras layer |
| `"feedback_alignment"`, `"frfb"` | `FeedbackAlignment`: fixed random feedback |
| `"kolen_pollack"`, `"urfb"` | `KolenPollack`: updated random feedback |
"""

from __future__ import annotations

from typing import Any

import keras

from keras_local._serialization import resolve
from keras_local.feedback.feedback_alignment import FeedbackAlignment as FeedbackAlignment
from keras_local.feedback.kolen_pollack import KolenPollack as KolenPollack
from keras_local.feedback.rule import FeedbackRule as FeedbackRule
from keras_local.feedback.rule import FeedbackWeight as FeedbackWeight
from keras_local.feedback.rule import Synapses as Synapses
from keras_local.feedback.symmetric import Symmetric as Symmetric

__all__ = [
    "FeedbackAlignment",
    "FeedbackRule",
    "FeedbackWeight",
    "KolenPollack",
    "Symmetric",
    "Synapses",
    "get",
    "serialize",
]

_ALIASES: dict[str, type[FeedbackRule]] = {
    "symmetric": Symmetric,
    "feedback_alignment": FeedbackAlignment,
    "frfb": FeedbackAlignment,
    "kolen_pollack": KolenPollack,
    "urfb": KolenPollack,
}


def get(identifier: Any) -> FeedbackRule:
    """Return the rule that an alias, a config or a rule stands for.

    >>> from keras_local import feedback
    >>> feedback.get("urfb").get_config()
    {'rate': 1.0, 'decay': 0.0, 'separate': None}

    Raises:
        ValueError: For an unknown alias; the message lists the known ones.
    """
    return resolve(identifier, FeedbackRule, _ALIASES, "feedback")


def serialize(rule: FeedbackRule) -> dict[str, Any]:
    """Return the config from which `get` restores the rule."""
    config: dict[str, Any] = keras.saving.serialize_keras_object(rule)
    return config
