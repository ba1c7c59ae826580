"""What identical updates imply: the difference of the two kernels is a constant of the motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback
from tests.feedback.nets import NETS, feedback_kernels, fit, kernels
from tests.support import largest_difference

FORMS = {
    "offset": feedback.KolenPollack(),
    "separate": feedback.KolenPollack(separate=True),
}
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.2),
    "nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.02),
}
STEPS = 40


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> feedback.KolenPollack:
    return FORMS[request.param]


@pytest.mark.few(3, rest="thorough")
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_difference_is_constant(
    form: feedback.KolenPollack, net: Callable[..., Any], optimizer: Callable[[], Any]
) -> None:
    model = net(form)
    before, feedback_before = kernels(model), feedback_kernels(model)
    losses = fit(model, optimizer(), STEPS)
    assert sum(losses[-2:]) < sum(losses[:2])
    for start, fb_start, end, fb_end in zip(
        before, feedback_before, kernels(model), feedback_kernels(model), strict=True
    ):
        assert np.abs(end - start).max() > 1e-2
        assert np.abs(fb_end - fb_start).max() > 1e-2
        np.testing.assert_allclose(end - fb_end, start - fb_start, rtol=0, atol=1e-6)


DECAYING = {
    "sgd": (lambda: keras.optimizers.SGD(0.1, weight_decay=0.1), 1 - 0.1 * 0.1),
    "momentum": (
        lambda: keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.4),
        1 - 0.05 * 0.4,
    ),
    "adamw": (lambda: keras.optimizers.AdamW(0.01, weight_decay=1.0), 1 - 0.01 * 1.0),
}


@pytest.mark.few(3, rest="thorough")
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize(("optimizer", "factor"), DECAYING.values(), ids=DECAYING)
def test_difference_shrinks_under_decoupled_decay(
    form: feedback.KolenPollack,
    net: Callable[..., Any],
    optimizer: Callable[[], Any],
    factor: float,
) -> None:
    model = net(form)
    before = [w - b for w, b in zip(kernels(model), feedback_kernels(model), strict=True)]
    fit(model, optimizer(), STEPS)
    for start, w, b in zip(before, kernels(model), feedback_kernels(model), strict=True):
        np.testing.assert_allclose(w - b, factor**STEPS * start, rtol=0, atol=1e-6)
        assert np.abs(start).max() > 0.1
    assert 0.4 < factor**STEPS < 0.7


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_difference_shrinks_under_the_decay_of_the_rule(net: Callable[..., Any]) -> None:
    model = net(feedback.KolenPollack(decay=0.1))
    before = [w - b for w, b in zip(kernels(model), feedback_kernels(model), strict=True)]
    fit(model, keras.optimizers.SGD(0.1), STEPS)
    for start, w, b in zip(before, kernels(model), feedback_kernels(model), strict=True):
        np.testing.assert_allclose(w - b, 0.99**STEPS * start, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("name", ["sgd", "nesterov"])
def test_rate_weighs_the_kernel_in_the_constant(rate: float, name: str) -> None:
    model = NETS["dense"](feedback.KolenPollack(rate=rate))
    before, feedback_before = kernels(model), feedback_kernels(model)
    fit(model, OPTIMIZERS[name](), STEPS)
    assert largest_difference(kernels(model), before) > 0.1
    for w, b, start, fb_start in zip(
        kernels(model), feedback_kernels(model), before, feedback_before, strict=True
    ):
        np.testing.assert_allclose(b - rate * w, fb_start - rate * start, rtol=0, atol=2e-6)
        assert np.abs(w - start).max() > 1e-2


def test_rate_zero_is_fixed_feedback() -> None:
    updated, fixed = NETS["dense"](feedback.KolenPollack(rate=0.0)), NETS["dense"]("frfb")
    fixed.set_weights(updated.get_weights())
    before = feedback_kernels(updated)
    fit(updated, keras.optimizers.SGD(0.2))
    fit(fixed, keras.optimizers.SGD(0.2))
    for start, end in zip(before, feedback_kernels(updated), strict=True):
        np.testing.assert_array_equal(start, end)
    assert largest_difference(kernels(updated), kernels(fixed)) < 1e-6


def test_alignment_grows_with_the_difference_constant() -> None:
    """Both kernels take the same steps, so the longer the way, the smaller the angle."""
    model = NETS["dense"](feedback.KolenPollack())
    before = angles(model)
    fit(model, keras.optimizers.SGD(0.5), 200)
    assert (angles(model) < before - 5).all()


def angles(model: keras.Model) -> np.ndarray:
    pairs = zip(kernels(model), feedback_kernels(model), strict=True)
    cosines = [np.vdot(w, b) / np.linalg.norm(w) / np.linalg.norm(b) for w, b in pairs]
    return np.degrees(np.arccos(cosines))
