"""Rules that the package does not know take every path as they are written."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.models import pretrain
from keras_local.plasticity import (
    HPCA,
    HardWTA,
    Hebb,
    KrotovHopfield,
    KrotovHopfieldDynamics,
    Oja,
    PlasticityRule,
    SoftHebb,
)
from tests.plasticity.encoders import fit_steps
from tests.support import array, probe


class NoDecay(KrotovHopfield):
    def decays(self, gains: Any, post: Any) -> Any:
        return None


class Mixed(KrotovHopfield):
    def mixing(self, gains: Any, post: Any, linear_map: Any = None) -> Any:
        return keras.ops.eye(post.shape[-1])


class Currents(KrotovHopfield):
    def currents(self, pre: Any, kernel: Any, *own: Any, linear_map: Any = None) -> Any:
        return keras.ops.abs(keras.ops.matmul(pre, kernel))


class Samples(KrotovHopfield):
    def samples(self, post: Any, linear_map: Any = None) -> Any:
        return 2.0


class Doubled(KrotovHopfield):
    def change(self, *arguments: Any, **named: Any) -> Any:
        return 2.0 * super().change(*arguments, **named)


class Gains(KrotovHopfield):
    def gains(self, post: Any, *own: Any) -> Any:
        return keras.ops.relu(post)


class Mixin:
    """Overrides a part of the formula from outside of the family."""

    def decays(self, gains: Any, post: Any) -> Any:
        return None


class WithMixin(Mixin, KrotovHopfield):
    pass


class Twofold(KrotovHopfield):
    """Changes one unit at a time otherwise: both forms ask for that."""

    def unit_change(self, hebbian: Any, weights: Any, decay: Any) -> Any:
        return 2.0 * hebbian - weights


class Active(NoDecay):
    """Says that the formula suits the form of pretraining that touches few units."""

    active = 2


OWN = [NoDecay, Mixed, Currents, Samples, Doubled, Gains, WithMixin, Twofold, Active]


@pytest.mark.filterwarnings("ignore:Only .* have converged")
@pytest.mark.filterwarnings("ignore:The units of layer")
@pytest.mark.parametrize("rule", OWN)
def test_pretrain_and_fit_take_the_same_formula(rule: type[PlasticityRule]) -> None:
    x, kernels = np.abs(probe((10, 6))), []
    for run in ("fit", "pretrain"):
        layer = layers.HebbianDense(4, rule())
        model = keras.Sequential([keras.Input((6,)), layer])
        layer.kernel.assign(probe((6, 4), 1))
        if run == "fit":
            fit_steps(model, x, 0.1, 10)
        else:
            pretrain(model, x, epochs=1, batch_size=10, step_size=0.1, verbose=0)
        kernels.append(array(layer.kernel))
    assert np.max(np.abs(kernels[0] - probe((6, 4), 1))) > 0.05
    np.testing.assert_allclose(kernels[1], kernels[0], atol=1e-6)


def test_who_trains_active_units() -> None:
    says = {rule: rule().trains_active_units for rule in [KrotovHopfield, Hebb, *OWN]}
    assert {rule for rule, said in says.items() if said} == {KrotovHopfield, Twofold, Active}
    rule = KrotovHopfield()
    rule.decays = lambda gains, post: None  # type: ignore[method-assign]
    assert not rule.trains_active_units, "overridden in the object"


class Current(Oja):
    """Not the sum of inputs times weights: then the decay does not follow from the change."""

    def currents(self, pre: Any, kernel: Any, *own: Any, linear_map: Any = None) -> Any:
        return keras.ops.tanh(keras.ops.matmul(pre, kernel))


class Answer(Oja):
    def outputs(self, sums: Any, *own: Any, linear_map: Any = None) -> Any:
        return keras.ops.tanh(sums)


@pytest.mark.parametrize("rule", [Current, Answer])
def test_decays_follow_own_currents(rule: type[PlasticityRule]) -> None:
    x, w = probe((8, 5)), probe((5, 3), 1)
    tensors = [keras.ops.convert_to_tensor(each) for each in (x, w)]
    y = np.tanh(x.astype("float64") @ w)
    expected = (x.T @ y - w * np.sum(y**2, axis=0)) / len(x)
    np.testing.assert_allclose(array(rule().update(*tensors)), expected, rtol=1e-4, atol=1e-5)


def test_outputs_are_what_the_layer_returns() -> None:
    x = probe((8, 5))
    layer = layers.HebbianDense(3, Answer(), activation="relu")
    outputs = array(layer(x))
    expected = np.maximum(np.tanh(x @ array(layer.kernel)), 0.0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_spheres() -> None:
    spheres = {
        rule: rule.norm_exponent
        for rule in (
            KrotovHopfield(3.0),
            KrotovHopfieldDynamics(4.0),
            SoftHebb(),
            HardWTA(),
            HPCA(),
            Oja(),
        )
    }
    assert list(spheres.values()) == [3.0, 4.0, 2.0, 2.0, None, None]
    assert SoftHebb(anti_hebbian=False).every_unit_converges
    assert not SoftHebb().every_unit_converges
    assert HardWTA().every_unit_converges
    assert not Oja().every_unit_converges


def test_advice() -> None:
    assert SoftHebb(1.0).advice(2.5) is None
    advice = SoftHebb(1.0).advice(0.5)
    assert advice is not None
    assert "`beta` of at least 4" in advice
    assert KrotovHopfield().advice(0.0) is None


def test_a_rule_cannot_be_exchanged_under_a_built_layer() -> None:
    layer = layers.HebbianDense(3, "oja")
    layer.plasticity = "hebb"
    assert isinstance(layer.plasticity, Hebb)
    with pytest.raises(ValueError, match="`rank`"):
        layer.plasticity = KrotovHopfield(rank=5)
    layer.build((None, 4))
    with pytest.raises(AttributeError, match="`plasticity`"):
        layer.plasticity = "oja"
