"""The results of an experiment, as `results.json` and the report contain them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from keras_local.reproduce.json_files import text_of


@dataclass(frozen=True)
class Score:
    """The number of images that a model assigns to a wrong class.

    Attributes:
        wrong: Number of images assigned to a wrong class.
        images: Number of all images.
        error: `wrong / images`.

    >>> Score(3, 400).error
    0.0075
    """

    wrong: int
    images: int
    error: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", self.wrong / self.images)


@dataclass(frozen=True)
class Trained:
    """A trained model: one row of the table of errors.

    Attributes:
        key: Short name, unique.
        label: What the model is.
        detail: How it differs from the other models.
        test: Errors on the test images after the last epoch.
        training: Errors on the training images after the last epoch.
        weights: How many weights the labels trained.
        seconds: How long its training took.
        curve: Test errors during training: `passes` over the data, and `test_error` after them.
        angles: Angle between kernel and feedback kernel by layer, in degrees: before training, and
            after each epoch. Empty where there is no feedback kernel.
    """

    key: str
    label: str
    detail: str
    test: Score
    training: Score
    weights: int
    seconds: float
    curve: dict[str, list[float]]
    angles: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pretrained:
    """The units of the Hebbian layer after learning without labels.

    Attributes:
        units: Number of units.
        steps: Number of steps.
        won: Fraction of units with the largest current for at least one training image.
        dead: Fraction of units without any.
        converged: Fraction of units with `|sum |W|^p - 1| < 0.1`.
        mean_norm: Mean of `sum |W|^p`.
        seconds: How long it took.
    """

    units: int
    steps: int
    won: float
    dead: float
    converged: float
    mean_norm: float
    seconds: float


@dataclass(frozen=True)
class Served:
    """The exported model, run in another process and compared with the original.

    Attributes:
        folder: Name of the SavedModel in the report's folder.
        images: Number of images that both predicted.
        largest_difference: Largest absolute difference of a class score.
        largest_score: Largest absolute class score.
        same_classes: Number of images that both assign to the same class.
        parameter_bytes: Bytes of the weights of the model of built-in layers.
        weight_bytes: Bytes of the SavedModel's files of weights.
        folder_bytes: Bytes of all its files.
        keras_imported: Whether the process imported Keras. It could not import keras_local.
        seconds: How long export, start of the process and predictions took.
    """

    folder: str
    images: int
    largest_difference: float
    largest_score: float
    same_classes: int
    parameter_bytes: int
    weight_bytes: int
    folder_bytes: int
    keras_imported: bool
    seconds: float


@dataclass(frozen=True)
class Images:
    """The images of an experiment.

    Attributes:
        data: Name of the data set.
        shape: Shape of an image.
        classes: Number of classes.
        training: Number of images used for training.
        training_of: Number of training images in the data set.
        error_paths: Number of images used for training the convolutional networks.
        test: Number of images used for tests.
        test_of: Number of test images in the data set.
    """

    data: str
    shape: tuple[int, ...]
    classes: int
    training: int
    training_of: int
    error_paths: int
    test: int
    test_of: int


@dataclass(frozen=True)
class Results:
    """All results of the demo.

    Attributes:
        command: The command that repeats it.
        seed: Its seed.
        quick: Whether the run was shortened, so that its errors mean nothing.
        images: The images that were used.
        error_paths: The same network, trained with three error paths.
        features: The readout of learned, random and raw features, and end-to-end backpropagation.
        pretrained: The Hebbian layer.
        served: The exported readout.
        seconds: How long each stage took.
        total_seconds: How long all of it took.
        cpu_seconds: Processor time, summed over all processors, with the start of Python.
        settings: As in the TOML file.
        environment: Versions and machine.
        notes: Warnings that were raised during the run.
    """

    command: str
    seed: int
    quick: bool
    images: Images
    error_paths: list[Trained]
    features: list[Trained]
    pretrained: Pretrained
    served: Served
    seconds: dict[str, float]
    total_seconds: float
    cpu_seconds: float
    settings: dict[str, dict[str, Any]]
    environment: dict[str, str]
    notes: list[str]

    def to_json(self) -> str:
        """Return everything as JSON; numbers that are not finite become `null`."""
        return text_of(asdict(self))
