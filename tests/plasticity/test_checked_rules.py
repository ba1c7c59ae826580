"""Every exported rule passes the public check, against a formula of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import plasticity, testing
from keras_local.plasticity import PlasticityRule, WrappedPlasticity
from tests import oracles_hebbian as oracle
from tests.plasticity.rules import CASES, per_unit
from tests.support import BACKEND


@dataclass(frozen=True)
class Checked:
    rule: PlasticityRule
    change: Callable[..., np.ndarray]
    memory: Callable[..., Sequence[np.ndarray]] | None = None


@keras.saving.register_keras_serializable(package="tests")
class Halved(WrappedPlasticity):
    """Half of the gains of another rule."""

    def gains(self, post: Any, *own: Any) -> Any:
        return 0.5 * self.base.gains(post, *self.inner(own))


@keras.saving.register_keras_serializable(package="tests")
def product(pre: Any, post: Any, weight: Any) -> Any:
    return post * (pre - post * weight)


def hebb(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x.T @ (x @ w)


def reward(x: np.ndarray, w: np.ndarray, *own: np.ndarray, modulator: np.ndarray) -> np.ndarray:
    activity, mean = own
    return x.T @ ((modulator - mean) * (x @ w - activity))


def reward_means(
    x: np.ndarray, w: np.ndarray, *own: np.ndarray, modulator: np.ndarray
) -> Sequence[np.ndarray]:
    activity, mean = own
    return activity + 0.05 * ((x @ w).mean(0) - activity), mean + 0.05 * (modulator.mean() - mean)


def bcm_threshold(x: np.ndarray, w: np.ndarray, theta: np.ndarray) -> Sequence[np.ndarray]:
    return (theta + 0.02 * (oracle.bcm(x, w, theta, bounded=True)[1] - theta),)


def convallis_means(x: np.ndarray, w: np.ndarray, *own: np.ndarray) -> Sequence[np.ndarray]:
    mean, batches = own
    return mean + (x.mean(0)[:, None] - mean) / (batches + 1.0), batches + 1.0


def foldiak_memory(x: np.ndarray, w: np.ndarray, *own: np.ndarray) -> Sequence[np.ndarray]:
    lateral, threshold = own
    y = oracle.foldiak_answers(x, w, *own, 20, 0.3)
    changed = np.minimum(lateral - 0.1 * (y.T @ y / len(y) - 0.2**2), 0.0)
    np.fill_diagonal(changed, 0.0)
    return changed, threshold + 0.02 * (y.mean(0) - 0.2)


MEMORIES: dict[str, Callable[..., Sequence[np.ndarray]]] = {
    "bcm": lambda x, w, theta: (
        theta + 0.02 * (oracle.bcm(x, w, theta, True, inhibition=0.2)[1] - theta),
    ),
    "similarity_matching": lambda x, w, lateral: (
        oracle.similarity_matching(x, w, lateral, 0.4)[1] / len(x),
    ),
    "convallis": convallis_means,
    "foldiak": foldiak_memory,
}

CHECKED = {
    **{
        name: Checked(case.rule, case.change, MEMORIES.get(name))
        for name, case in CASES.items()
        if not per_unit(case.rule)
    },
    # Of one winner: its oracle is a mean over the wins, the rule's change their sum.
    "kwta": Checked(
        plasticity.KWTA(1),
        lambda x, w: oracle.by_gain(
            x,
            w,
            lambda u: [float(k == np.argmax(u / np.linalg.norm(w, axis=0))) for k in range(len(u))],
            lambda gain, current: gain,
        ),
    ),
    "third_factor": Checked(
        plasticity.ThirdFactor(),
        lambda x, w, modulator: x.T @ (modulator * np.ones((1, w.shape[1]))),
    ),
    "reward": Checked(plasticity.RewardModulatedHebb(), reward, reward_means),
    "eligibility": Checked(
        plasticity.EligibilityRule("hebb", tau=4.0),
        lambda x, w, trace: hebb(x, w),
        lambda x, w, trace: (0.75 * trace + hebb(x, w) / len(x),),
    ),
    "eligibility_of_bcm": Checked(
        plasticity.EligibilityRule("bcm", tau=4.0),
        lambda x, w, trace, theta: oracle.bcm(x, w, theta, bounded=True)[0],
        lambda x, w, trace, theta: (
            0.75 * trace + oracle.bcm(x, w, theta, bounded=True)[0] / len(x),
            *bcm_threshold(x, w, theta),
        ),
    ),
    "separable": Checked(
        plasticity.SeparableRule([(1.0, "relu", "linear"), (-0.5, "linear", "relu")]),
        lambda x, w: x.T @ np.maximum(x @ w, 0.0) - 0.5 * np.maximum(x, 0.0).T @ (x @ w),
    ),
    "pointwise": Checked(plasticity.PointwiseRule(product), oracle.oja),
    "wrapped_twice": Checked(
        Halved(Halved("bcm")),
        lambda x, w, theta: 0.25 * oracle.bcm(x, w, theta, bounded=True)[0],
        bcm_threshold,
    ),
    "wrapped_krotov": Checked(
        Halved(plasticity.KrotovHopfield(3.0, rank=3)),
        lambda x, w: 0.5 * CASES["krotov_hopfield"].change(x, w),
    ),
    "trace_around_a_wrapper": Checked(
        plasticity.EligibilityRule(Halved("hebb"), tau=4.0),
        lambda x, w, trace: 0.5 * hebb(x, w),
        lambda x, w, trace: (0.75 * trace + 0.5 * hebb(x, w) / len(x),),
    ),
    "wrapper_around_a_trace": Checked(
        WrappedPlasticity(plasticity.EligibilityRule("hebb", tau=4.0)),
        lambda x, w, trace: hebb(x, w),
        lambda x, w, trace: (0.75 * trace + hebb(x, w) / len(x),),
    ),
}


@pytest.mark.few(8)
@pytest.mark.parametrize("name", CHECKED)
def test_it_passes(name: str) -> None:
    checked = CHECKED[name]
    if BACKEND == "jax" and checked.rule.remembers:
        pytest.skip("a constraint with a memory")
    testing.check_plasticity_rule(
        checked.rule, checked.change, tolerance=3e-5, memory=checked.memory
    )


@pytest.mark.parametrize("name", ["oja", "bcm", "reward", "eligibility", "wrapped_twice"])
def test_a_wrong_formula_is_found(name: str) -> None:
    checked = CHECKED[name]
    with pytest.raises(AssertionError, match="the change"):
        testing.check_plasticity_rule(
            checked.rule, lambda *arrays, **named: 1.01 * checked.change(*arrays, **named)
        )


def test_a_wrong_memory_is_found() -> None:
    checked = CHECKED["eligibility"]
    with pytest.raises(AssertionError, match="own weight 0"):
        testing.check_plasticity_rule(
            checked.rule, checked.change, memory=lambda x, w, trace: (trace,)
        )


def test_every_exported_rule_is_here() -> None:
    exported = {
        each
        for each in vars(plasticity).values()
        if inspect.isclass(each) and issubclass(each, PlasticityRule) and each is not PlasticityRule
    }
    assert exported - {type(checked.rule) for checked in CHECKED.values()} == set()
