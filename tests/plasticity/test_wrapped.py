"""A rule around another one hands on everything that it does not change."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import constraints, layers, plasticity
from keras_local.plasticity import (
    BCM,
    Convallis,
    EligibilityRule,
    Foldiak,
    Hebb,
    KrotovHopfield,
    NonlinearHebbian,
    PlasticityRule,
    PointwiseRule,
    RewardModulatedHebb,
    SeparableRule,
    SoftHebb,
    Sum,
    WrappedPlasticity,
)
from tests.plasticity.encoders import assert_close, fit_steps
from tests.plasticity.rules import CASES
from tests.plasticity.test_checked_rules import Halved, product
from tests.support import BACKEND, array, probe

tensor = keras.ops.convert_to_tensor

NOT_HANDED_ON = {"get_config", "from_config", "parts_config"}


def test_every_method_of_the_interface_is_handed_on() -> None:
    """A new method of the interface has to be thought of in the wrapper."""
    methods = {
        name
        for name, member in vars(PlasticityRule).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }
    assert methods - set(vars(WrappedPlasticity)) - NOT_HANDED_ON == set()


@pytest.mark.few(6)
@pytest.mark.parametrize("name", CASES)
def test_a_bare_wrapper_is_the_rule(name: str) -> None:
    case = CASES[name]
    wrapped = WrappedPlasticity(WrappedPlasticity(case.rule))
    x, w = tensor(probe((10, 7))), tensor(case.scale * probe((7, 5), 1))
    own = [tensor(each.astype("float32")) for each in case.own(7, 5, 5)]
    post = case.rule.currents(x, w, *own)
    np.testing.assert_array_equal(array(wrapped.currents(x, w, *own)), array(post))
    for method in ("update", "change"):
        arguments = (x, w) if method == "update" else (x, post, w)
        ours = getattr(wrapped, method)(*arguments, *own)
        theirs = getattr(case.rule, method)(*arguments, *own)
        np.testing.assert_array_equal(array(ours), array(theirs))
    for ours, theirs in zip(
        wrapped.own_updates(x, post, w, *own), case.rule.own_updates(x, post, w, *own), strict=True
    ):
        np.testing.assert_array_equal(array(ours), array(theirs))
    np.testing.assert_array_equal(
        array(wrapped.constrain(w, *own)), array(case.rule.constrain(w, *own))
    )
    for said in (
        "norm_exponent",
        "every_unit_converges",
        "trains_active_units",
        "has_linear_outputs",
        "constrains",
        "needs_modulator",
        "remembers",
        "metric_is_identity",
        "active",
    ):
        assert getattr(wrapped, said) == getattr(case.rule, said), said
    restored = plasticity.get(plasticity.serialize(wrapped))
    assert restored.get_config() == wrapped.get_config()


def test_constraints_of_base_and_wrapper() -> None:
    w = tensor(probe((6, 3)))
    inner = NonlinearHebbian()
    assert EligibilityRule(inner).constrains
    np.testing.assert_array_equal(
        array(EligibilityRule(inner).constrain(w)), array(inner.constrain(w))
    )
    both = EligibilityRule(inner, constraint=constraints.NonNegative())
    expected = np.maximum(array(inner.constrain(w)), 0.0)
    np.testing.assert_array_equal(array(both.constrain(w)), expected)
    assert not EligibilityRule("hebb").constrains


@pytest.mark.skipif(BACKEND == "jax", reason="a constraint with a memory")
def test_the_constraint_reads_the_memory_of_its_own_rule() -> None:
    layer = layers.HebbianDense(3, EligibilityRule(Halved(Convallis())))
    model = keras.Sequential([keras.Input((6,)), layer])
    assert [weight.name for weight in layer.own_weights] == ["eligibility", "mean_input", "batches"]
    x = np.abs(probe((20, 6)))
    fit_steps(model, x, 0.5, 10)
    mean, kernel = x.mean(axis=0), array(layer.kernel)
    assert_close(array(layer.own_weights[1])[:, 0], mean.astype("float64"), 1e-5)
    assert np.max(kernel) <= 0.15 + 1e-6
    assert np.min(kernel) >= 0.0


def test_a_changed_formula_is_not_trained_as_the_old_one() -> None:
    assert WrappedPlasticity("krotov_hopfield").trains_active_units
    assert not Halved("krotov_hopfield").trains_active_units
    assert not EligibilityRule("krotov_hopfield").trains_active_units


def test_parts_of_its_own() -> None:
    x, w = tensor(probe((8, 4))), tensor(probe((4, 3), 1))
    wrapped = WrappedPlasticity(Hebb(), reduction=Sum())
    assert_close(
        array(wrapped.update(x, w)), 8.0 * array(Hebb().update(x, w)).astype("float64"), 1e-6
    )
    restored = plasticity.get(plasticity.serialize(wrapped))
    assert restored.get_config() == wrapped.get_config()


class Miscounted(WrappedPlasticity):
    held = 2


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: WrappedPlasticity(None), "base"),
        (lambda: WrappedPlasticity("no such rule"), "base"),
        (lambda: WrappedPlasticity(Hebb), "base"),
        (lambda: EligibilityRule(None), "base"),
        (lambda: EligibilityRule(RewardModulatedHebb()), "base"),
        (lambda: EligibilityRule(EligibilityRule()), "base"),
        # These have a change of their own, in which gains do not count.
        (lambda: Halved(SeparableRule([(1.0, "relu", "linear")])), "base"),
        (lambda: Halved(PointwiseRule(product)), "base"),
        (lambda: Halved(EligibilityRule()), "base"),
        (lambda: WrappedPlasticity(EligibilityRule(), reduction=Sum()), "base"),
        (lambda: WrappedPlasticity("oja", reduction="sum"), "reduction"),
        (lambda: Miscounted("oja").own_weights((4, 3)), "held"),
    ],
)
def test_what_cannot_be_wrapped(make: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=f"`(Miscounted.)?{argument}` must be.*Received"):
        make()


def test_units_outputs_and_advice() -> None:
    with pytest.raises(ValueError, match="`rank`"):
        WrappedPlasticity(KrotovHopfield(rank=5)).check_units(3)
    assert WrappedPlasticity(SoftHebb(1.0)).advice(0.5) == SoftHebb(1.0).advice(0.5) is not None
    rule = EligibilityRule(Foldiak())
    assert not rule.has_linear_outputs
    layer = layers.HebbianDense(3, rule)
    assert set(np.unique(array(layer(probe((9, 4)))))) <= {0.0, 1.0}
    assert EligibilityRule(BCM()).own_weights((4, 3))[0].name == "eligibility"
