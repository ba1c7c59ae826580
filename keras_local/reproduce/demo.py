"""The demo: it trains, compares, exports and reports on real images."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

import keras_local
from keras_local import _validation as check
from keras_local.reproduce import report
from keras_local.reproduce.error_paths import error_paths
from keras_local.reproduce.hebbian_features import features, pretrain
from keras_local.reproduce.images import Data, load
from keras_local.reproduce.progress import Stages, without_advice
from keras_local.reproduce.results import Images, Results
from keras_local.reproduce.serving import serve
from keras_local.reproduce.settings import DemoSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

FIGURES = ("learning_curves", "alignment", "receptive_fields", "readout_curves")
"""The figures of a report; each is `<name>.png` in its folder."""

_BACKENDS = ("tensorflow", "jax")

_MODEL = "saved_model"


def run(
    settings: DemoSettings,
    out: str | os.PathLike[str],
    seed: int = 0,
    quick: bool = False,
    command: str = "",
    console: Console | None = None,
) -> Results:
    """Run the demo and write its report.

    `index.html`, `results.json`, the figures and the SavedModel are written into the folder. Files
    of these names are replaced, and all others stay.

    Args:
        settings: The settings of the experiment.
        out: Folder of the report; it is created if it does not exist.
        seed: Seed of the random numbers.
        quick: Whether `settings` are shortened; the report then says so.
        command: The command that the report gives for repeating the demo.
        console: Console for progress and results; None shows nothing.

    Returns:
        The results, as `results.json` contains them.

    Raises:
        ValueError: If the seed is not an integer of at least 0.
        NotADirectoryError: If `out` is a file.
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
    # Backends print what devices they found when they first compute. Let them do it before the
    # progress bars are there.
    keras.ops.zeros(1)
    figures: dict[str, Figure] = {}
    with (
        warnings.catch_warnings(record=True) as caught,
        without_advice(),
        Stages(console) as stages,
    ):
        warnings.simplefilter("always", UserWarning)
        with stages("Load the images") as stage:
            data = load(settings)
            stage.say(f"{len(data.x_train):,} and {len(data.x_test):,}")
        trained = error_paths(settings, data, seed, stages, figures)
        encoder, pretrained = pretrain(settings, data, seed, stages, figures)
        readouts, classifier = features(settings, data, seed, stages, encoder, figures)
        with stages("Export and serve") as stage:
            served = serve(classifier, data.x_test, folder / _MODEL)
            stage.say(f"difference {served.largest_difference:.2g}")
    results = Results(
        command=command,
        seed=seed,
        quick=quick,
        images=_images(settings, data),
        error_paths=trained,
        features=readouts,
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


def _images(settings: DemoSettings, data: Data) -> Images:
    """Return what the report says of the images."""
    return Images(
        data=settings.data.name,
        shape=data.shape,
        classes=data.classes,
        training=len(data.x_train),
        training_of=data.sizes[0],
        error_paths=len(data.x_train[: settings.error_paths.images]),
        test=len(data.x_test),
        test_of=data.sizes[1],
    )


def _folder(out: str | os.PathLike[str]) -> Path:
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"`out` must be a folder. Received: the file {str(folder)!r}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _require_extras() -> None:
    """Raise an error now if the export at the end could not work."""
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise RuntimeError(
            f"The demo writes a SavedModel, as {' and '.join(_BACKENDS)} can. "
            f"Received: KERAS_BACKEND={backend}"
        )
    for package in ("matplotlib", "tensorflow"):
        # The backend is imported already; its package may have another name (tensorflow-cpu).
        if package != backend and importlib.util.find_spec(package) is None:
            raise ImportError(f"The demo needs {package}: pip install 'keras-local[demo]'")


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
