"""The demo: every part of the package once, on real images."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

import keras_local
from keras_local import _validation as check
from keras_local import (
    callbacks,
    datasets,
    feedback,
    layers,
    losses,
    models,
    plasticity,
    plots,
)
from keras_local.reproduce import report
from keras_local.reproduce.progress import Stage, Stages
from keras_local.reproduce.results import Images, Pretrained, Results, Score, Served, Trained
from keras_local.reproduce.settings import DemoSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

FIGURES = ("learning_curves", "alignment", "receptive_fields", "readout_curves")
"""The figures of a report; each is `<name>.png` in its folder."""

_BACKENDS = ("tensorflow", "jax")
_MODEL = "saved_model"
_POINTS = 20  # of a learning curve
_STEPS_AT_ONCE = 100

# Runs with `python -c`, in a process that has nothing of this package.
_SERVE = """
import sys
sys.modules["keras_local"] = None  # importing it fails
import numpy as np, tensorflow as tf
model, images, scores = sys.argv[1:]
served = tf.saved_model.load(model)
np.save(scores, served.serve(tf.constant(np.load(images))).numpy())
print("keras" in sys.modules)
"""

_RULES: dict[str, tuple[feedback.FeedbackRule, str, str]] = {
    "backprop": (
        feedback.Symmetric(),
        "Backpropagation",
        "errors return through the transposed forward weights",
    ),
    "fixed": (
        feedback.FeedbackAlignment(),
        "Fixed random feedback",
        "errors return through random weights that never change",
    ),
    "updated": (
        feedback.KolenPollack(),
        "Updated random feedback",
        "errors return through random weights that receive the forward weights' own update",
    ),
}


@dataclasses.dataclass(frozen=True)
class _Data:
    """Images and labels, and what they are taken from."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    sizes: tuple[int, int]

    @property
    def classes(self) -> int:
        return int(self.y_train.max()) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x_train.shape[1:])


def run(
    settings: DemoSettings,
    out: str | os.PathLike[str],
    seed: int = 0,
    quick: bool = False,
    command: str = "",
    console: Console | None = None,
) -> Results:
    """Run the demo and write its report.

    The folder receives `index.html`, `results.json`, the figures and the SavedModel. Files of
    these names are replaced, all others stay.

    Args:
        settings: Of the experiment.
        out: Folder of the report; made where it is missing.
        seed: Seed of weights and order.
        quick: Whether `settings` were cut short, which the report then says.
        command: What the report gives as the command to repeat it.
        console: Where progress and results are shown; None shows nothing.

    Returns:
        What stands in `results.json`.

    Raises:
        ValueError: If the seed is no integer of at least 0.
        NotADirectoryError: If `out` is no folder.
        ImportError: If matplotlib or TensorFlow is missing.
        RuntimeError: On a backend without SavedModel; if the data set cannot be prepared; if the
            exported model cannot be served.
    """
    from rich.console import Console

    start = time.perf_counter()
    seed = check.positive_integer("seed", seed, 0)
    _require_extras()
    folder = _folder(out)
    console = Console(quiet=True) if console is None else console
    # Backends speak of devices when they first compute: now, and not between the bars.
    keras.ops.zeros(1)
    figures: dict[str, Figure] = {}
    with (
        warnings.catch_warnings(record=True) as caught,
        _without_advice_from_tensorflow(),
        Stages(console) as stages,
    ):
        warnings.simplefilter("always", UserWarning)
        with stages("Load the images") as stage:
            data = _load(settings)
            stage.say(f"{len(data.x_train):,} and {len(data.x_test):,}")
        error_paths = _error_paths(settings, data, seed, stages, figures)
        encoder, pretrained = _pretrain(settings, data, seed, stages, figures)
        features, classifier = _features(settings, data, seed, stages, encoder, figures)
        with stages("Export and serve") as stage:
            served = _serve(classifier, data.x_test, folder / _MODEL)
            stage.say(f"difference {served.largest_difference:.2g}")
    results = Results(
        command=command,
        seed=seed,
        quick=quick,
        images=Images(
            data=settings.data.name,
            shape=data.shape,
            classes=data.classes,
            training=len(data.x_train),
            training_of=data.sizes[0],
            error_paths=len(data.x_train[: settings.error_paths.images]),
            test=len(data.x_test),
            test_of=data.sizes[1],
        ),
        error_paths=error_paths,
        features=features,
        pretrained=pretrained,
        served=served,
        seconds=stages.seconds,
        total_seconds=time.perf_counter() - start,
        cpu_seconds=sum(os.times()[:4]),
        settings=dataclasses.asdict(settings),
        environment=_environment(),
        notes=sorted({str(w.message) for w in caught if issubclass(w.category, UserWarning)}),
    )
    report.write(folder, results, figures)
    report.show(console, results, folder)
    return results


@contextmanager
def _without_advice_from_tensorflow() -> Iterator[None]:
    """Silence warnings of many small models in one process, which are made on purpose here."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _folder(out: str | os.PathLike[str]) -> Path:
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"`out` must be a folder. Received: the file {str(folder)!r}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _require_extras() -> None:
    """Refuse at once what would fail after minutes."""
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise RuntimeError(
            f"The demo writes a SavedModel, as {' and '.join(_BACKENDS)} can. "
            f"Received: KERAS_BACKEND={backend}"
        )
    for package in ("matplotlib", "tensorflow"):
        # A backend is imported, under whatever name its build was installed (tensorflow-cpu).
        if package != backend and importlib.util.find_spec(package) is None:
            raise ImportError(f"The demo needs {package}: pip install 'keras-local[demo]'")


def _load(settings: DemoSettings) -> _Data:
    (x_train, y_train), (x_test, y_test) = datasets.load(settings.data.name)
    trained, tested = slice(settings.data.training), slice(settings.data.test)
    return _Data(
        x_train[trained],
        y_train[trained],
        x_test[tested],
        y_test[tested],
        (len(x_train), len(x_test)),
    )


def _error_paths(
    settings: DemoSettings, data: _Data, seed: int, stages: Stages, figures: dict[str, Figure]
) -> list[Trained]:
    """Train the same net with each error path, from the same weights and in the same order."""
    images = settings.error_paths.images
    used = dataclasses.replace(data, x_train=data.x_train[:images], y_train=data.y_train[:images])
    rows = []
    for key, (rule, label, detail) in _RULES.items():
        with stages(label) as stage:
            keras.utils.set_random_seed(seed)
            model = _convolutional_net(settings, used, rule, seed)
            start = time.perf_counter()
            curve, angles = _fit_net(settings, used, model, stage)
            seconds = time.perf_counter() - start
            rows.append(_row(key, label, detail, model, used, seconds, curve, angles))
            _say_error(stage, rows[-1])
    figures["alignment"] = _alignment_figure(rows)
    figures["learning_curves"] = _error_figure(rows, "epoch")
    return rows


def _fit_net(
    settings: DemoSettings, data: _Data, model: keras.Model, stage: Stage
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Train by SGD on the local hinge loss; return the test errors and the angles by layer."""
    chosen = settings.error_paths
    steps = -(-len(data.x_train) // chosen.batch_size) * chosen.epochs
    rate = keras.optimizers.schedules.CosineDecay(chosen.learning_rate, steps)
    model.compile(
        keras.optimizers.SGD(rate, momentum=chosen.momentum),
        losses.LocalHinge(),
        metrics=["accuracy"],
        jit_compile=False,
    )
    watched = [
        layer.name
        for layer in model.layers[1:]  # Below the lowest layer nothing needs an error.
        if getattr(layer, "feedback_kernel", None) is not None
    ]
    monitor = callbacks.AlignmentMonitor(watched, measures=["alignment_angle"])
    history = model.fit(
        data.x_train,
        data.y_train,
        validation_data=(data.x_test, data.y_test),
        batch_size=chosen.batch_size,
        epochs=chosen.epochs,
        verbose=0,
        callbacks=[stage.callback(), *([monitor] if watched else [])],
    )
    angles = {
        layer: [monitor.initial[f"alignment_angle/{layer}"]]
        + history.history[f"alignment_angle/{layer}"]
        for layer in watched
    }
    return _curve(history), angles


def _convolutional_net(
    settings: DemoSettings, data: _Data, rule: feedback.FeedbackRule, seed: int
) -> keras.Model:
    chosen = settings.error_paths
    seeds = iter(np.random.SeedSequence(seed).generate_state(8).tolist())

    def common(name: str) -> dict[str, Any]:
        # Seeds of their own: the rules start from the same kernels, two of them also from the same
        # feedback kernels.
        return {
            "name": name,
            "feedback": rule,
            "kernel_initializer": keras.initializers.GlorotUniform(next(seeds)),
            "feedback_initializer": keras.initializers.GlorotUniform(next(seeds)),
        }

    def convolution(filters: int, name: str) -> keras.layers.Layer:
        return layers.FeedbackConv2D(
            filters,
            chosen.kernel_size,
            padding="same",
            activation=chosen.activation,
            **common(name),
        )

    return keras.Sequential(
        [
            keras.Input(data.shape),
            convolution(chosen.filters[0], "conv1"),
            keras.layers.MaxPooling2D(),
            convolution(chosen.filters[1], "conv2"),
            keras.layers.Flatten(),
            layers.FeedbackDense(chosen.hidden, activation=chosen.activation, **common("hidden")),
            layers.FeedbackDense(data.classes, **common("scores")),
        ]
    )


def _pretrain(
    settings: DemoSettings, data: _Data, seed: int, stages: Stages, figures: dict[str, Figure]
) -> tuple[keras.Model, Pretrained]:
    """Train the encoder without labels."""
    chosen = settings.encoder
    initializers = {
        "uniform": keras.initializers.RandomUniform(0.0, 1.0),
        "normal": keras.initializers.RandomNormal(stddev=1.0),
    }
    with stages("Hebbian units, no labels") as stage:
        keras.utils.set_random_seed(seed)
        layer = layers.HebbianDense(
            chosen.units,
            plasticity=plasticity.KrotovHopfield(chosen.p, chosen.rank, chosen.delta),
            kernel_initializer=initializers[chosen.initial],
            name="hebbian",
        )
        encoder = _encoder(data, layer)
        start = time.perf_counter()
        history = models.pretrain(
            encoder,
            data.x_train,
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            step_size=chosen.step_size,
            verbose=0,
            callbacks=[stage.callback()],
        )["hebbian"]
        pretrained = Pretrained(
            units=chosen.units,
            steps=len(data.x_train) // chosen.batch_size * chosen.epochs,
            seconds=time.perf_counter() - start,
            **history.report,
        )
        figures["receptive_fields"] = plots.receptive_fields(layer, shape=data.shape)
        stage.say(f"{pretrained.won:.0%} of the units won")
    return encoder, pretrained


def _encoder(data: _Data, *encoding: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(data.shape), keras.layers.Flatten(), *encoding])


def _features(
    settings: DemoSettings,
    data: _Data,
    seed: int,
    stages: Stages,
    encoder: keras.Model,
    figures: dict[str, Figure],
) -> tuple[list[Trained], keras.Model]:
    """Fit the readout of the encoder, and what it has to be better than."""
    units, power = settings.encoder.units, settings.readout.power

    def random() -> keras.Model:
        return _encoder(
            data,
            keras.layers.Dense(
                units,
                use_bias=False,
                kernel_initializer=keras.initializers.RandomNormal(
                    stddev=float(np.prod(data.shape)) ** -0.5
                ),
                trainable=False,
            ),
        )

    def readout(encoder: keras.Model, power: float) -> keras.Model:
        return models.readout(encoder, data.classes, power)

    def end_to_end() -> keras.Model:
        return _encoder(
            data,
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(data.classes),
        )

    entries: list[tuple[str, str, str, Callable[[], keras.Model], bool]] = [
        (
            "hebbian",
            "Hebbian features, linear readout",
            f"{units} units that learned without labels, power {power:g}",
            lambda: readout(encoder, power),
            False,
        ),
        (
            "random",
            "Random features, same readout",
            f"{units} frozen units of normal weights, power {power:g}",
            lambda: readout(random(), power),
            False,
        ),
        (
            "random_softmax",
            "Random ReLU features, softmax",
            f"the same {units} units, power 1, softmax cross-entropy",
            lambda: readout(random(), 1.0),
            True,
        ),
        (
            "pixels",
            "Raw pixels, same readout",
            "the image itself, scaled to unit norm",
            lambda: readout(_encoder(data), 1.0),
            False,
        ),
        (
            "pixels_softmax",
            "Raw pixels, softmax",
            "the same, softmax cross-entropy",
            lambda: readout(_encoder(data), 1.0),
            True,
        ),
        (
            "end_to_end",
            "Backpropagation, end to end",
            f"{units} ReLU units and the class units, softmax cross-entropy",
            end_to_end,
            True,
        ),
    ]
    rows = []
    models_by_key = {}
    for key, label, detail, build, softmax in entries:
        with stages(label) as stage:
            keras.utils.set_random_seed(seed)
            model = models_by_key[key] = build()
            start = time.perf_counter()
            curve = _fit(settings, data, model, stage, softmax)
            seconds = time.perf_counter() - start
            rows.append(_row(key, label, detail, model, data, seconds, curve))
            _say_error(stage, rows[-1])
    figures["readout_curves"] = _error_figure(rows, "passes over the training images")
    return rows, models_by_key["hebbian"]


def _fit(
    settings: DemoSettings, data: _Data, model: keras.Model, stage: Stage, softmax: bool
) -> dict[str, list[float]]:
    """Train with Adam along a cosine; return the curve of test errors."""
    chosen = settings.softmax if softmax else settings.readout
    # The start of an epoch costs more than a hundred steps of so small a model, so that an epoch
    # of Keras is several passes over the images here.
    passes = max(1, chosen.passes // _POINTS)
    epochs = -(-chosen.passes // passes)
    steps = -(-len(data.x_train) * passes // chosen.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(chosen.learning_rate, steps * epochs)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if softmax
        else losses.PowerLoss(settings.readout.loss_power, settings.readout.beta),
        metrics=["accuracy"],
        jit_compile=False,
        steps_per_execution=min(steps, _STEPS_AT_ONCE),
    )
    history = model.fit(
        _repeated(data.x_train, passes),
        _repeated(data.y_train, passes),
        validation_data=(data.x_test, data.y_test),
        batch_size=chosen.batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[stage.callback()],
    )
    return _curve(history, passes)


def _repeated(array: np.ndarray, times: int) -> np.ndarray:
    return array if times == 1 else np.concatenate([array] * times)


def _curve(history: keras.callbacks.History, passes: int = 1) -> dict[str, list[float]]:
    return {
        "passes": [passes * (epoch + 1) for epoch in history.epoch],
        "test_error": [1.0 - accuracy for accuracy in history.history["val_accuracy"]],
    }


def _row(
    key: str,
    label: str,
    detail: str,
    model: keras.Model,
    data: _Data,
    seconds: float,
    curve: dict[str, list[float]],
    angles: dict[str, list[float]] | None = None,
) -> Trained:
    return Trained(
        key=key,
        label=label,
        detail=detail,
        test=_score(model, data.x_test, data.y_test),
        training=_score(model, data.x_train, data.y_train),
        weights=sum(int(np.prod(weight.shape)) for weight in _learned(model)),
        seconds=seconds,
        curve=curve,
        angles=angles or {},
    )


def _learned(model: keras.Model) -> list[Any]:
    # The scalar of updated feedback has gradient zero: it is no weight of the net.
    return [weight for weight in model.trainable_weights if "feedback" not in weight.name]


def _score(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Score:
    scores = model.predict(images, batch_size=1000, verbose=0)
    return Score(int(np.count_nonzero(np.argmax(scores, axis=-1) != labels)), len(labels))


def _say_error(stage: Stage, row: Trained) -> None:
    stage.say(f"test error {row.test.error:.2%}")


def _error_figure(rows: list[Trained], unit: str) -> Figure:
    """Draw test errors in percent over training."""
    metric = "test error (%)"
    runs = {
        row.label: SimpleNamespace(
            history={metric: [100.0 * error for error in row.curve["test_error"]]},
            epoch=[passes - 1 for passes in row.curve["passes"]],
        )
        for row in rows
    }
    figure = plots.learning_curves(runs, metric)
    from matplotlib.ticker import LogLocator, NullLocator

    axes = figure.axes[0]
    axes.set_xlabel(unit)
    # A linear scale would leave the last passes, which matter, no room beside the first.
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10.0, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    return _legend_below(figure)


def _alignment_figure(rows: list[Trained]) -> Figure:
    """Draw the angles: a colour for each layer, a dash for each rule."""
    angles = {
        f"alignment_angle/{row.key}, {layer}": values
        for row in rows
        for layer, values in row.angles.items()
    }
    figure = plots.alignment(
        {name: values[1:] for name, values in angles.items()},
        initial={name: values[0] for name, values in angles.items()},
    )
    lines = figure.axes[0].get_lines()[1:]  # The first is the line of unrelated kernels.
    names = [str(line.get_label()).split(", ") for line in lines]
    watched = list(dict.fromkeys(layer for _, layer in names))
    colours = [lines[index].get_color() for index in range(len(watched))]
    for line, (key, layer) in zip(lines, names, strict=True):
        line.set_color(colours[watched.index(layer)])
        line.set_linestyle("--" if key == "fixed" else "-")
    return _legend_below(figure)


def _legend_below(figure: Figure) -> Figure:
    """Move the legend below the curves, so that the figure is also read on a narrow screen."""
    axes = figure.axes[0]
    handles, labels = axes.get_legend_handles_labels()
    if labels[0] == "unrelated":  # Below the first column, which is as long as the second.
        half = 1 + len(labels) // 2
        handles = [*handles[1:half], handles[0], *handles[half:]]
        labels = [*labels[1:half], labels[0], *labels[half:]]
    beside = axes.get_legend()
    if beside is not None:
        beside.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.set_size_inches(5.4, 4.4)
    return figure


def _serve(model: keras.Model, images: np.ndarray, folder: Path) -> Served:
    """Export a model, let a process without this package predict, and compare."""
    start = time.perf_counter()
    models.export(model, folder)
    expected = np.asarray(model.predict(images, batch_size=1000, verbose=0))
    with tempfile.TemporaryDirectory() as scratch:
        asked, given = Path(scratch) / "images.npy", Path(scratch) / "scores.npy"
        np.save(asked, images)
        process = subprocess.run(
            [sys.executable, "-c", _SERVE, str(folder.resolve()), str(asked), str(given)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0:
            raise RuntimeError(
                f"The exported model could not be served: {process.stderr.strip()[-2000:]}"
            )
        scores = np.load(given)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Served(
        folder=folder.name,
        images=len(images),
        largest_difference=float(np.max(np.abs(scores - expected))),
        largest_score=float(np.max(np.abs(expected))),
        same_classes=int(np.count_nonzero(scores.argmax(axis=-1) == expected.argmax(axis=-1))),
        parameter_bytes=sum(
            int(np.prod(weight.shape)) * np.dtype(weight.dtype).itemsize
            for weight in models.to_plain(model).weights
        ),
        weight_bytes=sum(path.stat().st_size for path in files if path.parent.name == "variables"),
        folder_bytes=sum(path.stat().st_size for path in files),
        keras_imported="True" in process.stdout,
        seconds=time.perf_counter() - start,
    )


def _environment() -> dict[str, str]:
    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "keras_local": keras_local.__version__}
    versions["keras"] = keras.version()
    versions[f"{backend} (backend)"] = _version(backend)
    if backend != "tensorflow":
        versions["tensorflow (export)"] = _version("tensorflow")
    versions["numpy"] = np.__version__
    versions["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    return versions


def _version(package: str) -> str:
    return str(getattr(sys.modules.get(package), "__version__", None) or metadata.version(package))
