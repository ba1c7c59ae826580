"""How weights change without labels: one rule a file, a formula for a weight change.

A rule turns (pre, post, kernel) into a change. How the change is reduced over the batch,
normalised and scaled are separate small objects: `Sum`, `Mean`; `MaxAbs`, `UnitMaxAbs`,
`NoNormaliser`; `LinearDecay`, `ConstantRate`, `NormDistance`.

| alias | rule |
|---|---|
| `"krotov_hopfield"` | `KrotovHopfield`: competing hidden units |
"""

from __future__ import annotations

from typing import Any

import keras

from keras_local._serialization import resolve
from keras_local.plasticity.krotov_hopfield import KrotovHopfield as KrotovHopfield
from keras_local.plasticity.normaliser import MaxAbs as MaxAbs
from keras_local.plasticity.normaliser import NoNormaliser as NoNormaliser
from keras_local.plasticity.normaliser import Normaliser as Normaliser
from keras_local.plasticity.normaliser import UnitMaxAbs as UnitMaxAbs
from keras_local.plasticity.rate import ConstantRate as ConstantRate
from keras_local.plasticity.rate import LinearDecay as LinearDecay
from keras_local.plasticity.rate import NormDistance as NormDistance
from keras_local.plasticity.rate import RatePolicy as RatePolicy
from keras_local.plasticity.reduction import Mean as Mean
from keras_local.plasticity.reduction import Reduction as Reduction
from keras_local.plasticity.reduction import Sum as Sum
from keras_local.plasticity.rule import ActiveUnits as ActiveUnits
from keras_local.plasticity.rule import OwnWeight as OwnWeight
from keras_local.plasticity.rule import PlasticityRule as PlasticityRule

__all__ = [
    "ActiveUnits",
    "ConstantRate",
    "KrotovHopfield",
    "LinearDecay",
    "MaxAbs",
    "Mean",
    "NoNormaliser",
    "NormDistance",
    "Normaliser",
    "OwnWeight",
    "PlasticityRule",
    "RatePolicy",
    "Reduction",
    "Sum",
    "UnitMaxAbs",
    "get",
    "serialize",
]

_ALIASES: dict[str, type[PlasticityRule]] = {"krotov_hopfield": KrotovHopfield}


def get(identifier: Any) -> PlasticityRule:
    """Return the rule that an alias, a config or a rule stands for.

    >>> from keras_local import plasticity
    >>> plasticity.get("krotov_hopfield").rank
    2

    Raises:
        ValueError: For an unknown alias; the message lists the known ones.
    """
    return resolve(identifier, PlasticityRule, _ALIASES, "plasticity")


def serialize(rule: PlasticityRule) -> dict[str, Any]:
    """Return the config from which `get` restores the rule."""
    config: dict[str, Any] = keras.saving.serialize_keras_object(rule)
    return config
