"""Kernel and feedback kernel descend the numerical gradient of the regulariser, in float64."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from keras_local.feedback import Amplify, Decay, Nullify, SelfAlign, Sparsify
from tests.support import BACKEND, array, cases

RNG = np.random.default_rng(3)
INPUTS = RNG.normal(size=(6, 4)) + 0.5
KERNEL, FEEDBACK, BIAS = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=3)
# JAX has no double precision unless it is asked for.
CLOSE = {"rtol": 1e-4, "atol": 1e-5} if BACKEND == "jax" else {"rtol": 1e-6, "atol": 1e-8}
RATES = {"decay": 0.3, "amplify": 0.7, "nullify": 0.2, "sparsify": 0.5, "self_align": 0.4}
RULES: dict[str, tuple[Callable[..., feedback.AlignmentRule], tuple[str, ...]]] = {
    "mirror": (
        lambda **options: feedback.WeightMirror(0.7, 0.3, noise=None, **options),
        ("amplify", "decay"),
    ),
    "symmetric": (
        lambda **options: feedback.SymmetricAlignment(0.3, 0.4, **options),
        ("decay", "self_align"),
    ),
    "activation": (
        lambda **options: feedback.ActivationAlignment(0.5, 0.7, **options),
        ("sparsify", "amplify"),
    ),
    "information": (
        lambda **options: feedback.InformationAlignment(0.7, 0.2, 0.3, **options),
        ("amplify", "nullify", "decay"),
    ),
    **{
        name: (
            lambda term=term, **options: feedback.LocalAlignment(term, **options),
            (name,),
        )
        for name, term in {
            "decay": Decay(0.3),
            "amplify": Amplify(0.7),
            "nullify": Nullify(0.2),
            "sparsify": Sparsify(0.5),
            "self_align": SelfAlign(0.4),
        }.items()
    },
}


def regulariser(
    kernel: np.ndarray, back: np.ndarray, terms: tuple[str, ...], centre: bool, respond: bool
) -> float:
    """The sum of the terms, with those in the kernel itself that Kunin's code has besides."""
    outputs = INPUTS @ kernel
    if respond:
        outputs = np.tanh(outputs + BIAS)
    inputs = INPUTS - INPUTS.mean(0) if centre else INPUTS
    projection, returned = inputs @ back, outputs @ back.T

    def mean(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.sum(first * second) / len(INPUTS))

    values = {
        "decay": 0.5 * np.sum(back**2) + 0.5 * np.sum(kernel**2),
        "amplify": -mean(projection, outputs),
        "nullify": 0.5 * mean(returned, returned),
        "sparsify": 0.5 * mean(projection, projection) + 0.5 * mean(outputs, outputs),
        "self_align": -np.sum(kernel * back),
    }
    return float(sum(RATES[name] * values[name] for name in terms))


def slope(function: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    found = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-5
        found[place] = (function(at + step) - function(at - step)) / 2e-5
    return found


def learned(rule: feedback.AlignmentRule) -> tuple[np.ndarray, np.ndarray]:
    layer = layers.FeedbackDense(3, activation="tanh", feedback=rule, dtype="float64")
    layer.build((None, 4))
    layer.kernel.assign(KERNEL)
    layer.bias.assign(BIAS)
    layer.assign_feedback_kernel(FEEDBACK)
    synapses = layer._synapses()
    inputs = keras.ops.convert_to_tensor(INPUTS, dtype=synapses.kernel.dtype)
    outputs = synapses.linear_map.apply(inputs, synapses.kernel)
    forward, backward, *_ = rule.local_gradients(synapses, inputs, outputs)
    return array(forward), array(backward)


OPTIONS = [(False, False), (True, False), (False, True), (True, True)]
PAIRS = [(name, *options) for name in RULES for options in OPTIONS]
DAILY = [(name, True, True) for name in RULES] + [("mirror", *options) for options in OPTIONS[:3]]


@pytest.mark.few(6)
@pytest.mark.parametrize(("name", "centre", "respond"), cases(PAIRS, DAILY))
def test_both_kernels_descend_the_regulariser(name: str, centre: bool, respond: bool) -> None:
    make, terms = RULES[name]
    rule = make(centre=centre, respond=respond, update_forward=True)
    forward, backward = learned(rule)
    chosen = (terms, centre, respond)
    expected = slope(lambda kernel: regulariser(kernel, FEEDBACK, *chosen), KERNEL)
    np.testing.assert_allclose(forward, expected, **CLOSE)
    expected = slope(lambda back: regulariser(KERNEL, back, *chosen), FEEDBACK)
    np.testing.assert_allclose(backward, expected, **CLOSE)


def test_rates_of_zero_leave_the_weights_alone() -> None:
    rule = feedback.SymmetricAlignment(0.0, 0.0, update_forward=True)
    for gradient in learned(rule):
        np.testing.assert_array_equal(gradient, np.zeros((4, 3)))
