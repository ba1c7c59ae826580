"""Random connectivity: forward and feedback synapses that exist independently of each other."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers, models
from tests.support import array, probe, train

CASES = {
    "dense": (lambda rule: layers.FeedbackDense(30, feedback=rule, connectivity=0.5), (40,)),
    "conv": (lambda rule: layers.FeedbackConv2D(12, 3, feedback=rule, connectivity=0.5), (6, 6, 8)),
}
RULES = {
    "fixed": feedback.FeedbackAlignment(),
    "updated": feedback.KolenPollack(),
    "aligned": feedback.SymmetricAlignment(),
}


def net(case: str, rule: Any) -> keras.Model:
    make, shape = CASES[case]
    below = layers.FeedbackDense(shape[-1], "tanh", feedback="symmetric")
    return keras.Sequential(
        [keras.Input(shape), below, make(rule), keras.layers.Flatten(), keras.layers.Dense(3)]
    )


def fit(model: keras.Model, optimizer: Any = None) -> None:
    inputs = probe((16, *model.input_shape[1:]))
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    train(model, optimizer, inputs, probe((16, 3), 1), "mse", epochs=3)


@pytest.mark.few(2)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("case", CASES)
def test_masks_are_independent_and_hold_through_training(case: str, rule: Any) -> None:
    keras.utils.set_random_seed(0)
    model = net(case, rule)
    layer = model.layers[1]
    ahead, back = array(layer.kernel) != 0, array(layer.feedback_kernel) != 0
    assert ahead.mean() == pytest.approx(0.5, abs=0.06)
    assert back.mean() == pytest.approx(0.5, abs=0.06)
    assert (ahead & back).mean() == pytest.approx(0.25, abs=0.06)
    before = array(layer.kernel)
    fit(model, keras.optimizers.Adam(0.01))
    kernel = array(layer.kernel)
    assert not kernel[~ahead].any()
    assert (kernel != before)[ahead].mean() > 0.95
    assert not array(layer.feedback_kernel)[~back].any()


def test_updated_feedback_receives_the_product_on_its_own_support() -> None:
    """Where both synapses exist they keep their difference; where one does, it alone learns."""
    keras.utils.set_random_seed(0)
    model = net("dense", "urfb")
    layer = model.layers[1]
    ahead, back = array(layer.kernel) != 0, array(layer.feedback_kernel) != 0
    kernel, feedback_kernel = array(layer.kernel), array(layer.feedback_kernel)
    fit(model)
    step = array(layer.kernel) - kernel
    feedback_step = array(layer.feedback_kernel) - feedback_kernel
    both = ahead & back
    assert np.abs(step[both]).max() > 1e-3
    np.testing.assert_allclose(feedback_step[both], step[both], atol=1e-6)
    assert np.abs(feedback_step[back & ~ahead]).max() > 1e-3


def test_error_goes_through_existing_feedback_synapses() -> None:
    layer = layers.FeedbackDense(3, feedback="frfb", connectivity=0.5)
    model = keras.Sequential([keras.Input((4,)), layers.FeedbackDense(4, use_bias=False), layer])
    below, inputs = model.layers[0], probe((6, 4))
    before, target = array(below.kernel), probe((6, 3), 1)
    sent = target @ array(layer.feedback_kernel).T
    train(
        model,
        keras.optimizers.SGD(1.0),
        inputs,
        target,
        lambda t, y: keras.ops.sum(t * y, axis=-1) * 6.0,
    )
    np.testing.assert_allclose(before - array(below.kernel), inputs.T @ sent, rtol=1e-4, atol=1e-5)


def test_symmetric_has_one_mask() -> None:
    layer = layers.FeedbackDense(30, feedback="symmetric", connectivity=0.3)
    layer.build((None, 40))
    assert layer.feedback_kernel is None
    assert (array(layer.kernel) != 0).mean() == pytest.approx(0.3, abs=0.05)


def test_saved_and_plain(tmp_path: Any) -> None:
    model = net("conv", "urfb")
    # Weights from elsewhere do not make synapses exist.
    model.layers[1].kernel.assign(np.ones(model.layers[1].kernel.shape))
    inputs = probe((5, 6, 6, 8))
    wanted = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.predict(inputs, verbose=0), wanted)
    plain = models.to_plain(model)
    np.testing.assert_allclose(plain.predict(inputs, verbose=0), wanted, atol=1e-6)


@pytest.mark.parametrize("connectivity", [0.0, -0.1, 1.5, "half"])
def test_bad_input(connectivity: Any) -> None:
    with pytest.raises(ValueError, match="`connectivity` must be a finite number"):
        layers.FeedbackDense(3, connectivity=connectivity)


SEVERAL = {
    "separable1d": (layers.FeedbackSeparableConv1D, {"filters": 40, "kernel_size": 9}, (9, 30)),
    "separable2d": (layers.FeedbackSeparableConv2D, {"filters": 40, "kernel_size": 5}, (5, 5, 30)),
    "attention": (layers.FeedbackMultiHeadAttention, {"num_heads": 4, "key_dim": 9}, (4, 20)),
}


def kernels_of(layer: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each kernel as it is used, and its feedback kernel."""
    parts = [part for part in layer._flatten_layers() if isinstance(part, layers.FeedbackLayer)]
    return [(array(part.used_kernel), array(part.feedback_kernel)) for part in parts]


def calling(layer: Any, shape: tuple[int, ...]) -> keras.Model:
    inputs = keras.Input(shape)
    attention = isinstance(layer, keras.layers.MultiHeadAttention)
    return keras.Model(inputs, layer(inputs, inputs) if attention else layer(inputs))


@pytest.mark.parametrize("name", SEVERAL)
def test_layers_of_several_kernels(name: str) -> None:
    """Each kernel and each feedback kernel has a mask of its own; also by conversion, and back."""
    cls, arguments, shape = SEVERAL[name]
    keras.utils.set_random_seed(0)
    layer = cls(**arguments, feedback="feedback_alignment", connectivity=0.5)
    assert cls.from_config(layer.get_config()).get_config() == layer.get_config()
    assert "connectivity" not in cls(**arguments).get_config()
    stock = calling(cls.plain(**arguments), shape)
    converted = models.convert(stock, "frfb", connectivity=0.5, verbose=False)
    found = [calling(layer, shape), converted, models.convert(converted, "urfb", verbose=False)]
    for model in found:
        kernels = kernels_of(model.layers[-1])
        assert len(kernels) == (4 if name == "attention" else 2)
        for kernel, feedback_kernel in kernels:
            ahead, back = kernel != 0, feedback_kernel != 0
            assert ahead.mean() == pytest.approx(0.5, abs=0.1)
            assert back.mean() == pytest.approx(0.5, abs=0.1)
            assert (ahead & back).mean() == pytest.approx(0.25, abs=0.1)
    for (one, _), (other, _) in zip(*(kernels_of(m.layers[-1]) for m in found[1:]), strict=True):
        np.testing.assert_array_equal(one, other)
    inputs = probe((2, *shape))
    plain = models.to_plain(converted)
    np.testing.assert_allclose(array(plain(inputs)), array(converted(inputs)), atol=1e-6)


@pytest.mark.parametrize("name", SEVERAL)
def test_bad_input_of_several_kernels(name: str) -> None:
    cls, arguments, _ = SEVERAL[name]
    with pytest.raises(ValueError, match="`connectivity` must be a finite number"):
        cls(**arguments, connectivity=0)
