"""Networks of the papers, in plain Keras, with feedback by `convert`.

| function | source |
|---|---|
| `simpnet`, `deepnet`, `deepernet`, `deepnet_s` | Amit 2019 |
| `lenet_mnist`, `lenet_cifar`, `resnet20`, `resnet56` | Sanfiz & Akrout 2021 (BioTorch) |
| `resnet18` | Kunin et al. 2020 |
| `softhebb` | Journe et al. 2023 |

`softhebb` is an encoder, to be pretrained without labels. Each other returns a functional or
Sequential model that ends in logits, not compiled unless a loss is given. Rules, initial feedback
kernels and everything else can be changed by `convert` afterwards.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local.activations import Ramp
from keras_local.layers import LocallyConnected2D
from keras_local.models.convert import convert
from keras_local.models.softhebb import softhebb as softhebb

Tensor = Any

# --- Amit 2019 ------------------------------------------------------------------------------------


def simpnet(
    feedback: Any = "kolen_pollack",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    untied: bool = False,
    connectivity: float | None = None,
    loss: Any = None,
) -> keras.Model:
    """Return the shallow network of Amit 2019: one convolution and one hidden layer.

        conv 32 of 5 x 5 - max pool 3/2 - dropout .8 - dense 500 - dropout .3 - dense classes

    As all of Amit's networks: stride 1 and same padding, no biases, `activations.Ramp` after every
    layer but the last, kernels and feedback kernels independently Glorot uniform. 4,103,400 weights
    for 10 classes, feedback kernels not counted. Dropout rates are probabilities of dropping; some
    of the source's untied runs use .5 for the first.

    Where several entries of a pooling window are equal, which a ramp makes common, Keras sends the
    error to one of them, the source to all.

    Args:
        feedback: A `keras_local.feedback` rule or its alias.
        classes: Number of classes.
        input_shape: Height, width and channels.
        untied: Whether the convolution is locally connected, with equal kernels at all positions to
            begin with.
        connectivity: Probability with which each synapse exists, forward and feedback independently
            of each other; .5 in the source's experiments. The last layer stays full. A
            convolution's mask is shared over positions, as its kernel is.
        loss: A Keras loss to compile the model with, and with the source's SGD of step size 0.1;
            the source's own is `losses.LocalHinge()`. None leaves the model uncompiled.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> model = kl.models.reference.simpnet("urfb", classes=10, loss=kl.losses.LocalHinge())
    >>> kl.models.to_plain(model).count_params()
    4103400

    Source: Amit 2019, "Deep learning with asymmetric connections and Hebbian updates"; the layers
    are those of the parameter files in the author's published code.
    """
    model = keras.Sequential(
        [
            keras.Input(input_shape),
            _window(32, 5, "conv1", untied),
            keras.layers.MaxPooling2D(3, 2, padding="same"),
            keras.layers.Dropout(0.8),
            *_head(classes, 0.3),
        ],
        name="simpnet",
    )
    return _of_amit(model, feedback, connectivity, loss)


def deepnet(
    feedback: Any = "kolen_pollack",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    connectivity: float | None = None,
    loss: Any = None,
) -> keras.Model:
    """Return the deep network of Amit 2019: five convolutions and one hidden layer.

        conv 32 of 5 x 5 - max pool 3/2 - 2 conv 32 of 3 x 3 - average pool 3/2 - dropout .5 -
        2 conv 64 of 3 x 3 - average pool 3/2 - dropout .8 - dense 500 - dense classes

    593,128 weights for 10 classes. That this is the paper's "deepnet" is an inference: it is the
    best match in the published code, where the second pooling takes averages; of which kind the
    third is was not recorded, and it is taken to be like the second.

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
            keras.Input(input_shape),
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
    feedback: Any = "kolen_pollack",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    connectivity: float | None = None,
    loss: Any = None,
) -> keras.Model:
    """Return the deepest network of Amit 2019: eight convolutions with sums in between.

        [conv 16 of 3 x 3, twice] - [conv 32 of 3 x 3, twice] - max pool 3/2 - dropout .5 -
        [conv 64 of 3 x 3, twice] - max pool 3/2 - [conv 128 of 2 x 2, conv 128 of 3 x 3] -
        max pool 3/2 - dropout .8 - dense 500 - dense classes

    A pair in brackets is summed: its output is `a + conv(a)` with `a` the first convolution's.
    1,281,080 weights for 10 classes.

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
    x = inputs = keras.Input(input_shape)
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
    feedback: Any = "kolen_pollack",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    untied: bool = False,
    connectivity: float | None = None,
    loss: Any = None,
) -> keras.Model:
    """Return the network of Amit 2019 that is small enough to be untied.

        [conv 16 of 3 x 3, twice] - max pool 3/3 - dropout .5 - [conv 64 of 3 x 3, twice] -
        max pool 2/2 - [conv 64 of 2 x 2, twice] - max pool 2/2 - dropout .5 - dense 500 -
        dense classes

    Pairs in brackets are summed as in `deepernet`. 374,584 weights for 10 classes when tied.

    Args:
        feedback: A `keras_local.feedback` rule or its alias.
        classes: Number of classes.
        input_shape: Height, width and channels.
        untied: Whether all convolutions but the first are locally connected, with equal kernels at
            all positions to begin with. The source trains the first one in the tied network and
            then freezes it (`model.get_layer("conv0").trainable = False`).
        connectivity: As in `simpnet`.
        loss: As in `simpnet`.

    Raises:
        ValueError: For a wrong argument.

    >>> import keras_local as kl
    >>> kl.models.to_plain(kl.models.reference.deepnet_s("frfb")).count_params()
    374584

    Source: as `simpnet`.
    """
    x = inputs = keras.Input(input_shape)
    first = _window(16, 3, "conv0")(x)
    x = keras.layers.Add()([first, _window(16, 3, "conv0a", untied)(first)])
    x = keras.layers.Dropout(0.5)(keras.layers.MaxPooling2D(3, 3, padding="same")(x))
    x = _pair(x, 64, (3, 3), "conv2", untied)
    x = keras.layers.MaxPooling2D(2, 2, padding="same")(x)
    x = _pair(x, 64, (2, 2), "conv3", untied)
    x = keras.layers.Dropout(0.5)(keras.layers.MaxPooling2D(2, 2, padding="same")(x))
    for layer in _head(classes):
        x = layer(x)
    return _of_amit(keras.Model(inputs, x, name="deepnet_s"), feedback, connectivity, loss)


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
    model: keras.Model, feedback: Any, connectivity: float | None, loss: Any
) -> keras.Model:
    def share(layer: keras.layers.Layer) -> float | None:
        return None if layer.name == "scores" else connectivity

    model = convert(model, feedback, connectivity=share, verbose=False)
    for layer in model.layers:
        if isinstance(layer, LocallyConnected2D):
            _start_tied(layer)
    if loss is not None:
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def _start_tied(layer: LocallyConnected2D) -> None:
    """Let all positions start with one kernel, and one feedback kernel if the rule has one.

    Which synapses exist differs from position to position.
    """
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    shape = (*layer.kernel_size, layer.kernel.shape[-2] // taps, layer.filters)
    kernel, feedback_kernel = (keras.initializers.GlorotUniform()(shape) for _ in range(2))
    before = layer.feedback_kernel
    try:
        layer.assign_convolution(kernel, feedback_kernel=feedback_kernel)
    except ValueError:
        layer.assign_convolution(kernel)
        return
    if layer.connectivity is not None:
        exist = ops.cast(ops.not_equal(before, 0.0), layer.kernel.dtype)
        layer.assign_feedback_kernel(layer.feedback_kernel * exist)


# --- Sanfiz & Akrout 2021 -------------------------------------------------------------------------


def lenet_mnist(feedback: Any = "feedback_alignment", classes: int = 10) -> keras.Model:
    """Return the LeNet of BioTorch's benchmark on MNIST and Fashion-MNIST.

        conv 6 of 5 x 5 - max pool 2 - conv 16 of 5 x 5 - max pool 2 - conv 120 of 5 x 5 -
        dense 84 - dense classes

    ReLU after every layer but the last, valid padding, biases. Inputs are `(32, 32, 1)`: the
    source resizes the images. Its settings: SGD with momentum .9 and weight decay 1e-3, batch 64,
    100 epochs, step size divided by 10 at 50 and 75.

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


def lenet_cifar(feedback: Any = "feedback_alignment", classes: int = 10) -> keras.Model:
    """Return the LeNet of BioTorch's benchmark on CIFAR-10.

        conv 32 of 3 x 3 - max pool 2 - conv 64 of 3 x 3 - max pool 2 - conv 128 of 3 x 3 -
        global average - dense 256 - dense classes

    ReLU after every layer but the last, valid padding, biases; inputs are `(32, 32, 3)`. The
    source's settings: batch 128, 250 epochs, SGD with momentum .9 and weight decay 1e-4, step size
    (.1; .001 for feedback alignment) divided by 10 at 100, 150 and 200.

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


def resnet20(feedback: Any = "feedback_alignment", classes: int = 10) -> keras.Model:
    """Return the residual network of 20 layers of BioTorch's benchmark on CIFAR-10.

    Three stages of three blocks with 16, 32 and 64 channels, on inputs of `(32, 32, 3)`. A block is
    conv - norm - ReLU - conv - norm, plus its inputs, and a ReLU; shortcuts have no weights: where
    the resolution halves, they take every second position, with zeros for the channels that are
    new. No biases but the last layer's. 269,722 trainable weights for 10 classes.

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


def resnet56(feedback: Any = "feedback_alignment", classes: int = 10) -> keras.Model:
    """Return the residual network of 56 layers of BioTorch's benchmark on CIFAR-10.

    As `resnet20`, with nine blocks in each stage; 853,018 trainable weights for 10 classes.

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
    feedback: Any,
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
            # One position is left of 32 x 32 after windows of 5 x 5: its average is itself.
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(units, activation="relu", name="hidden"),
            keras.layers.Dense(classes, name="scores"),
        ],
        name=name,
    )
    return convert(model, feedback, verbose=False)


def _small_resnet(blocks: int, classes: int, feedback: Any, name: str) -> keras.Model:
    classes = check.positive_integer("classes", classes, minimum=2)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.ReLU()(_normed(inputs, 16, 3, 1, "conv1"))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            prefix = f"stage{stage + 1}_block{block + 1}"
            shortcut = _without_weights(x, filters) if strides == 2 else x
            x = keras.layers.ReLU()(_normed(x, filters, 3, strides, f"{prefix}_conv1"))
            x = _normed(x, filters, 3, 1, f"{prefix}_conv2")
            x = keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    scores = keras.layers.Dense(classes, name="scores")(x)
    return convert(keras.Model(inputs, scores, name=name), feedback, verbose=False)


def _without_weights(x: Tensor, filters: int) -> Tensor:
    """Take every second position, and put zeros on both sides of the channels."""
    new = (filters - x.shape[-1]) // 2
    return ops.pad(x[:, ::2, ::2, :], [[0, 0], [0, 0], [0, 0], [new, new]])


def _normed(
    x: Tensor,
    filters: int,
    size: int,
    strides: int,
    name: str,
    initializer: Any = "glorot_uniform",
    gain: str = "ones",
) -> Tensor:
    """Convolve without bias and normalise; the padding does not depend on the size of `x`."""
    if strides > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(((size - 1) // 2, size // 2))(x)
    x = keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        kernel_initializer=initializer,
        name=name,
    )(x)
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gain, name=f"{name}_norm"
    )(x)


# --- Kunin et al. 2020 ----------------------------------------------------------------------------


def resnet18(
    feedback: Any = "symmetric_alignment",
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
) -> keras.Model:
    """Return the residual network of 18 layers of Kunin et al. 2020.

    Four stages of two blocks with 64, 128, 256 and 512 channels. The first block of every stage has
    a convolution of 1 x 1 in its shortcut, with the rule as well. Only the last layer has a bias.
    The last normalisation of a block starts with gain 0; its momentum is .9, its epsilon 1e-5.
    Kernels start by variance scaling (fan in, truncated normal), those of the last layer by
    N(0, .01), and each feedback kernel by its kernel's law, independently.

    The source adds an L2 regulariser of 1e-4 to forward kernels and biases, never to feedback
    kernels. It is left to the user here, as it is part of the training.

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
        # A new initializer for each: an unseeded one gives the same values at every call.
        law = keras.initializers.VarianceScaling()
        return _normed(x, filters, size, strides, name, initializer=law, **options)

    inputs = keras.Input(input_shape)
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
    law = keras.initializers.RandomNormal(stddev=0.01)
    scores = keras.layers.Dense(classes, kernel_initializer=law, name="scores")(x)
    model = keras.Model(inputs, scores, name="resnet18")
    return convert(model, feedback, feedback_initializer=None, verbose=False)
