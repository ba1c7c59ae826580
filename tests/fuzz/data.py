"""Data that users hand to a model: right, wrong, and wrapped in every way."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tests.fuzz.models import CLASSES, Bench, bench

SAMPLES = 12

Change = Callable[[np.ndarray, np.random.Generator], Any]


def _with(value: float, dtype: str = "float32") -> Change:
    def change(array: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        array = array.astype(dtype)
        array[generator.integers(len(array))] = value
        return array

    return change


INPUTS: dict[str, Change] = {
    "right": lambda x, _: x,
    "float64": lambda x, _: x.astype("float64"),
    "float16": lambda x, _: x.astype("float16"),
    "integers": lambda x, _: (4 * x).astype("int32"),
    "bytes": lambda x, _: (255 * x).astype("uint8"),
    "booleans": lambda x, _: x > 0.5,
    "NaN": _with(np.nan),
    "inf": _with(np.inf),
    "-inf": _with(-np.inf),
    "1e300": _with(1e300, "float64"),
    "3e38": _with(3e38),
    "1e20": _with(1e20),
    "zeros": lambda x, _: 0.0 * x,
    "a feature more": lambda x, _: np.concatenate([x, x[..., :1]], axis=-1),
    "an axis more": lambda x, _: x[..., None],
    "one sample": lambda x, _: x[0],
    "no samples": lambda x, _: x[:0],
    "strings": lambda x, _: np.full(x.shape, "a"),
    "objects": lambda x, _: np.full(x.shape, None),
    "complex": lambda x, _: x.astype("complex64"),
    "a number": lambda x, _: 3.0,
    "None": lambda x, _: None,
    "a string": lambda x, _: "data",
    "a dict": lambda x, _: {"x": x},
    "a list of two": lambda x, _: [x, x],
    "a list of rows": lambda x, _: x.tolist(),
}

LABELS: dict[str, Change] = {
    "right": lambda y, _: y,
    "one-hot": lambda y, _: np.eye(CLASSES, dtype="float32")[y],
    "a column": lambda y, _: y[:, None],
    "whole floats": lambda y, _: y.astype("float32"),
    "int64": lambda y, _: y.astype("int64"),
    "bytes": lambda y, _: y.astype("uint8"),
    "out of range": lambda y, _: y + 9,
    "one out of range": lambda y, g: np.where(np.arange(len(y)) == g.integers(len(y)), CLASSES, y),
    "negative": lambda y, _: y - 1,
    "fractions": lambda y, _: y + 0.5,
    "NaN": lambda y, _: np.where(np.arange(len(y)) == 2, np.nan, y),
    "too few": lambda y, _: y[:-1],
    "wide": lambda y, _: np.eye(CLASSES + 2, dtype="float32")[y],
    "soft": lambda y, _: 0.9 * np.eye(CLASSES, dtype="float32")[y] + 0.1 / CLASSES,
    "reals": lambda y, g: g.normal(size=(len(y), CLASSES)).astype("float32"),
    "strings": lambda y, _: np.array(["a", "b", "c"])[y],
    "None": lambda y, _: None,
    "a number": lambda y, _: 1,
    "a dict": lambda y, _: {"y": y},
    "booleans": lambda y, _: y > 0,
    "objects": lambda y, _: np.full(y.shape, None),
    "huge": lambda y, _: y + 2**40,
}

WEIGHTS: dict[str, Change] = {
    "none": lambda w, _: None,
    "right": lambda w, _: w,
    "zeros": lambda w, _: 0.0 * w,
    "NaN": _with(np.nan),
    "inf": _with(np.inf),
    "too few": lambda w, _: w[:-1],
    "wide": lambda w, _: np.stack([w, w], axis=1),
    "strings": lambda w, _: np.full(w.shape, "a"),
}

BATCH_SIZES: dict[str, Any] = {
    "4": 4,
    "5": 5,
    "100": 100,
    "None": None,
    "0": 0,
    "-3": -3,
    "'4'": "4",
    "2.5": 2.5,
}


class Batches(keras.utils.PyDataset):
    """Batches on demand."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


def batches_of(parts: tuple[Any, ...]) -> list[Any]:
    """Batches of four."""
    length = len(parts[0])
    cut = [tuple(part[i : i + 4] for part in parts) for i in range(0, length, 4)]
    return [batch if len(batch) > 1 else batch[0] for batch in cut]


def dataset(parts: tuple[Any, ...]) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


CONTAINERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "dataset": lambda parts: dataset(parts).batch(4),
    "unbatched dataset": dataset,
    "endless dataset": lambda parts: dataset(parts).batch(4).repeat(),
    "PyDataset": lambda parts: Batches(batches_of(parts)),
    "generator": lambda parts: (batch for batch in batches_of(parts)),
    "iterator": lambda parts: iter(batches_of(parts)),
    "empty generator": lambda parts: (batch for batch in ()),
}


@dataclass
class DataCall:
    """One call with data."""

    subject: str
    method: str
    words: list[str] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.subject}.{self.method}({', '.join(self.words)})"


def draw_call(seed: int, subject: str | None = None) -> tuple[DataCall, Callable[[], Any]]:
    """A call, and a function that makes its arguments anew: a generator serves once."""
    from tests.fuzz.models import SUBJECTS

    draw = random.Random(seed)
    name = subject or draw.choice(sorted(SUBJECTS))
    kind = SUBJECTS[name]
    call = DataCall(name, draw.choice(kind.methods))
    odd = draw.choice(("nothing", "x", "x", "y", "y", "weights", "batch", "validation"))
    picked = {
        "x": draw.choice(sorted(INPUTS)) if odd == "x" else "right",
        "y": draw.choice(sorted(LABELS)) if odd == "y" else draw.choice(("right", "one-hot")),
        "weights": draw.choice(sorted(WEIGHTS)) if odd == "weights" else "none",
    }
    size = draw.choice(sorted(BATCH_SIZES)) if odd == "batch" else "4"
    # A model of Keras itself reads what never ends for ever.
    able = [each for each in CONTAINERS if kind.stock is None or not each.startswith("endless")]
    container = draw.choice(("arrays", "arrays", "arrays", *able))
    validation = draw.choice(sorted(LABELS)) if odd == "validation" else None
    number = draw.randrange(2**31)

    def make() -> dict[str, Any]:
        return arguments(call, picked, size, container, validation, number)

    shown = {"x": picked["x"], "in": container}
    if kind.labels and "predict" not in call.method:
        shown["y"] = picked["y"]
    if picked["weights"] != "none":
        shown["weights"] = picked["weights"]
    if size != "4":
        shown["batch_size"] = size
    if validation:
        shown["validation"] = validation
    call.words = [f"{key}={value}" for key, value in shown.items()]
    return call, make


def arguments(
    call: DataCall,
    picked: dict[str, str],
    size: str,
    container: str,
    validation: str | None,
    number: int,
) -> dict[str, Any]:
    from tests.fuzz.models import SUBJECTS

    kind = SUBJECTS[call.subject]
    generator = np.random.default_rng(number)
    x = generator.random((SAMPLES, *kind.shape)).astype("float32")
    y = np.arange(SAMPLES) % CLASSES
    bad_x = INPUTS[picked["x"]](x, generator)
    labelled = kind.labels and "predict" not in call.method
    parts: dict[str, Any] = {"x": bad_x}
    if labelled:
        parts["y"] = LABELS[picked["y"]](y, generator)
        weights = WEIGHTS[picked["weights"]](np.ones(SAMPLES, "float32"), generator)
        if weights is not None and call.subject != "nearest":
            parts["sample_weight"] = weights
    # One batch is an array, and so is all that this one remembers.
    plain = call.method.endswith("on_batch") or call.subject == "nearest"
    if container != "arrays" and not plain:
        parts = {"x": CONTAINERS[container](tuple(parts.values()))}
    elif not plain:
        parts["batch_size"] = BATCH_SIZES[size]
    if call.method == "pretrain":
        parts["data"] = parts.pop("x")
        parts.update(epochs=1, step_size=0.01)
        parts.setdefault("batch_size", 4)
    if call.method == "fit" and validation is not None and kind.labels and not plain:
        parts["validation_data"] = (x, LABELS[validation](y, generator))
    if not plain:
        parts["verbose"] = 0
    if call.method == "fit" and call.subject == "temporal":
        parts["shuffle"] = False
    return parts


def perform(on: Bench, method: str, given: dict[str, Any]) -> Any:
    """Call the method; what it returns, as numbers."""
    import keras_local as kl

    random.seed(1)  # By which Keras shuffles the batches of a PyDataset.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if method == "pretrain":
            histories = kl.models.pretrain(on.model, **given)
            return [value for each in histories.values() for value in each.history.values()]
        result = getattr(on.model, method)(**given)
    if isinstance(result, keras.callbacks.History):
        return list(result.history.values())
    return result


def numbers(result: Any) -> np.ndarray:
    """All numbers of a result in a row."""
    if result is None:
        return np.zeros(0)
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return np.concatenate([numbers(each) for each in result]) if result else np.zeros(0)
    return np.ravel(np.asarray(result, dtype="float64"))


def benches(call: DataCall) -> tuple[Bench, Bench | None]:
    return bench(call.subject)
