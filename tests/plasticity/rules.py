"""Every plasticity rule with what its oracle says: a rule joins the tests by one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_local import plasticity
from keras_local.plasticity import PlasticityRule
from tests import oracles_hebbian as oracle
from tests.oracles_plasticity import Krotov

Own = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Case:
    """A rule, the sum over samples of its change, and values for the weights of its own.

    Attributes:
        rule: The rule.
        change: Function of samples `(samples, inputs)`, kernel and own weights.
        own: Function of the numbers of inputs and units, and of a seed.
        scale: Factor on the kernel: where the formula is told apart best.
    """

    rule: PlasticityRule
    change: Callable[..., np.ndarray]
    own: Callable[[int, int, int], Own] = lambda inputs, units, seed: ()
    scale: float = 1.0


def _threshold(inputs: int, units: int, seed: int) -> Own:
    return (np.random.default_rng(seed).uniform(0.5, 2.0, units),)


def _lateral(inputs: int, units: int, seed: int) -> Own:
    matrix = np.random.default_rng(seed).normal(size=(units, units))
    return (np.eye(units) + 0.1 * matrix @ matrix.T,)


def _mean(inputs: int, units: int, seed: int) -> Own:
    return np.random.default_rng(seed).uniform(size=(inputs, 1)), np.array(3.0)


def _inhibition(inputs: int, units: int, seed: int) -> Own:
    rng = np.random.default_rng(seed)
    lateral = -rng.uniform(size=(units, units)) * (1.0 - np.eye(units))
    return lateral + lateral.T, rng.uniform(-0.5, 0.5, units)


CASES: dict[str, Case] = {
    "krotov_hopfield": Case(plasticity.KrotovHopfield(3.0, rank=3), Krotov(3.0, 3).change),
    "krotov_hopfield_dynamics": Case(
        plasticity.KrotovHopfieldDynamics(3.0, threshold=1.0, inhibition=0.3),
        lambda x, w: oracle.slow_krotov(x, w, 3.0, 0.4, 1.0, 0.3),
    ),
    "soft_hebb": Case(
        plasticity.SoftHebb(beta=0.7), lambda x, w: oracle.soft_hebb(x, w, 0.7, True)
    ),
    "soft_hebb_positive": Case(
        plasticity.SoftHebb(beta=0.7, anti_hebbian=False),
        lambda x, w: oracle.soft_hebb(x, w, 0.7, False),
    ),
    "hard_wta": Case(plasticity.HardWTA(), oracle.hard_wta),
    "kwta": Case(plasticity.KWTA(2), lambda x, w: oracle.kwta(x, w, 2)),
    "hebb": Case(plasticity.Hebb(decay=0.5), lambda x, w: oracle.hebb(x, w, 0.5)),
    "oja": Case(plasticity.Oja(), oracle.oja, scale=0.5),
    "oja_subspace": Case(
        plasticity.OjaSubspace(),
        lambda x, w: oracle.reconstructing(x, w, lambda u: u, before=False),
        scale=0.5,
    ),
    "sanger": Case(
        plasticity.Sanger(),
        lambda x, w: oracle.reconstructing(x, w, lambda u: u, before=True),
        scale=0.5,
    ),
    "hpca": Case(
        plasticity.HPCA("tanh"),
        lambda x, w: oracle.reconstructing(x, w, np.tanh, before=True),
        scale=0.5,
    ),
    "bcm": Case(
        plasticity.BCM(inhibition=0.2),
        lambda x, w, theta: oracle.bcm(x, w, theta, bounded=True, inhibition=0.2)[0],
        _threshold,
    ),
    "foldiak": Case(
        plasticity.Foldiak(0.2, steps=20, step=0.3),
        lambda x, w, *own: oracle.foldiak(x, w, *own, 20, 0.3),
        _inhibition,
    ),
    "similarity_matching": Case(
        plasticity.SimilarityMatching(tau=0.4),
        lambda x, w, lateral: oracle.similarity_matching(x, w, lateral, 0.4)[0],
        _lateral,
    ),
    "nonlinear_hebbian": Case(
        plasticity.NonlinearHebbian("quadratic", 0.5, 1.5),
        lambda x, w: oracle.nonlinear(x, w, lambda u: max(u - 0.5, 0.0) * (u - 1.5)),
    ),
    "convallis": Case(
        plasticity.Convallis(),
        lambda x, w, mean, batches: oracle.nonlinear(x, w, oracle.convallis_slope),
        _mean,
        scale=0.2,
    ),
}


def per_unit(rule: Any) -> bool:
    """Whether the change is divided by the number of the unit's own samples."""
    return isinstance(rule, plasticity.KWTA)
