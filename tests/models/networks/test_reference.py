"""The networks of the papers: their sizes, their wiring, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import datasets, feedback, layers
from keras_local.activations import Ramp
from keras_local.losses import LocalHinge
from keras_local.models import conversion_report, convert, reference, to_plain
from keras_local.models.networks import biotorch
from tests.oracles import ramp
from tests.support import BACKEND, array, cases, probe, weights_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="networks: on one backend")

AMIT = {
    "simpnet": 4_103_400,
    "deepnet": 593_128,
    "deepernet": 1_281_080,
    "deepnet_s": 374_584,
}
"""Numbers of weights for 10 classes, feedback kernels not counted."""

OTHERS: dict[str, tuple[int, Callable[[], keras.Model]]] = {
    "lenet_mnist": (61_706, lambda: reference.lenet_mnist()),
    "lenet_cifar": (128_842, lambda: reference.lenet_cifar()),
    "resnet20": (269_722, lambda: reference.resnet20()),
    "resnet56": (853_018, lambda: reference.resnet56()),
    "resnet18": (11_689_512 + 64 * 64 + 128, lambda: reference.resnet18(FA, 1000, (64, 64, 3))),
}
"""Numbers of trainable weights, and how the network is made.

Kunin's has a normalised 1 x 1 convolution in the first shortcut, which the usual ResNet-18 has not.
"""

FA = "feedback_alignment"


def feedback_layers(model: keras.Model) -> list[layers.FeedbackLayer]:
    return [layer for layer in model.layers if isinstance(layer, layers.FeedbackLayer)]


def size(weights: list[Any]) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize("name", cases(AMIT, daily=["simpnet", "deepnet"]))
class TestAmit:
    def test_number_of_weights(self, name: str) -> None:
        model = getattr(reference, name)(FA)
        assert to_plain(model).count_params() == AMIT[name]
        more = getattr(reference, name)("symmetric", classes=100)
        assert more.count_params() == AMIT[name] + 90 * 500
        assert more.output_shape == (None, 100)

    def test_no_biases_and_a_ramp_everywhere_but_at_the_end(self, name: str) -> None:
        *hidden, last = feedback_layers(getattr(reference, name)(FA))
        assert all(layer.bias is None for layer in (*hidden, last))
        assert all(isinstance(layer.activation, Ramp) for layer in hidden)
        assert {layer.activation.scale for layer in hidden} == {0.5}
        assert last.activation is keras.activations.linear

    def test_every_kernel_learns(self, name: str) -> None:
        keras.utils.set_random_seed(0)
        model = getattr(reference, name)("urfb", input_shape=(16, 16, 3), loss=LocalHinge())
        assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
        before = [array(layer.kernel) for layer in feedback_layers(model)]
        feedback_before = [array(layer.feedback_kernel) for layer in feedback_layers(model)]
        model.train_on_batch(probe((4, 16, 16, 3)), np.array([0, 3, 9, 3]))
        for layer, kernel, below in zip(
            feedback_layers(model), before, feedback_before, strict=True
        ):
            change = array(layer.kernel) - kernel
            assert np.abs(change).max() > 1e-7
            np.testing.assert_allclose(array(layer.feedback_kernel) - below, change, atol=1e-6)

    def test_saved_and_loaded(self, name: str, tmp_path: Any) -> None:
        model = getattr(reference, name)("urfb", input_shape=(16, 16, 3))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        for one, other in zip(weights_of(model), weights_of(loaded), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_pairs_are_summed() -> None:
    """`a + ramp(conv(a))`: the first convolution goes round the second."""
    model = reference.deepnet_s(FA, input_shape=(8, 8, 2))
    names = ["conv0", "conv0a", "add"]
    add = next(layer for layer in model.layers if isinstance(layer, keras.layers.Add))
    parts = [model.get_layer(name).output for name in names[:2]]
    first, second, total = (
        array(t) for t in keras.Model(model.input, [*parts, add.output])(probe((2, 8, 8, 2)))
    )
    np.testing.assert_allclose(total, first + second, rtol=1e-6)
    kernel = array(model.get_layer("conv0a").kernel)
    padded = np.pad(first, [(0, 0), (1, 1), (1, 1), (0, 0)])
    field = np.einsum("bijc,ijco->bo", padded[:, 3:6, 2:5], kernel)
    np.testing.assert_allclose(second[:, 3, 2], ramp(field), rtol=1e-4, atol=1e-6)


class TestUntied:
    @pytest.mark.parametrize(
        ("name", "untied"),
        cases(
            [
                ("simpnet", {"conv1"}),
                ("deepnet_s", {"conv0a", "conv2", "conv2a", "conv3", "conv3a"}),
            ],
            daily=[("simpnet", {"conv1"})],
        ),
    )
    def test_positions_start_equal_and_part(self, name: str, untied: set[str]) -> None:
        keras.utils.set_random_seed(0)
        model = getattr(reference, name)(
            FA, input_shape=(16, 16, 3), untied=True, loss=LocalHinge()
        )
        local = [p for p in feedback_layers(model) if isinstance(p, layers.LocallyConnected2D)]
        assert {layer.name for layer in local} == untied
        for layer in local:
            kernel, feedback_kernel = array(layer.kernel), array(layer.feedback_kernel)
            assert np.ptp(kernel, axis=(0, 1)).max() == 0.0
            assert np.ptp(feedback_kernel, axis=(0, 1)).max() < 1e-6
            taps = layer.kernel_size[0] * layer.kernel_size[1]
            limit = np.sqrt(6 / (kernel.shape[2] + taps * layer.filters))
            for part in (kernel[0, 0], feedback_kernel[0, 0]):
                assert 0.9 * limit < np.abs(part).max() <= limit + 1e-6
            assert abs(np.corrcoef(kernel[0, 0].ravel(), feedback_kernel[0, 0].ravel())[0, 1]) < 0.2
        model.train_on_batch(probe((4, 16, 16, 3)), np.array([0, 3, 9, 3]))
        for layer in local:
            assert np.ptp(array(layer.kernel), axis=(0, 1)).max() > 1e-7

    def test_synapses_that_do_not_exist_stay_away(self) -> None:
        """All positions start with the same kernels, of which each has its own synapses."""
        model = reference.simpnet(FA, input_shape=(16, 16, 3), untied=True, connectivity=0.5)
        (layer,) = (p for p in model.layers if isinstance(p, layers.LocallyConnected2D))
        weights = array(layer.feedback_kernel)
        exist = weights != 0.0
        assert 0.45 < exist.mean() < 0.55
        assert np.ptp(exist.astype(int), axis=(0, 1)).min() == 1
        same = np.max(weights, axis=(0, 1)) + np.min(weights, axis=(0, 1))
        np.testing.assert_allclose(weights, exist * same, rtol=1e-5)

    def test_equals_the_tied_network(self) -> None:
        tied = reference.simpnet(FA, input_shape=(16, 16, 3))
        untied = reference.simpnet(FA, input_shape=(16, 16, 3), untied=True)
        for one, other in zip(tied.layers, untied.layers, strict=True):
            if isinstance(other, layers.LocallyConnected2D):
                other.assign_convolution(array(one.kernel))
            else:
                other.set_weights(one.get_weights())
        x = probe((3, 16, 16, 3))
        np.testing.assert_allclose(array(untied(x)), array(tied(x)), atol=1e-5)


@pytest.mark.parametrize("name", cases(OTHERS, daily=["lenet_mnist", "lenet_cifar", "resnet20"]))
def test_number_of_weights(name: str) -> None:
    count, build = OTHERS[name]
    model = build()
    assert size(to_plain(model).trainable_weights) == count
    assert model.name == name
    assert not conversion_report(model).left


@pytest.mark.parametrize(
    ("name", "depth"), cases([("resnet20", 20), ("resnet56", 56)], daily=[("resnet20", 20)])
)
def test_depth(name: str, depth: int) -> None:
    assert len(conversion_report(getattr(reference, name)(FA)).converted) == depth


@pytest.mark.parametrize(
    "name", cases(["lenet_mnist", "lenet_cifar", "resnet20"], daily=["lenet_mnist"])
)
def test_every_layer_learns(name: str, tmp_path: Any) -> None:
    keras.utils.set_random_seed(0)
    model = getattr(reference, name)(FA)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    before = {layer.name: array(layer.kernel) for layer in feedback_layers(model)}
    model.train_on_batch(probe((4, *model.input_shape[1:])), np.array([0, 3, 9, 3]))
    for layer in feedback_layers(model):
        assert np.abs(array(layer.kernel) - before[layer.name]).max() > 1e-7, layer.name
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(weights_of(model), weights_of(loaded), strict=True):
        np.testing.assert_array_equal(one, other)


def test_shortcuts_without_weights() -> None:
    x = probe((2, 4, 4, 6))
    shortcut = array(biotorch._without_weights(x, 12))
    assert shortcut.shape == (2, 2, 2, 12)
    np.testing.assert_array_equal(shortcut[..., 3:9], x[:, ::2, ::2])
    assert not shortcut[..., :3].any()
    assert not shortcut[..., 9:].any()


@pytest.mark.thorough
def test_resnet18_starts_as_published() -> None:
    """Each feedback kernel by the law of its kernel, independently; blocks start as identities."""
    keras.utils.set_random_seed(0)
    model = reference.resnet18(FA, 40, (32, 32, 3))
    for layer in feedback_layers(model):
        kernel, below = array(layer.kernel).ravel(), array(layer.feedback_kernel).ravel()
        law = 0.01 if layer.name == "scores" else np.sqrt(layer.filters / kernel.size)
        # As many kernel entries a filter as there are inputs.
        for part in (kernel, below):
            assert np.std(part) == pytest.approx(law, rel=0.05), layer.name
        assert abs(np.corrcoef(kernel, below)[0, 1]) < 0.05
    gains = [w for w in model.weights if w.path.endswith("conv2_norm/gamma")]
    assert len(gains) == 8
    assert all(not array(gain).any() for gain in gains)


@pytest.mark.parametrize("name", [*AMIT, *OTHERS])
def test_wrong_arguments(name: str) -> None:
    build = getattr(reference, name)
    with pytest.raises(ValueError, match="`feedback` must be a FeedbackRule"):
        build("backprop")
    with pytest.raises(ValueError, match="`classes` must be an integer of at least 2"):
        build(FA, classes=1)


def test_rules_can_be_exchanged() -> None:
    model = reference.simpnet(FA, input_shape=(8, 8, 1), untied=True)
    again = convert(model, "kolen_pollack", verbose=False)
    assert all(type(p.feedback) is feedback.KolenPollack for p in feedback_layers(again))
    x = probe((2, 8, 8, 1))
    np.testing.assert_array_equal(array(again(x)), array(model(x)))


@pytest.mark.thorough
def test_simpnet_learns_digits() -> None:
    keras.utils.set_random_seed(0)
    (x, y), (xe, ye) = datasets.load("digits")
    model = reference.simpnet("urfb", input_shape=(8, 8, 1), loss=LocalHinge())
    start = model.evaluate(xe, ye, verbose=0)[1]
    model.fit(x, y, batch_size=20, epochs=15, verbose=0)
    assert start < 0.3
    assert model.evaluate(xe, ye, verbose=0)[1] > 0.85


class TestConnectivity:
    @pytest.mark.parametrize(
        ("name", "options"),
        cases(
            [("simpnet", {}), ("deepnet", {}), ("deepernet", {}), ("deepnet_s", {"untied": True})],
            daily=[("simpnet", {})],
        ),
    )
    def test_half_of_the_synapses(self, name: str, options: dict[str, Any]) -> None:
        """Forward and back independently; the last layer is full, and so it stays in training."""
        keras.utils.set_random_seed(0)
        model = getattr(reference, name)(
            "urfb", input_shape=(16, 16, 3), connectivity=0.5, loss=LocalHinge(), **options
        )
        *hidden, last = feedback_layers(model)
        before = [array(layer.used_kernel) for layer in hidden]
        below = [array(layer.feedback_kernel) for layer in hidden]
        assert np.all(array(last.used_kernel) != 0)
        for kernel, back in zip(before, below, strict=True):
            tolerance = 3 / np.sqrt(kernel.size)
            assert np.mean(kernel != 0) == pytest.approx(0.5, abs=tolerance)
            assert np.mean(back != 0) == pytest.approx(0.5, abs=tolerance)
            assert np.mean((kernel != 0) & (back != 0)) == pytest.approx(0.25, abs=tolerance)
        model.train_on_batch(probe((4, 16, 16, 3)), np.array([0, 3, 9, 3]))
        for layer, kernel, back in zip(hidden, before, below, strict=True):
            assert not array(layer.used_kernel)[kernel == 0].any()
            assert not array(layer.feedback_kernel)[back == 0].any()
            assert np.any(array(layer.used_kernel) != kernel)

    def test_the_synapses_survive_another_rule_and_the_way_back(self) -> None:
        model = reference.simpnet("urfb", input_shape=(8, 8, 1), connectivity=0.5)
        x = probe((2, 8, 8, 1))
        again = convert(model, FA, verbose=False)
        np.testing.assert_array_equal(array(again(x)), array(model(x)))
        np.testing.assert_array_equal(array(to_plain(model)(x)), array(model(x)))


@pytest.mark.parametrize("name", [*AMIT, "resnet18"])
def test_wrong_shapes_and_flags(name: str) -> None:
    build = getattr(reference, name)
    for shape in (None, 32, (32, 32), (32, 32, None), (32, 0, 3), "abc"):
        with pytest.raises(ValueError, match=r"`input_shape` must be .*Received"):
            build(input_shape=shape)
    if name in ("simpnet", "deepnet_s"):
        with pytest.raises(ValueError, match=r"`untied` must be True or False"):
            build(untied="yes")
    if name in AMIT:
        with pytest.raises(ValueError, match=r"`connectivity` must be"):
            build(connectivity=2.0)
