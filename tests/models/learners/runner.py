"""Trains a model here and its exported learner elsewhere, and compares them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_local as kl
from tests.models.learners.table import Row, labels, samples

Batches = list[dict[str, np.ndarray]]

ENDINGS = {"litert": ".tflite", "tf_saved_model": "", "onnx": ""}

OPERATORS = set(
    """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND
    BITCAST BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CONCATENATION CONV_2D COS CUMSUM DIV ELU
    EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER
    GATHER_ND GELU GREATER GREATER_EQUAL IF LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT
    LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    NOT_EQUAL ONE_HOT PACK PAD PADV2 POW RANGE READ_VARIABLE REDUCE_ALL REDUCE_ANY REDUCE_MAX
    REDUCE_MIN REDUCE_PROD RELU RESHAPE REVERSE_V2 RSQRT SCATTER_ND SELECT SELECT_V2 SHAPE SIGN
    SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE
    STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE UNPACK VAR_HANDLE WHERE WHILE ZEROS_LIKE
    """.split()
)
"""The built-in operators of LiteRT that a learner may need; each runs on every device."""


def run(row: Row, file_format: str, folder: Path, alone: bool = False) -> float:
    """Return the largest relative difference of a weight after all steps.

    Of each weight the largest difference, over the largest entry. For other tables of results.

    Args:
        row: The learner.
        file_format: As for `export_learner`.
        folder: Where to write.
        alone: Whether the file runs in a process without TensorFlow and Keras.
    """
    model = row.make()
    path = folder / f"{row.id}{ENDINGS[file_format]}"
    steps = zip(samples(row), labels(), strict=True)
    return compared(model, path, file_format, steps, row.rate, row.batch, row.seeds(model), alone)


def compared(
    model: Any,
    path: Path,
    file_format: str,
    steps: Iterable[tuple[np.ndarray, Any]],
    rate: float,
    batch: int | None = None,
    seeds: Any = (),
    alone: bool = False,
) -> float:
    """Train a model here and as an exported learner, and return the largest relative difference.

    Args:
        model: A compiled model.
        path: Where to write.
        file_format: As for `export_learner`.
        steps: Inputs and labels of each step.
        rate: Learning rate of all steps.
        batch: As for `export_learner`.
        seeds: Generators of seeds, in the order of the draws of a step.
        alone: Whether the file runs in a process without TensorFlow and Keras.
    """
    report = kl.models.export_learner(model, path, batch, file_format)
    foreign = set(report.operators) - OPERATORS
    assert file_format != "litert" or not foreign, foreign
    trained = list(train(model, steps, rate, seeds, report))
    batches, losses = [inputs for inputs, _ in trained], [loss for _, loss in trained]
    weights, found = (elsewhere if alone else RUNNERS[file_format])(path, batches)
    np.testing.assert_allclose(found, losses, rtol=1e-4, atol=1e-5)
    return difference(model, report, weights)


def train(
    model: Any, steps: Iterable[tuple[np.ndarray, Any]], rate: float, seeds: Any, report: Any
) -> Iterator[tuple[dict[str, np.ndarray], float]]:
    """Train a model here, and yield what its learner gets as inputs, with the loss."""
    names = [entry.name for entry in report.inputs]
    noise = [entry for entry in report.inputs if entry.name.startswith("noise")]
    for x, y in steps:
        inputs: dict[str, Any] = {"x": x, "rate": np.float32(rate)}
        if "y" in names:
            shape = _entry(report, "y").shape
            inputs["y"] = y if len(shape) == 1 else np.eye(shape[-1], dtype="f4")[y]
        inputs |= draws(noise, seeds, len(x))
        loss = model.train_on_batch(x, inputs.get("y"))
        yield inputs, float(np.ravel(loss)[0])


def draws(entries: list[Any], seeds: Any, count: int) -> dict[str, np.ndarray]:
    """Return the random numbers that a step is about to draw; the generators stay as they are."""
    found, kept = {}, [np.array(seed.state) for seed in seeds]
    for number, entry in enumerate(entries):
        shape = tuple(count if size is None else size for size in entry.shape)
        draw = keras.random.uniform if "uniform" in entry.meaning else keras.random.normal
        found[entry.name] = np.array(draw(shape, seed=seeds[number % len(seeds)]))
    for seed, state in zip(seeds, kept, strict=True):
        seed.state.assign(state)
    return found


def difference(model: Any, report: Any, weights: dict[str, np.ndarray]) -> float:
    """Return how far weights and momenta of a learner are from those of the model."""
    here = {variable.path: np.array(variable) for variable in model.variables}
    slots = getattr(model.optimizer, "momentums", [])
    for variable, slot in zip(model.trainable_variables, slots, strict=False):
        here[f"momentum of {variable.path}"] = np.array(slot)
    apart = [0.0]
    for entry in report.weights:
        value, other = here[entry.meaning], weights[entry.name]
        assert np.isfinite(value).all()
        largest = max(float(np.max(np.abs(value))), 1e-3)
        apart.append(float(np.max(np.abs(value.astype("f8") - other))) / largest)
    return max(apart)


def litert(path: Path, batches: Batches) -> tuple[dict[str, np.ndarray], list[float]]:
    """Run a learner in an interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runtime = Interpreter(model_path=str(path))
    learn = runtime.get_signature_runner("learn")
    losses = [float(learn(**inputs)["loss"]) for inputs in batches]
    return dict(runtime.get_signature_runner("weights")()), losses


def saved_model(path: Path, batches: Batches) -> tuple[dict[str, np.ndarray], list[float]]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signatures = loaded.signatures
    losses = [
        float(signatures["learn"](**{k: tf.constant(v) for k, v in inputs.items()})["loss"])
        for inputs in batches
    ]
    return {name: np.array(value) for name, value in signatures["weights"]().items()}, losses


def onnx(path: Path, batches: Batches) -> tuple[dict[str, np.ndarray], list[float]]:
    import onnxruntime

    weights = dict(np.load(path / "weights.npz"))
    session = onnxruntime.InferenceSession(str(path / "learn.onnx"))
    names, losses = [output.name for output in session.get_outputs()], []
    for inputs in batches:
        arrays = {name: np.asarray(value) for name, value in (inputs | weights).items()}
        found = dict(zip(names, session.run(None, arrays), strict=True))
        losses.append(float(found["loss"]))
        weights = {name: found[f"new_{name}"] for name in weights}
    return weights, losses


RUNNERS = {"litert": litert, "tf_saved_model": saved_model, "onnx": onnx}

_ALONE = """
import sys
for name in ("tensorflow", "keras", "keras_local"):
    sys.modules[name] = None  # An import of it fails.
import numpy as np
from ai_edge_litert.interpreter import Interpreter
path, given, result = sys.argv[1:]
runtime = Interpreter(model_path=path)
learn = runtime.get_signature_runner("learn")
arrays = np.load(given)
steps = 1 + max(int(key.split(" ")[0]) for key in arrays)
losses = []
for step in range(steps):
    inputs = {k.split(" ")[1]: v for k, v in arrays.items() if k.split(" ")[0] == str(step)}
    losses.append(learn(**inputs)["loss"])
np.savez(result, losses=losses, **runtime.get_signature_runner("weights")())
"""


def elsewhere(path: Path, batches: Batches) -> tuple[dict[str, np.ndarray], list[float]]:
    """Run a LiteRT learner in a process in which neither TensorFlow nor Keras can be imported."""
    given, result = path.with_suffix(".given.npz"), path.with_suffix(".result.npz")
    arrays = {f"{step} {k}": v for step, inputs in enumerate(batches) for k, v in inputs.items()}
    np.savez(given, **arrays)
    command = [sys.executable, "-c", _ALONE, str(path), str(given), str(result)]
    subprocess.run(command, check=True, timeout=280)
    found = dict(np.load(result))
    losses = found.pop("losses").tolist()
    return found, losses


def _entry(report: Any, name: str) -> Any:
    return next(entry for entry in report.inputs if entry.name == name)
