"""The direct gradient: values, what reaches each argument, and in which precision."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local import ops
from tests import oracles_direct
from tests.support import array, probe, value_and_gradients


def send_error(error: Any, share: Any) -> Any:
    return error


def send_share(error: Any, share: Any) -> Any:
    return keras.ops.ones_like(error) * keras.ops.cast(share, error.dtype)


def test_logits_pass_and_the_loss_is_zero() -> None:
    logits, hidden, weights = probe((4, 3)), probe((4, 5), 1), probe((3, 5), 2)
    outputs, loss = ops.direct(send_error, logits, [hidden], [weights])
    np.testing.assert_array_equal(array(outputs), logits)
    assert array(loss) == 0.0
    assert array(loss).shape == ()


def test_each_hidden_tensor_gets_its_product_and_the_weights_nothing() -> None:
    logits, first, second = probe((4, 3)), probe((4, 5), 1), probe((4, 2, 3, 2), 2)
    to_first, to_second, upstream = probe((3, 5), 3), probe((3, 2, 3, 2), 4), probe((4, 3), 5)

    def loss(*tensors: Any) -> Any:
        outputs, _ = ops.direct(send_error, tensors[0], tensors[1:3], tensors[3:])
        return keras.ops.sum(outputs * keras.ops.convert_to_tensor(upstream))

    tensors = (logits, first, second, to_first, to_second)
    value, gradients = value_and_gradients(loss, *tensors)
    np.testing.assert_allclose(value, np.sum(logits * upstream), rtol=1e-5)
    np.testing.assert_allclose(gradients[0], upstream, rtol=1e-6)
    for gradient, weights in zip(gradients[1:3], (to_first, to_second), strict=True):
        expected = oracles_direct.send(upstream, weights)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    for gradient in gradients[3:]:
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_the_share_is_the_factor_of_the_losses_over_the_batch() -> None:
    logits, hidden, weights = probe((4, 3)), probe((4, 5), 1), probe((3, 5), 2)

    def loss(hidden: Any) -> Any:
        outputs, zero = ops.direct(send_share, logits, [hidden], [weights])
        return 6.0 * zero + 0.0 * keras.ops.sum(outputs)

    _, (gradient,) = value_and_gradients(loss, hidden)
    expected = oracles_direct.send(np.full((4, 3), 6.0 / 4), weights)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_a_loss_scale_may_exceed_the_range_of_float16() -> None:
    logits, hidden, weights = probe((64, 3)), probe((64, 5), 1), np.ones((3, 5), "float32")
    scale = 2.0**18

    def loss(hidden: Any) -> Any:
        half = [keras.ops.cast(tensor, "float16") for tensor in (logits, hidden)]
        _, zero = ops.direct(send_share, half[0], [half[1]], [weights])
        return scale * zero

    _, (gradient,) = value_and_gradients(loss, hidden)
    np.testing.assert_allclose(gradient, np.full((64, 5), 3 * scale / 64), rtol=1e-3)
