"""Quantisation and LoRA: refused by name, with what to do instead, and nothing is changed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, models
from tests.support import array, cases, probe

ADVICE = r"convert to plain layers, then quantise.*to_plain\(model\)\.quantize"
FAMILIES: dict[str, Any] = {
    "dense": lambda **options: layers.FeedbackDense(3, **options),
    "einsum": lambda **options: layers.FeedbackEinsumDense("ab,bc->ac", 3, **options),
    "convolution": lambda **options: layers.FeedbackConv2D(2, 3, **options),
    "depthwise": lambda **options: layers.FeedbackDepthwiseConv2D(3, **options),
    "separable": lambda **options: layers.FeedbackSeparableConv2D(2, 3, **options),
    "transposed": lambda **options: layers.FeedbackConv2DTranspose(2, 3, **options),
    "locally-connected": lambda **options: layers.LocallyConnected2D(2, 3, **options),
    "attention": lambda **options: layers.FeedbackMultiHeadAttention(2, 3, **options),
}
family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)


@family
@pytest.mark.parametrize(
    "policy", cases(["float8_from_float32", "int4_from_float32"], ["int8_from_float32"])
)
def test_quantised_policies(make: Any, policy: str) -> None:
    with pytest.raises(ValueError, match=f"`dtype` must be.*{ADVICE}"):
        make(dtype=policy)
    with pytest.raises(ValueError, match=f"`dtype` must be.*{ADVICE}"):
        make(dtype=keras.dtype_policies.get(policy))
    layer = make()
    with pytest.raises(ValueError, match=f"`dtype_policy` must be.*{ADVICE}"):
        layer.dtype_policy = policy
    assert layer.dtype_policy.name == "float32"
    layer.dtype_policy = "float64"
    assert layer.variable_dtype == "float64"


@family
def test_arguments(make: Any) -> None:
    for argument in ("lora_rank", "lora_alpha", "quantization_config"):
        with pytest.raises(ValueError, match=f"`{argument}` must be None.*{ADVICE}"):
            make(**{argument: 2})
        make(**{argument: None})


@family
def test_methods(make: Any) -> None:
    layer = make()
    with pytest.raises(ValueError, match=f"`enable_lora`.*{ADVICE}"):
        layer.enable_lora(2)
    layer.built = True
    with pytest.raises(NotImplementedError, match=f"`quantize`.*{ADVICE}"):
        layer.quantize("int8")


def test_policy_for_one_layer_of_a_map() -> None:
    """Which policy of a map a layer has is known when it is built."""
    policies = keras.dtype_policies.DTypePolicyMap()
    policies["lower"] = keras.dtype_policies.get("int8_from_float32")
    layer = layers.FeedbackDense(3, dtype=policies, name="lower")
    with pytest.raises(ValueError, match=f"`dtype` must be.*{ADVICE}"):
        layer.build((None, 4))
    assert not layer.weights
    other = layers.FeedbackDense(3, dtype=policies, name="upper")
    other.build((None, 4))
    assert array(other.kernel).dtype == "float32"


def test_models_are_quantised_as_plain_models() -> None:
    model = keras.Sequential(
        [keras.Input((6,)), layers.FeedbackDense(8, "relu"), layers.FeedbackDense(3)]
    )
    x = probe((5, 6))
    expected = model.predict(x, verbose=0)
    with pytest.warns(UserWarning, match=ADVICE):
        model.quantize("int8")
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    plain = models.to_plain(model)
    plain.quantize("int8")
    assert plain.layers[-1].dtype_policy.quantization_mode == "int8"
    served = plain.predict(x, verbose=0)
    np.testing.assert_allclose(served, expected, atol=0.1 * np.abs(expected).max())


def test_the_kernel_is_not_exchanged() -> None:
    layer = layers.FeedbackDense(3)
    layer.build((None, 4))
    with pytest.raises(AttributeError, match="kernel"):
        layer.kernel = np.zeros((4, 3))
    assert layer.kernel is layer.weights[0]
