"""Every plasticity rule, for the files that later versions have to load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_local import constraints, plasticity


@keras.saving.register_keras_serializable(package="golden")
def oja(pre: Any, post: Any, weight: Any) -> Any:
    """The function of the case of a pointwise rule."""
    return post * (pre - post * weight)


PLASTICITY: dict[str, Callable[[], Any]] = {
    **{
        alias: lambda alias=alias: plasticity.get(alias)
        for alias in (
            "bcm",
            "convallis",
            "hard_wta",
            "hebb",
            "hpca",
            "krotov_hopfield",
            "krotov_hopfield_dynamics",
            "nonlinear_hebbian",
            "oja",
            "oja_subspace",
            "reward_modulated_hebb",
            "sanger",
            "similarity_matching",
            "soft_hebb",
            "third_factor",
        )
    },
    "kwta": lambda: plasticity.KWTA(2),
    "kwta_power_share": lambda: plasticity.KWTA(plasticity.PowerShare(3.0)),
    "kwta_winner": lambda: plasticity.KWTA(plasticity.Winner()),
    "kwta_softmax": lambda: plasticity.KWTA(plasticity.Softmax(2.0)),
    "foldiak": lambda: plasticity.Foldiak(steps=5),
    "krotov_parts": lambda: plasticity.KrotovHopfield(
        3.0, 3, 0.2, plasticity.Sum(), plasticity.UnitMaxAbs(), plasticity.NormDistance(0.5)
    ),
    "oja_parts": lambda: plasticity.Oja(
        normaliser=plasticity.Shrink(0.01), constraint=constraints.UnitLength(2.0)
    ),
    "hebb_root_fan_in": lambda: plasticity.Hebb(
        0.1, normaliser=plasticity.RootFanIn(), constraint=constraints.NonNegative(1.0)
    ),
    "sanger_orthogonal": lambda: plasticity.Sanger(constraint=constraints.Orthogonal()),
    "eligibility": lambda: plasticity.EligibilityRule(plasticity.BCM(), tau=4.0),
    "separable": lambda: plasticity.SeparableRule(
        [(1.0, "relu", "linear"), (-0.3, "tanh", "sigmoid")], decay=0.2
    ),
    "pointwise": lambda: plasticity.PointwiseRule(oja),
}
