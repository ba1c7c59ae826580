"""Where a network is cut by default, and which names a user may give."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local import models
from keras_local.models.local.cuts import Cuts
from tests.models.local.support import residual, vgg
from tests.support import array, probe


def test_a_block_ends_behind_norm_and_activation() -> None:
    assert models.local_losses(vgg(dropout=0.1)).blocks == ["relu0", "relu1", "hidden"]


def test_a_residual_block_is_one_block() -> None:
    assert models.local_losses(residual()).blocks == ["stem_relu", "sum_relu"]


def test_nested_models_are_cut_inside() -> None:
    inner = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, name="inside"), keras.layers.ReLU(name="act")]
    )
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, "tanh", name="above")(inner(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    cut = models.local_losses(model, "pred")
    assert cut.blocks == ["act", "above"]
    x = probe((4, 6))
    np.testing.assert_array_equal(array(cut(x)), array(model(x)))


def test_several_inputs_belong_to_the_first_block() -> None:
    a, b = keras.Input((4,)), keras.Input((4,))
    x = keras.layers.Dense(5, "relu", name="both")(keras.layers.Concatenate()([a, b]))
    model = keras.Model([a, b], keras.layers.Dense(3)(x))
    cut = models.local_losses(model, "pred")
    assert cut.blocks == ["both"]
    cut.compile("sgd", "sparse_categorical_crossentropy")
    cut.fit([probe((4, 4)), probe((4, 4))], np.arange(4) % 3, verbose=0)


def test_a_layer_used_twice_is_not_cut_apart() -> None:
    shared = keras.layers.Dense(6, "relu", name="shared")
    inputs = keras.Input((6,))
    x = keras.layers.Dense(6, "relu", name="between")(shared(inputs))
    x = keras.layers.Dense(6, "relu", name="upper")(shared(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    assert models.local_losses(model, "pred").blocks == ["shared", "upper"]
    with pytest.raises(ValueError, match="`blocks` must be names between which no layer"):
        models.local_losses(model, "pred", ["between"])


def test_parts_hold_every_variable_once_and_compute_the_same() -> None:
    model = residual()
    cuts = Cuts(model)
    parts = cuts.chain(cuts.automatic())
    found = [id(variable) for part in parts for variable in part.variables]
    assert sorted(found) == sorted(id(variable) for variable in model.variables)
    x = probe((3, 8, 8, 2))
    h = x
    for part in parts:
        h = part(h)
    np.testing.assert_array_equal(array(h), array(model(x)))


def test_a_list_of_names() -> None:
    assert models.local_losses(vgg(), "pred", ["relu1"]).blocks == ["relu1"]
    assert models.local_losses(vgg(), "pred", ["relu1", "conv0"]).blocks == ["conv0", "relu1"]
    assert models.local_losses(vgg(), "pred", []).blocks == []


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["lower"], "`blocks` must be .*The nearest are 'stem_relu' and 'sum'.*'lower'"),
        (["nowhere"], "`blocks` must be names of layers behind which 'residual' can be cut: "),
        (["logits"], "`blocks` must be .*nearest are 'mean'"),
        (["sum", "sum_relu"], "`blocks` must be names of the last layers of blocks that have a"),
        (["sum", "sum"], "`blocks` must be names that differ"),
        ("sum", "`blocks` must be None, or a list"),
        ([1], "`blocks` must be None, or a list"),
    ],
)
def test_refused_names(blocks: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.local_losses(residual(), "pred", blocks)  # type: ignore[arg-type]


def test_refused_models() -> None:
    shallow = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="`model` must be a model that can be cut"):
        models.local_losses(shallow)
    with pytest.raises(ValueError, match=r"`model` must be a keras\.Model"):
        models.local_losses("model")  # type: ignore[arg-type]
    single = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)]
    )
    with pytest.raises(ValueError, match="`model` must be a classifier"):
        models.local_losses(single)
    with pytest.raises(ValueError, match="`keep_weights` must be True or False"):
        models.local_losses(vgg(), keep_weights=1)  # type: ignore[arg-type]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "blocks"),
    [("MobileNetV2", 33), ("ResNet50", 18), ("ResNet50V2", 6), ("DenseNet121", 9)],
)
def test_networks_of_keras(name: str, blocks: int) -> None:
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=10)
    cuts = Cuts(model)
    places = cuts.automatic()
    assert len(places) + 1 == blocks
    parts = cuts.chain(places)
    found = [id(variable) for part in parts for variable in part.variables]
    assert sorted(found) == sorted(id(variable) for variable in model.variables)
