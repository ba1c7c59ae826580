"""The networks of Nokland & Eidnes 2019."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_local import _validation as check
from keras_local.models.networks.arguments import image_shape

_POOL = 0
"""A place in a list of filters at which maps are pooled."""


def vgg8b(
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    dropout: float = 0.0,
    width: float = 1.0,
    slope: float = 0.0,
) -> keras.Model:
    """Return the network VGG8B of Nokland & Eidnes 2019, for `models.local_losses`.

        conv 128, 256 - max pool 2 - conv 256, 512 - max pool 2 - conv 512 - max pool 2 - conv 512 -
        max pool 2 - dense 1024 - dense classes

    Convolutions are of 3 x 3 with padding "same" and a bias. Behind each of them and behind the
    hidden dense layer there are a batch normalisation, a (leaky) ReLU and a dropout of whole
    channels. If images are wider than 64, the first convolution is of 7 x 7 with strides of 2. The
    outputs are logits. For images of 32 x 32 x 3 and 10 classes there are 8,903,434 trainable
    weights, for 28 x 28 x 1 7,328,266. Layers are called `conv2`, `conv2_norm`, `conv2_relu`,
    `conv2_dropout`, `conv2_pool`, and so on, then `hidden`, `hidden_norm`, ..., `scores`.

    The source trains with Adam, 5e-4, batch 128, and multiplies the step by 1/4 at 50, 75, 89 and
    94 % of the epochs: 400 (100 on MNIST and SVHN, 200 on Fashion-MNIST). Dropout is .1 to .3.

    Args:
        classes: Number of classes.
        input_shape: Height, width and channels.
        dropout: Share of channels that is dropped behind each hidden layer.
        width: Factor on the numbers of channels and hidden units; 2 and 3 in the source.
        slope: Slope of the activation below zero; in the source .01 with `"sim"` and `"pred_sim"`,
            0 with `"pred"` and backpropagation.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> model = kl.models.reference.vgg8b(width=0.125)
    >>> len(kl.models.local_losses(model, "pred").blocks)
    7

    Source: Nokland & Eidnes 2019, "Training neural networks with local error signals".
    """
    plan = (128, 256, _POOL, 256, 512, _POOL, 512, _POOL, 512, _POOL)
    return _vgg("vgg8b", plan, classes, input_shape, dropout, width, slope)


def vgg11b(
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    dropout: float = 0.0,
    width: float = 1.0,
    slope: float = 0.0,
) -> keras.Model:
    """Return the network VGG11B of Nokland & Eidnes 2019, for `models.local_losses`.

        conv 128, 128, 128, 256 - max pool 2 - conv 256, 512 - max pool 2 - conv 512, 512 -
        max pool 2 - conv 512 - max pool 2 - dense 1024 - dense classes

    All else is as in `vgg8b`. For images of 32 x 32 x 3 and 10 classes there are 11,559,946
    trainable weights.

    Args:
        classes: Number of classes.
        input_shape: Height, width and channels.
        dropout: Share of channels that is dropped behind each hidden layer.
        width: Factor on the numbers of channels and hidden units.
        slope: Slope of the activation below zero.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> kl.models.reference.vgg11b(width=0.125).output_shape
    (None, 10)

    Source: as `vgg8b`.
    """
    plan = (128, 128, 128, 256, _POOL, 256, 512, _POOL, 512, 512, _POOL, 512, _POOL)
    return _vgg("vgg11b", plan, classes, input_shape, dropout, width, slope)


def _vgg(
    name: str,
    plan: Sequence[int],
    classes: int,
    input_shape: tuple[int, int, int],
    dropout: float,
    width: float,
    slope: float,
) -> keras.Model:
    classes = check.positive_integer("classes", classes, minimum=2)
    height, across, channels = image_shape("input_shape", input_shape)
    share = check.real("dropout", dropout, minimum=0.0)
    check.require(share < 1.0, "dropout", "less than 1", dropout)
    factor = check.real("width", width, minimum=0.0, exclusive=True)
    slope = check.real("slope", slope, minimum=0.0)

    def size(units: int) -> int:
        return max(1, round(factor * units))

    def hidden(
        layer: keras.layers.Layer, name: str, drop: type[keras.layers.Layer]
    ) -> list[keras.layers.Layer]:
        found = [
            layer,
            # The values of the source's framework.
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm"),
            keras.layers.ReLU(negative_slope=slope, name=f"{name}_relu"),
        ]
        return [*found, drop(share, name=f"{name}_dropout")] if share else found

    layers: list[keras.layers.Layer] = [keras.Input((height, across, channels))]
    number = 0
    for filters in plan:
        if filters == _POOL:
            layers.append(keras.layers.MaxPooling2D(name=f"conv{number}_pool"))
            continue
        number += 1
        wide = number == 1 and across > 64
        convolution = keras.layers.Conv2D(
            size(filters),
            7 if wide else 3,
            2 if wide else 1,
            padding="same",
            name=f"conv{number}",
        )
        layers += hidden(convolution, f"conv{number}", keras.layers.SpatialDropout2D)
    layers.append(keras.layers.Flatten())
    dense = keras.layers.Dense(size(1024), name="hidden")
    layers += hidden(dense, "hidden", keras.layers.Dropout)
    layers.append(keras.layers.Dense(classes, kernel_initializer="zeros", name="scores"))
    return keras.Sequential(layers, name=name)
