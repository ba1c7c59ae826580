"""What a comparison trains on: data, loss, metric, and how a step is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np

from keras_local import _labels, datasets
from keras_local import _validation as check
from keras_local._data_gate import require_finite
from keras_local._serialization import copied
from keras_local._streams import first_batches, is_stream

PROBED = 128
"""How many test examples the gradients are compared on."""

_DATA = (
    "the name of a data set, or ((x, y), (x_test, y_test)) of arrays; each of the two may be a "
    "`tf.data.Dataset` or a `PyDataset` of batches instead"
)


@dataclass(frozen=True)
class Split:
    """Examples: arrays `x` and `y`, or batches `x` that contain both (then `y` is None)."""

    x: Any
    y: Any = None

    @property
    def streams(self) -> bool:
        """Whether the examples are batches."""
        return is_stream(self.x)

    def first(self, count: int) -> tuple[Any, Any]:
        """Return the first examples; batches are not cut."""
        if self.streams:
            return cast("tuple[Any, Any]", first_batches(self.x, 1)[0][0][:2])
        return self.rows(np.arange(min(count, len(self))))

    def rows(self, index: np.ndarray) -> tuple[Any, Any]:
        """Return the examples with some indices."""
        take = keras.tree.map_structure(lambda array: array[index], (self.x, self.y))
        return cast("tuple[Any, Any]", take)

    def __len__(self) -> int:
        """Return the number of examples of arrays."""
        return len(keras.tree.flatten(self.x)[0])


@dataclass(frozen=True)
class Task:
    """What is the same for all rules.

    Attributes:
        train: The examples that are trained on.
        test: The examples that are tested on.
        loss: The loss, or the name of one.
        metric: None for the loss, or what `compile` takes as a metric.
        measure: What is measured on the test examples after each epoch.
        optimizer: The optimizer, of which each run gets a copy.
        epochs: Passes over the training examples.
        batch_size: Examples in a step.
        angles: Whether the gradients are compared with those of backpropagation.
    """

    train: Split
    test: Split
    loss: Any
    metric: Any
    measure: Measure
    optimizer: keras.optimizers.Optimizer
    epochs: int
    batch_size: int
    angles: bool

    def compile(self, model: keras.Model, rate: float | None = None) -> None:
        """Compile a model with copies of what has a state."""
        optimizer = copied(self.optimizer)
        if rate is not None:
            optimizer.learning_rate = rate
        loss = self.loss
        if isinstance(loss, keras.losses.Loss):
            loss = copied(loss)
        metric = copied(self.metric) if isinstance(self.metric, keras.Metric) else self.metric
        model.compile(optimizer, loss, metrics=None if metric is None else [metric])

    def fit(
        self, model: keras.Model, train: Split, test: Split, callbacks: list[Any]
    ) -> dict[str, list[float]]:
        """Train a compiled model and return its logs."""
        size = None if train.streams else self.batch_size
        pair = test.x if test.streams else (test.x, test.y)
        history = model.fit(
            train.x,
            train.y,
            batch_size=size,
            epochs=self.epochs,
            validation_data=pair,
            callbacks=callbacks,
            verbose=0,
        )
        return dict(history.history)


@dataclass(frozen=True)
class Measure:
    """The number by which rules are compared.

    Attributes:
        name: What it is, for people.
        log: Its entry in the logs of `fit`, without `val_`; None if it is the only metric.
        error: Whether it is 100 % less the entry.
    """

    name: str
    log: str | None
    error: bool = False

    def of(self, logs: dict[str, list[float]]) -> list[float]:
        """Return its values on the test examples, one for each epoch."""
        others = [key for key in logs if key.startswith("val_") and key != "val_loss"]
        key = others[0] if self.log is None else f"val_{self.log}"
        values = [float(value) for value in logs[key]]
        return [100.0 * (1.0 - value) for value in values] if self.error else values


def splits(data: Any, model: keras.Model) -> tuple[Split, Split]:
    """Return training and test examples, for a model that shows which shape it takes."""
    if isinstance(data, str):
        check.one_of("data", data, datasets.NAMES)
        flat = len(model.inputs) == 1 and len(model.inputs[0].shape) == 2
        data = datasets.load(cast(datasets.Name, data), flatten=flat)
    pair = check.is_sequence(data) and len(data) == 2
    check.require(pair, "data", _DATA, f"data of type {type(data).__name__}")
    train, test = (_split(part) for part in data)
    return train, test


def _split(part: Any) -> Split:
    if is_stream(part):
        allowed = "a source that can be read again and again"
        check.require(not hasattr(part, "__next__"), "data", allowed, part)
        return Split(part)
    pair = check.is_sequence(part) and len(part) == 2
    check.require(pair, "data", _DATA, f"a part of type {type(part).__name__}")
    x, y = (keras.tree.map_structure(_labels.as_numpy, values) for values in part)
    lengths = {array.shape[:1] for array in keras.tree.flatten((x, y))}
    fits = len(lengths) == 1 and min(lengths) > (0,)
    allowed = "arrays with as many inputs as labels, and at least one"
    check.require(fits, "data", allowed, f"lengths {sorted(lengths)}")
    for array in keras.tree.flatten(x):
        if np.issubdtype(array.dtype, np.floating):
            require_finite("data", array, math.inf, " inputs")
    return Split(x, y)


def task_of(
    model: keras.Model,
    data: Any,
    *,
    epochs: Any,
    batch_size: Any,
    optimizer: Any,
    loss: Any,
    metric: Any,
    angles: Any,
) -> Task:
    """Return the task for a model, with defaults for what was left out."""
    epochs = check.positive_integer("epochs", epochs)
    batch_size = check.positive_integer("batch_size", batch_size)
    angles = check.flag("angles", angles)
    if optimizer is None:
        optimizer = keras.optimizers.SGD(0.1)
    allowed = "None, a Keras optimizer, or the name of one"
    optimizer = check.resolved("optimizer", optimizer, keras.optimizers.get, allowed)
    train, test = splits(data, model)
    classes = _classes(model, test)
    if loss is None:
        loss = _default_loss(model, test, classes)
    if not isinstance(loss, (list, tuple, dict)):
        check.resolved("loss", loss, keras.losses.get, "a Keras loss, or the name of one")
    if metric is not None:
        named = check.resolved("metric", metric, keras.metrics.get, "a Keras metric, or its name")
        name = metric if isinstance(metric, str) else getattr(named, "name", str(named))
        measure = Measure(f"test {name}", None)
    elif classes:
        metric, measure = "accuracy", Measure("test error (%)", "accuracy", error=True)
    else:
        measure = Measure("test loss", "loss")
    return Task(train, test, loss, metric, measure, optimizer, epochs, batch_size, angles)


def _classes(model: keras.Model, test: Split) -> int | None:
    """Return the number of classes if the labels of the test examples are classes."""
    _, labels = test.first(PROBED)
    if len(model.outputs) != 1 or len(keras.tree.flatten(labels)) != 1:
        return None
    shape, labels = model.outputs[0].shape, _labels.as_numpy(keras.tree.flatten(labels)[0])
    if len(shape) != 2 or shape[-1] in (None, 1):
        return None
    whole = labels.ndim == 1 or labels.shape[1:] == (1,)
    if whole and not np.issubdtype(labels.dtype, np.integer):
        return None
    try:
        _labels.check_labels("data", labels, shape[-1])
    except ValueError:
        # Whole numbers that are no classes are a mistake, and not values to be predicted.
        if whole:
            raise
        return None
    return int(shape[-1])


def _default_loss(model: keras.Model, test: Split, classes: int | None) -> keras.losses.Loss:
    """Return cross-entropy, of probabilities if the outputs of the model are some."""
    allowed = "given, because the labels are not classes of the model's only output"
    check.require(classes is not None, "loss", allowed, None)
    x, labels = test.first(PROBED)
    outputs = keras.ops.convert_to_numpy(model(x, training=False)).astype("float64")
    sums = outputs.sum(axis=-1)
    probabilities = bool((outputs >= 0.0).all() and np.allclose(sums, 1.0, atol=1e-2))
    one_hot = _labels.as_numpy(labels).shape[1:] == (classes,)
    kind: Callable[..., keras.losses.Loss] = (
        keras.losses.CategoricalCrossentropy
        if one_hot
        else keras.losses.SparseCategoricalCrossentropy
    )
    return kind(from_logits=not probabilities)
