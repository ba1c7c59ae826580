"""Every learner that is exported and compared, as one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import dynamics, feedback, layers, models, plasticity

INPUTS, CLASSES, BATCH, STEPS = 64, 10, 32, 20


@dataclass(frozen=True)
class Row:
    """One learner.

    Attributes:
        id: Name of the row.
        make: Makes the model, compiled with SGD.
        rate: Learning rate, the one with which it is compiled.
        shape: Of one sample.
        day: When it is tested: "always", "daily" or "thorough".
        batch: None for a file that takes any number of samples.
        seeds: Function from the model to the generators of seeds, in the order of its draws.
    """

    id: str
    make: Callable[[], Any]
    rate: float = 0.05
    shape: tuple[int, ...] = (INPUTS,)
    day: str = "thorough"
    batch: int | None = None
    seeds: Callable[[Any], Sequence[Any]] = lambda model: ()


def hebbian(rule: Any, rate: float = 0.02) -> Callable[[], Any]:
    def make() -> Any:
        start = keras.initializers.RandomNormal(stddev=0.3, seed=1)
        layer = layers.HebbianDense(32, plasticity=rule, kernel_initializer=start)
        model = keras.Sequential([keras.Input((INPUTS,)), layer])
        model.compile(keras.optimizers.SGD(rate))
        return model

    return make


def hebbian_conv() -> Any:
    start = keras.initializers.RandomNormal(stddev=0.3, seed=1)
    layer = layers.HebbianConv2D(6, 3, strides=2, kernel_initializer=start)
    model = keras.Sequential([keras.Input((8, 8, 1)), layer])
    model.compile(keras.optimizers.SGD(0.02))
    return model


def dense(
    rule: Any, activation: str = "tanh", optimizer: Any = None, **arguments: Any
) -> Callable[[], Any]:
    def make() -> Any:
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input((INPUTS,)),
                layers.FeedbackDense(32, activation, feedback=rule, **arguments),
                layers.FeedbackDense(16, activation, feedback=rule, **arguments),
                layers.FeedbackDense(CLASSES, "softmax", feedback=rule),
            ]
        )
        steps = keras.optimizers.SGD(0.05) if optimizer is None else optimizer()
        model.compile(steps, "sparse_categorical_crossentropy")
        return model

    return make


def conv(
    strides: int = 1,
    padding: str = "same",
    dilation: int = 1,
    pooling: Any = None,
    rule: Any = "kolen_pollack",
) -> Callable[[], Any]:
    def make() -> Any:
        keras.utils.set_random_seed(3)
        options = {"padding": padding, "activation": "relu", "feedback": rule}
        stack = [
            keras.Input((8, 8, 1)),
            layers.FeedbackConv2D(4, 3, strides=strides, dilation_rate=dilation, **options),
            layers.FeedbackConv2D(6, 2, strides=strides, **options),
            *([] if pooling is None else [pooling()]),
            keras.layers.Flatten(),
            layers.FeedbackDense(CLASSES, "softmax", feedback=rule),
        ]
        model = keras.Sequential(stack)
        model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
        return model

    return make


def network(kind: Any, *arguments: Any, rate: float = 0.05, **keywords: Any) -> Callable[[], Any]:
    def make() -> Any:
        keras.utils.set_random_seed(3)
        model = kind(*arguments, **keywords)
        model.compile(keras.optimizers.SGD(rate), jit_compile=False)
        return model

    return make


def encoder() -> Any:
    start = keras.initializers.RandomNormal(stddev=0.1, seed=1)
    layer = layers.HebbianDense(32, kernel_initializer=start)
    return keras.Sequential([keras.Input((INPUTS,)), layer])


def measured(model: Any, rate: float) -> Any:
    """A readout that knows the scale of its features, with a constant learning rate."""
    model.compile(keras.optimizers.SGD(0.0))
    model.train_on_batch(samples(Row("", encoder))[0], labels()[0])
    model.compile(keras.optimizers.SGD(rate), model.loss)
    return model


def class_means() -> Any:
    return measured(models.hebbian_readout(encoder(), CLASSES), 0.1)


def linear_readout() -> Any:
    keras.utils.set_random_seed(3)
    head = models.readout(encoder(), CLASSES, optimizer=keras.optimizers.SGD(0.0))
    head.train_on_batch(samples(Row("", encoder))[0], labels()[0])
    head.optimizer.learning_rate = 0.1
    return head


def mirrors(model: Any) -> list[Any]:
    return [layer._seed for layer in model.layers if getattr(layer, "_seed", None) is not None]


def momentum(nesterov: bool = False) -> Any:
    return keras.optimizers.SGD(0.05, momentum=0.9, nesterov=nesterov)


SIZES = [INPUTS, 24, CLASSES]
SETTLE = {"free_steps": 8, "nudged_steps": 3}
P, F, D = plasticity, feedback, dynamics

ROWS = [
    # Plasticity.
    Row("krotov", hebbian(P.KrotovHopfield()), 0.02, day="always"),
    Row("krotov-p3", hebbian(P.KrotovHopfield(p=3, rank=3)), 0.02),
    Row("krotov-convolution", hebbian_conv, 0.02, (8, 8, 1)),
    Row("oja", hebbian(P.Oja()), 0.02),
    Row("hebb", hebbian(P.Hebb(), 0.002), 0.002),
    Row("hard_wta", hebbian(P.HardWTA()), 0.02),
    Row("kwta", hebbian("kwta"), 0.02),
    Row("soft_hebb", hebbian("soft_hebb"), 0.02),
    Row("bcm", hebbian(P.BCM(), 0.005), 0.005, day="thorough"),
    Row("hpca", hebbian(P.HPCA()), 0.02),
    Row("convallis", hebbian(P.Convallis()), 0.02),
    Row("sanger", hebbian(P.Sanger(), 0.005), 0.005),
    Row("oja_subspace", hebbian(P.OjaSubspace(), 0.005), 0.005),
    Row("nonlinear_hebbian", hebbian("nonlinear_hebbian", 0.005), 0.005),
    Row("similarity_matching", hebbian(P.SimilarityMatching(), 0.005), 0.005),
    Row("krotov_dynamics", hebbian("krotov_hopfield_dynamics"), 0.02),
    Row("foldiak", hebbian("foldiak", 0.005), 0.005),
    # Feedback rules.
    Row("feedback_alignment-relu", dense("feedback_alignment", "relu"), day="always"),
    Row("symmetric", dense("symmetric")),
    Row("detached", dense("detached")),
    Row("kolen_pollack", dense("kolen_pollack", "relu")),
    Row("kolen_pollack-separate", dense(F.KolenPollack(separate=True), "relu")),
    Row("sign_symmetry", dense("sign_symmetry")),
    Row("fixed_magnitudes", dense("frsf")),
    Row("batchwise_magnitudes", dense("brsf"), seeds=mirrors),
    Row("symmetric_alignment", dense("symmetric_alignment")),
    Row("activation_alignment", dense("activation_alignment")),
    Row("information_alignment", dense("information_alignment")),
    Row("weight_mirror", dense("weight_mirror"), seeds=mirrors, day="thorough"),
    Row("noisy_updates", dense(F.NoisyUpdates(F.KolenPollack(), 0.01)), seeds=mirrors),
    Row("no_bias-relu", dense("feedback_alignment", "relu", use_bias=False)),
    Row("connectivity", dense("feedback_alignment", connectivity=0.5)),
    Row("gelu", dense("kolen_pollack", "gelu")),
    Row("elu", dense("kolen_pollack", "elu")),
    Row("momentum", dense("kolen_pollack", "relu", momentum)),
    Row("nesterov", dense("kolen_pollack", "relu", lambda: momentum(True))),
    # Convolutions.
    Row("convolution-same", conv(), shape=(8, 8, 1), day="daily"),
    Row("convolution-valid", conv(padding="valid"), shape=(8, 8, 1)),
    Row("convolution-strides", conv(strides=2), shape=(8, 8, 1)),
    Row("convolution-strides-valid", conv(strides=2, padding="valid"), shape=(8, 8, 1)),
    Row("convolution-dilated", conv(dilation=2), shape=(8, 8, 1)),
    Row("convolution-batch", conv(), shape=(8, 8, 1), batch=BATCH),
    Row("convolution-strides-batch", conv(strides=2), shape=(8, 8, 1), batch=BATCH),
    Row("convolution-dilated-batch", conv(dilation=2), shape=(8, 8, 1), batch=BATCH),
    Row("max_pooling", conv(pooling=keras.layers.MaxPooling2D), shape=(8, 8, 1)),
    Row(
        "max_pooling-overlapping",
        conv(pooling=lambda: keras.layers.MaxPooling2D(3, 2, "same")),
        shape=(8, 8, 1),
    ),
    Row(
        "average_pooling",
        conv(pooling=lambda: keras.layers.AveragePooling2D(3, 2, "same")),
        shape=(8, 8, 1),
    ),
    # Networks.
    Row("equilibrium", network(D.EquilibriumNetwork, SIZES, **SETTLE), day="thorough"),
    Row(
        "equilibrium-centred",
        network(D.EquilibriumNetwork, SIZES, form="prototypical", nudging="centred", **SETTLE),
    ),
    Row(
        "equilibrium-holomorphic",
        network(D.EquilibriumNetwork, SIZES, form="prototypical", nudging="holomorphic", **SETTLE),
        batch=BATCH,
    ),
    Row(
        "conv_equilibrium",
        network(
            D.ConvEquilibriumNetwork, (8, 8, 1), (3, 4), CLASSES, free_steps=12, nudged_steps=3
        ),
        shape=(8, 8, 1),
    ),
    Row(
        "contrastive_hebbian",
        network(D.ContrastiveHebbianNetwork, SIZES, free_steps=12, clamped_steps=12),
    ),
    Row("local_backprop", network(D.LocalBackpropNetwork, [INPUTS, CLASSES], rate=0.01), 0.01),
    Row("microcircuit", network(D.MicrocircuitNetwork, SIZES)),
    Row("predictive_coding", network(D.PredictiveCodingNetwork, SIZES, steps=8)),
    Row("burstprop", network(D.BurstpropNetwork, SIZES, rate=0.5), 0.5),
    Row("segregated_dendrites", network(D.SegregatedDendritesNetwork, SIZES)),
    Row(
        "difference_target",
        network(D.DifferenceTargetPropagation, [INPUTS, 24, 16, CLASSES], seed=0),
        seeds=lambda model: [model._draws],
    ),
    Row("forward_forward", network(D.ForwardForwardNetwork, [INPUTS, 24, 16, CLASSES])),
    Row(
        "temporal_difference",
        network(D.TemporalDifferenceNetwork, SIZES, batch_size=BATCH),
        batch=BATCH,
    ),
    Row("recirculation", network(D.RecirculationAutoencoder, INPUTS, 12, rate=0.5), 0.5),
    # Readouts of a frozen encoder.
    Row("class_means", class_means, 0.1, day="daily"),
    Row("readout", linear_readout, 0.1),
]

MARKS = {"always": (), "daily": pytest.mark.daily, "thorough": pytest.mark.thorough}
PARAMETERS = [pytest.param(row, id=row.id, marks=MARKS[row.day]) for row in ROWS]


def find(row_id: str) -> Row:
    return next(row for row in ROWS if row.id == row_id)


def samples(row: Row) -> np.ndarray:
    """Batches of samples from 0 to 1."""
    rng = np.random.default_rng(3)
    return rng.random((STEPS, BATCH, *row.shape)).astype("float32")


def labels() -> np.ndarray:
    return np.random.default_rng(4).integers(0, CLASSES, (STEPS, BATCH)).astype("int32")
