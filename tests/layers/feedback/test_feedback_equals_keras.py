"""`feedback="symmetric"` is the Keras layer: arguments, outputs, gradients, ten steps."""

from __future__ import annotations

import inspect
import re
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from tests.support import (
    BACKEND,
    array,
    cases,
    compile_options,
    largest_difference,
    model_gradients,
    probe,
    weights_of,
)

TWINS = {
    "dense": (layers.FeedbackDense, keras.layers.Dense),
    "conv1d": (layers.FeedbackConv1D, keras.layers.Conv1D),
    "conv2d": (layers.FeedbackConv2D, keras.layers.Conv2D),
    "conv3d": (layers.FeedbackConv3D, keras.layers.Conv3D),
    "depthwise1d": (layers.FeedbackDepthwiseConv1D, keras.layers.DepthwiseConv1D),
    "depthwise2d": (layers.FeedbackDepthwiseConv2D, keras.layers.DepthwiseConv2D),
    "separable1d": (layers.FeedbackSeparableConv1D, keras.layers.SeparableConv1D),
    "separable2d": (layers.FeedbackSeparableConv2D, keras.layers.SeparableConv2D),
    "transposed1d": (layers.FeedbackConv1DTranspose, keras.layers.Conv1DTranspose),
    "transposed2d": (layers.FeedbackConv2DTranspose, keras.layers.Conv2DTranspose),
    "transposed3d": (layers.FeedbackConv3DTranspose, keras.layers.Conv3DTranspose),
    "einsum": (layers.FeedbackEinsumDense, keras.layers.EinsumDense),
}
SEPARABLE = (layers.FeedbackSeparableConv1D, layers.FeedbackSeparableConv2D)
# What the layer of a name cannot do without.
NEEDED: dict[str, dict[str, Any]] = {
    "dense": {"units": 2},
    "depthwise1d": {"kernel_size": 1},
    "depthwise2d": {"kernel_size": 1},
    "einsum": {"equation": "ab,bc->ac", "output_shape": 3},
}
# Arguments that are called otherwise than in a layer with one kernel and a bias.
KERNELS = {
    "depthwise1d": ("depthwise",),
    "depthwise2d": ("depthwise",),
    "separable1d": ("depthwise", "pointwise"),
    "separable2d": ("depthwise", "pointwise"),
}


def needed(name: str) -> dict[str, Any]:
    return NEEDED.get(name, {"filters": 2, "kernel_size": 1})


def seeded(name: str, **options: Any) -> dict[str, Any]:
    """Arguments that draw the same weights in both layers."""
    options = {"kernel_initializer": keras.initializers.HeNormal(seed=5), **options}
    return {
        _renamed(argument, kernel): value
        for kernel in KERNELS.get(name, ("kernel",))
        for argument, value in options.items()
    }


def _renamed(argument: str, kernel: str) -> str:
    return argument if argument == "kernel_size" else re.sub("^kernel_", f"{kernel}_", argument)


COMMON = {
    "activation": "relu",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.1, seed=7),
    "kernel_regularizer": keras.regularizers.L1L2(0.01, 0.02),
    "bias_regularizer": keras.regularizers.L2(0.03),
    "activity_regularizer": keras.regularizers.L2(0.04),
    "kernel_constraint": keras.constraints.MaxNorm(0.9),
    "bias_constraint": keras.constraints.NonNeg(),
}
CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "dense": ("dense", {"units": 4}, (5,)),
    "dense-common": ("dense", {"units": 4, **COMMON}, (5,)),
    "dense-no-bias": ("dense", {"units": 4, "use_bias": False, "activation": "tanh"}, (5,)),
    "dense-rank-4": ("dense", {"units": 4}, (2, 3, 5)),
    "conv1d": ("conv1d", {"filters": 4, "kernel_size": 3}, (7, 2)),
    "conv1d-causal-dilated": (
        "conv1d",
        {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2},
        (7, 2),
    ),
    "conv1d-strided-grouped": (
        "conv1d",
        {"filters": 4, "kernel_size": 3, "padding": "same", "strides": 2, "groups": 2},
        (7, 2),
    ),
    "conv2d-common": ("conv2d", {"filters": 4, "kernel_size": 3, **COMMON}, (6, 5, 2)),
    "conv2d-strided": (
        "conv2d",
        {"filters": 4, "kernel_size": (3, 2), "padding": "SAME", "strides": (2, 1)},
        (6, 5, 2),
    ),
    "conv2d-dilated": (
        "conv2d",
        {"filters": 4, "kernel_size": 2, "dilation_rate": (2, 1), "use_bias": False},
        (6, 5, 2),
    ),
    "conv2d-grouped": ("conv2d", {"filters": 4, "kernel_size": 3, "groups": 2}, (6, 5, 4)),
    "conv2d-channels-first": (
        "conv2d",
        {"filters": 4, "kernel_size": 3, "data_format": "channels_first"},
        (2, 6, 5),
    ),
    "conv3d": ("conv3d", {"filters": 3, "kernel_size": 2, "activation": "elu"}, (4, 3, 4, 2)),
    "conv3d-strided": (
        "conv3d",
        {"filters": 3, "kernel_size": 2, "padding": "same", "strides": (1, 2, 2)},
        (4, 3, 4, 2),
    ),
    "depthwise1d-strided": (
        "depthwise1d",
        {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2},
        (7, 2),
    ),
    "depthwise2d": ("depthwise2d", {"kernel_size": 3}, (6, 5, 2)),
    "depthwise2d-common": (
        "depthwise2d",
        {"kernel_size": (3, 2), "depth_multiplier": 2, **COMMON},
        (6, 5, 2),
    ),
    "depthwise2d-strided": (
        "depthwise2d",
        {"kernel_size": 3, "padding": "SAME", "strides": 2, "use_bias": False},
        (6, 5, 2),
    ),
    "depthwise2d-dilated": (
        "depthwise2d",
        {"kernel_size": 2, "dilation_rate": (2, 1), "activation": "tanh"},
        (6, 5, 2),
    ),
    "depthwise2d-channels-first": (
        "depthwise2d",
        {"kernel_size": 3, "data_format": "channels_first", "depth_multiplier": 3},
        (2, 6, 5),
    ),
    "separable1d": (
        "separable1d",
        {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2},
        (7, 2),
    ),
    "separable2d": ("separable2d", {"filters": 4, "kernel_size": 3}, (6, 5, 2)),
    "separable2d-common": (
        "separable2d",
        {"filters": 4, "kernel_size": (3, 2), "depth_multiplier": 2, **COMMON},
        (6, 5, 2),
    ),
    "separable2d-strided": (
        "separable2d",
        {"filters": 3, "kernel_size": 3, "padding": "same", "strides": 2, "use_bias": False},
        (6, 5, 2),
    ),
    "separable2d-dilated": (
        "separable2d",
        {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "activation": "tanh"},
        (6, 5, 2),
    ),
    "transposed1d": (
        "transposed1d",
        {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 0},
        (4, 2),
    ),
    "transposed2d": ("transposed2d", {"filters": 4, "kernel_size": 3}, (4, 3, 2)),
    "transposed2d-common": (
        "transposed2d",
        {"filters": 4, "kernel_size": (3, 2), "strides": 2, **COMMON},
        (4, 3, 2),
    ),
    "transposed2d-same": (
        "transposed2d",
        {"filters": 3, "kernel_size": 3, "padding": "SAME", "strides": (2, 1), "use_bias": False},
        (4, 3, 2),
    ),
    "transposed2d-output-padding": (
        "transposed2d",
        {"filters": 3, "kernel_size": 3, "padding": "same", "strides": 2, "output_padding": (1, 0)},
        (4, 3, 2),
    ),
    "transposed2d-channels-first": (
        "transposed2d",
        {"filters": 3, "kernel_size": 3, "data_format": "channels_first", "activation": "elu"},
        (2, 4, 3),
    ),
    "transposed3d": (
        "transposed3d",
        {"filters": 3, "kernel_size": (2, 3, 1), "strides": (2, 1, 2), "activation": "tanh"},
        (3, 2, 3, 2),
    ),
    "einsum": (
        "einsum",
        {"equation": "ab,bc->ac", "output_shape": 4, "bias_axes": "c", "activation": "tanh"},
        (5,),
    ),
    "einsum-common": (
        "einsum",
        {
            "equation": "abc,cde->abde",
            "output_shape": (3, 2, 4),
            "bias_axes": "de",
            **COMMON,
        },
        (3, 5),
    ),
    "einsum-attention-out": (
        "einsum",
        {"equation": "abcd,cde->abe", "output_shape": [3, 4], "bias_axes": "e"},
        (3, 2, 5),
    ),
    "einsum-no-bias": ("einsum", {"equation": "abc,cd->abd", "output_shape": (3, 4)}, (3, 5)),
    "einsum-ellipsis-left": (
        "einsum",
        {"equation": "...ab,bc->...ac", "output_shape": (3, 4), "bias_axes": "ac"},
        (2, 3, 5),
    ),
    "einsum-ellipsis-right": (
        "einsum",
        {"equation": "ab...,bc->ac...", "output_shape": 4, "bias_axes": "c"},
        (3, 5),
    ),
}


def pair(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    ours, theirs = TWINS[name]
    options = seeded(name, **options)
    return ours(**options, feedback="symmetric"), theirs(**options)


def model(layer: Any, shape: tuple[int, ...]) -> keras.Model:
    """The layer between others, so that an error passes through it."""
    below = keras.layers.Dense(
        shape[-1], kernel_initializer=keras.initializers.GlorotUniform(seed=1)
    )
    head = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed=2))
    return keras.Sequential([keras.Input(shape), below, layer, keras.layers.Flatten(), head])


def equal(ours: Any, theirs: Any) -> None:
    """Bit for bit on TensorFlow, to 1e-6 elsewhere."""
    if BACKEND == "tensorflow":
        np.testing.assert_array_equal(array(ours), array(theirs))
    else:
        np.testing.assert_allclose(array(ours), array(theirs), rtol=1e-6, atol=1e-6)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], tuple[int, ...]]:
    return CASES[request.param]


@pytest.mark.few(14)
def test_outputs_and_gradients(case: tuple[str, dict[str, Any], tuple[int, ...]]) -> None:
    name, options, shape = case
    ours, theirs = (model(layer, shape) for layer in pair(name, options))
    inputs = probe((3, *shape))
    equal(ours(inputs), theirs(inputs))
    gradients, below = model_gradients(ours, inputs, lambda y: keras.ops.sum(y * y))
    expected, expected_below = model_gradients(theirs, inputs, lambda y: keras.ops.sum(y * y))
    assert len(gradients) == len(expected)
    for gradient, wanted in zip(gradients.values(), expected.values(), strict=True):
        assert np.abs(wanted).max() > 0
        equal(gradient, wanted)
    equal(below, expected_below)


TRAINED = [
    "dense-common",
    "conv1d-causal-dilated",
    "conv2d-common",
    "conv2d-strided",
    "separable2d-common",
    "einsum-common",
]


@pytest.mark.parametrize("case", cases(CASES, daily=TRAINED), indirect=True)
def test_ten_steps_of_fit(case: tuple[str, dict[str, Any], tuple[int, ...]]) -> None:
    name, options, shape = case
    losses, weights, starts = [], [], []
    for layer in pair(name, options):
        net = model(layer, shape)
        starts.append(weights_of(net))
        net.compile(keras.optimizers.SGD(0.02, momentum=0.9), "mse", **compile_options())
        history = net.fit(
            probe((40, *shape)), probe((40, 2), 1), batch_size=4, shuffle=False, verbose=0
        )
        losses.append(history.history["loss"])
        weights.append(weights_of(net))
    assert largest_difference(starts[0], starts[1]) == 0.0
    assert largest_difference(starts[0], weights[0]) > 1e-2
    equal(losses[0], losses[1])
    for ours, theirs in zip(*weights, strict=True):
        equal(ours, theirs)


@pytest.mark.few(8)
def test_shapes_masks_and_names(case: tuple[str, dict[str, Any], tuple[int, ...]]) -> None:
    name, options, shape = case
    ours, theirs = pair(name, options)
    ours.build((None, *shape))
    theirs.build((None, *shape))
    assert [_name(w, ours) for w in ours.weights] == [w.name for w in theirs.weights]
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    assert ours.supports_masking == theirs.supports_masking
    assert ours.count_params() == theirs.count_params()
    for batch in (None, 3):
        assert ours.compute_output_shape((batch, *shape)) == tuple(
            theirs.compute_output_shape((batch, *shape))
        )
        assert ours(keras.Input(shape, batch)).shape == theirs(keras.Input(shape, batch)).shape


def test_separable_with_channels_first() -> None:
    """To rounding: where TensorFlow moves the channels, Keras does so once for both products."""
    options = {"filters": 4, "kernel_size": 3, "data_format": "channels_first"}
    ours, theirs = (model(layer, (2, 6, 5)) for layer in pair("separable2d", options))
    inputs = probe((3, 2, 6, 5))
    np.testing.assert_allclose(array(ours(inputs)), array(theirs(inputs)), atol=1e-6)
    gradients, below = model_gradients(ours, inputs, lambda y: keras.ops.sum(y * y))
    expected, expected_below = model_gradients(theirs, inputs, lambda y: keras.ops.sum(y * y))
    for gradient, wanted in zip(gradients.values(), expected.values(), strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(below, expected_below, rtol=1e-5, atol=1e-5)


def test_einsum_sizes_that_the_inputs_have() -> None:
    options = {"equation": "abc,cde->abde", "output_shape": (None, 2, 4), "bias_axes": "de"}
    ours, theirs = pair("einsum", options)
    inputs = probe((2, 3, 5))
    equal(ours(inputs), theirs(inputs))
    assert ours.compute_output_shape((2, 3, 5)) == theirs.compute_output_shape((2, 3, 5))
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]


@pytest.mark.daily
@pytest.mark.parametrize("rule", ["symmetric", "feedback_alignment", "kolen_pollack"])
@pytest.mark.parametrize("name", TWINS)
def test_unseeded_kernels_start_where_those_of_keras_start(name: str, rule: str) -> None:
    (ours, theirs), shape = TWINS[name], next(c[2] for c in CASES.values() if c[0] == name)
    options = next(c[1] for c in CASES.values() if c[0] == name)
    keras.utils.set_random_seed(3)
    layer, above = ours(**options, feedback=rule), keras.layers.Dense(2)
    layer.build((None, *shape))
    above.build((None, 7))
    keras.utils.set_random_seed(3)
    stock, stock_above = theirs(**options), keras.layers.Dense(2)
    stock.build((None, *shape))
    stock_above.build((None, 7))
    feedback = {
        id(w)
        for part in layer._flatten_layers()
        if isinstance(part, layers.FeedbackLayer)
        for w in part._feedback_weights
    }
    forward = [w for w in layer.weights if id(w) not in feedback]
    for one, other in zip(
        [*forward, above.kernel], [*stock.weights, stock_above.kernel], strict=True
    ):
        np.testing.assert_array_equal(array(one), array(other))


def _name(weight: Any, layer: Any) -> str:
    """A kernel inside of a separable convolution is called after the layer that holds it."""
    inner = isinstance(layer, SEPARABLE) and weight.name == "kernel"
    return "_".join(weight.path.split("/")[-2:]) if inner else weight.name


@pytest.mark.parametrize("name", [name for name in TWINS if name.endswith("d")])
def test_shapes_of_unknown_size(name: str) -> None:
    rank = int(name[-2])
    options = {**needed(name), "kernel_size": 2, "strides": 2, "padding": "same"}
    ours, theirs = pair(name, options)
    shape = (None,) * (rank + 1) + (2,)
    assert ours.compute_output_shape(shape) == tuple(theirs.compute_output_shape(shape))
    assert ours(keras.Input(shape[1:])).shape == theirs(keras.Input(shape[1:])).shape


@pytest.mark.few(6)
@pytest.mark.parametrize(
    "policy",
    # JAX has no float64 unless it is told so before it starts.
    ["mixed_float16", "mixed_bfloat16", *(["float64"] if BACKEND != "jax" else [])],
)
@pytest.mark.parametrize(
    "name",
    [
        "dense",
        "conv2d-strided",
        "depthwise2d-strided",
        "separable2d",
        "transposed2d-same",
        "einsum-common",
    ],
)
def test_types_follow_the_policy(name: str, policy: str) -> None:
    kind, options, shape = CASES[name]
    ours, theirs = pair(kind, {**options, "dtype": policy})
    inputs = probe((2, *shape))
    outputs, expected = ours(inputs), theirs(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == ours.compute_dtype
    assert [w.dtype for w in ours.weights] == [w.dtype for w in theirs.weights]
    equal(keras.ops.cast(outputs, "float32"), keras.ops.cast(expected, "float32"))


LEFT_OUT = ("lora", "quantization", "gptq")


@pytest.mark.few(5)
@pytest.mark.parametrize("name", TWINS)
def test_every_argument_of_the_keras_layer(name: str) -> None:
    (ours, theirs), options = TWINS[name], needed(name)
    arguments = [
        name
        for name, parameter in inspect.signature(theirs.__init__).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        and name != "self"
        and not name.startswith(LEFT_OUT)
    ]
    assert len(arguments) >= 10
    layer = ours(**options)
    config = layer.get_config()
    assert set(arguments) <= set(config)
    # The Keras Dense layer leaves its activity regularizer out of its config.
    own = {"feedback", "feedback_initializer", "activity_regularizer"}
    assert set(config) - set(theirs(**options).get_config()) <= own
    # Their defaults are the defaults here, and their config is understood.
    stock = {k: v for k, v in theirs(**options).get_config().items() if not k.startswith(LEFT_OUT)}
    assert {k: config[k] for k in stock if k != "name"} == {
        k: v for k, v in stock.items() if k != "name"
    }
    restored = ours.from_config(stock)
    assert restored.get_config()["name"] == stock["name"]


@pytest.mark.parametrize(("ours", "theirs"), TWINS.values(), ids=TWINS)
def test_leading_positional_arguments_are_theirs(ours: Any, theirs: Any) -> None:
    def positional(cls: Any) -> list[str]:
        return list(inspect.signature(cls.__init__).parameters)[1:]

    shared = positional(ours)[: positional(ours).index("feedback")]
    assert shared == positional(theirs)[: len(shared)]
    einsum = ours is layers.FeedbackEinsumDense
    assert shared[-2:] == ["activation", "bias_axes" if einsum else "use_bias"]
    assert positional(ours)[len(shared) : len(shared) + 2] == ["feedback", "feedback_initializer"]
    assert ours.plain is theirs


@pytest.mark.parametrize("rule", ["symmetric", "feedback_alignment", "kolen_pollack"])
def test_kernels_start_where_those_of_keras_start(rule: str) -> None:
    """Under one global seed, and whatever the rule; feedback kernels follow the same seed."""

    def stack(cls: Any, conv: Any, **options: Any) -> list[Any]:
        keras.utils.set_random_seed(3)
        stacked = [conv(4, 3, **options), conv(4, 3, **options), cls(5, **options)]
        net = keras.Sequential([keras.Input((9, 9, 4)), *stacked])
        return net.layers

    theirs = stack(keras.layers.Dense, keras.layers.Conv2D)
    ours = stack(layers.FeedbackDense, layers.FeedbackConv2D, feedback=rule)
    again = stack(layers.FeedbackDense, layers.FeedbackConv2D, feedback=rule)
    for one, stock, other in zip(ours, theirs, again, strict=True):
        np.testing.assert_array_equal(array(one.kernel), array(stock.kernel))
        if rule == "symmetric":
            continue
        drawn = array(one.feedback_kernel)
        np.testing.assert_array_equal(drawn, array(other.feedback_kernel))
        assert abs(np.corrcoef(drawn.ravel(), array(one.kernel).ravel())[0, 1]) < 0.5
    if rule != "symmetric":
        first, second = (array(layer.feedback_kernel) for layer in ours[:2])
        assert np.abs(first - second).max() > 0.1
