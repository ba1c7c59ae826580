"""The network of Kunin et al. 2020."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import _validation as check
from keras_local.feedback import FeedbackLike
from keras_local.models.conversion.convert import convert
from keras_local.models.networks.arguments import image_shape
from keras_local.models.networks.normed_convolution import normed_convolution

Tensor = Any


def resnet18(
    feedback: FeedbackLike = "symmetric_alignment",
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
) -> keras.Model:
    """Return the residual network of 18 layers of Kunin et al. 2020.

    There are four stages of two blocks with 64, 128, 256 and 512 channels. The first block of every
    stage has a convolution of 1 x 1 in its shortcut, with the same rule. Only the last layer has a
    bias. The last normalisation of a block starts with gain 0; its momentum is .9, its epsilon
    1e-5. Kernels are initialised by variance scaling (fan in, truncated normal), in the last layer
    by N(0, .01), and each feedback kernel by its kernel's initializer, independently.

    The source trains with an L2 regulariser of 1e-4 on forward kernels and biases, and with none on
    feedback kernels. This function does not add it.

    Args:
        feedback: A `keras_local.feedback` rule or its alias, for every layer.
        classes: Number of classes.
        input_shape: Height, width and channels.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> model = kl.models.reference.resnet18("feedback_alignment", 10, (64, 64, 3))
    >>> len(kl.models.conversion_report(model).converted)
    22

    Source: Kunin et al. 2020, "Two routes to scalable credit assignment without weight symmetry"
    (ResNet v1 of the published code).
    """
    classes = check.positive_integer("classes", classes, minimum=2)

    def normed(
        x: Tensor, filters: int, size: int, strides: int, name: str, **options: Any
    ) -> Tensor:
        # Each needs a new initializer, which would return the same values at every call.
        initializer = keras.initializers.VarianceScaling()
        return normed_convolution(
            x, filters, size, strides, name, initializer=initializer, **options
        )

    inputs = keras.Input(image_shape("input_shape", input_shape))
    x = keras.layers.ReLU()(normed(inputs, 64, 7, 2, "conv1"))
    x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            strides = 2 if stage and not block else 1
            prefix = f"stage{stage + 1}_block{block + 1}"
            shortcut = x
            if not block:
                shortcut = normed(x, filters, 1, strides, f"{prefix}_shortcut")
            x = keras.layers.ReLU()(normed(x, filters, 3, strides, f"{prefix}_conv1"))
            x = normed(x, filters, 3, 1, f"{prefix}_conv2", gain="zeros")
            x = keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    scores = keras.layers.Dense(classes, kernel_initializer=initializer, name="scores")(x)
    model = keras.Model(inputs, scores, name="resnet18")
    return convert(model, feedback, feedback_initializer=None, verbose=False)
