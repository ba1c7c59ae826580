"""Feedback rules: which kernel carries errors back, and how it learns.

A rule says which kernel carries the error back and how the feedback weights change. It does not
know its layer, and works with every linear map.

| alias | rule |
|---|---|
| `"symmetric"` | `Symmetric`: backpropagation, the stock Keras layer |
| `"feedback_alignment"`, `"frfb"` | `FeedbackAlignment`: fixed random feedback |
| `"kolen_pollack"`, `"urfb"` | `KolenPollack`: updated random feedback |
| `"sign_symmetry"`, `"usf"`; `"brsf"`, `"frsf"` | `SignSymmetry`: the kernel's signs only |
| `"weight_mirror"` | `WeightMirror`: feedback weights learn from noise |
| `"symmetric_alignment"` | `SymmetricAlignment`: feedback weights pulled towards the kernel |
| `"activation_alignment"` | `ActivationAlignment`: feedback weights learn the projection |
| `"information_alignment"` | `InformationAlignment`: Hebbian feedback weights that stay bounded |

`LocalAlignment` takes any sum of the primitives `Decay`, `Amplify`, `Nullify`, `Sparsify` and
`SelfAlign`. `MatchedNorm`, `NoisyUpdates` and `RandomConnectivity` wrap another rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import keras

from keras_local._serialization import resolve
from keras_local._types import Config
from keras_local.feedback.activation_alignment import ActivationAlignment as ActivationAlignment
from keras_local.feedback.alignment_rule import AlignmentRule as AlignmentRule
from keras_local.feedback.alignment_rule import Noise as Noise
from keras_local.feedback.detached import Detached as Detached
from keras_local.feedback.feedback_alignment import FeedbackAlignment as FeedbackAlignment
from keras_local.feedback.information_alignment import InformationAlignment as InformationAlignment
from keras_local.feedback.kolen_pollack import KolenPollack as KolenPollack
from keras_local.feedback.local_alignment import LocalAlignment as LocalAlignment
from keras_local.feedback.matched_norm import MatchedNorm as MatchedNorm
from keras_local.feedback.noisy_updates import NoisyUpdates as NoisyUpdates
from keras_local.feedback.primitives import Activity as Activity
from keras_local.feedback.primitives import Amplify as Amplify
from keras_local.feedback.primitives import Decay as Decay
from keras_local.feedback.primitives import Nullify as Nullify
from keras_local.feedback.primitives import Primitive as Primitive
from keras_local.feedback.primitives import Regulariser as Regulariser
from keras_local.feedback.primitives import SelfAlign as SelfAlign
from keras_local.feedback.primitives import Sparsify as Sparsify
from keras_local.feedback.random_connectivity import RandomConnectivity as RandomConnectivity
from keras_local.feedback.rule import FeedbackRule as FeedbackRule
from keras_local.feedback.rule import FeedbackWeight as FeedbackWeight
from keras_local.feedback.rule import RuleContext as RuleContext
from keras_local.feedback.sign_symmetry import SignSymmetry as SignSymmetry
from keras_local.feedback.symmetric import Symmetric as Symmetric
from keras_local.feedback.symmetric_alignment import SymmetricAlignment as SymmetricAlignment
from keras_local.feedback.weight_mirror import WeightMirror as WeightMirror
from keras_local.feedback.wrapped_rule import WrappedRule as WrappedRule

Synapses = RuleContext
"""The earlier name of `RuleContext`, which is not the layer `dynamics.Synapses`."""

__all__ = [
    "ActivationAlignment",
    "Activity",
    "AlignmentRule",
    "Amplify",
    "Decay",
    "Detached",
    "FeedbackAlias",
    "FeedbackAlignment",
    "FeedbackLike",
    "FeedbackRule",
    "FeedbackWeight",
    "InformationAlignment",
    "KolenPollack",
    "LocalAlignment",
    "MatchedNorm",
    "Noise",
    "NoisyUpdates",
    "Nullify",
    "Primitive",
    "RandomConnectivity",
    "Regulariser",
    "RuleContext",
    "SelfAlign",
    "SignSymmetry",
    "Sparsify",
    "Symmetric",
    "SymmetricAlignment",
    "Synapses",
    "WeightMirror",
    "WrappedRule",
    "get",
    "serialize",
]

FeedbackAlias = Literal[
    "detached",
    "symmetric",
    "feedback_alignment",
    "frfb",
    "kolen_pollack",
    "urfb",
    "sign_symmetry",
    "usf",
    "brsf",
    "frsf",
    "weight_mirror",
    "symmetric_alignment",
    "activation_alignment",
    "information_alignment",
]
"""The names of rules with their default arguments."""

FeedbackLike = FeedbackRule | FeedbackAlias | Config
"""What a layer takes as `feedback`: a rule, an alias, or a rule's config."""

_ALIASES: dict[str, Callable[[], FeedbackRule]] = {
    "detached": Detached,
    "symmetric": Symmetric,
    "feedback_alignment": FeedbackAlignment,
    "frfb": FeedbackAlignment,
    "kolen_pollack": KolenPollack,
    "urfb": KolenPollack,
    "sign_symmetry": SignSymmetry,
    "usf": SignSymmetry,
    "brsf": partial(SignSymmetry, magnitude="batchwise"),
    "frsf": partial(SignSymmetry, magnitude="fixed"),
    "weight_mirror": WeightMirror,
    "symmetric_alignment": SymmetricAlignment,
    "activation_alignment": ActivationAlignment,
    "information_alignment": InformationAlignment,
}


def get(identifier: Any, argument: str = "feedback") -> FeedbackRule:
    """Return the rule for an alias, a config or a rule, given as `argument`.

    >>> from keras_local import feedback
    >>> feedback.get("urfb").get_config()
    {'rate': 1.0, 'decay': 0.0, 'separate': None}

    Raises:
        ValueError: For an unknown alias; the message lists the known ones.
    """
    return resolve(identifier, FeedbackRule, _ALIASES, argument)


def serialize(rule: FeedbackRule) -> dict[str, Any]:
    """Return the config from which `get` restores the rule."""
    config: dict[str, Any] = keras.saving.serialize_keras_object(rule)
    return config
