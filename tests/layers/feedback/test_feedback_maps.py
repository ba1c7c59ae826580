"""Depthwise, separable and transposed convolutions and Einstein sums with a feedback rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from keras_local.layers.direct.error_paths import open_path
from tests import oracles
from tests.support import array, compile_options, largest_difference, probe, train, weights_of

# What a product sends down, and what it teaches its kernel, in NumPy.
Send = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def depthwise(strides: tuple[int, ...], padding: str) -> tuple[Send, Send]:
    """A convolution with as many groups as there are channels."""
    rank = len(strides)
    convolution = oracles.Convolution(strides, padding, (1,) * rank)

    def flat(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(*kernel.shape[:rank], 1, -1)

    return (
        lambda x, e, kernel: convolution.input_gradient(e, flat(kernel), x.shape),
        lambda x, e, kernel: convolution.kernel_gradient(x, e, flat(kernel).shape).reshape(
            kernel.shape
        ),
    )


def transposed(strides: tuple[int, ...], padding: str) -> tuple[Send, Send]:
    """The adjoint of a convolution."""
    convolution = oracles.Convolution(strides, padding, (1,) * len(strides))
    return (
        lambda x, e, kernel: convolution.apply(e, kernel),
        lambda x, e, kernel: convolution.kernel_gradient(e, x, kernel.shape),
    )


def einsum(down: str, change: str) -> tuple[Send, Send]:
    return (
        lambda x, e, kernel: np.einsum(down, e, kernel),
        lambda x, e, kernel: np.einsum(change, x, e),
    )


LAYERS: dict[str, tuple[Any, dict[str, Any], tuple[int, ...], tuple[Send, Send]]] = {
    "depthwise1d": (
        layers.FeedbackDepthwiseConv1D,
        {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2},
        (7, 3),
        depthwise((2,), "same"),
    ),
    "depthwise2d": (
        layers.FeedbackDepthwiseConv2D,
        {"kernel_size": (3, 2), "depth_multiplier": 2},
        (5, 6, 3),
        depthwise((1, 1), "valid"),
    ),
    "transposed1d": (
        layers.FeedbackConv1DTranspose,
        {"filters": 4, "kernel_size": 3, "strides": 2},
        (4, 2),
        transposed((2,), "valid"),
    ),
    "transposed2d": (
        layers.FeedbackConv2DTranspose,
        {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"},
        (4, 3, 2),
        transposed((2, 2), "same"),
    ),
    "transposed3d": (
        layers.FeedbackConv3DTranspose,
        {"filters": 3, "kernel_size": (2, 3, 2), "strides": 2, "padding": "same"},
        (2, 2, 3, 2),
        transposed((2, 2, 2), "same"),
    ),
    "einsum": (
        layers.FeedbackEinsumDense,
        {"equation": "abc,cde->abde", "output_shape": (None, 2, 4), "bias_axes": "de"},
        (3, 5),
        einsum("abde,cde->abc", "abc,abde->cde"),
    ),
    "einsum-ellipsis": (
        layers.FeedbackEinsumDense,
        {"equation": "...cd,cde->...e", "output_shape": 4, "bias_axes": "e"},
        (3, 2, 5),
        einsum("abe,cde->abcd", "abcd,abe->cde"),
    ),
}
SEPARABLE: dict[str, tuple[Any, dict[str, Any], tuple[int, ...]]] = {
    name: (
        cls,
        {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2},
        shape,
    )
    for name, cls, shape in (
        ("separable1d", layers.FeedbackSeparableConv1D, (7, 3)),
        ("separable2d", layers.FeedbackSeparableConv2D, (6, 5, 3)),
    )
}
EVERY: dict[str, tuple[Any, dict[str, Any], tuple[int, ...]]] = {
    **{name: case[:3] for name, case in LAYERS.items()},
    **SEPARABLE,
}
RULES = {
    "feedback_alignment": feedback.FeedbackAlignment(),
    "offset": feedback.KolenPollack(),
    "separate": feedback.KolenPollack(separate=True),
}


def built(name: str, rule: Any, **options: Any) -> Any:
    cls, arguments, shape = EVERY[name]
    layer = cls(**{**arguments, **options}, feedback=rule)
    layer.build((None, *shape))
    return layer


def parts(layer: Any) -> list[Any]:
    """The layers with one kernel and one rule."""
    return [part for part in layer._flatten_layers() if isinstance(part, layers.FeedbackLayer)]


def step(layer: Any, below: Any, x: np.ndarray, error: np.ndarray) -> list[np.ndarray]:
    """The changes of all weights by a step of size 1 with the error `error` at the outputs."""
    model = keras.Sequential([keras.Input(x.shape[1:]), below, layer])
    before = weights_of(model)

    def product(target: Any, outputs: Any) -> Any:
        # Keras takes the mean over the batch.
        each = keras.ops.reshape(target * outputs, (len(x), -1))
        return keras.ops.sum(each, axis=-1) * len(x)

    train(model, keras.optimizers.SGD(1.0), x, error, product, batch_size=len(x))
    return [old - new for old, new in zip(before, weights_of(model), strict=True)]


@pytest.mark.few(8)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_error_goes_down_through_the_feedback_kernel(name: str, rule: Any) -> None:
    layer, (down, change) = built(name, rule), LAYERS[name][3]
    x = probe((3, *EVERY[name][2]))
    below = keras.layers.Dense(x.shape[-1], use_bias=False)
    below.build(x.shape)
    hidden = x @ array(below.kernel)
    error = probe(array(layer(hidden)).shape, 1)
    kernel, feedback_kernel = array(layer.kernel), array(layer.feedback_kernel)
    at_below, at_kernel, at_bias, *_ = step(layer, below, x, error)

    def through(kernel: np.ndarray) -> np.ndarray:
        sent = down(hidden, error, kernel)
        return np.tensordot(x, sent, (range(x.ndim - 1),) * 2)

    np.testing.assert_allclose(at_below, through(feedback_kernel), rtol=1e-4, atol=1e-4)
    assert np.abs(through(kernel) - at_below).max() > 0.1
    np.testing.assert_allclose(at_kernel, change(hidden, error, kernel), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        at_bias.ravel(), error.reshape(-1, at_bias.size).sum(0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", SEPARABLE)
def test_the_error_goes_down_through_both_feedback_kernels(name: str, rule: Any) -> None:
    layer = built(name, rule)
    x = probe((3, *EVERY[name][2]))
    below = keras.layers.Dense(x.shape[-1], use_bias=False)
    below.build(x.shape)
    hidden = x @ array(below.kernel)
    error = probe(array(layer(hidden)).shape, 1)
    rank = x.ndim - 2
    window, places = (0,) * rank, (range(rank + 1),) * 2
    field = array(layer.depthwise(hidden))
    upper, lower = (array(part.feedback_kernel) for part in (layer.pointwise, layer.depthwise))
    lower_kernel = array(layer.depthwise_kernel)
    changes = step(layer, below, x, error)
    paths = [weight.path.split("/")[-2:] for weight in (*below.weights, *layer.weights)]
    by_name = {"/".join(path): change for path, change in zip(paths, changes, strict=True)}
    down, change = depthwise((2,) * rank, "same")

    between = error @ upper[window].T
    sent = down(hidden, between, lower)
    expected = np.tensordot(x, sent, places)
    np.testing.assert_allclose(changes[0], expected, rtol=1e-4, atol=1e-4)
    straight = np.tensordot(x, down(hidden, between, lower_kernel), places)
    assert np.abs(straight - changes[0]).max() > 0.1
    np.testing.assert_allclose(
        by_name["depthwise/kernel"], change(hidden, between, lower), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        by_name["pointwise/kernel"][window],
        np.tensordot(field, error, places),
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_allclose(
        by_name["pointwise/bias"], error.sum(tuple(places[0])), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", EVERY)
def test_kolen_pollack_keeps_the_difference_of_the_kernels(name: str) -> None:
    layer = built(name, feedback.KolenPollack(separate=True))
    inputs = probe((24, *EVERY[name][2]))
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    targets = probe(array(model(inputs)).shape, 1)
    before = [(array(part.kernel), array(part.feedback_kernel)) for part in parts(layer)]
    train(model, keras.optimizers.SGD(0.5), inputs, targets, "mse", 3)
    for part, (kernel, feedback_kernel) in zip(parts(layer), before, strict=True):
        assert np.abs(array(part.kernel) - kernel).max() > 1e-3
        drift = array(part.feedback_kernel) - array(part.kernel) - (feedback_kernel - kernel)
        assert np.abs(drift).max() < 1e-6
        assert np.abs(feedback_kernel - kernel).max() > 0.1


@pytest.mark.parametrize("name", EVERY)
def test_feedback_kernels_are_drawn_apart_from_the_kernels(name: str) -> None:
    layer = built(name, "feedback_alignment")
    assert parts(layer)
    for part in parts(layer):
        kernel, feedback_kernel = array(part.kernel), array(part.feedback_kernel)
        assert kernel.shape == feedback_kernel.shape
        assert abs(np.corrcoef(kernel.ravel(), feedback_kernel.ravel())[0, 1]) < 0.6
        # One law, and so one scale.
        assert 0.5 < np.abs(feedback_kernel).max() / np.abs(kernel).max() < 2
        part.assign_feedback_kernel(probe(kernel.shape))
        np.testing.assert_array_equal(array(part.feedback_kernel), probe(kernel.shape))


def test_the_law_of_an_einstein_sum_counts_by_the_equation() -> None:
    """Of a kernel (4, 5, 6) with "abc,cde->abde", 4 lead in and 30 out."""
    equation, law = "abc,cde->abde", keras.initializers.VarianceScaling(mode="fan_out", seed=1)
    options = {"feedback": "feedback_alignment", "feedback_initializer": law}
    layer = layers.FeedbackEinsumDense(equation, (None, 5, 6), **options)
    layer.build((None, 2, 4))
    told = keras.initializers.VarianceScaling(
        mode="fan_out", seed=1, input_axes=[0], output_axes=[1, 2]
    )
    np.testing.assert_array_equal(array(layer.feedback_kernel), array(told((4, 5, 6))))
    assert np.abs(array(law((4, 5, 6))) - array(layer.feedback_kernel)).max() > 0.01
    assert layer.get_config()["feedback_initializer"]["config"]["input_axes"] is None


@pytest.mark.few(7)
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_saving(name: str, rule: Any, tmp_path: Path) -> None:
    shape = EVERY[name][2]
    layer = built(name, rule, activation="tanh")
    model = keras.Sequential([keras.Input(shape), layer])
    for part in parts(layer):
        part.assign_feedback_kernel(probe(part.kernel.shape, 3))
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    x = probe((2, *shape))
    np.testing.assert_array_equal(array(model(x)), array(restored(x)))
    for one, other in zip(parts(layer), parts(restored.layers[-1]), strict=True):
        np.testing.assert_array_equal(array(one.feedback_kernel), array(other.feedback_kernel))
    assert largest_difference(weights_of(model), weights_of(restored)) == 0.0


COMMON: dict[str, Any] = {
    "activation": "relu",
    "feedback": feedback.KolenPollack(0.5, 0.25),
    "feedback_initializer": keras.initializers.HeNormal(seed=3),
    "bias_initializer": "ones",
    "bias_regularizer": keras.regularizers.L1(0.25),
    "activity_regularizer": keras.regularizers.L2(0.5),
    "bias_constraint": "non_neg",
    "name": "mine",
    "dtype": "mixed_bfloat16",
    "trainable": False,
}


def of_kernel(kernel: str, value: float) -> dict[str, Any]:
    return {
        f"{kernel}_initializer": keras.initializers.GlorotNormal(seed=4),
        f"{kernel}_regularizer": keras.regularizers.L2(value),
        f"{kernel}_constraint": keras.constraints.MaxNorm(value),
    }


WINDOW = {
    "kernel_size": 5,
    "strides": 2,
    "padding": "same",
    "data_format": "channels_first",
    "use_bias": False,
}
FULL: dict[str, dict[str, Any]] = {
    "depthwise1d": {**WINDOW, "depth_multiplier": 3, **of_kernel("depthwise", 0.125)},
    "depthwise2d": {**WINDOW, "depth_multiplier": 3, **of_kernel("depthwise", 0.125)},
    **{
        name: {**WINDOW, "filters": 5, "output_padding": 1, **of_kernel("kernel", 0.125)}
        for name in ("transposed1d", "transposed2d", "transposed3d")
    },
    "einsum": {
        "equation": "ab,bc->ac",
        "output_shape": 7,
        "bias_axes": "c",
        **of_kernel("kernel", 0.125),
    },
    **{
        name: {
            **WINDOW,
            "filters": 5,
            "depth_multiplier": 3,
            **of_kernel("depthwise", 0.125),
            **of_kernel("pointwise", 0.75),
        }
        for name in SEPARABLE
    },
}


@pytest.mark.parametrize("name", FULL)
def test_config_round_trip(name: str) -> None:
    cls = EVERY[name][0]
    layer = cls(**{**FULL[name], **COMMON})
    config = layer.get_config()
    default = cls(**EVERY[name][1]).get_config()
    assert {key for key in config if config[key] == default[key]} == (
        {"dilation_rate"} if "strides" in FULL[name] else set()
    ) | ({"strides", "padding"} & set(EVERY[name][1]))
    assert cls.from_config(config).get_config() == config
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(restored) is cls
    assert restored.get_config() == config
    assert keras.saving.get_registered_name(cls) == f"keras_local>{cls.__name__}"
    assert cls(**{**EVERY[name][1], "name": "again"}).get_config()["name"] == "again"


@pytest.mark.parametrize("name", [name for name in FULL if name != "einsum"])
def test_dilation_is_in_the_config(name: str) -> None:
    cls, arguments, _ = EVERY[name]
    config = cls(**{**arguments, "strides": 1, "dilation_rate": 2}).get_config()
    assert set(config["dilation_rate"]) == {2}
    assert cls.from_config(config).get_config() == config


def test_a_frozen_separable_layer_stays_and_still_passes_its_error_on() -> None:
    for frozen in (built("separable2d", "frfb", trainable=False), built("separable2d", "frfb")):
        frozen.trainable = False
        shape = EVERY["separable2d"][2]
        lower = keras.layers.Dense(shape[-1])
        model = keras.Sequential([keras.Input(shape), lower, frozen, keras.layers.Flatten()])
        before, start = [array(w) for w in frozen.weights], array(lower.kernel)
        targets = probe((8, *model.output_shape[1:]), 1)
        model.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
        model.fit(probe((8, *shape)), targets, batch_size=8, verbose=0)
        for old, weight in zip(before, frozen.weights, strict=True):
            np.testing.assert_array_equal(old, array(weight))
        assert np.abs(array(lower.kernel) - start).max() > 1e-3


def test_a_detached_separable_layer_is_seen_to_stop_errors() -> None:
    inputs = keras.Input(EVERY["separable2d"][2])
    for rule, reached in (("feedback_alignment", True), (feedback.Detached(), False)):
        layer = built("separable2d", rule)
        assert (open_path(layer(inputs), [inputs]) is not None) is reached


def test_a_separable_layer_reports_each_part() -> None:
    layer = built("separable2d", "kolen_pollack", depthwise_regularizer="l2")
    own, pointwise = layer.depthwise, layer.pointwise
    # A regulariser of one kernel alone asks for a feedback weight of its own, there only.
    assert [w.name for w in own._feedback_weights] == ["feedback_kernel"]
    assert [w.name for w in pointwise._feedback_weights] == [
        "feedback_kernel_offset",
        "feedback_kernel_scale",
    ]
    assert len(layer.losses) == 1
    expected = 0.01 * np.sum(array(layer.depthwise_kernel) ** 2)
    np.testing.assert_allclose(array(layer.losses[0]), expected, rtol=1e-5)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "multiplier": ("depthwise2d", {"depth_multiplier": 0}, r"`depth_multiplier` must be .*=0"),
    "kernel-size": ("depthwise2d", {"kernel_size": (3, 3, 3)}, r"`kernel_size` must be .*3\)"),
    "strides": ("depthwise2d", {"strides": 0}, r"`strides` must be .*strides=0"),
    "dilation": ("depthwise2d", {"dilation_rate": -1}, r"`dilation_rate` must be .*=-1"),
    "padding": ("depthwise2d", {"padding": "causal"}, r"`padding` must be .*'causal'"),
    "data-format": ("depthwise2d", {"data_format": "NHWC"}, r"`data_format` must be .*'NHWC'"),
    "rule": ("depthwise2d", {"feedback": "hebb"}, r"`feedback` must be .*'urfb'.*'hebb'"),
    "name-of-the-kernel": (
        "depthwise2d",
        {"kernel_initializer": "zeros"},
        r"`kernel_initializer` must be .*`depthwise_initializer`.*'zeros'",
    ),
    "unknown": ("depthwise2d", {"bogus": 1}, "bogus"),
    "filters": ("transposed2d", {"filters": 0}, r"`filters` must be .*filters=0"),
    "groups": ("transposed2d", {"groups": 2}, "groups"),
    "output-padding": (
        "transposed2d",
        {"output_padding": (1, 2)},
        r"`output_padding` must be less than strides=\(2, 2\).*\(1, 2\)",
    ),
    "output-padding-negative": (
        "transposed2d",
        {"output_padding": -1},
        r"`output_padding` must be .*at least 0.*=-1",
    ),
    "strides-dilation": (
        "transposed2d",
        {"dilation_rate": 2},
        r"`dilation_rate` must be 1 .*strides=\(2, 2\)",
    ),
    "separable-filters": ("separable2d", {"filters": 2.5}, r"`filters` must be .*filters=2.5"),
    "separable-multiplier": (
        "separable2d",
        {"depth_multiplier": "2"},
        r"`depth_multiplier` must be .*'2'",
    ),
    "separable-rule": ("separable2d", {"feedback": "hebb"}, r"`feedback` must be .*'hebb'"),
    "separable-unknown": ("separable2d", {"bogus": 1}, "bogus"),
    "equation": ("einsum", {"equation": "ab,bc"}, r"`equation` must be .*'ab,bc'"),
    "summed": ("einsum", {"equation": "ab,bcd->ac"}, r"`equation` must be .*two terms or three"),
    "output-shape": ("einsum", {"output_shape": (0, 2)}, r"`output_shape` must be .*\(0, 2\)"),
    "output-shape-none": ("einsum", {"output_shape": None}, r"`output_shape` must be .*None"),
    "bias-axes": ("einsum", {"bias_axes": "c"}, r"`bias_axes` must be .*'abde'.*'c'"),
    "bias-axes-empty": ("einsum", {"bias_axes": ""}, r"`bias_axes` must be .*''"),
    "use-bias": ("einsum", {"use_bias": True}, r"`use_bias` must be .*`bias_axes`.*True"),
    "lora": ("einsum", {"lora_rank": 2}, "lora_rank"),
}


@pytest.mark.parametrize(("name", "options", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(name: str, options: dict[str, Any], message: str) -> None:
    cls, arguments, _ = EVERY[name]
    with pytest.raises(ValueError, match=message):
        cls(**{**arguments, **options})


BAD_INPUTS: dict[str, tuple[str, dict[str, Any], tuple[int | None, ...], str]] = {
    "rank": ("depthwise2d", {}, (None, 5, 3), r"of rank 4.*\(None, 5, 3\)"),
    "unknown": ("depthwise2d", {}, (None, 5, 5, None), r"must be defined.*None\)"),
    "small": ("depthwise2d", {}, (None, 2, 2, 3), "negative"),
    "transposed-rank": ("transposed2d", {}, (None, 5, 3), r"of rank 4.*\(None, 5, 3\)"),
    "transposed-unknown": ("transposed2d", {}, (None, 5, 5, None), "must be defined"),
    "separable-rank": ("separable2d", {}, (None, 5, 3), r"of rank 4.*\(None, 5, 3\)"),
    "separable-unknown": ("separable2d", {}, (None, 5, 5, None), "must be defined"),
    "separable-small": ("separable2d", {"padding": "valid"}, (None, 2, 2, 3), "negative"),
    "einsum-rank": ("einsum", {}, (None, 5), r"`input_shape` must be .*'abc,cde->abde'"),
    "einsum-rank-ellipsis": ("einsum-ellipsis", {}, (None,), r"`input_shape` must be .*rank"),
    "einsum-unknown": ("einsum", {}, (None, 3, None), r"axes \['c'\] .* must be defined"),
    "einsum-unknown-bias": (
        "einsum",
        {"bias_axes": "bde"},
        (None, None, 5),
        r"axes \['b'\] .* must be defined",
    ),
    "einsum-unequal": (
        "einsum",
        {"output_shape": (4, 2, 4)},
        (None, 3, 5),
        r"agree with the inputs on the axis 'b'.*\(4, 2, 4\).*\(None, 3, 5\)",
    ),
    "einsum-output-rank": (
        "einsum",
        {"output_shape": (2, 4)},
        (None, 3, 5),
        r"`output_shape` must be .*'abde'.*\(2, 4\)",
    ),
}


@pytest.mark.parametrize(
    ("name", "options", "shape", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS
)
def test_bad_inputs(name: str, options: dict[str, Any], shape: Any, message: str) -> None:
    cls, arguments, _ = EVERY[name]
    layer = cls(**{**arguments, **options})
    with pytest.raises(ValueError, match=message):
        layer.build(shape)
    assert not layer.weights


@pytest.mark.parametrize("name", EVERY)
def test_inputs_of_another_width_than_at_the_start(name: str) -> None:
    layer, shape = built(name, "frfb"), EVERY[name][2]
    before = [array(w) for w in layer.weights]
    with pytest.raises(ValueError, match=str(shape[-1] + 1)):
        layer(np.ones((2, *shape[:-1], shape[-1] + 1), "float32"))
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, array(weight))
