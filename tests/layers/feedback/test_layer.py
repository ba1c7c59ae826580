"""What every feedback layer shares: its weights, its config, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import array, compile_options, model_gradients, probe, weights_of

DENSE = (layers.FeedbackDense, {"units": 3}, (4,))
CONV1D = (layers.FeedbackConv1D, {"filters": 3, "kernel_size": 2}, (6, 2))
CONV2D = (layers.FeedbackConv2D, {"filters": 4, "kernel_size": (2, 3)}, (6, 5, 2))
CONV3D = (layers.FeedbackConv3D, {"filters": 3, "kernel_size": 2}, (4, 4, 4, 2))
LAYERS = {"dense": DENSE, "conv1d": CONV1D, "conv2d": CONV2D, "conv3d": CONV3D}
RULES = {
    "feedback_alignment": feedback.FeedbackAlignment(),
    "offset": feedback.KolenPollack(),
    "separate": feedback.KolenPollack(separate=True),
    "rate": feedback.KolenPollack(rate=0.5),
}


def built(name: str, rule: Any, **options: Any) -> Any:
    cls, arguments, shape = LAYERS[name]
    layer = cls(**arguments, feedback=rule, **options)
    layer.build((None, *shape))
    return layer


@pytest.mark.few(6)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_feedback_kernel_has_the_kernels_shape(name: str, rule: Any) -> None:
    layer = built(name, rule)
    assert tuple(layer.feedback_kernel.shape) == tuple(layer.kernel.shape)
    assert np.abs(array(layer.feedback_kernel) - array(layer.kernel)).max() > 0.1


@pytest.mark.few(6)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_assignment(name: str, rule: Any) -> None:
    layer = built(name, rule)
    kernel = array(layer.kernel)
    value = probe(kernel.shape)
    layer.assign_feedback_kernel(value)
    np.testing.assert_allclose(array(layer.feedback_kernel), value, atol=1e-6)
    np.testing.assert_array_equal(array(layer.kernel), kernel)
    layer.assign_feedback_kernel(value.astype("float64").tolist())
    np.testing.assert_allclose(array(layer.feedback_kernel), value, atol=1e-6)
    layer.assign_feedback_kernel(layer.kernel)
    np.testing.assert_array_equal(array(layer.feedback_kernel), kernel)


@pytest.mark.few(6, rest="thorough")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("shape", [(3, 4), (4,), (4, 3, 1), (1, 3), ()])
def test_an_assignment_of_another_shape_is_refused(rule: Any, shape: tuple[int, ...]) -> None:
    layer = built("dense", rule)
    before = [array(w) for w in layer.weights]
    with pytest.raises(ValueError, match=r"`value` must have .*\(4, 3\).*Received") as refusal:
        layer.assign_feedback_kernel(np.ones(shape, "float32"))
    assert str(shape) in str(refusal.value)
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, array(weight))


def test_symmetric_has_nothing_to_assign() -> None:
    layer = built("dense", "symmetric")
    assert layer.feedback_kernel is None
    before = [array(w) for w in layer.weights]
    with pytest.raises(ValueError, match="'symmetric' has no feedback kernel"):
        layer.assign_feedback_kernel(np.ones((4, 3)))
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, array(weight))


def test_training_after_assigning_the_kernel_itself() -> None:
    layer = layers.FeedbackDense(3, feedback=feedback.KolenPollack(separate=True))
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.assign_feedback_kernel(layer.kernel)
    before = array(layer.kernel)
    model.compile("sgd", "mse", **compile_options())
    model.fit(probe((8, 4)), probe((8, 3), 1), verbose=0)
    assert np.abs(array(layer.kernel) - before).max() > 1e-4
    np.testing.assert_array_equal(array(layer.kernel), array(layer.feedback_kernel))


@pytest.mark.few(8)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_error_goes_down_through_the_feedback_kernel(name: str, rule: Any) -> None:
    """As in the layer with `symmetric` whose kernel is the feedback kernel: the map is linear."""
    layer, symmetric = built(name, rule), built(name, "symmetric")
    symmetric.kernel.assign(array(layer.feedback_kernel))
    inputs = probe((3, *LAYERS[name][2]))
    weights = probe(array(layer(inputs)).shape, 1)

    def objective(outputs: Any) -> Any:
        return keras.ops.sum(outputs * keras.ops.convert_to_tensor(weights))

    gradients, below = model_gradients(Called(layer), inputs, objective)
    expected, expected_below = model_gradients(Called(symmetric), inputs, objective)
    np.testing.assert_allclose(below, expected_below, rtol=1e-5, atol=1e-5)
    for key in ("0:kernel", "1:bias"):
        np.testing.assert_allclose(gradients[key], expected[key], rtol=1e-5, atol=1e-5)
    symmetric.kernel.assign(array(layer.kernel))
    _, straight = model_gradients(Called(symmetric), inputs, objective)
    assert np.abs(straight - below).max() > 0.1


class Called(keras.layers.Layer):
    """A layer called without a `training` argument."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__()
        self.layer = layer
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.layer(inputs)


def test_two_calls_in_one_net_share_the_weights() -> None:
    layer = layers.FeedbackDense(4, activation="tanh")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(layer(inputs)))
    kernel, feedback_kernel = array(layer.kernel), array(layer.feedback_kernel)
    x = probe((5, 4))
    gradients, _ = model_gradients(model, x, keras.ops.sum)
    hidden = np.tanh(x @ kernel)
    upper = 1 - np.tanh(hidden @ kernel) ** 2
    lower = (upper @ feedback_kernel.T) * (1 - hidden**2)
    np.testing.assert_allclose(
        gradients["0:kernel"], hidden.T @ upper + x.T @ lower, rtol=1e-4, atol=1e-5
    )


def test_a_frozen_layer_still_passes_its_error_on() -> None:
    frozen = layers.FeedbackDense(3, feedback="frfb")
    lower = layers.FeedbackDense(4, feedback="frfb")
    model = keras.Sequential([keras.Input((5,)), lower, frozen])
    frozen.trainable = False
    before = [array(w) for w in frozen.weights]
    start = array(lower.kernel)
    x, y = probe((8, 5)), probe((8, 3), 1)
    errors = (array(model(x)) - y) * 2 / y.size
    expected = start - 0.5 * x.T @ (errors @ before[2].T)
    model.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
    model.fit(x, y, batch_size=8, verbose=0)
    for old, weight in zip(before, frozen.weights, strict=True):
        np.testing.assert_array_equal(old, array(weight))
    np.testing.assert_allclose(array(lower.kernel), expected, atol=1e-6)


FULL: dict[str, Any] = {
    "activation": "relu",
    "use_bias": False,
    "feedback": feedback.KolenPollack(0.5, 0.25),
    "feedback_initializer": keras.initializers.HeNormal(seed=3),
    "kernel_initializer": keras.initializers.GlorotNormal(seed=4),
    "bias_initializer": "ones",
    "kernel_regularizer": keras.regularizers.L2(0.125),
    "bias_regularizer": keras.regularizers.L1(0.25),
    "activity_regularizer": keras.regularizers.L2(0.5),
    "kernel_constraint": keras.constraints.MaxNorm(3),
    "bias_constraint": "non_neg",
    "name": "mine",
    "dtype": "mixed_bfloat16",
    "trainable": False,
}
CONVOLUTION: dict[str, Any] = {
    "padding": "same",
    "strides": 2,
    "groups": 2,
    "data_format": "channels_first",
}


@pytest.mark.parametrize("name", LAYERS)
def test_config_round_trip(name: str) -> None:
    cls, arguments, _ = LAYERS[name]
    arguments = {**arguments, **FULL, "connectivity": 0.5}
    if cls is not layers.FeedbackDense:
        arguments = {**arguments, **CONVOLUTION, "filters": 4}
    layer = cls(**arguments)
    config = layer.get_config()
    default = cls(**LAYERS[name][1]).get_config()
    same = {key for key in config if config[key] == default.get(key)}
    assert same <= {"kernel_size", "units", "filters", "dilation_rate"}
    assert cls.from_config(config).get_config() == config
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(restored) is cls
    assert restored.get_config() == config
    assert keras.saving.get_registered_name(cls) == f"keras_local>{cls.__name__}"


def test_dilation_is_in_the_config() -> None:
    layer = layers.FeedbackConv2D(2, 3, dilation_rate=(2, 1))
    assert layer.get_config()["dilation_rate"] == (2, 1)
    assert type(layer).from_config(layer.get_config()).dilation_rate == (2, 1)


@pytest.mark.parametrize("options", [{"bogus": 1}, {"lora_rank": 2}, {"quantization_config": 1}])
def test_unknown_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        layers.FeedbackDense(2, **options)


@pytest.mark.parametrize("cls", [layers.FeedbackDense, layers.FeedbackConv2D])
def test_unknown_rule(cls: Any) -> None:
    arguments = (2,) if cls is layers.FeedbackDense else (2, 3)
    with pytest.raises(ValueError, match=r"`feedback` must be .*'urfb'.*feedback='hebb'"):
        cls(*arguments, feedback="hebb")


@pytest.mark.parametrize("value", [0, -1, 2.0, 2.5, "3", None, True])
def test_bad_units(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`units` must be .*Received: units={value!r}"):
        layers.FeedbackDense(value)


BAD_CONVOLUTIONS = {
    "filters": ({"filters": 0}, r"`filters` must be .*filters=0"),
    "filters-float": ({"filters": 2.5}, r"`filters` must be .*filters=2.5"),
    "groups": ({"groups": 0}, r"`groups` must be .*groups=0"),
    "groups-filters": ({"groups": 3}, r"`groups` must be a divisor of filters=4.*groups=3"),
    "kernel-size": ({"kernel_size": 0}, r"`kernel_size` must be .*kernel_size=0"),
    "kernel-size-rank": (
        {"kernel_size": (3, 3, 3)},
        r"`kernel_size` must be .*2 of them.*kernel_size=\(3, 3, 3\)",
    ),
    "kernel-size-text": ({"kernel_size": "33"}, r"`kernel_size` must be .*kernel_size='33'"),
    "strides": ({"strides": (1, 0)}, r"`strides` must be .*strides=\(1, 0\)"),
    "strides-none": ({"strides": None}, r"`strides` must be .*strides=None"),
    "dilation": ({"dilation_rate": 0}, r"`dilation_rate` must be .*dilation_rate=0"),
    "strides-dilation": (
        {"strides": 2, "dilation_rate": (1, 3)},
        r"`dilation_rate` must be .*strides=\(2, 2\).*dilation_rate=\(1, 3\)",
    ),
    "padding": ({"padding": "full"}, r"`padding` must be .*'valid', 'same'.*padding='full'"),
    "causal": ({"padding": "causal"}, r"`padding` must be .*padding='causal'"),
    "data-format": ({"data_format": "NHWC"}, r"`data_format` must be .*data_format='NHWC'"),
}


@pytest.mark.parametrize(("options", "message"), BAD_CONVOLUTIONS.values(), ids=BAD_CONVOLUTIONS)
def test_bad_convolutions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layers.FeedbackConv2D(**{"filters": 4, "kernel_size": 3, **options})


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_of_the_wrong_rank(name: str) -> None:
    cls, arguments, shape = LAYERS[name]
    wrong = [(4,)] if name == "dense" else [(2, *shape[1:]), (2, 2, *shape)]
    for inputs in wrong:
        layer = cls(**arguments)
        with pytest.raises(ValueError, match=r"min_ndim=|of rank \d") as refusal:
            layer(np.ones(inputs, "float32"))
        assert str(inputs) in str(refusal.value)
        assert not layer.weights


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_of_another_width_than_at_the_start(name: str) -> None:
    cls, arguments, shape = LAYERS[name]
    layer = cls(**arguments)
    layer(np.ones((2, *shape), "float32"))
    with pytest.raises(ValueError, match=str(shape[-1] + 1)):
        layer(np.ones((2, *shape[:-1], shape[-1] + 1), "float32"))


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_of_unknown_width(name: str) -> None:
    cls, arguments, shape = LAYERS[name]
    layer = cls(**arguments)
    with pytest.raises(ValueError, match=r"must be defined.*Received: input_shape=.*None"):
        layer.build((None, *shape[:-1], None))
    assert not layer.weights


def test_channels_that_do_not_divide() -> None:
    layer = layers.FeedbackConv2D(4, 3, groups=2)
    with pytest.raises(ValueError, match=r"divide by groups=2.*Received: input_shape=.*3\)"):
        layer.build((None, 6, 6, 3))
    assert not layer.weights


def test_inputs_smaller_than_the_kernel() -> None:
    stock, layer = keras.layers.Conv2D(4, 5), layers.FeedbackConv2D(4, 5)
    for refusing in (stock, layer):
        with pytest.raises(ValueError, match="negative"):
            refusing.build((None, 3, 3, 1))
    assert not layer.weights


DRAWING = {
    "mirror": feedback.WeightMirror(noise=feedback.Noise(0.5)),
    "noisy": feedback.NoisyUpdates(feedback.KolenPollack(separate=True), 0.1),
    "batchwise": feedback.SignSymmetry("batchwise"),
}


@pytest.mark.parametrize("rule", DRAWING.values(), ids=DRAWING)
@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_resumed_training_draws_the_noise_that_was_to_come(
    rule: Any, name: str, tmp_path: Path
) -> None:
    def net() -> keras.Model:
        dense = [layers.FeedbackDense(5, "tanh", feedback=rule) for _ in range(2)]
        model = keras.Sequential([keras.Input((4,)), *dense])
        model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
        return model

    generator = np.random.default_rng(0)
    x, y = (generator.normal(size=(8, n)).astype("float32") for n in (4, 5))
    model, path = net(), tmp_path / name
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    if path.suffix == ".keras":
        model.save(path)
        restored = keras.saving.load_model(path)
        restored.jit_compile = model.jit_compile
    else:
        model.save_weights(path)
        restored = net()
        restored.load_weights(path)
    before = weights_of(model)
    for each in (model, restored):
        each.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for one, other in zip(weights_of(model), weights_of(restored), strict=True):
        np.testing.assert_array_equal(one, other)
    assert max(np.abs(a - b).max() for a, b in zip(weights_of(model), before, strict=True)) > 1e-3


@pytest.mark.parametrize("rule", DRAWING.values(), ids=DRAWING)
def test_to_read_the_feedback_kernel_draws_nothing(rule: Any) -> None:
    layer = built("dense", rule)
    before = weights_of(layer)
    first = array(layer.feedback_kernel)
    np.testing.assert_array_equal(array(layer.feedback_kernel), first)
    for one, other in zip(weights_of(layer), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_unchanged_by_a_refused_call() -> None:
    layer = built("conv2d", "urfb")
    model = keras.Sequential([keras.Input((6, 5, 2)), layer])
    before = weights_of(model)
    with pytest.raises(ValueError, match="expected"):
        model(np.ones((2, 6, 5, 3), "float32"))
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
