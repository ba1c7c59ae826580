"""The networks of SoftHebb, as encoders for pretraining without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import keras

from keras_local import _validation as check
from keras_local.activations import Triangle
from keras_local.layers import HebbianConv2D, HebbianDense
from keras_local.models.networks.arguments import image_shape
from keras_local.plasticity import HardWTA, NormDistance, SoftHebb

PresetName = Literal["cifar10", "stl10", "imagenette", "mnist"]
CompetitionName = Literal["soft", "hard"]
PoolName = Literal["max", "average", "halve", "halve_max"]


@dataclass(frozen=True)
class _Block:
    """A batch normalisation, a convolution with triangle activation, and a pool."""

    filters: int
    kernel_size: int
    beta: float | None  # None for hard competition
    rate: float
    power: float
    pool: PoolName
    border: int  # how many pixels are mirrored at each border of the inputs


@dataclass(frozen=True)
class _Preset:
    input_shape: tuple[int, int, int]
    norm_power: float
    blocks: tuple[_Block, ...]


_SOFT = {
    "cifar10": _Preset(
        (32, 32, 3),
        0.5,
        (
            _Block(96, 5, 1.0, 0.08, 0.7, "max", 2),
            _Block(384, 3, 0.65, 0.005, 1.4, "max", 1),
            _Block(1536, 3, 0.25, 0.01, 1.0, "halve", 1),
        ),
    ),
    "stl10": _Preset(
        (96, 96, 3),
        0.5,
        (
            _Block(96, 5, 1.0, 0.08, 0.7, "average", 2),
            _Block(384, 3, 0.65, 0.005, 0.7, "max", 1),
            _Block(1536, 3, 0.45, 0.01, 1.4, "average", 1),
            _Block(6144, 3, 0.25, 0.01, 1.0, "halve", 1),
        ),
    ),
    "imagenette": _Preset(
        (160, 160, 3),
        0.75,
        (
            _Block(48, 5, 1.1, 0.08, 0.7, "max", 2),
            _Block(192, 3, 0.7, 0.01, 0.7, "max", 1),
            _Block(768, 3, 0.5, 0.01, 0.7, "max", 1),
            _Block(3072, 3, 0.4, 0.01, 1.4, "max", 1),
            _Block(12288, 3, 0.25, 0.01, 1.0, "halve", 1),
        ),
    ),
}

_HARD = {
    "cifar10": _Preset(
        (32, 32, 3),
        0.75,
        (
            _Block(96, 5, None, 0.05, 1.0, "max", 1),
            _Block(384, 3, None, 0.05, 1.0, "max", 1),
            _Block(1536, 3, None, 0.05, 1.0, "halve_max", 0),
        ),
    ),
}


def softhebb(
    preset: PresetName = "cifar10",
    input_shape: tuple[int, int, int] | None = None,
    width: float = 1.0,
    depth: int | None = None,
    radius: float | None = None,
    anti_hebbian: bool | None = None,
    competition: CompetitionName = "soft",
) -> keras.Sequential:
    """Return an encoder of Journe et al. 2023, which learns in one epoch without labels.

    A block is

        batch normalisation - convolution, reflected borders - triangle^power - pool

    Batch normalisation has no affine part, and uses the statistics of the batch while the block
    learns. The step size of each layer is its `local_rate`, so pretraining has `step_size=1`:

    ```python
    encoder = kl.models.reference.softhebb("cifar10")
    kl.models.pretrain(encoder, images, epochs=1, batch_size=10, step_size=1.0, greedy=False)
    encoder.trainable = False
    classifier = keras.Sequential([encoder, keras.layers.Dropout(0.5), keras.layers.Dense(10)])
    ```

    | preset | filters | beta | step sizes | powers | norm power |
    |---|---|---|---|---|---|
    | `"cifar10"` | 96, 384, 1536 | 1, .65, .25 | .08, .005, .01 | .7, 1.4, 1 | .5 |
    | `"stl10"` | 96 to 6144 | 1, .65, .45, .25 | .08, .005, .01, .01 | .7, .7, 1.4, 1 | .5 |
    | `"imagenette"` | 48 to 12288 | 1.1, .7, .5, .4, .25 | .08, then .01 | .7 x 3, 1.4, 1 | .75 |
    | `"mnist"` | 2000 units, dense | 12 | .045 | softmax of 5 u | .2 |
    | `"cifar10"`, hard | 96, 384, 1536 | | .05 | 1 | .75 |

    The norm power is the power of `plasticity.NormDistance`. The number of filters grows by a
    factor of 4 with each block. Convolutions are 5 x 5 in the first block and 3 x 3 in the others,
    and keep the size. Pools are maxima of 4 x 4 with stride 2, for STL-10 averages in the first and
    third block, and averages of 2 x 2 in the last block. As in PyTorch, averages count zeros at the
    borders, and maxima leave them out. Weights start on a sphere of radius 25 (35 for MNIST):
    normal for the convolutions, uniform and positive for MNIST.

    In the convolutional presets the units that do not win learn against the Hebbian direction; in
    `"mnist"` all units learn in the Hebbian direction.

    Args:
        preset: `"cifar10"`, `"stl10"`, `"imagenette"` or `"mnist"`.
        input_shape: Height, width and channels; by default those of the data set.
        width: Factor on the numbers of filters, for smaller experiments.
        depth: Number of blocks, from the bottom; by default all blocks. The authors' presets for
            fewer layers have other pools than the lower blocks of this preset.
        radius: Length of each unit's initial weights; by default as in the preset.
        anti_hebbian: As in `plasticity.SoftHebb`; by default as in the preset.
        competition: `"soft"`, or `"hard"` for a control with `plasticity.HardWTA`. For CIFAR-10
            this is the authors' control (last row of the table): borders of 1, 1 and 0 pixels are
            reflected, so that the first and third convolution make the images smaller, and the last
            pool is a maximum. The source has no such control for the other presets; here they keep
            their own settings, with triangles of power 1.

    Returns:
        A Sequential model from images in [0, 1] to flat features, not compiled.

    Raises:
        ValueError: For an unknown preset, or a number out of range.

    >>> import keras_local as kl
    >>> encoder = kl.models.reference.softhebb("cifar10", width=0.125)
    >>> encoder.output_shape
    (None, 3072)

    Source: Journe, Garcia Rodriguez, Guo & Moraitis 2023, "Hebbian deep learning without feedback",
    the presets of the authors' code; `"mnist"` is the rule of Moraitis et al. 2022, "SoftHebb".
    """
    check.one_of("preset", preset, get_args(PresetName))
    check.one_of("competition", competition, get_args(CompetitionName))
    width = check.real("width", width, minimum=0.0, exclusive=True)
    if radius is not None:
        radius = check.real("radius", radius, minimum=0.0, exclusive=True)
    if anti_hebbian is None:
        anti_hebbian = preset != "mnist"
    anti_hebbian = check.flag("anti_hebbian", anti_hebbian)
    if input_shape is not None:
        input_shape = image_shape("input_shape", input_shape)
    hard = competition == "hard"
    if preset == "mnist":
        check.require(depth in (None, 1), "depth", "1 for mnist", depth)
        return _dense(input_shape or (28, 28, 1), width, radius or 35.0, anti_hebbian, hard)
    chosen = _HARD[preset] if hard and preset in _HARD else _SOFT[preset]
    depth = len(chosen.blocks) if depth is None else check.positive_integer("depth", depth)
    check.require(depth <= len(chosen.blocks), "depth", f"at most {len(chosen.blocks)}", depth)
    return _convolutions(preset, chosen, input_shape, width, depth, radius, anti_hebbian, hard)


def _convolutions(
    name: str,
    preset: _Preset,
    input_shape: tuple[int, int, int] | None,
    width: float,
    depth: int,
    radius: float | None,
    anti_hebbian: bool,
    hard: bool,
) -> keras.Sequential:
    initializer = keras.initializers.VarianceScaling(
        (radius or 25.0) ** 2, "fan_in", "untruncated_normal"
    )
    model = keras.Sequential(
        [keras.Input(input_shape or preset.input_shape)], name=f"softhebb_{name}"
    )
    for number, block in enumerate(preset.blocks[:depth], start=1):
        rate = NormDistance(preset.norm_power)
        beta = 1.0 if block.beta is None else block.beta
        model.add(_normalisation(number))
        model.add(
            HebbianConv2D(
                max(1, round(width * block.filters)),
                block.kernel_size,
                padding="reflect" if block.border else "valid",
                border=block.border or None,
                plasticity=HardWTA(rate=rate) if hard else SoftHebb(beta, anti_hebbian, rate=rate),
                activation=Triangle(1.0 if hard else block.power),
                # A clone, because an initializer draws the same numbers for the same shape.
                kernel_initializer=initializer.clone(),
                local_rate=block.rate,
                name=f"hebbian{number}",
            )
        )
        for layer in _pool(block.pool, number, model.output_shape[1:3]):
            model.add(layer)
    model.add(keras.layers.Flatten(name="features"))
    return model


def _dense(
    input_shape: tuple[int, ...], width: float, radius: float, anti_hebbian: bool, hard: bool
) -> keras.Sequential:
    rate = NormDistance(0.2)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            HebbianDense(
                max(1, round(width * 2000)),
                HardWTA(rate=rate) if hard else SoftHebb(12.0, anti_hebbian, rate=rate),
                kernel_initializer=keras.initializers.RandomUniform(
                    0.0, radius * (3.0 / math.prod(input_shape)) ** 0.5
                ),
                local_rate=0.045,
                name="hebbian1",
            ),
            keras.layers.Rescaling(5.0, name="steepness"),
            keras.layers.Softmax(name="features"),
        ],
        name="softhebb_mnist",
    )


def _normalisation(number: int) -> keras.layers.Layer:
    return keras.layers.BatchNormalization(
        center=False, scale=False, momentum=0.9, epsilon=1e-5, name=f"norm{number}"
    )


def _pool(
    kind: PoolName, number: int, sizes: tuple[int | None, ...] = ()
) -> list[keras.layers.Layer]:
    """Return the pool of a block, with the borders of PyTorch's pools of padding 1."""
    if kind == "halve":
        return [keras.layers.AveragePooling2D(2, 2, name=f"pool{number}")]
    if kind == "halve_max":
        return [keras.layers.MaxPooling2D(2, 2, name=f"pool{number}")]
    if kind == "max":
        pool = keras.layers.MaxPooling2D(4, 2, padding="same", name=f"pool{number}")
        # "same" has one window more than PyTorch at the end of an odd size.
        surplus = tuple((0, 0 if size is None else size % 2) for size in sizes)
        if not any(amount for _, amount in surplus):
            return [pool]
        return [pool, keras.layers.Cropping2D(surplus, name=f"crop{number}")]
    # Averages with "same" leave out the border; the source counts its zeros.
    return [
        keras.layers.ZeroPadding2D(1, name=f"border{number}"),
        keras.layers.AveragePooling2D(4, 2, name=f"pool{number}"),
    ]
