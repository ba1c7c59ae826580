"""The arrays of experiments: digits in the place of other images."""

from __future__ import annotations

import numpy as np
import pytest

from keras_local import datasets
from keras_local.reproduce.arrays import CLASSES, load
from keras_local.reproduce.sections import Data


@pytest.mark.parametrize(
    ("name", "shape"), [("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3)), ("cifar100", (32, 32, 3))]
)
def test_digits_stand_in_if_the_settings_say_so(
    name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether the images are there makes no difference.
    monkeypatch.setattr(datasets, "is_prepared", lambda name, data_dir: pytest.fail("asked"))
    found = load(Data(name, stand_in=True, train=100, test=50))
    (digits, labels), _ = datasets.load("digits")
    assert found.stand_in
    assert found.shape == shape
    assert (len(found.train[0]), len(found.test[0])) == (100, 50)
    np.testing.assert_array_equal(found.train[1], labels[:100])
    assert found.train[0][0, shape[0] // 2, shape[1] // 2, 0] in digits[0, 3:5, 3:5, 0]
    assert np.isclose(found.train[0].mean(), digits[:100].mean(), atol=0.06)


def test_patches_of_photographs_have_as_many_classes_as_there_are_photographs() -> None:
    found = load(Data("natural_patches", train=10, test=10), stand_in=True)
    assert not found.stand_in
    assert found.classes == CLASSES["natural_patches"] == 2
