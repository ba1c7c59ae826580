"""Every rule: its formula, the same on patches and in a convolution, and what it stores."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, ops, plasticity
from keras_local.plasticity import Mean
from tests import oracles_hebbian as oracle
from tests.plasticity.encoders import assert_close, fit_steps
from tests.plasticity.rules import CASES, Case, per_unit
from tests.support import array, probe

tensor = keras.ops.convert_to_tensor

PARAMETERS = [pytest.param(case, id=name) for name, case in CASES.items()]


def own_of(case: Case, inputs: int, units: int, seed: int = 5) -> list[Any]:
    return [tensor(each.astype("float32")) for each in case.own(inputs, units, seed)]


def reduced(case: Case, x: np.ndarray, w: np.ndarray, own: list[Any], **options: Any) -> Any:
    """The change after the reduction, before everything that follows it."""
    rule, x, w = case.rule, tensor(x), tensor(w)
    post = rule.currents(x, w, *own, **options)
    change = rule.change(x, post, w, *own, **options)
    linear_map = options.get("linear_map", ops.Dense())
    return array(Mean()(change, rule.samples(post, linear_map)))


@pytest.mark.parametrize("case", PARAMETERS)
def test_formula(case: Case) -> None:
    x, w = probe((10, 7)), case.scale * probe((7, 5), 1)
    own = own_of(case, 7, 5)
    expected = case.change(x, w, *map(array, own))
    expected = expected if per_unit(case.rule) else expected / len(x)
    assert np.sum(np.any(expected != 0.0, axis=0)) >= 3, "several units learn"
    assert_close(reduced(case, x, w, own), expected, 2e-5)


@pytest.mark.few(8)
@pytest.mark.parametrize("case", PARAMETERS)
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_equals_dense_on_patches(case: Case, stride: int) -> None:
    images, kernel = probe((2, 6, 7, 3)), case.scale * probe((3, 2, 3, 5), 1)
    rows = oracle.patches(images, (3, 2), (stride, stride)).reshape(-1, 18)
    own = own_of(case, 18, 5)
    dense = reduced(case, rows, kernel.reshape(18, 5), own)
    arrays = [array(each) for each in own]
    arrays = [each.reshape(3, 2, 3, 1) if each.shape == (18, 1) else each for each in arrays]
    convolution = ops.Convolution((stride, stride), "valid", (1, 1))
    change = reduced(case, images, kernel, list(map(tensor, arrays)), linear_map=convolution)
    assert change.shape == kernel.shape
    assert_close(change.reshape(18, 5), dense.astype("float64"), 3e-5)


@pytest.mark.few(6)
@pytest.mark.parametrize("case", PARAMETERS)
def test_locally_connected_equals_a_dense_layer_at_each_position(case: Case) -> None:
    images = probe((6, 5, 4, 2))
    linear_map = ops.LocallyConnected((2, 3), (2, 1), "valid")
    kernel = case.scale * probe((2, 2, 12, 5), 1)
    seen = oracle.patches(images, (2, 3), (2, 1))
    places = list(np.ndindex(2, 2))
    each = [case.own(12, 5, 7 + number) for number, _ in enumerate(places)]
    own = [
        # What is one number for the whole layer stays one.
        np.stack(parts).reshape(2, 2, *np.shape(parts[0])) if np.ndim(parts[0]) else parts[0]
        for parts in zip(*each, strict=True)
    ]
    own = [tensor(np.asarray(one, "float32")) for one in own]
    change = reduced(case, images, kernel, own, linear_map=linear_map)
    assert change.shape == kernel.shape
    for place, mine in zip(places, each, strict=True):
        there = (slice(None), *place)
        mine = [tensor(np.asarray(one, "float32")) for one in mine]
        dense = reduced(case, seen[there], kernel[place], mine)
        assert_close(change[place], dense.astype("float64"), 3e-5)


@pytest.mark.few(6)
@pytest.mark.parametrize("case", PARAMETERS)
def test_a_modulator_of_one_changes_nothing(case: Case) -> None:
    x, w = tensor(probe((10, 7))), tensor(case.scale * probe((7, 5), 1))
    own = own_of(case, 7, 5)
    post = case.rule.currents(x, w, *own)
    plain = array(case.rule.change(x, post, w, *own))
    ones = keras.ops.ones((10, 1))
    np.testing.assert_array_equal(array(case.rule.change(x, post, w, *own, modulator=ones)), plain)
    other = tensor(probe((10, 1), 3))
    assert np.any(array(case.rule.change(x, post, w, *own, modulator=other)) != plain)


@pytest.mark.parametrize("case", PARAMETERS)
def test_round_trip(case: Case) -> None:
    rule = case.rule
    restored = plasticity.get(plasticity.serialize(rule))
    assert type(restored) is type(rule)
    assert restored.get_config() == rule.get_config()


@pytest.mark.parametrize("alias", sorted(plasticity._ALIASES))
def test_alias(alias: str) -> None:
    assert plasticity.get(alias).get_config() == plasticity._ALIASES[alias]().get_config()
    elsewhere = {"third_factor", "reward_modulated_hebb"}
    assert alias in {name.removesuffix("_positive") for name in CASES} | elsewhere


@pytest.mark.parametrize("padding", ["valid", "same", "reflect"])
@pytest.mark.parametrize("patch_norm", [False, True])
def test_layer_on_images_equals_layer_on_patches(padding: str, patch_norm: bool) -> None:
    """One step of `fit` of the convolution is that of the dense layer on its patches."""
    images, kernel = probe((2, 6, 6, 3)), 0.5 * probe((3, 3, 3, 4), 1)
    mode = {"same": "constant", "reflect": "reflect"}.get(padding)
    padded = images if mode is None else np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], mode)
    rows = oracle.patches(padded, (3, 3), (2, 2) if padding == "reflect" else (1, 1))
    rows = rows.reshape(-1, 27)
    if patch_norm:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 5.0)
        assert 0.2 < np.mean(np.isclose(np.linalg.norm(rows, axis=-1), 1.0)) < 0.9
    rule = plasticity.SoftHebb(2.0)
    dense = keras.Sequential([keras.Input((27,)), layers.HebbianDense(4, rule)])
    layer = layers.HebbianConv2D(
        4, 3, 2 if padding == "reflect" else 1, padding, rule, patch_norm=patch_norm, floor=5.0
    )
    model = keras.Sequential([keras.Input((6, 6, 3)), layer])
    dense.layers[0].kernel.assign(kernel.reshape(27, 4))
    layer.kernel.assign(kernel)
    outputs = array(model(images))
    assert outputs.shape == layer.compute_output_shape(images.shape)
    assert_close(outputs.reshape(-1, 4), array(dense(rows)).astype("float64"), 2e-6)
    fit_steps(dense, rows, 0.5, len(rows))
    fit_steps(model, images, 0.5, 2)
    moved = array(layer.kernel).reshape(27, 4) - kernel.reshape(27, 4)
    assert np.max(np.abs(moved)) > 0.1
    expected = array(dense.layers[0].kernel) - kernel.reshape(27, 4)
    assert_close(moved, expected.astype("float64"), 3e-5)


def test_one_dimension() -> None:
    series, kernel = probe((4, 9, 3)), 0.5 * probe((4, 3, 5), 1)
    rule = plasticity.SoftHebb(2.0)
    layer = layers.HebbianConv1D(5, 4, 2, "reflect", rule)
    model = keras.Sequential([keras.Input((9, 3)), layer])
    layer.kernel.assign(kernel)
    padded = np.pad(series, [(0, 0), (1, 2), (0, 0)], "reflect")
    rows = np.stack([padded[:, i : i + 4].reshape(4, 12) for i in range(0, 9, 2)], axis=1)
    expected = rows.astype("float64") @ kernel.reshape(12, 5)
    assert_close(array(model(series)), expected, 1e-6)
    assert model.output_shape == (None, 5, 5)
    fit_steps(model, series, 0.5, 4)
    change = oracle.soft_hebb(rows.reshape(-1, 12), kernel.reshape(12, 5), 2.0, True)
    lengths = np.linalg.norm(kernel.reshape(12, 5), axis=0)
    step = 0.5 * change / np.max(np.abs(change)) * np.abs(lengths - 1.0) ** 0.5
    assert_close(array(layer.kernel).reshape(12, 5) - kernel.reshape(12, 5), step, 1e-4)
