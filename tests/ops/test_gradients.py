from __future__ import annotations

import numpy as np
import pytest
from keras import ops as kops

from keras_local import ops
from keras_local.ops import watched
from tests.support import BACKEND


def test_gradients_of_a_product():
    rng = np.random.default_rng(0)
    a, b, unused = (rng.normal(size=(3, 2)).astype("float32") for _ in range(3))
    tensors = [kops.convert_to_tensor(each) for each in (a, b, unused)]
    found = ops.gradients(lambda a, b, _: kops.sum(a * a * b), tensors)
    expected = (2 * a * b, a * a, np.zeros((3, 2)))
    for gradient, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(kops.convert_to_numpy(gradient), other, rtol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tapes are TensorFlow's")
def test_watched_by_a_tape() -> None:
    import tensorflow as tf

    x, weight = tf.ones((2,)), tf.Variable([1.0, 2.0])
    assert not watched(x)
    with tf.GradientTape() as tape:
        assert not watched(x)
        assert watched(weight * x)
        tape.watch(x)
        assert watched(x + 1.0)
    assert not watched(x)


@pytest.mark.skipif(BACKEND != "torch", reason="tensors with a gradient are PyTorch's")
def test_watched_by_autograd() -> None:
    import torch

    x = torch.ones(2)
    assert not watched(x)
    assert watched(2.0 * x.requires_grad_(True))
