"""The networks of SoftHebb, as encoders to be pretrained without labels."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from keras_local import _validation as check
from keras_local.activations import Triangle
from keras_local.layers import HebbianConv2D, HebbianDense
from keras_local.plasticity import HardWTA, NormDistance, SoftHebb


@dataclass(frozen=True)
class _Block:
    """A batch normalisation, a convolution with its triangle, and a pool."""

    filters: int
    kernel_size: int
    beta: float
    rate: float
    power: float
    pool: str


@dataclass(frozen=True)
class _Preset:
    input_shape: tuple[int, int, int]
    norm_power: float
    blocks: tuple[_Block, ...]


_PRESETS = {
    "cifar10": _Preset(
        (32, 32, 3),
        0.5,
        (
            _Block(96, 5, 1.0, 0.08, 0.7, "max"),
            _Block(384, 3, 0.65, 0.005, 1.4, "max"),
            _Block(1536, 3, 0.25, 0.01, 1.0, "halve"),
        ),
    ),
    "stl10": _Preset(
        (96, 96, 3),
        0.5,
        (
            _Block(96, 5, 1.0, 0.08, 0.7, "average"),
            _Block(384, 3, 0.65, 0.005, 0.7, "max"),
            _Block(1536, 3, 0.45, 0.01, 1.4, "average"),
            _Block(6144, 3, 0.25, 0.01, 1.0, "halve"),
        ),
    ),
    "imagenette": _Preset(
        (160, 160, 3),
        0.75,
        (
            _Block(48, 5, 1.1, 0.08, 0.7, "max"),
            _Block(192, 3, 0.7, 0.01, 0.7, "max"),
            _Block(768, 3, 0.5, 0.01, 0.7, "max"),
            _Block(3072, 3, 0.4, 0.01, 1.4, "max"),
            _Block(12288, 3, 0.25, 0.01, 1.0, "halve"),
        ),
    ),
}


def softhebb(
    preset: str = "cifar10",
    input_shape: tuple[int, int, int] | None = None,
    width: float = 1.0,
    depth: int | None = None,
    radius: float | None = None,
    anti_hebbian: bool = True,
    competition: str = "soft",
) -> keras.Sequential:
    """Return an encoder of Journe et al. 2023, which learns in one epoch without labels.

    A block is

        batch normalisation - convolution, reflected borders - triangle^power - pool

    Batch normalisation has no affine part and its statistics are those of the batch while the
    block learns. Each layer's own step size is its `local_rate`, so pretraining has `step_size=1`:

    ```python
    encoder = kl.models.reference.softhebb("cifar10")
    kl.models.pretrain(encoder, images, epochs=1, batch_size=10, step_size=1.0, greedy=False)
    encoder.trainable = False
    classifier = keras.Sequential([encoder, keras.layers.Dropout(0.5), keras.layers.Dense(10)])
    ```

    | preset | filters | beta | step sizes | powers |
    |---|---|---|---|---|
    | `"cifar10"` | 96, 384, 1536 | 1, .65, .25 | .08, .005, .01 | .7, 1.4, 1 |
    | `"stl10"` | 96 to 6144 | 1, .65, .45, .25 | .08, .005, .01, .01 | .7, .7, 1.4, 1 |
    | `"imagenette"` | 48 to 12288 | 1.1, .7, .5, .4, .25 | .08, then .01 | .7, .7, .7, 1.4, 1 |
    | `"mnist"` | 2000 units, dense | 12 | .045 | softmax of 5 u |

    Filters grow by 4 with each block. Pools are maxima of 4 x 4 with stride 2, for STL-10 averages
    in the first and third block, and averages of 2 x 2 in the last block.

    Convolutions are 5 x 5 in the first block and 3 x 3 in the others; the source's table says so
    for CIFAR-10, and the deeper presets take it over. Pools count zeros at the borders in averages
    and leave them out of maxima, as the source does. Weights start on a sphere of radius 25 (35 for
    MNIST): normal for the convolutions, uniform and positive for MNIST.

    Args:
        preset: `"cifar10"`, `"stl10"`, `"imagenette"` or `"mnist"`.
        input_shape: Height, width and channels, if not those of the table.
        width: Factor on the numbers of filters, for smaller experiments.
        depth: Number of blocks, from the bottom; all of them by default.
        radius: Length of each unit's initial weights; that of the source by default.
        anti_hebbian: As in `plasticity.SoftHebb`.
        competition: `"soft"`, or `"hard"` for the control of the source, the same network with
            `plasticity.HardWTA`: triangles have the power 1, and the step sizes are .08 in the
            first layer and .05 above (the source's range; which layer has which is ours).

    Returns:
        A Sequential model from images in [0, 1] to flat features, not compiled.

    Raises:
        ValueError: For an unknown preset, or a number out of range.

    >>> import keras_local as kl
    >>> encoder = kl.models.reference.softhebb("cifar10", width=0.125)
    >>> encoder.output_shape
    (None, 3072)

    Source: Journe, Garcia Rodriguez, Guo & Moraitis 2023, "Hebbian deep learning without feedback",
    the presets of the authors' code.
    """
    check.one_of("preset", preset, (*_PRESETS, "mnist"))
    check.one_of("competition", competition, ("soft", "hard"))
    hard = competition == "hard"
    width = check.real("width", width, minimum=0.0, exclusive=True)
    if radius is not None:
        radius = check.real("radius", radius, minimum=0.0, exclusive=True)
    if preset == "mnist":
        check.require(depth in (None, 1), "depth", "1 for mnist", depth)
        return _dense(input_shape or (28, 28, 1), width, radius or 35.0, anti_hebbian, hard)
    chosen = _PRESETS[preset]
    depth = len(chosen.blocks) if depth is None else check.positive_integer("depth", depth)
    check.require(depth <= len(chosen.blocks), "depth", f"at most {len(chosen.blocks)}", depth)
    initializer = keras.initializers.VarianceScaling(
        (radius or 25.0) ** 2, "fan_in", "untruncated_normal"
    )
    model = keras.Sequential(
        [keras.Input(input_shape or chosen.input_shape)], name=f"softhebb_{preset}"
    )
    for number, block in enumerate(chosen.blocks[:depth], start=1):
        rate = NormDistance(chosen.norm_power)
        rule = HardWTA(rate=rate) if hard else SoftHebb(block.beta, anti_hebbian, rate=rate)
        model.add(_normalisation(number))
        model.add(
            HebbianConv2D(
                max(1, round(width * block.filters)),
                block.kernel_size,
                padding="reflect",
                plasticity=rule,
                activation=Triangle(1.0 if hard else block.power),
                # A clone: an initializer draws the same numbers for the same shape.
                kernel_initializer=initializer.clone(),
                local_rate=_hard_rate(number) if hard else block.rate,
                name=f"hebbian{number}",
            )
        )
        for layer in _pool(block.pool, number):
            model.add(layer)
    model.add(keras.layers.Flatten(name="features"))
    return model


def _dense(
    input_shape: tuple[int, ...], width: float, radius: float, anti_hebbian: bool, hard: bool
) -> keras.Sequential:
    inputs = 1
    for size in input_shape:
        inputs *= size
    rate = NormDistance(0.2)
    rule = HardWTA(rate=rate) if hard else SoftHebb(12.0, anti_hebbian, rate=rate)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            HebbianDense(
                max(1, round(width * 2000)),
                rule,
                kernel_initializer=keras.initializers.RandomUniform(
                    0.0, radius * (3.0 / inputs) ** 0.5
                ),
                local_rate=_hard_rate(1) if hard else 0.045,
                name="hebbian1",
            ),
            keras.layers.Rescaling(5.0, name="steepness"),
            keras.layers.Softmax(name="features"),
        ],
        name="softhebb_mnist",
    )


def _hard_rate(number: int) -> float:
    return 0.08 if number == 1 else 0.05


def _normalisation(number: int) -> keras.layers.Layer:
    return keras.layers.BatchNormalization(
        center=False, scale=False, momentum=0.9, epsilon=1e-5, name=f"norm{number}"
    )


def _pool(kind: str, number: int) -> list[keras.layers.Layer]:
    if kind == "halve":
        return [keras.layers.AveragePooling2D(2, 2, name=f"pool{number}")]
    if kind == "max":
        return [keras.layers.MaxPooling2D(4, 2, padding="same", name=f"pool{number}")]
    # Averages of the built-in "same" leave the border out; the source counts its zeros.
    return [
        keras.layers.ZeroPadding2D(1, name=f"border{number}"),
        keras.layers.AveragePooling2D(4, 2, name=f"pool{number}"),
    ]
