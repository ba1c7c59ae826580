"""The networks of Nokland & Eidnes 2019: what is counted, where they are cut."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local import models
from keras_local.models.local import Prediction, Similarity
from keras_local.models.reference import vgg8b, vgg11b
from tests.support import tensorflow_only

pytestmark = tensorflow_only


def count(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_numbers_of_weights() -> None:
    """Those of the source: section 4 of its code's README, and counted layer by layer."""
    with keras.device("cpu"):
        assert count(vgg8b()) == 8_903_434
        assert count(vgg8b(input_shape=(28, 28, 1))) == 7_328_266
        assert count(vgg11b()) == 11_559_946


def test_numbers_of_weights_of_the_heads() -> None:
    model = vgg8b()
    heads = models.local_losses(model, Prediction(2048), keep_weights=False)
    assert count(heads) - count(model) == 133_190
    heads = models.local_losses(model, Similarity(), keep_weights=False)
    assert count(heads) - count(model) == 9_453_568


def test_a_block_for_each_layer() -> None:
    model = models.local_losses(vgg8b(dropout=0.1, width=0.05), "pred")
    names = [*(f"conv{number}_relu" for number in range(1, 7)), "hidden_relu"]
    assert model.blocks == names
    assert len(models.local_losses(vgg11b(width=0.05), "pred").blocks) == 10


def test_a_block_may_end_behind_a_pooling() -> None:
    plain = vgg8b(input_shape=(28, 28, 1), width=0.125)
    names = ["conv1_relu", "conv2_pool", "conv3_relu", "conv4_pool", "conv5_pool", "conv6_pool"]
    model = models.local_losses(plain, "pred", [*names, "hidden_relu"])
    assert model.blocks == [*names, "hidden_relu"]
    # 28 -> 14 -> 7 -> 3 -> 1: the head of the last convolution sees what goes up, 64 numbers.
    assert model.heads[5].input_shape == (None, 1, 1, 64)


def test_wide_images() -> None:
    first = vgg8b(input_shape=(96, 96, 3), width=0.05).layers[0]
    assert first.kernel_size == (7, 7)
    assert first.strides == (2, 2)


@pytest.mark.parametrize("argument", ["classes", "dropout", "width", "slope", "input_shape"])
def test_refusals(argument: str) -> None:
    for make in (vgg8b, vgg11b):
        with pytest.raises(ValueError, match=rf"^`{argument}` must be"):
            make(**{argument: -1})  # type: ignore[arg-type]
