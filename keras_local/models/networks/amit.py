"""The networks of Amit 2019."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._types import Config
from keras_local.activations import Ramp
from keras_local.feedback import FeedbackLike
from keras_local.layers import LocallyConnected2D
from keras_local.models.conversion.convert import convert
from keras_local.models.networks.arguments import image_shape

Tensor = Any
Loss = str | Callable[..., Any] | Config | None
"""The name of a Keras loss, a loss, or None."""


def simpnet(
    feedback: FeedbackLike = "kolen_pollack",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    untied: bool = False,
    connectivity: float | None = None,
    loss: Loss = None,
) -> keras.Model:
    """Return the shallow network of Amit 2019: one convolution and one hidden layer.

        conv 32 of 5 x 5 - max pool 3/2 - dropout .8 - dense 500 - dropout .3 - dense classes

    Like all of Amit's networks it has stride 1 and same padding, no biases, `activations.Ramp`
    after every layer except the last, and independent Glorot uniform kernels and feedback kernels.
    There are 4,103,400 weights for 10 classes, without feedback kernels. Dropout rates are
    probabilities of dropping; some of the source's untied runs use .5 for the first.

    If several entries of a pooling window are equal, which is common behind a ramp, Keras sends the
    error to one of them, and the source's code to all of them.

    Args:
        feedback: A `keras_local.feedback` rule or its alias.
        classes: Number of classes.
        input_shape: Height, width and channels.
        untied: Whether the convolution is locally connected, with kernels that are equal at all
            positions at the start.
        connectivity: Probability with which each synapse exists, forward and feedback independently
            of each other; .5 in the source's experiments. The last layer keeps all synapses. In a
            convolution the mask is shared over positions, like the kernel.
        loss: The loss with which the model is compiled, together with the source's SGD with step
            size 0.1. The source's loss is `losses.LocalHinge()`. With None the model is not
            compiled.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> model = kl.models.reference.simpnet("urfb", classes=10, loss=kl.losses.LocalHinge())
    >>> kl.models.to_plain(model).count_params()
    4103400

    Source: Amit 2019, "Deep learning with asymmetric connections and Hebbian updates"; the layers
    are taken from the parameter files in the author's published code.
    """
    untied = check.flag("untied", untied)
    model = keras.Sequential(
        [
            keras.Input(image_shape("input_shape", input_shape)),
            _window(32, 5, "conv1", untied),
            keras.layers.MaxPooling2D(3, 2, padding="same"),
            keras.layers.Dropout(0.8),
            *_head(classes, 0.3),
        ],
        name="simpnet",
    )
    return _of_amit(model, feedback, connectivity, loss, ["conv1"] if untied else [])


def deepnet(
    feedback: FeedbackLike = "kolen_pollack",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    connectivity: float | None = None,
    loss: Loss = None,
) -> keras.Model:
    """Return the deep network of Amit 2019: five convolutions and one hidden layer.

        conv 32 of 5 x 5 - max pool 3/2 - 2 conv 32 of 3 x 3 - average pool 3/2 - dropout .5 -
        2 conv 64 of 3 x 3 - average pool 3/2 - dropout .8 - dense 500 - dense classes

    There are 593,128 weights for 10 classes. That this is the paper's "deepnet" is an inference: it
    is the best match in the published code, where the second pooling takes averages. The kind of
    the third pooling was not recorded; it is assumed to be like the second.

    Args:
        feedback: A `keras_local.feedback` rule or its alias.
        classes: Number of classes.
        input_shape: Height, width and channels.
        connectivity: As in `simpnet`.
        loss: As in `simpnet`.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> kl.models.to_plain(kl.models.reference.deepnet("frfb")).count_params()
    593128

    Source: as `simpnet`.
    """
    model = keras.Sequential(
        [
            keras.Input(image_shape("input_shape", input_shape)),
            _window(32, 5, "conv1"),
            keras.layers.MaxPooling2D(3, 2, padding="same"),
            _window(32, 3, "conv2"),
            _window(32, 3, "conv2a"),
            keras.layers.AveragePooling2D(3, 2, padding="same"),
            keras.layers.Dropout(0.5),
            _window(64, 3, "conv3"),
            _window(64, 3, "conv3a"),
            keras.layers.AveragePooling2D(3, 2, padding="same"),
            keras.layers.Dropout(0.8),
            *_head(classes),
        ],
        name="deepnet",
    )
    return _of_amit(model, feedback, connectivity, loss)


def deepernet(
    feedback: FeedbackLike = "kolen_pollack",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    connectivity: float | None = None,
    loss: Loss = None,
) -> keras.Model:
    """Return the deepest network of Amit 2019: eight convolutions with sums between them.

        [conv 16 of 3 x 3, twice] - [conv 32 of 3 x 3, twice] - max pool 3/2 - dropout .5 -
        [conv 64 of 3 x 3, twice] - max pool 3/2 - [conv 128 of 2 x 2, conv 128 of 3 x 3] -
        max pool 3/2 - dropout .8 - dense 500 - dense classes

    A pair in brackets is summed: its output is `a + conv(a)`, where `a` is the output of the first
    convolution. There are 1,281,080 weights for 10 classes.

    Args:
        feedback: A `keras_local.feedback` rule or its alias.
        classes: Number of classes.
        input_shape: Height, width and channels.
        connectivity: As in `simpnet`.
        loss: As in `simpnet`.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> kl.models.to_plain(kl.models.reference.deepernet("frfb")).count_params()
    1281080

    Source: as `simpnet`.
    """
    x = inputs = keras.Input(image_shape("input_shape", input_shape))
    x = _pair(x, 16, (3, 3), "conv0")
    x = _pair(x, 32, (3, 3), "conv1")
    x = keras.layers.Dropout(0.5)(keras.layers.MaxPooling2D(3, 2, padding="same")(x))
    x = _pair(x, 64, (3, 3), "conv2")
    x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    x = _pair(x, 128, (2, 3), "conv3")
    x = keras.layers.Dropout(0.8)(keras.layers.MaxPooling2D(3, 2, padding="same")(x))
    for layer in _head(classes):
        x = layer(x)
    return _of_amit(keras.Model(inputs, x, name="deepernet"), feedback, connectivity, loss)


def deepnet_s(
    feedback: FeedbackLike = "kolen_pollack",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    untied: bool = False,
    connectivity: float | None = None,
    loss: Loss = None,
) -> keras.Model:
    """Return the network of Amit 2019 that is small enough for locally connected layers.

        [conv 16 of 3 x 3, twice] - max pool 3/3 - dropout .5 - [conv 64 of 3 x 3, twice] -
        max pool 2/2 - [conv 64 of 2 x 2, twice] - max pool 2/2 - dropout .5 - dense 500 -
        dense classes

    Pairs in brackets are summed as in `deepernet`. There are 374,584 weights for 10 classes if it
    is tied.

    Args:
        feedback: A `keras_local.feedback` rule or its alias.
        classes: Number of classes.
        input_shape: Height, width and channels.
        untied: Whether all convolutions except the first are locally connected, with kernels that
            are equal at all positions at the start. The source trains the first one in the tied
            network and then freezes it (`model.get_layer("conv0").trainable = False`).
        connectivity: As in `simpnet`.
        loss: As in `simpnet`.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> kl.models.to_plain(kl.models.reference.deepnet_s("frfb")).count_params()
    374584

    Source: as `simpnet`.
    """
    untied = check.flag("untied", untied)
    x = inputs = keras.Input(image_shape("input_shape", input_shape))
    first = _window(16, 3, "conv0")(x)
    x = keras.layers.Add()([first, _window(16, 3, "conv0a", untied)(first)])
    x = keras.layers.Dropout(0.5)(keras.layers.MaxPooling2D(3, 3, padding="same")(x))
    x = _pair(x, 64, (3, 3), "conv2", untied)
    x = keras.layers.MaxPooling2D(2, 2, padding="same")(x)
    x = _pair(x, 64, (2, 2), "conv3", untied)
    x = keras.layers.Dropout(0.5)(keras.layers.MaxPooling2D(2, 2, padding="same")(x))
    for layer in _head(classes):
        x = layer(x)
    local = ["conv0a", "conv2", "conv2a", "conv3", "conv3a"] if untied else []
    return _of_amit(keras.Model(inputs, x, name="deepnet_s"), feedback, connectivity, loss, local)


def _window(filters: int, size: int, name: str, untied: bool = False) -> keras.layers.Layer:
    arguments: dict[str, Any] = {
        "padding": "same",
        "use_bias": False,
        "activation": Ramp(),
        "name": name,
    }
    if untied:
        return LocallyConnected2D(filters, size, feedback="symmetric", **arguments)
    return keras.layers.Conv2D(filters, size, **arguments)


def _pair(
    x: Tensor, filters: int, sizes: tuple[int, int], name: str, untied: bool = False
) -> Tensor:
    first = _window(filters, sizes[0], name, untied)(x)
    return keras.layers.Add()([first, _window(filters, sizes[1], f"{name}a", untied)(first)])


def _head(classes: int, dropout: float = 0.0) -> list[keras.layers.Layer]:
    classes = check.positive_integer("classes", classes, minimum=2)
    hidden = keras.layers.Dense(500, use_bias=False, activation=Ramp(), name="hidden")
    between = [keras.layers.Dropout(dropout)] if dropout else []
    scores = keras.layers.Dense(classes, use_bias=False, name="scores")
    return [keras.layers.Flatten(), hidden, *between, scores]


def _of_amit(
    model: keras.Model,
    feedback: FeedbackLike,
    connectivity: float | None,
    loss: Loss,
    untied: Sequence[str] = (),
) -> keras.Model:
    """Convert a network; layers named in `untied` start with equal kernels at all positions."""
    if connectivity is not None:
        connectivity = check.real("connectivity", connectivity, 0.0, 1.0, exclusive=True)

    def share(layer: keras.layers.Layer) -> float | None:
        return None if layer.name == "scores" else connectivity

    model = convert(model, feedback, connectivity=share, verbose=False)
    for name in untied:
        _start_tied(model.get_layer(name))
    if loss is not None:
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def _start_tied(layer: LocallyConnected2D) -> None:
    """Give all positions the same kernel, and the same feedback kernel if the rule has one.

    The masks of synapses still differ between positions.
    """
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    shape = (*layer.kernel_size, layer.kernel.shape[-2] // taps, layer.filters)
    kernel, feedback_kernel = (keras.initializers.GlorotUniform()(shape) for _ in range(2))
    before = layer.feedback_kernel
    try:
        layer.assign_convolution(kernel, feedback_kernel=feedback_kernel)
    except ValueError:  # This rule derives the feedback from the kernel.
        layer.assign_convolution(kernel)
        return
    if layer.connectivity is not None:
        exist = ops.cast(ops.not_equal(before, 0.0), layer.kernel.dtype)
        layer.assign_feedback_kernel(layer.feedback_kernel * exist)
