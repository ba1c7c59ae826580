"""What an experiment found, in a form that goes into `results.json` and into the report."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """How many of how many images a model takes for another class.

    Attributes:
        wrong: Images that the model takes for another class.
        images: All images.
        error: Their quotient.

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
    """One trained model, a row of the table.

    Attributes:
        key: Short name, unique.
        label: What the model is.
        detail: What distinguishes it.
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
    """The exported model in a process of its own, beside the model that was exported.

    Attributes:
        folder: Name of the SavedModel in the report's folder.
        images: How many images both predicted.
        largest_difference: Largest absolute difference of a class score.
        largest_score: Largest absolute class score.
        same_classes: Images that both give to the same class.
        parameter_bytes: Bytes of the weights of the model of built-in layers.
        weight_bytes: Bytes of the SavedModel's files of weights.
        folder_bytes: Bytes of all its files.
        keras_imported: Whether the process imported Keras; keras_local it could not.
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
    """What was learned from.

    Attributes:
        data: Name of the data set.
        shape: Of an image.
        classes: Number of classes.
        training: Images used for training.
        training_of: Training images that the data set has.
        error_paths: Images used for training the convolutional nets.
        test: Images used for tests.
        test_of: Test images that the data set has.
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
    """All that the demo found.

    Attributes:
        command: The command that repeats it.
        seed: Its seed.
        quick: Whether it was cut short, so that no error means anything.
        images: What was learned from.
        error_paths: The same net with three ways back for the error.
        features: The readout of learned, random and raw features, and end-to-end backpropagation.
        pretrained: The Hebbian layer.
        served: The exported readout.
        seconds: How long each stage took.
        total_seconds: How long all of it took.
        cpu_seconds: Time of all processors that it took, with the start of Python.
        settings: As in the TOML file.
        environment: Versions and machine.
        notes: Warnings on the way.
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
        """Return everything as JSON; what is not finite becomes `null`."""
        return json.dumps(_finite(asdict(self)), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
