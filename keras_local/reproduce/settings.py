"""The settings of an experiment: a TOML file, read into frozen dataclasses that check values."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import Self

from keras_local import _validation as check
from keras_local import datasets
from keras_local.reproduce.reading import counts, parsed, read_table

DEMO_DATA = ("digits", "mnist", "fashion_mnist", "cifar10")
"""The data sets of the demo."""


@dataclasses.dataclass(frozen=True)
class Data:
    """The data set of an experiment.

    Attributes:
        name: A name that `datasets.load` knows.
        training: How many of the training images are used, the first ones; None for all.
        test: How many of the test images are used, the first ones; None for all.
    """

    name: str
    training: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        check.one_of("name", self.name, datasets.NAMES)
        counts(self, "training", "test")


@dataclasses.dataclass(frozen=True)
class ErrorPaths:
    """The convolutional network, trained with three error paths by SGD on the local hinge loss.

    Attributes:
        filters: Number of filters of the two convolutions, each followed by 2 x 2 max-pooling or
            by the dense layers.
        kernel_size: Side of their kernels.
        hidden: Units of the dense layer below the class units.
        activation: Activation of all layers but the last.
        learning_rate: Learning rate of SGD at the start; it decays to zero along a cosine.
        momentum: Momentum of SGD.
        batch_size: Images in each step.
        epochs: Passes over the images.
        images: How many training images this part uses, the first ones; None for all.
    """

    filters: tuple[int, ...]
    kernel_size: int
    hidden: int
    activation: str
    learning_rate: float
    momentum: float
    batch_size: int
    epochs: int
    images: int | None = None

    def __post_init__(self) -> None:
        check.sizes("filters", self.filters, 2)
        check.one_of("activation", self.activation, ("relu", "tanh"))
        check.real("learning_rate", self.learning_rate, 0.0, exclusive=True)
        check.real("momentum", self.momentum, 0.0, 0.999)
        counts(self, "kernel_size", "hidden", "batch_size", "epochs", "images")


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The Hebbian layer and its pretraining by Krotov and Hopfield's rule.

    Attributes:
        units: Number of units.
        p: As in `plasticity.KrotovHopfield`.
        rank: As in `plasticity.KrotovHopfield`.
        delta: As in `plasticity.KrotovHopfield`.
        initial: Initializer of the weights: `"uniform"` from 0 to 1, or `"normal"` with standard
            deviation 1.
        step_size: Largest change of a weight in a step of the first epoch.
        batch_size: Images in each step.
        epochs: Passes over the images.
    """

    units: int
    p: float
    rank: int
    delta: float
    initial: str
    step_size: float
    batch_size: int
    epochs: int

    def __post_init__(self) -> None:
        check.real("p", self.p, 1.0)
        check.positive_integer("rank", self.rank, 2)
        check.real("delta", self.delta, 0.0)
        check.one_of("initial", self.initial, ("uniform", "normal"))
        check.real("step_size", self.step_size, 0.0, exclusive=True)
        counts(self, "units", "batch_size", "epochs")
        check.require(self.rank <= self.units, "rank", f"at most units={self.units}", self.rank)


@dataclasses.dataclass(frozen=True)
class Readout:
    """The linear readout of learned, random and raw features, trained by Adam and the power loss.

    Attributes:
        power: Power of the rectified currents.
        loss_power: Exponent of the loss.
        beta: Slope of the loss.
        learning_rate: Learning rate of Adam at the start; it decays to zero along a cosine.
        batch_size: Images in each step.
        passes: Passes over the images.
    """

    power: float
    loss_power: float
    beta: float
    learning_rate: float
    batch_size: int
    passes: int

    def __post_init__(self) -> None:
        check.real("power", self.power, 1.0)
        check.real("loss_power", self.loss_power, 1.0)
        check.real("beta", self.beta, 0.0, exclusive=True)
        check.real("learning_rate", self.learning_rate, 0.0, exclusive=True)
        counts(self, "batch_size", "passes")


@dataclasses.dataclass(frozen=True)
class Softmax:
    """The other baselines, trained by Adam and softmax cross-entropy.

    Attributes:
        learning_rate: Learning rate of Adam at the start; it decays to zero along a cosine.
        batch_size: Images in each step.
        passes: Passes over the images.
    """

    learning_rate: float
    batch_size: int
    passes: int

    def __post_init__(self) -> None:
        check.real("learning_rate", self.learning_rate, 0.0, exclusive=True)
        counts(self, "batch_size", "passes")


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """All settings of `keras-local demo` for one data set: one attribute for each TOML table.

    >>> DemoSettings.of("digits").encoder.units
    64
    """

    data: Data
    error_paths: ErrorPaths
    encoder: Encoder
    readout: Readout
    softmax: Softmax

    @classmethod
    def of(cls, data: str) -> Self:
        """Return the package's settings for a data set.

        Raises:
            ValueError: If the data set is unknown.
        """
        check.one_of("data", data, DEMO_DATA)
        name = f"demo-{data}.toml"
        text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
        return cls.from_toml(text, name)

    @classmethod
    def from_toml(cls, text: str, source: str = "settings") -> Self:
        """Return the settings that a TOML text contains.

        Args:
            text: The text.
            source: Name of the text in error messages.

        Raises:
            ValueError: If the text is not TOML, if an entry is missing, unknown or of the wrong
                type, or a value is out of its range; the message names source, table and entry.
        """
        return read_table(cls, parsed(text, source), source)

    def quick(self) -> Self:
        """Return the same experiment with few images and steps, to see that everything works."""
        return dataclasses.replace(
            self,
            data=dataclasses.replace(self.data, training=300, test=100),
            error_paths=dataclasses.replace(self.error_paths, epochs=2, images=None),
            encoder=dataclasses.replace(self.encoder, epochs=2),
            readout=dataclasses.replace(self.readout, passes=2),
            softmax=dataclasses.replace(self.softmax, passes=2),
        )
