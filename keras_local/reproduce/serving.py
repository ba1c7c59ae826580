"""Third part of the demo: the exported model, served without this package."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_local import models
from keras_local.reproduce.results import Served

_SERVE = """
import sys
sys.modules["keras_local"] = None  # importing it fails
import numpy as np, tensorflow as tf
model, images, scores = sys.argv[1:]
served = tf.saved_model.load(model)
np.save(scores, served.serve(tf.constant(np.load(images))).numpy())
print("keras" in sys.modules)
"""


def serve(model: keras.Model, images: np.ndarray, folder: Path) -> Served:
    """Export a model, predict in a process without this package, and compare."""
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
