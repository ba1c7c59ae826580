"""Locally connected layers: copies of convolutions, their initial law, learning, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.oracles_locally_connected import LocallyConnected
from tests.support import (
    array,
    cases,
    compile_options,
    largest_difference,
    model_gradients,
    probe,
    weights_of,
)

PAIRS: dict[str, tuple[Any, Any, dict[str, Any], tuple[int, ...]]] = {
    "1d": (
        layers.LocallyConnected1D,
        layers.FeedbackConv1D,
        {"filters": 3, "kernel_size": 3},
        (8, 2),
    ),
    "1d-same-stride": (
        layers.LocallyConnected1D,
        layers.FeedbackConv1D,
        {"filters": 3, "kernel_size": 3, "padding": "same", "strides": 2},
        (9, 2),
    ),
    "2d": (
        layers.LocallyConnected2D,
        layers.FeedbackConv2D,
        {"filters": 4, "kernel_size": (2, 3)},
        (6, 5, 2),
    ),
    "2d-same-stride": (
        layers.LocallyConnected2D,
        layers.FeedbackConv2D,
        {"filters": 4, "kernel_size": 3, "padding": "SAME", "strides": (2, 1)},
        (7, 6, 2),
    ),
}
RULES = {
    "symmetric": feedback.Symmetric(),
    "feedback_alignment": feedback.FeedbackAlignment(),
    "kolen_pollack": feedback.KolenPollack(),
    "separate": feedback.KolenPollack(separate=True),
}


def squared(outputs: Any) -> Any:
    return keras.ops.sum(outputs * outputs)


def between(layer: Any, shape: tuple[int, ...]) -> keras.Model:
    """The layer above another, so that an error passes through it."""
    below = keras.layers.Dense(
        shape[-1], kernel_initializer=keras.initializers.GlorotUniform(seed=1)
    )
    return keras.Sequential([keras.Input(shape), below, layer])


@pytest.mark.few(5, rest="thorough")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", PAIRS)
def test_a_copy_of_a_convolution_equals_it_forward_and_backward(name: str, rule: Any) -> None:
    local, conv, options, shape = PAIRS[name]
    options = {**options, "activation": "tanh", "feedback": rule}
    rank = len(shape) - 1
    ours, theirs = local(**options), conv(**options)
    net, expected_net = between(ours, shape), between(theirs, shape)
    theirs.bias.assign(probe(theirs.bias.shape, 3))
    fed = None if theirs.feedback_kernel is None else array(theirs.feedback_kernel)
    ours.assign_convolution(array(theirs.kernel), array(theirs.bias), fed)

    inputs = probe((3, *shape))
    np.testing.assert_allclose(array(net(inputs)), array(expected_net(inputs)), atol=1e-5)
    gradients, below = model_gradients(net, inputs, squared)
    expected, expected_below = model_gradients(expected_net, inputs, squared)
    assert list(gradients) == list(expected)
    np.testing.assert_allclose(below, expected_below, rtol=1e-4, atol=1e-5)
    for key, gradient in gradients.items():
        if key not in ("0:kernel", "1:bias") and gradient.ndim > 0:
            gradient = gradient.sum(axis=tuple(range(rank))).reshape(expected[key].shape)
        assert np.abs(expected[key]).max() > 0.1 or not expected[key].any()
        np.testing.assert_allclose(gradient, expected[key], rtol=1e-4, atol=1e-4)


def test_the_oracle_with_bias_and_activation_and_another_kernel_at_each_position() -> None:
    layer = layers.LocallyConnected2D(
        3, (3, 2), 2, "same", activation="tanh", feedback="feedback_alignment"
    )
    shape = (5, 4, 2)
    net = between(layer, shape)
    oracle = LocallyConnected((3, 2), (2, 2), "same")
    layer.bias.assign(probe(layer.bias.shape, 5))
    kernel, bias, fed = (array(w) for w in layer.weights)
    assert fed.shape == kernel.shape == (3, 2, 12, 3)
    assert bias.shape == (3, 2, 3)
    inputs = probe((4, *shape))
    hidden = inputs @ array(net.layers[0].kernel)
    outputs = np.tanh(oracle.apply(hidden, kernel) + bias)
    np.testing.assert_allclose(array(net(inputs)), outputs, atol=1e-5)
    delta = 2 * outputs * (1 - outputs**2)
    error = oracle.input_gradient(delta, fed, hidden.shape)
    gradients, _ = model_gradients(net, inputs, squared)
    np.testing.assert_allclose(
        gradients["2:kernel"], oracle.kernel_gradient(hidden, delta, kernel.shape), atol=1e-4
    )
    np.testing.assert_allclose(gradients["3:bias"], delta.sum(0), atol=1e-4)
    lower = np.einsum("bhwi,bhwo->io", inputs, error)
    np.testing.assert_allclose(gradients["0:kernel"], lower, rtol=1e-4, atol=1e-4)
    straight = oracle.input_gradient(delta, kernel, hidden.shape)
    assert np.abs(np.einsum("bhwi,bhwo->io", inputs, straight) - lower).max() > 0.1


@pytest.mark.parametrize("name", PAIRS)
def test_channels_first_is_the_same_transposed(name: str) -> None:
    local, _, options, shape = PAIRS[name]
    last, first = (
        local(**options, data_format=data_format, feedback="feedback_alignment")
        for data_format in ("channels_last", "channels_first")
    )
    turned = (shape[-1], *shape[:-1])
    x = probe((3, *shape))
    last.build((None, *shape))
    first.build((None, *turned))
    last.bias.assign(probe(last.bias.shape, 2))
    values = [array(w) for w in last.weights]
    first.set_weights([values[0], np.moveaxis(values[1], -1, 0), values[2]])
    expected = np.moveaxis(array(last(x)), -1, 1)
    np.testing.assert_allclose(array(first(np.moveaxis(x, -1, 1))), expected, atol=1e-5)
    assert first.compute_output_shape((3, *turned)) == expected.shape
    conv = probe((*first.kernel_size, shape[-1], first.filters), 4)
    for layer in (last, first):
        layer.assign_convolution(conv, np.arange(first.filters))
    expected = np.moveaxis(array(last(x)), -1, 1)
    np.testing.assert_allclose(array(first(np.moveaxis(x, -1, 1))), expected, atol=1e-5)


INITIALIZERS = {
    "glorot_uniform": lambda: "glorot_uniform",
    "he_normal": lambda: keras.initializers.HeNormal(seed=3),
    "lecun_uniform": lambda: keras.initializers.LecunUniform(seed=3),
    "fan_out": lambda: keras.initializers.VarianceScaling(3.0, "fan_out", seed=3),
    "normal": lambda: keras.initializers.RandomNormal(stddev=0.2, seed=3),
}


@pytest.mark.parametrize("which", ["kernel", "feedback_kernel"])
@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.slow
def test_the_initial_law_is_that_of_the_convolution(name: str, which: str) -> None:
    argument = which.replace("kernel", "initializer") if which != "kernel" else "kernel_initializer"
    options = {argument: INITIALIZERS[name](), "feedback": "feedback_alignment"}
    local = layers.LocallyConnected2D(8, 5, **options)
    local.build((None, 24, 24, 4))
    taps, c_in, c_out = 25, 4, 8
    variance = {
        "glorot_uniform": 2 / (taps * c_in + taps * c_out),
        "he_normal": 2 / (taps * c_in),
        "lecun_uniform": 1 / (taps * c_in),
        "fan_out": 3 / (taps * c_out),
        "normal": 0.04,
    }[name]
    drawn = array(getattr(local, which))
    assert drawn.shape == (20, 20, 100, 8)
    assert drawn.mean() == pytest.approx(0.0, abs=0.01 * variance**0.5)
    assert drawn.var() == pytest.approx(variance, rel=0.01)
    # Each position's kernel by itself, and no two alike.
    np.testing.assert_allclose(drawn.var(axis=(2, 3)), variance, rtol=0.35)
    assert np.abs(drawn[1:] - drawn[:-1]).max(axis=(-1, -2)).min() > 0.5 * variance**0.5
    conv = layers.FeedbackConv2D(c_out, 5, **options)
    conv.build((None, 24, 24, c_in))
    stock = array(getattr(conv, which))
    assert drawn.var() == pytest.approx(stock.var(), rel=0.1)
    assert np.abs(drawn).max() == pytest.approx(np.abs(stock).max(), rel=0.5)


def test_seeds() -> None:
    def drawn(**options: Any) -> tuple[np.ndarray, np.ndarray]:
        layer = layers.LocallyConnected1D(3, 2, feedback="feedback_alignment", **options)
        layer.build((None, 6, 2))
        return array(layer.kernel), array(layer.feedback_kernel)

    seeded = keras.initializers.HeNormal(seed=3)
    one, other = drawn(kernel_initializer=seeded), drawn(kernel_initializer=seeded)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert np.abs(one[0] - one[1]).max() > 0.1
    tied = drawn(kernel_initializer=seeded, feedback_initializer=seeded)
    np.testing.assert_array_equal(*tied)
    np.testing.assert_array_equal(tied[0], one[0])
    free, other = drawn(), drawn()
    assert np.abs(free[0] - other[0]).max() > 0.1
    assert np.abs(free[1] - other[1]).max() > 0.1


def test_making_a_layer_draws_no_more_seeds_than_a_convolution() -> None:
    """So that under one global seed all kernels above it start where they would."""
    kernels = []
    for cls in (layers.LocallyConnected2D, layers.FeedbackConv2D):
        keras.utils.set_random_seed(5)
        cls(2, 3)
        above = keras.layers.Dense(3)
        above.build((None, 4))
        kernels.append(array(above.kernel))
    np.testing.assert_array_equal(*kernels)


def test_one_step_is_that_of_feedback_alignment() -> None:
    lower = layers.LocallyConnected1D(3, 3, feedback="feedback_alignment", activation="tanh")
    upper = layers.LocallyConnected1D(2, 2, 2, feedback="feedback_alignment")
    net = keras.Sequential([keras.Input((8, 2)), lower, upper])
    low, high = LocallyConnected((3,), (1,), "valid"), LocallyConnected((2,), (2,), "valid")
    (k1, b1, _), (k2, b2, fed) = ([array(w) for w in layer.weights] for layer in net.layers)
    x, y = probe((4, 8, 2)), probe((4, 3, 2), 1)
    hidden = np.tanh(low.apply(x, k1))
    delta = 2 * (high.apply(hidden, k2) - y) / y.size
    below = high.input_gradient(delta, fed, hidden.shape) * (1 - hidden**2)
    net.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
    net.fit(x, y, batch_size=4, verbose=0)
    expected = [
        k1 - 0.5 * low.kernel_gradient(x, below, k1.shape),
        b1 - 0.5 * below.sum(0),
        array(lower.feedback_kernel),
        k2 - 0.5 * high.kernel_gradient(hidden, delta, k2.shape),
        b2 - 0.5 * delta.sum(0),
        fed,
    ]
    for weight, value in zip(weights_of(net), expected, strict=True):
        np.testing.assert_allclose(weight, value, atol=1e-5)
    assert np.abs(expected[0] - k1).max() > 0.01


@pytest.mark.daily
@pytest.mark.slow
@pytest.mark.parametrize(
    "rule", cases(["feedback_alignment", "kolen_pollack"], daily=["kolen_pollack"])
)
def test_it_learns_what_no_convolution_can(rule: Any) -> None:
    """Each position answers with a sign of its own."""
    x = probe((256, 6, 6, 1))
    y = x * np.sign(probe((6, 6, 1), 9))
    losses = {}
    for cls in (layers.LocallyConnected2D, layers.FeedbackConv2D):
        net = keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                cls(6, 3, padding="same", activation="tanh", feedback=rule),
                cls(1, 1, feedback=rule),
            ]
        )
        net.compile(keras.optimizers.Adam(0.02), "mse", **compile_options())
        history = net.fit(x, y, epochs=25, batch_size=32, shuffle=False, verbose=0)
        losses[cls] = history.history["loss"]
    ours, shared = losses[layers.LocallyConnected2D], losses[layers.FeedbackConv2D]
    assert ours[-1] < 0.15 * ours[0]
    assert shared[-1] > 0.5 * shared[0]


def test_saved_and_loaded(tmp_path: Path) -> None:
    net = keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.LocallyConnected2D(3, 2, activation="relu", kernel_initializer="he_normal"),
            keras.layers.Reshape((20, 3)),
            layers.LocallyConnected1D(2, 3, 2, "same", feedback="feedback_alignment"),
        ]
    )
    net.compile("sgd", "mse", **compile_options())
    x, y = probe((8, 6, 5, 2)), probe((8, 10, 2), 1)
    net.fit(x, y, verbose=0)
    net.save(tmp_path / "net.keras")
    restored = keras.saving.load_model(tmp_path / "net.keras")
    for layer, other in zip(net.layers, restored.layers, strict=True):
        assert type(layer) is type(other)
        assert layer.get_config() == other.get_config()
    assert largest_difference(weights_of(net), weights_of(restored)) == 0.0
    np.testing.assert_array_equal(net.predict(x, verbose=0), restored.predict(x, verbose=0))
    for model in (net, restored):
        model.fit(x, y, verbose=0)
    assert largest_difference(weights_of(net), weights_of(restored)) < 1e-6


@pytest.mark.parametrize("name", ["1d", "2d"])
def test_config_round_trip(name: str) -> None:
    cls, _, options, _ = PAIRS[name]
    layer = cls(
        **options,
        strides=2,
        padding="same",
        data_format="channels_first",
        activation="relu",
        use_bias=False,
        feedback=feedback.KolenPollack(0.5),
        feedback_initializer=keras.initializers.HeNormal(seed=3),
        kernel_initializer="glorot_normal",
        kernel_regularizer=keras.regularizers.L2(0.125),
        kernel_constraint=keras.constraints.MaxNorm(3),
        name="mine",
        dtype="mixed_bfloat16",
    )
    config = layer.get_config()
    assert cls.from_config(config).get_config() == config
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(restored) is cls
    assert restored.get_config() == config
    assert keras.saving.get_registered_name(cls) == f"keras_local>{cls.__name__}"
    # An initializer without a seed of its own remains one.
    assert layer.kernel_initializer.get_config()["seed"] is None
    assert layer.feedback_initializer.get_config()["seed"] == 3


BAD_ARGUMENTS = {
    "filters": ({"filters": 0}, r"`filters` must be .*filters=0"),
    "kernel-size": ({"kernel_size": 0}, r"`kernel_size` must be .*kernel_size=0"),
    "kernel-size-rank": ({"kernel_size": (3, 3, 3)}, r"`kernel_size` must be .*2 of them"),
    "strides": ({"strides": (1, 0)}, r"`strides` must be .*strides=\(1, 0\)"),
    "padding": ({"padding": "causal"}, r"`padding` must be .*'valid', 'same'.*'causal'"),
    "data-format": ({"data_format": "NHWC"}, r"`data_format` must be .*data_format='NHWC'"),
    "feedback": ({"feedback": "hebb"}, r"`feedback` must be .*feedback='hebb'"),
    "unknown": ({"groups": 2}, "groups"),
    "orthogonal": (
        {"kernel_initializer": "orthogonal"},
        r"`kernel_initializer` must be an initializer that draws weights independently.*Orthogonal",
    ),
    "orthogonal-feedback": (
        {"feedback_initializer": "orthogonal"},
        r"`feedback_initializer` must be an initializer that draws weights independently",
    ),
}


@pytest.mark.parametrize(("options", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layers.LocallyConnected2D(**{"filters": 4, "kernel_size": 3, **options})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((None, 6, 2), r"`input_shape` must be of rank 4 .*\(None, 6, 2\)"),
        ((None, 6, None, 2), r"must be defined.*Received: input_shape=\(None, 6, None, 2\)"),
        ((None, 6, 6, None), r"must be defined.*Received: input_shape=\(None, 6, 6, None\)"),
        ((None, 6, 2, 2), r"`input_shape` must be at least .*kernel_size=\(3, 3\).*6, 2, 2\)"),
    ],
)
def test_bad_inputs(shape: tuple[int | None, ...], message: str) -> None:
    layer = layers.LocallyConnected2D(2, 3)
    for refusing in (layer.build, layer.compute_output_shape):
        with pytest.raises(ValueError, match=message):
            refusing(shape)
    assert not layer.weights


def test_inputs_of_another_size_than_at_the_start() -> None:
    layer = layers.LocallyConnected2D(2, 3)
    layer(np.ones((2, 6, 6, 1), "float32"))
    for shape in [(2, 6, 7, 1), (2, 7, 6, 1), (2, 6, 6, 2), (2, 6, 6)]:
        with pytest.raises(ValueError, match="incompatible"):
            layer(np.ones(shape, "float32"))


BAD_COPIES = {
    "kernel": ({"kernel": np.ones((3, 3, 1, 2))}, r"`kernel` must be of shape \(3, 3, 2, 4\)"),
    "bias": ({"bias": np.ones(3)}, r"`bias` must be of shape \(4,\)"),
    "feedback": (
        {"feedback_kernel": np.ones((3, 3, 2, 3))},
        r"`feedback_kernel` must be of shape \(3, 3, 2, 4\)",
    ),
}


@pytest.mark.parametrize(("options", "message"), BAD_COPIES.values(), ids=BAD_COPIES)
def test_bad_copies(options: dict[str, Any], message: str) -> None:
    layer = layers.LocallyConnected2D(4, 3)
    layer.build((None, 5, 5, 2))
    refused(layer, {"kernel": np.ones((3, 3, 2, 4)), **options}, message)


def test_nothing_to_copy_to() -> None:
    kernel = np.ones((3, 3, 2, 4))
    layer = layers.LocallyConnected2D(4, 3, use_bias=False, feedback="symmetric")
    refused(layer, {"kernel": kernel}, "`layer` must be built")
    layer.build((None, 5, 5, 2))
    refused(layer, {"kernel": kernel, "bias": np.ones(4)}, "`bias` must be None")
    refused(layer, {"kernel": kernel, "feedback_kernel": kernel}, "has no feedback kernel")


def refused(layer: Any, options: dict[str, Any], message: str) -> None:
    before = [array(weight) for weight in layer.weights]
    with pytest.raises(ValueError, match=message):
        layer.assign_convolution(**options)
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, array(weight))
