"""The networks of Sanfiz & Akrout 2021 (BioTorch)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local.feedback import FeedbackLike
from keras_local.models.conversion.convert import convert
from keras_local.models.networks.normed_convolution import normed_convolution

Tensor = Any


def lenet_mnist(feedback: FeedbackLike = "feedback_alignment", classes: int = 10) -> keras.Model:
    """Return the LeNet of BioTorch's benchmark on MNIST and Fashion-MNIST.

        conv 6 of 5 x 5 - max pool 2 - conv 16 of 5 x 5 - max pool 2 - conv 120 of 5 x 5 -
        dense 84 - dense classes

    It has ReLU after every layer except the last, valid padding, and biases. Inputs are
    `(32, 32, 1)`, since the source resizes the images. The source's settings are SGD with momentum
    .9 and weight decay 1e-3, batch 64, 100 epochs, and a step size divided by 10 at 50 and 75.

    Args:
        feedback: A `keras_local.feedback` rule or its alias, for every layer.
        classes: Number of classes.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> kl.models.reference.lenet_mnist("sign_symmetry").output_shape
    (None, 10)

    Source: Sanfiz & Akrout 2021, "Benchmarking the accuracy and robustness of feedback alignment
    algorithms".
    """
    return _lenet((32, 32, 1), (6, 16, 120), 5, 84, classes, feedback, "lenet_mnist")


def lenet_cifar(feedback: FeedbackLike = "feedback_alignment", classes: int = 10) -> keras.Model:
    """Return the LeNet of BioTorch's benchmark on CIFAR-10.

        conv 32 of 3 x 3 - max pool 2 - conv 64 of 3 x 3 - max pool 2 - conv 128 of 3 x 3 -
        global average - dense 256 - dense classes

    It has ReLU after every layer except the last, valid padding, and biases. Inputs are
    `(32, 32, 3)`. The source's settings are batch 128, 250 epochs, SGD with momentum .9 and weight
    decay 1e-4, and a step size (.1; .001 for feedback alignment) divided by 10 at 100, 150 and 200.

    Args:
        feedback: A `keras_local.feedback` rule or its alias, for every layer.
        classes: Number of classes.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> kl.models.reference.lenet_cifar("feedback_alignment").output_shape
    (None, 10)

    Source: as `lenet_mnist`.
    """
    return _lenet((32, 32, 3), (32, 64, 128), 3, 256, classes, feedback, "lenet_cifar")


def resnet20(feedback: FeedbackLike = "feedback_alignment", classes: int = 10) -> keras.Model:
    """Return the residual network of 20 layers of BioTorch's benchmark on CIFAR-10.

    There are three stages of three blocks with 16, 32 and 64 channels, on inputs of `(32, 32, 3)`.
    A block is conv - norm - ReLU - conv - norm, plus its inputs, and a ReLU. Shortcuts have no
    weights: if the resolution halves, they take every second position, with zeros for new channels.
    Only the last layer has biases. There are 269,722 trainable weights for 10 classes.

    Args:
        feedback: A `keras_local.feedback` rule or its alias, for every layer.
        classes: Number of classes.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> kl.models.reference.resnet20("feedback_alignment").output_shape
    (None, 10)

    Source: as `lenet_mnist`; the network is that of He et al. 2016, "Deep residual learning for
    image recognition", section 4.2, option A.
    """
    return _small_resnet(3, classes, feedback, "resnet20")


def resnet56(feedback: FeedbackLike = "feedback_alignment", classes: int = 10) -> keras.Model:
    """Return the residual network of 56 layers of BioTorch's benchmark on CIFAR-10.

    It is like `resnet20`, with nine blocks in each stage and 853,018 trainable weights for 10
    classes.

    Args:
        feedback: A `keras_local.feedback` rule or its alias, for every layer.
        classes: Number of classes.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> len(kl.models.conversion_report(kl.models.reference.resnet56()).converted)
    56

    Source: as `resnet20`.
    """
    return _small_resnet(9, classes, feedback, "resnet56")


def _lenet(
    input_shape: tuple[int, int, int],
    filters: tuple[int, int, int],
    size: int,
    units: int,
    classes: int,
    feedback: FeedbackLike,
    name: str,
) -> keras.Model:
    classes = check.positive_integer("classes", classes, minimum=2)
    model = keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Conv2D(filters[0], size, activation="relu", name="conv1"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(filters[1], size, activation="relu", name="conv2"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(filters[2], size, activation="relu", name="conv3"),
            # After windows of 5 x 5 only one position of 32 x 32 is left, which is its own average.
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(units, activation="relu", name="hidden"),
            keras.layers.Dense(classes, name="scores"),
        ],
        name=name,
    )
    return convert(model, feedback, verbose=False)


def _small_resnet(blocks: int, classes: int, feedback: FeedbackLike, name: str) -> keras.Model:
    classes = check.positive_integer("classes", classes, minimum=2)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.ReLU()(normed_convolution(inputs, 16, 3, 1, "conv1"))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            prefix = f"stage{stage + 1}_block{block + 1}"
            shortcut = _without_weights(x, filters) if strides == 2 else x
            x = keras.layers.ReLU()(normed_convolution(x, filters, 3, strides, f"{prefix}_conv1"))
            x = normed_convolution(x, filters, 3, 1, f"{prefix}_conv2")
            x = keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    scores = keras.layers.Dense(classes, name="scores")(x)
    return convert(keras.Model(inputs, scores, name=name), feedback, verbose=False)


def _without_weights(x: Tensor, filters: int) -> Tensor:
    """Take every second position, and put zeros on both sides of the channels."""
    new = (filters - x.shape[-1]) // 2
    return ops.pad(x[:, ::2, ::2, :], [[0, 0], [0, 0], [0, 0], [new, new]])
