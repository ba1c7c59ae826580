"""The tables of an experiment: data, model, training, encoder, readout, measure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Literal

from keras_local import _validation as check
from keras_local import datasets
from keras_local.reproduce.reading import choices, counts

Record = Literal["alignment_angle", "norm_ratio", "weight_correlation", "gradient_angle"]
"""What the history of training contains besides losses and errors."""


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of an experiment.

    Attributes:
        name: A name that `datasets.load` knows.
        flatten: Whether an image is a vector.
        scale: `"unit"`, pixels from 0 to 1; `"standard"`, of mean 0 and variance 1 over all pixels;
            `"centred"`, without the mean of each pixel (each split without its own).
        size: Side to which images are padded with zeros; None leaves them.
        train: How many training images are used, the first ones; None for all.
        test: How many test images are used, the first ones; None for all.
        held_out: How many of the training images, the last ones, are for the learning curve, so
            that the test images are used once.
        labels: How many labelled images readouts see, as many of each class; None for all.
        one_hot: Whether labels are one-hot rows.
        one_each: Whether the first image of each class is all there is, also for the test.
        stand_in: Whether digits take the place of the images, enlarged to their shape.
        task: What is to be told: `"classes"`, or for digits `"parity"`, `"large"` (at least 5).
    """

    name: str
    flatten: bool = False
    scale: Literal["unit", "standard", "centred"] = "unit"
    size: int | None = None
    train: int | None = None
    test: int | None = None
    held_out: int = 0
    labels: int | None = None
    one_hot: bool = False
    one_each: bool = False
    stand_in: bool = False
    task: Literal["classes", "parity", "large"] = "classes"

    def __post_init__(self) -> None:
        check.one_of("name", self.name, datasets.NAMES)
        choices(self)
        counts(self, "size", "train", "test", "labels")
        counts(self, "held_out", minimum=0)


@dataclasses.dataclass(frozen=True)
class Model:
    """How a model is made.

    Attributes:
        make: `reference.NAME` of `models.reference`, `dynamics.NAME` or `dynamics.NAME.preset`, or
            `"layers"` for a Sequential model.
        arguments: Its arguments. A table with a `name` in them is an object.
        layers: The layers of a Sequential model, each a table with the name of a class.
        feedback: The feedback rule that `models.convert` gives to all layers; none by default.
        feedback_initializer: Initializer of the feedback kernels; Glorot's uniform by default.
        direct: `"direct_feedback"` or `"direct_random_target"`, as in `models.direct`.
        frozen_below: Name of the layer below which nothing learns.
    """

    make: str = "layers"
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    layers: tuple[Any, ...] = ()
    feedback: Any = None
    feedback_initializer: Any = None
    direct: Any = None
    frozen_below: str | None = None

    def __post_init__(self) -> None:
        of_layers = self.make == "layers"
        allowed = '"layers", with `layers`, or the name of a network, without'
        check.require(of_layers == bool(self.layers), "make", allowed, self.make)
        arguments = "left out with `layers`"
        check.require(not (of_layers and self.arguments), "arguments", arguments, self.arguments)


@dataclasses.dataclass(frozen=True)
class Align:
    """A phase before training in which only feedback weights learn, see `models.align`."""

    learning_rate: float
    epochs: int = 1
    batch_size: int = 128

    def __post_init__(self) -> None:
        check.real("learning_rate", self.learning_rate, 0.0, exclusive=True)
        counts(self, "epochs", "batch_size")


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """Training of the same network with tied kernels, which an untied one starts with.

    Attributes:
        epochs: Passes over the images.
        learning_rate: Learning rate of SGD.
        untied: Names of the layers that become untied.
    """

    epochs: int
    learning_rate: float
    untied: tuple[str, ...]

    def __post_init__(self) -> None:
        check.real("learning_rate", self.learning_rate, 0.0, exclusive=True)
        counts(self, "epochs")


@dataclasses.dataclass(frozen=True)
class Train:
    """Training by `fit`.

    Attributes:
        optimizer: The name of an optimizer, its arguments, and a `schedule`: `"cosine"` to zero,
            `"halvings"`, or `{ at = [100, 150], factor = 0.1 }` in epochs.
        batch_size: Images in each step.
        epochs: Passes over the images; 0 to test the model as it is.
        loss: `"softmax"`, `"logistic"` or `"half_squared"` (sums over one-hot labels), or an object
            of `losses`; none for a network with a loss of its own.
        steps: Steps in an epoch; then each batch is drawn from all images.
        record: What of `AlignmentMonitor` is in the history.
        augment: Whether images are flipped, and shifted by up to four pixels.
        shuffle: Whether each epoch has another order.
        drop_remainder: Whether images that do not fill a batch are left out.
        bias_rate: Factor on the learning rate of biases.
        align: A mirror phase before training.
        warm_up: Training with tied kernels before.
        also: Further tests after each epoch: attributes that the network has in them.
    """

    optimizer: dict[str, Any]
    batch_size: int
    epochs: int
    loss: Any = None
    steps: int | None = None
    record: tuple[Record, ...] = ()
    augment: bool = False
    shuffle: bool = True
    drop_remainder: bool = False
    bias_rate: float | None = None
    align: Align | None = None
    warm_up: WarmUp | None = None
    also: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        counts(self, "batch_size", "steps")
        counts(self, "epochs", minimum=0)
        choices(self)
        if self.bias_rate is not None:
            check.real("bias_rate", self.bias_rate, 0.0)


@dataclasses.dataclass(frozen=True)
class Start:
    """Where the units of an encoder start: at images, as by `models.reseed`, or as initialized."""

    at: Literal["images", "initializer"] = "images"
    norm: float = 1.2
    noise: float = 0.0

    def __post_init__(self) -> None:
        choices(self)
        check.real("norm", self.norm, 0.0, exclusive=True)
        check.real("noise", self.noise, 0.0)


@dataclasses.dataclass(frozen=True)
class Patches:
    """Patches from which the filters of a convolution learn, as a dense layer does.

    Attributes:
        count: How many are drawn.
        size: Their side.
        threshold: Patches with a smaller norm are left out.
    """

    count: int
    size: int
    threshold: float = 0.5

    def __post_init__(self) -> None:
        counts(self, "count", "size")
        check.real("threshold", self.threshold, 0.0)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An encoder that learns without labels, see `models.pretrain`.

    Attributes:
        layers: Its layers, each a table with the name of a class; none for the images themselves.
        make: `reference.NAME`, or `"layers"` for the layers above.
        arguments: Arguments of `make`.
        epochs: Passes over the images; 0 for units as they start.
        batch_size: Images in each step.
        step_size: Step size in the first epoch.
        greedy: Whether layers learn one after the other.
        start: Where the units start; the layers' initializers by default.
        patches: Patches from which the first layer learns in place of images.
        data: Name of other images from which the encoder learns.
    """

    layers: tuple[Any, ...] = ()
    make: str = "layers"
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    batch_size: int = 100
    step_size: float = 0.02
    greedy: bool = True
    start: Start | None = None
    patches: Patches | None = None
    data: str | None = None

    def __post_init__(self) -> None:
        counts(self, "batch_size")
        counts(self, "epochs", minimum=0)
        check.real("step_size", self.step_size, 0.0, exclusive=True)
        if self.data is not None:
            check.one_of("data", self.data, datasets.NAMES)


@dataclasses.dataclass(frozen=True)
class Readout:
    """What learns the classes on the frozen features of an encoder.

    Attributes:
        kind: `"linear"`, `"neighbours"` or `"class_means"`, as in `models`; `"dense"`, a layer
            with bias on features that are computed once; `"end_to_end"`, no encoder but a network
            of one hidden layer of ReLU units, trained by backpropagation.
        power: Power of the rectified currents, or of the features of neighbours and means.
        input_dropout: Share of the inputs that are left out.
        dropout: Share of the features that are left out.
        standardise: Whether features have mean 0 and variance 1.
        hidden: Units of the hidden layer of `"end_to_end"`.
        neighbours: How many neighbours vote.
        loss: As in `Train`.
        optimizer: As in `Train`.
        batch_size: Images in each step.
        epochs: Passes over the labelled images.
    """

    kind: Literal["linear", "dense", "neighbours", "class_means", "end_to_end"] = "linear"
    power: float = 4.5
    input_dropout: float = 0.0
    dropout: float = 0.0
    standardise: bool = False
    hidden: int = 2000
    neighbours: int = 1
    loss: Any = "softmax"
    optimizer: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "Adam"})
    batch_size: int = 100
    epochs: int = 10

    def __post_init__(self) -> None:
        choices(self)
        check.real("power", self.power, 1.0)
        for name in ("input_dropout", "dropout"):
            share = check.real(name, getattr(self, name), 0.0)
            check.require(share < 1.0, name, "less than 1", share)
        counts(self, "hidden", "neighbours", "batch_size", "epochs")


@dataclasses.dataclass(frozen=True)
class Measure:
    """A function of `measures` that gives numbers.

    Attributes:
        function: Its name.
        arguments: Its arguments; the seed is added.
    """

    function: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


_NEEDED = {"train": ("data", "model", "train"), "pretrain": ("data", "encoder", "readout")}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of one variant in one preset: what a result is the result of."""

    kind: Literal["train", "pretrain", "measure"]
    data: Data | None = None
    model: Model | None = None
    train: Train | None = None
    encoder: Encoder | None = None
    readout: Readout | None = None
    measure: Measure | None = None

    def __post_init__(self) -> None:
        choices(self)
        needed = _NEEDED.get(self.kind, ("measure",))
        for name in ("data", "model", "train", "encoder", "readout", "measure"):
            given = getattr(self, name) is not None
            optional = self.kind == "measure" and name == "data"
            allowed = f"given in an experiment of kind {self.kind!r}"
            if name in needed:
                check.require(given, name, allowed, "none")
            elif not optional:
                allowed = f"left out in an experiment of kind {self.kind!r}"
                check.require(not given, name, allowed, "a table")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: table for name, table in found.items() if table is not None}

    @property
    def sha(self) -> str:
        """A hash of all settings: results with another one are of another experiment."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
