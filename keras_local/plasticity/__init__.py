"""Plasticity rules: formulas for how weights change without labels.

A rule computes a change from (pre, post, kernel). Small objects say how the change is reduced over
the batch (`Sum`, `Mean`), normalised (`MaxAbs`, `UnitMaxAbs`, `RootFanIn`, `Shrink`,
`NoNormaliser`) and scaled (`LinearDecay`, `ConstantRate`, `NormDistance`). In some rules a
`Competition` chooses which units learn from a sample: `Winner`, `KWinners`, `Softmax`,
`PowerShare`. Constraints on the weights are in `keras_local.constraints`.

| alias | rule |
|---|---|
| `"krotov_hopfield"` | `KrotovHopfield`: competing hidden units |
| `"krotov_hopfield_dynamics"` | `KrotovHopfieldDynamics`: the same, with simulated inhibition |
| `"soft_hebb"` | `SoftHebb`: soft competition with anti-Hebbian losers |
| `"hard_wta"`, `"kwta"` | `HardWTA`, `KWTA`: one winner, or a few winners |
| `"hebb"`, `"oja"` | `Hebb`, `Oja`: each unit by itself |
| `"oja_subspace"`, `"sanger"`, `"hpca"` | `OjaSubspace`, `Sanger`, `HPCA`: principal components |
| `"similarity_matching"` | `SimilarityMatching`: the same by local lateral weights |
| `"foldiak"` | `Foldiak`: sparse binary codes by learned lateral inhibition |
| `"bcm"` | `BCM`: a sliding threshold |
| `"nonlinear_hebbian"` | `NonlinearHebbian`: projection pursuit |
| `"convallis"` | `Convallis`: potentials far from the threshold |
| `"third_factor"`, `"reward_modulated_hebb"` | `ThirdFactor`, `RewardModulatedHebb`: a modulator |

Some rules have no alias: `EligibilityRule` puts a trace between any rule and a modulator;
`SeparableRule` and `PointwiseRule` make a rule of functions. Your own rule derives from
`PlasticityRule`, and a rule around another rule from `WrappedPlasticity`.
"""

from __future__ import annotations

from typing import Any, Literal

import keras

from keras_local._serialization import resolve
from keras_local._types import Config
from keras_local.plasticity.bcm import BCM as BCM
from keras_local.plasticity.competition import Competition as Competition
from keras_local.plasticity.competition import KWinners as KWinners
from keras_local.plasticity.competition import PowerShare as PowerShare
from keras_local.plasticity.competition import Softmax as Softmax
from keras_local.plasticity.competition import Winner as Winner
from keras_local.plasticity.convallis import Convallis as Convallis
from keras_local.plasticity.eligibility import EligibilityRule as EligibilityRule
from keras_local.plasticity.foldiak import Foldiak as Foldiak
from keras_local.plasticity.hard_wta import HardWTA as HardWTA
from keras_local.plasticity.hebb import Hebb as Hebb
from keras_local.plasticity.hpca import HPCA as HPCA
from keras_local.plasticity.krotov_hopfield import KrotovHopfield as KrotovHopfield
from keras_local.plasticity.krotov_hopfield_dynamics import (
    KrotovHopfieldDynamics as KrotovHopfieldDynamics,
)
from keras_local.plasticity.kwta import KWTA as KWTA
from keras_local.plasticity.nonlinear_hebbian import NonlinearHebbian as NonlinearHebbian
from keras_local.plasticity.normaliser import MaxAbs as MaxAbs
from keras_local.plasticity.normaliser import NoNormaliser as NoNormaliser
from keras_local.plasticity.normaliser import Normaliser as Normaliser
from keras_local.plasticity.normaliser import RootFanIn as RootFanIn
from keras_local.plasticity.normaliser import Shrink as Shrink
from keras_local.plasticity.normaliser import UnitMaxAbs as UnitMaxAbs
from keras_local.plasticity.oja import Oja as Oja
from keras_local.plasticity.oja_subspace import OjaSubspace as OjaSubspace
from keras_local.plasticity.pointwise_rule import PointwiseRule as PointwiseRule
from keras_local.plasticity.rate import ConstantRate as ConstantRate
from keras_local.plasticity.rate import LinearDecay as LinearDecay
from keras_local.plasticity.rate import NormDistance as NormDistance
from keras_local.plasticity.rate import RatePolicy as RatePolicy
from keras_local.plasticity.reduction import Mean as Mean
from keras_local.plasticity.reduction import Reduction as Reduction
from keras_local.plasticity.reduction import Sum as Sum
from keras_local.plasticity.reward_modulated_hebb import (
    RewardModulatedHebb as RewardModulatedHebb,
)
from keras_local.plasticity.rule import ActiveUnits as ActiveUnits
from keras_local.plasticity.rule import OwnWeight as OwnWeight
from keras_local.plasticity.rule import PlasticityRule as PlasticityRule
from keras_local.plasticity.sanger import Sanger as Sanger
from keras_local.plasticity.separable_rule import SeparableRule as SeparableRule
from keras_local.plasticity.similarity_matching import SimilarityMatching as SimilarityMatching
from keras_local.plasticity.soft_hebb import SoftHebb as SoftHebb
from keras_local.plasticity.third_factor import ThirdFactor as ThirdFactor
from keras_local.plasticity.wrapped import WrappedPlasticity as WrappedPlasticity

__all__ = [
    "BCM",
    "HPCA",
    "KWTA",
    "ActiveUnits",
    "Competition",
    "ConstantRate",
    "Convallis",
    "EligibilityRule",
    "Foldiak",
    "HardWTA",
    "Hebb",
    "KWinners",
    "KrotovHopfield",
    "KrotovHopfieldDynamics",
    "LinearDecay",
    "MaxAbs",
    "Mean",
    "NoNormaliser",
    "NonlinearHebbian",
    "NormDistance",
    "Normaliser",
    "Oja",
    "OjaSubspace",
    "OwnWeight",
    "PlasticityAlias",
    "PlasticityLike",
    "PlasticityRule",
    "PointwiseRule",
    "PowerShare",
    "RatePolicy",
    "Reduction",
    "RewardModulatedHebb",
    "RootFanIn",
    "Sanger",
    "SeparableRule",
    "Shrink",
    "SimilarityMatching",
    "SoftHebb",
    "Softmax",
    "Sum",
    "ThirdFactor",
    "UnitMaxAbs",
    "Winner",
    "WrappedPlasticity",
    "get",
    "serialize",
]

PlasticityAlias = Literal[
    "bcm",
    "convallis",
    "foldiak",
    "hard_wta",
    "hebb",
    "hpca",
    "krotov_hopfield",
    "krotov_hopfield_dynamics",
    "kwta",
    "nonlinear_hebbian",
    "oja",
    "oja_subspace",
    "reward_modulated_hebb",
    "sanger",
    "similarity_matching",
    "soft_hebb",
    "third_factor",
]
"""The names of rules with their default arguments."""

PlasticityLike = PlasticityRule | PlasticityAlias | Config
"""What a layer takes as `plasticity`: a rule, an alias, or a rule's config."""

_ALIASES: dict[str, type[PlasticityRule]] = {
    "bcm": BCM,
    "convallis": Convallis,
    "foldiak": Foldiak,
    "hard_wta": HardWTA,
    "hebb": Hebb,
    "hpca": HPCA,
    "krotov_hopfield": KrotovHopfield,
    "krotov_hopfield_dynamics": KrotovHopfieldDynamics,
    "kwta": KWTA,
    "nonlinear_hebbian": NonlinearHebbian,
    "oja": Oja,
    "oja_subspace": OjaSubspace,
    "reward_modulated_hebb": RewardModulatedHebb,
    "sanger": Sanger,
    "similarity_matching": SimilarityMatching,
    "soft_hebb": SoftHebb,
    "third_factor": ThirdFactor,
}


def get(identifier: Any, argument: str = "plasticity") -> PlasticityRule:
    """Return the rule for an alias, a config or a rule.

    Args:
        identifier: The alias, config or rule.
        argument: Name of the argument, for messages.

    >>> from keras_local import plasticity
    >>> plasticity.get("krotov_hopfield").rank
    2

    Raises:
        ValueError: For an unknown alias; the message lists the known ones.
    """
    return resolve(identifier, PlasticityRule, _ALIASES, argument)


def serialize(rule: PlasticityRule) -> dict[str, Any]:
    """Return the config from which `get` restores the rule."""
    config: dict[str, Any] = keras.saving.serialize_keras_object(rule)
    return config
