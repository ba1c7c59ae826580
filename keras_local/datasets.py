"""Data sets of labelled images, as NumPy arrays.

`digits` comes with scikit-learn and needs no download; the others come through TensorFlow
Datasets, which downloads them once.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from keras_local import _validation as check

Split = tuple[np.ndarray, np.ndarray]
Name = Literal["digits", "mnist", "fashion_mnist", "cifar10"]

_TFDS_NAMES = ("mnist", "fashion_mnist", "cifar10")
NAMES = ("digits", *_TFDS_NAMES)
"""The names of data sets for `load`."""

_DIGITS_TRAINED = 1400


def load(
    name: Name, flatten: bool = False, data_dir: str | os.PathLike[str] | None = None
) -> tuple[Split, Split]:
    """Load a data set of labelled images.

    | name            | images      | training | test   | from                |
    |-----------------|-------------|----------|--------|---------------------|
    | `digits`        | 8 x 8 x 1   | 1,400    | 397    | scikit-learn        |
    | `mnist`         | 28 x 28 x 1 | 60,000   | 10,000 | TensorFlow Datasets |
    | `fashion_mnist` | 28 x 28 x 1 | 60,000   | 10,000 | TensorFlow Datasets |
    | `cifar10`       | 32 x 32 x 3 | 50,000   | 10,000 | TensorFlow Datasets |

    All have 10 classes. `digits` has no split of its own. Here it is permuted by
    `numpy.random.default_rng(0)`; the first 1400 images are for training, the rest for tests. Split
    and order of the others are those of TensorFlow Datasets.

    Args:
        name: One of the names above.
        flatten: Whether to return each image as a vector.
        data_dir: Folder of TensorFlow Datasets; None means its default, the environment variable
            `TFDS_DATA_DIR` or otherwise `~/tensorflow_datasets`.

    Returns:
        `((x_train, y_train), (x_test, y_test))`: images in float32 from 0 to 1, of shape
        `(samples, height, width, channels)` or, flattened, `(samples, height * width * channels)`;
        labels in int32 of shape `(samples,)`.

    Raises:
        ValueError: If the name is unknown, `flatten` is not a bool, or `data_dir` is not a path.
        ImportError: If scikit-learn or TensorFlow Datasets is missing.
        RuntimeError: If the data set is not there and cannot be downloaded or prepared.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = load("digits", flatten=True)
        >>> x_train.shape, y_test.shape
        ((1400, 64), (397,))
    """
    check.one_of("name", name, NAMES)
    flatten = check.flag("flatten", flatten)
    if data_dir is not None:
        check.instance("data_dir", data_dir, (str, os.PathLike), "a path, or None")
    splits = _digits() if name == "digits" else _from_tfds(name, data_dir)
    if flatten:
        splits = tuple((images.reshape(len(images), -1), labels) for images, labels in splits)
    train, test = splits
    return train, test


def _digits() -> tuple[Split, ...]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits data set needs scikit-learn: pip install 'keras-local[demo]'"
        ) from error
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = (bunch.images[order, :, :, None] / 16.0).astype(np.float32)
    labels = bunch.target[order].astype(np.int32)
    cut = _DIGITS_TRAINED
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def _from_tfds(name: str, data_dir: str | os.PathLike[str] | None) -> tuple[Split, ...]:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise _missing(name) from error
    directory = None if data_dir is None else os.fspath(data_dir)
    try:
        builder = tfds.builder(name, data_dir=directory)
        if not builder.is_prepared():
            print(f"Preparing {name} in {builder.data_dir} (once)", file=sys.stderr, flush=True)
            with _quietly():
                builder.download_and_prepare()
        splits = tfds.as_numpy(
            builder.as_dataset(
                split=["train", "test"], batch_size=-1, as_supervised=True, shuffle_files=False
            )
        )
    except ImportError as error:
        raise _missing(name) from error
    except Exception as error:  # Network, disk and file formats fail in many ways.
        raise RuntimeError(
            f"The data set {name!r} could not be prepared for TensorFlow Datasets. Either connect "
            "to the network and try again (the files are downloaded once), or prepare it elsewhere "
            f"(`python -c \"import tensorflow_datasets as t; t.load('{name}')\"`), copy the "
            "folder, and give its path as `data_dir=` or in the variable TFDS_DATA_DIR. "
            "`load('digits')` needs no download. "
            f"Received: data_dir={directory!r}, {type(error).__name__}: {error}"
        ) from error
    return tuple(
        (np.divide(images, 255.0, dtype=np.float32), labels.astype(np.int32))
        for images, labels in splits
    )


def _missing(name: str) -> ImportError:
    return ImportError(
        f"{name} comes through TensorFlow Datasets: pip install 'keras-local[tensorflow]'"
    )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hide progress bars, and give up on an unreachable network in seconds, not minutes."""
    downloader: Any = None
    with contextlib.suppress(ImportError):
        downloader = importlib.import_module("tensorflow_datasets.core.download.downloader")
    retries = getattr(downloader, "MAX_RETRIES", None)
    silence = io.StringIO()
    try:
        if retries is not None:
            downloader.MAX_RETRIES = min(retries, 3)
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            yield
    finally:
        if retries is not None:
            downloader.MAX_RETRIES = retries
