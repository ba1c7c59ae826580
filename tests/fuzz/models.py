"""The models of the data fuzz: each made once, brought back to its start after every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import keras_local as kl

CLASSES = 3
FEATURES = 4
SIZES = [FEATURES, 5, CLASSES]


@dataclass(frozen=True)
class Subject:
    """A kind of model.

    Attributes:
        make: Makes it, compiled.
        labels: Whether it learns from labels.
        stock: Makes the model of stock layers that has to do the same, with the same weights.
        shape: Of one sample.
        methods: What is called.
    """

    make: Callable[[], Any]
    labels: bool = True
    stock: Callable[[], keras.Model] | None = None
    shape: tuple[int, ...] = (FEATURES,)
    methods: tuple[str, ...] = (
        "fit",
        "fit",
        "evaluate",
        "predict",
        "train_on_batch",
        "test_on_batch",
        "predict_on_batch",
    )


def compiled(model: Any, **options: Any) -> Any:
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), jit_compile=False, **options)
    return model


def supervised(dense: Callable[..., Any], loss: Any) -> Callable[[], Any]:
    def make() -> Any:
        model = keras.Sequential(
            [keras.Input((FEATURES,)), dense(5, activation="tanh"), dense(CLASSES)]
        )
        return compiled(model, loss=loss)

    return make


def symmetric(units: int, **options: Any) -> Any:
    return kl.layers.FeedbackDense(units, feedback="symmetric", **options)


def encoder(rule: Any = "oja") -> Any:
    start = keras.initializers.RandomUniform(0.0, 0.5, seed=1)
    layer = kl.layers.HebbianDense(5, rule, kernel_initializer=start)
    return keras.Sequential([keras.Input((FEATURES,)), layer])


def network(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    return lambda: compiled(getattr(kl.dynamics, name)(*(arguments or (SIZES,)), **options))


SCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
READOUT = ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch")

SUBJECTS: dict[str, Subject] = {
    "feedback": Subject(supervised(symmetric, SCE), stock=supervised(keras.layers.Dense, SCE)),
    "hinge": Subject(
        supervised(symmetric, kl.losses.LocalHinge()),
        stock=supervised(keras.layers.Dense, kl.losses.LocalHinge()),
    ),
    # `predict` of a Sequential is Keras' own.
    "hebbian": Subject(lambda: compiled(encoder()), labels=False, methods=("pretrain",)),
    "krotov": Subject(
        lambda: compiled(encoder("krotov_hopfield")), labels=False, methods=("pretrain",)
    ),
    "readout": Subject(lambda: kl.models.readout(encoder(), CLASSES, power=2.0), methods=READOUT),
    "class_means": Subject(lambda: kl.models.hebbian_readout(encoder(), CLASSES), methods=READOUT),
    "nearest": Subject(
        lambda: kl.models.nearest_neighbours(encoder(), CLASSES, 2),
        methods=("fit", "predict", "evaluate"),
    ),
    "burstprop": Subject(network("BurstpropNetwork")),
    "contrastive": Subject(network("ContrastiveHebbianNetwork", free_steps=4, clamped_steps=4)),
    "conv_equilibrium": Subject(
        network("ConvEquilibriumNetwork", (4, 4, 1), (2,), CLASSES, free_steps=3, nudged_steps=1),
        shape=(4, 4, 1),
    ),
    "difference_target": Subject(network("DifferenceTargetPropagation", seed=1)),
    "equilibrium": Subject(network("EquilibriumNetwork", free_steps=4, nudged_steps=2)),
    "forward_forward": Subject(network("ForwardForwardNetwork")),
    "local_backprop": Subject(network("LocalBackpropNetwork", time_step=0.2)),
    "microcircuit": Subject(network("MicrocircuitNetwork")),
    "predictive": Subject(network("PredictiveCodingNetwork", steps=4)),
    "recirculation": Subject(
        network("RecirculationAutoencoder", FEATURES, 3),
        labels=False,
    ),
    "dendrites": Subject(network("SegregatedDendritesNetwork")),
    "temporal": Subject(network("TemporalDifferenceNetwork", batch_size=8)),
}


class Bench:
    """A model with its start, to which it is brought back."""

    def __init__(self, subject: Subject, make: Callable[[], Any], like: Any = None) -> None:
        keras.utils.set_random_seed(1)
        self.model = make()
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        if like is not None:
            self.model.set_weights(like.model.get_weights())
        self.subject = subject
        self.start = self.state()

    def variables(self) -> list[Any]:
        optimizer = getattr(self.model, "optimizer", None)
        return [*self.model.variables, *(optimizer.variables if optimizer is not None else [])]

    def state(self) -> list[tuple[Any, bool]]:
        return [
            (np.copy(keras.ops.convert_to_numpy(each)), each.trainable) for each in self.variables()
        ]

    def changes(self) -> list[str]:
        """What is another one than at the start."""
        now = self.state()
        if len(now) != len(self.start):
            return [f"{len(now)} variables in place of {len(self.start)}"]
        paths = [each.path for each in self.variables()]
        return [
            path
            for path, (old, trained), (new, trains) in zip(paths, self.start, now, strict=True)
            if trained != trains or not np.array_equal(old, new, equal_nan=old.dtype.kind == "f")
        ]

    def restore(self) -> None:
        if len(self.state()) != len(self.start):
            # What has been fitted holds more than before: the next call gets a new one.
            for name in [name for name, made in BENCHES.items() if self in made]:
                del BENCHES[name]
            return
        for each, (old, trainable) in zip(self.variables(), self.start, strict=True):
            each.assign(old)
            each.trainable = trainable


BENCHES: dict[str, tuple[Bench, Bench | None]] = {}
"""Those that were made, by the name of the subject."""


def bench(name: str) -> tuple[Bench, Bench | None]:
    if name not in BENCHES:
        subject = SUBJECTS[name]
        ours = Bench(subject, subject.make)
        stock = None if subject.stock is None else Bench(subject, subject.stock, ours)
        BENCHES[name] = ours, stock
    return BENCHES[name]
