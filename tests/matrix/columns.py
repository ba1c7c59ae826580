"""The columns of the matrix: what is done to a row, and what has to come out.

A function of a column raises if its cell is no "yes": `Says` with the word of the cell, or whatever
error the package raises.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np

import keras_local as kl
from tests.battery import cells
from tests.distribute.cases import Case
from tests.distribute.runner import Kind, difference, run_cases
from tests.golden import test_golden as golden
from tests.kills.runner import largest
from tests.matrix.reasons import Says, reason, word_of, word_of_text
from tests.matrix.record import BEGUN, YES, Cell
from tests.matrix.stops import STEPS, Process
from tests.models.learners import runner as learners
from tests.support import array, largest_difference, weights_of

SEED = 7
CLOSE = 1e-5
"""How far weights may be apart, in parts of the largest entry of each."""
HALF = {"mixed_float16": 0.01, "mixed_bfloat16": 0.05}
"""How far half precision may end from single precision, in parts of the way."""


@dataclass(frozen=True)
class Row:
    """A row of the matrix.

    Attributes:
        name: Of the row.
        case: How it is made and trained.
        file: Where its training in graph mode on one device is kept.
    """

    name: str
    case: Case
    file: Path

    def reference(self) -> dict[str, Any]:
        """Return weights before and after, and predictions after the training in graph mode."""
        if not self.file.exists():
            raise Says("no graph", "its training in graph mode has no result")
        with np.load(self.file) as found:
            parts = dict(found)
        return {
            "start": [parts[f"start {k}"] for k in range(int(parts["weights"]))],
            "end": [parts[f"end {k}"] for k in range(int(parts["weights"]))],
            "said": parts["said"],
        }


def graph(row: Row) -> None:
    """Train in graph mode on one device: what all other columns compare to."""
    row.file.unlink(missing_ok=True)
    keras.utils.set_random_seed(SEED)
    model = row.case.make()
    start = weights_of(model)
    row.case.train(model)
    end = weights_of(model)
    said = np.asarray(model.predict(row.case.data()[0], verbose=0))
    if not all(np.isfinite(each).all() for each in (*end, said)):
        raise Says("not finite", "weights or predictions are not finite")
    if largest_difference(start, end) < 1e-4:
        raise Says("does not move", "training changes no weight by 1e-4")
    parts = {f"start {k}": each for k, each in enumerate(start)}
    parts |= {f"end {k}": each for k, each in enumerate(end)}
    row.file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=row.file.parent, delete=False) as file:
        np.savez(file, weights=len(start), said=said, **parts)
    Path(file.name).replace(row.file)


def trained(row: Row, start: list[np.ndarray]) -> Any:
    """The row trained from its first weights."""
    keras.utils.set_random_seed(SEED)
    model = row.case.make()
    model.set_weights(start)
    row.case.train(model)
    return model


def ready(row: Row) -> Any:
    """The row with the weights that it has behind the training in graph mode."""
    model = row.case.make()
    model.set_weights(row.reference()["end"])
    return model


def equal(ours: list[np.ndarray], wanted: list[np.ndarray], limit: float = CLOSE) -> None:
    """Raise if weights are apart."""
    apart = difference(wanted, ours)
    if not apart <= limit:
        raise Says(f"{apart:.0e}", f"differs by {apart:.1e} of the largest weight")


def same_training(row: Row, same_draws: bool = True) -> None:
    """Train as the reference was trained, and compare."""
    known = row.reference()
    model = trained(row, known["start"])
    if row.case.draws and not same_draws:
        if not all(np.isfinite(each).all() for each in weights_of(model)):
            raise Says("not finite", "weights are not finite")
        raise Says("trains", "trains; draws other random numbers there, so it is not compared")
    equal(weights_of(model), known["end"])


def eager(row: Row) -> None:
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        same_training(row)
    finally:
        tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def compiled_with(**options: Any) -> Iterator[None]:
    """Whatever is compiled, also within `pretrain`, is compiled with these options."""
    compile_ = keras.Model.compile

    def changed(self: Any, *arguments: Any, **keywords: Any) -> None:
        compile_(self, *arguments, **{**keywords, **options})

    with mock.patch.object(keras.Model, "compile", changed):
        yield


def xla(row: Row) -> None:
    with compiled_with(jit_compile=True):
        same_training(row, same_draws=False)


def other_backend(row: Row) -> None:
    same_training(row, same_draws=False)


def half(policy: str) -> Callable[[Row], None]:
    def column(row: Row) -> None:
        known = row.reference()
        keras.config.set_dtype_policy(policy)
        try:
            model = trained(row, known["start"])
        finally:
            keras.config.set_dtype_policy("float32")
        end = weights_of(model)
        if not all(np.isfinite(each).all() for each in end):
            raise Says("not finite", f"weights are not finite in {policy}")
        way = cells.distance(known["start"], known["end"])
        apart = cells.distance(end, known["end"]) / way
        optimizer = getattr(model, "optimizer", None)
        scale = float(getattr(optimizer, "dynamic_scale", 2.0**15))
        if apart > HALF[policy] and scale < 2.0**15:
            raise Says(
                "skips", "gradients overflow: the loss scale of Keras leaves out first steps"
            )
        if apart > HALF[policy]:
            raise Says(f"off {apart:.0%}", f"ends {apart:.1%} of the way from single precision")

    return column


def keras_file(row: Row) -> None:
    """Save a trained model, load it, predict and train both further, bit for bit."""
    known, (inputs, _) = row.reference(), row.case.data()
    model = trained(row, known["start"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        restored: Any = keras.saving.load_model(path)
    restored.jit_compile = False
    said = [model.predict_on_batch(inputs), restored.predict_on_batch(inputs)]
    for each in (model, restored):
        keras.utils.set_random_seed(SEED)
        row.case.train(each)
    gap = largest([np.asarray(said[0]), *weights_of(model)], [said[1], *weights_of(restored)])
    if gap:
        raise Says(f"{gap:.0e}", f"differs by {gap:.1e} behind the loading")


def saved_model(row: Row) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        kl.models.export(ready(row), Path(folder) / "served")
        loaded = tf.saved_model.load(str(Path(folder) / "served"))
        check_served(row, array(loaded.serve(row.case.data()[0])))


def onnx(row: Row) -> None:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        kl.models.export(ready(row), path, "onnx")
        session = onnxruntime.InferenceSession(str(path))
        check_served(row, session.run(None, {"inputs": row.case.data()[0]})[0])


def litert(row: Row) -> None:
    from ai_edge_litert.interpreter import Interpreter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        kl.models.export(ready(row), path, "litert")
        runtime = Interpreter(model_path=str(path))
        served = runtime.get_signature_runner()(inputs=row.case.data()[0])
        check_served(row, served["outputs"])


def check_served(row: Row, said: np.ndarray) -> None:
    wanted = row.reference()["said"]
    apart = float(np.abs(wanted - said).max()) / max(1.0, float(np.abs(wanted).max()))
    if not apart <= CLOSE:
        raise Says(f"{apart:.0e}", f"predictions differ by {apart:.1e}")


def learner(row: Row) -> None:
    """Steps of the exported learner in LiteRT, and the same steps here."""
    model, (inputs, labels) = ready(row), row.case.data()
    loss = {} if getattr(model, "loss", None) is None else {"loss": model.loss}
    model.compile(keras.optimizers.SGD(row.case.rate), jit_compile=False, **loss)
    places = [slice(k, k + 8) for k in (0, 8)]
    steps = [(inputs[p], None if labels is None else labels[p].astype("int32")) for p in places]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learner.tflite"
        apart = learners.compared(model, path, "litert", steps, row.case.rate, 8, seeds_of(model))
    if not apart <= CLOSE:
        raise Says(f"{apart:.0e}", f"differs by {apart:.1e} of the largest weight after two steps")


def seeds_of(model: Any) -> list[Any]:
    """The generators of seeds in a model, in the order of its layers."""
    held = [getattr(each, name, None) for each in model._flatten_layers() for name in SEEDS]
    return [each for each in held if each is not None]


SEEDS = ("_seed", "_draws")


def kill(row: Row) -> None:
    """A process that is killed on its way, and another model that goes on."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "run"
        process = Process(row.name, SEED, part)
        keras.utils.set_random_seed(SEED)
        whole = row.case.make()
        start = weights_of(whole)
        row.case.resume(whole, Path(folder) / "whole", [])
        process.wait()
        keras.utils.set_random_seed(SEED + 1)
        resumed = row.case.make()
        row.case.resume(resumed, part, [])
    gap = largest(weights_of(resumed), weights_of(whole))
    if gap or largest_difference(start, weights_of(whole)) < 1e-4:
        raise Says(f"{gap:.0e}", f"differs by {gap:.1e} from the run that was left alone")


def old_file(row: Row) -> None:
    """Files of earlier versions that hold, among them, all classes of the row."""
    missing = golden.classes_in_config(keras.saving.serialize_keras_object(row.case.make()))
    while missing:
        held = {name: missing & golden.classes_in_file(name) for name in golden.NAMES}
        name = max(held, key=lambda each: (len(held[each]), each))
        if not held[name]:
            raise Says("no file", f"no golden file holds {', '.join(sorted(missing))}")
        missing -= held[name]
        checked(name)


@functools.cache
def checked(name: str) -> None:
    """Load a golden file, predict, and take its step."""
    golden.test_it_loads_and_predicts_the_same(name)
    if name not in golden.make.SHOWS_ONLY:
        golden.test_it_learns_the_same(name)


CHECKS: dict[str, Callable[[Row], None]] = {
    "graph": graph,
    "eager": eager,
    "XLA": xla,
    "fp16": half("mixed_float16"),
    "bf16": half("mixed_bfloat16"),
    "JAX": other_backend,
    "Torch": other_backend,
    ".keras": keras_file,
    "SavedModel": saved_model,
    "ONNX": onnx,
    "LiteRT": litert,
    "learner": learner,
    "kill and resume": kill,
    "golden": old_file,
}
"""What is done to one row in this process."""

SEVERAL: dict[str, Kind] = {
    "2 replicas": "replicas",
    "2 workers": "workers",
    "JAX 2 devices": "devices",
}
"""What is done to many rows by groups of processes."""


def run(rows: list[Row], column: str) -> Iterator[Cell]:
    """Run the cells of rows in a column, and yield what each says."""
    if column in SEVERAL:
        names = [row.name for row in rows]
        found = run_cases(names, SEVERAL[column], 2, steps=STEPS)
        for name, value in found.items():
            yield Cell(name, column, *_of_several(value))
        return
    for row in rows:
        yield Cell(row.name, column, BEGUN)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                CHECKS[column](row)
        except Exception as error:
            yield Cell(row.name, column, word_of(error), reason(error))
        else:
            yield Cell(row.name, column, YES)
        keras.backend.clear_session()


def _of_several(value: float | str) -> tuple[str, str]:
    if isinstance(value, str):
        return word_of_text(value), value[:400]
    if value <= CLOSE:
        return YES, ""
    return f"{value:.0e}", f"differs by {value:.1e} from one device"
