"""Data sets of labelled images, and small tasks for sequences, as NumPy arrays.

`digits` and `natural_patches` come with scikit-learn and need no download; the others come through
TensorFlow Datasets, which downloads them once, or from files that `keras-local pack` wrote.
`delayed_xor`, `adding` and `sines` are made on the spot.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from keras_local import _packed
from keras_local import _validation as check

Split = tuple[np.ndarray, np.ndarray]
Name = Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "natural_patches"]

NAMES: tuple[Name, ...] = get_args(Name)
"""The names of data sets for `load`."""

OFFLINE = ("digits", "natural_patches")
"""Those that come with scikit-learn."""

_DIGITS_TRAINED = 1400

_PATCH = 16
_PATCHES = {"train": 20_000, "test": 4_000}


def load(
    name: Name, flatten: bool = False, data_dir: str | os.PathLike[str] | None = None
) -> tuple[Split, Split]:
    """Load a data set of labelled images.

    | name              | images      | training | test   | from                |
    |-------------------|-------------|----------|--------|---------------------|
    | `digits`          | 8 x 8 x 1   | 1,400    | 397    | scikit-learn        |
    | `natural_patches` | 16 x 16 x 1 | 20,000   | 4,000  | scikit-learn        |
    | `mnist`           | 28 x 28 x 1 | 60,000   | 10,000 | TensorFlow Datasets |
    | `fashion_mnist`   | 28 x 28 x 1 | 60,000   | 10,000 | TensorFlow Datasets |
    | `cifar10`         | 32 x 32 x 3 | 50,000   | 10,000 | TensorFlow Datasets |
    | `cifar100`        | 32 x 32 x 3 | 50,000   | 10,000 | TensorFlow Datasets |

    All have 10 classes, but `cifar100` has 100, and `natural_patches` two, which are its two
    photographs (a temple and a flower): it is for learning without labels.

    `digits` has no split of its own. Here it is permuted by `numpy.random.default_rng(0)`; the
    first 1400 images are for training, the rest for tests. `natural_patches` are drawn by
    `numpy.random.default_rng(0)`, as many from each photograph, in grey (the mean of the colours);
    those for training from its left three quarters, those for tests from the rest. Split and order
    of the others are those of TensorFlow Datasets.

    Args:
        name: One of the names above.
        flatten: Whether to return each image as a vector.
        data_dir: Folder of TensorFlow Datasets; None means its default, the environment variable
            `TFDS_DATA_DIR` or otherwise `~/tensorflow_datasets`. Or a folder with files that
            `keras-local pack` wrote, which are read without TensorFlow Datasets.

    Returns:
        `((x_train, y_train), (x_test, y_test))`: images in float32 from 0 to 1, of shape
        `(samples, height, width, channels)` or, flattened, `(samples, height * width * channels)`;
        labels in int32 of shape `(samples,)`.

    Raises:
        ValueError: If the name is unknown, `flatten` is not a bool, or `data_dir` is not a path or
            does not hold all packed files of the data set.
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
    if name == "digits":
        splits = _digits()
    elif name == "natural_patches":
        splits = _natural_patches()
    elif _is_packed(name, data_dir):
        splits = _as_floats(_packed.read(name, Path(data_dir)))  # type: ignore[arg-type]
    else:
        splits = _as_floats(_from_tfds(name, data_dir))
    if flatten:
        splits = tuple((images.reshape(len(images), -1), labels) for images, labels in splits)
    train, test = splits
    return train, test


def is_prepared(name: Name, data_dir: str | os.PathLike[str] | None = None) -> bool:
    """Return whether `load` can return a data set without a download.

    Args:
        name: As in `load`.
        data_dir: As in `load`.

    Raises:
        ValueError: If the name is unknown, or `data_dir` is not a path.

    >>> is_prepared("digits")
    True
    """
    check.one_of("name", name, NAMES)
    if data_dir is not None:
        check.instance("data_dir", data_dir, (str, os.PathLike), "a path, or None")
    if name in OFFLINE or _is_packed(name, data_dir):
        return True
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        return False
    directory = None if data_dir is None else os.fspath(data_dir)
    return bool(tfds.builder(name, data_dir=directory).is_prepared())


def pack(
    name: Name,
    folder: str | os.PathLike[str],
    part: float = 40.0,
    data_dir: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Write a data set into a few small files that `load` reads without TensorFlow Datasets.

    The files are `NAME-0.npz`, `NAME-1.npz`, and so on, with pixels in uint8, compressed without
    loss. Give their folder to `load` as `data_dir`.

    Args:
        name: As in `load`, but none of `OFFLINE`, which need no files.
        folder: Where to write; it is created if it does not exist.
        part: Largest size of a file in MiB.
        data_dir: As in `load`.

    Returns:
        The paths of the files.

    Raises:
        ValueError: If an argument is wrong.
        ImportError: As in `load`, likewise `RuntimeError`.
    """
    check.one_of("name", name, [each for each in NAMES if each not in OFFLINE])
    check.instance("folder", folder, (str, os.PathLike), "a path")
    part = check.real("part", part, 0.0, exclusive=True)
    train, test = load(name, data_dir=data_dir)
    train, test = ((np.rint(x * 255.0).astype("uint8"), y) for x, y in (train, test))
    return [str(path) for path in _packed.write(name, Path(folder), train, test, part)]


def delayed_xor(samples: int, steps: int = 20, seed: int | None = None) -> Split:
    """Draw sequences whose class is the exclusive or of two bits, asked for at the end.

    Each input is `(steps, 3)`: the first bit, -1 or 1, in the first quarter of channel 0; the
    second one in the third quarter of channel 1; a one in the last step of channel 2, which asks
    for the answer. Everything else is 0. A network has to keep both bits, and has to learn to keep
    them: credit for the last step alone does not suffice.

    Args:
        samples: How many sequences to draw.
        steps: Their length, at least 4.
        seed: Where the bits are drawn from; None for anywhere.

    Returns:
        Inputs in float32 of shape `(samples, steps, 3)`, and classes 0 and 1 in int32.

    Raises:
        ValueError: If an argument is no integer in range.

    Example:
        >>> x, y = delayed_xor(4, seed=0)
        >>> x.shape, y.shape
        ((4, 20, 3), (4,))
    """
    samples, steps, generator = _drawn(samples, steps, seed)
    bits = generator.integers(0, 2, (samples, 2))
    inputs = np.zeros((samples, steps, 3), np.float32)
    quarter = steps // 4
    inputs[:, :quarter, 0] = 2 * bits[:, :1] - 1
    inputs[:, 2 * quarter : 3 * quarter, 1] = 2 * bits[:, 1:] - 1
    inputs[:, -1, 2] = 1.0
    return inputs, (bits[:, 0] ^ bits[:, 1]).astype(np.int32)


def adding(samples: int, steps: int = 20, seed: int | None = None) -> Split:
    """Draw sequences of numbers of which two are marked, and the sum of those two.

    Each input is `(steps, 2)`: numbers, uniform from 0 to 1, and marks: a one in a step of the
    first half, a one in a step of the second, else zeros. To guess 1 gives a squared error of 1/6.

    Args:
        samples: How many sequences to draw.
        steps: Their length, at least 4.
        seed: Where the numbers are drawn from; None for anywhere.

    Returns:
        Inputs in float32 of shape `(samples, steps, 2)`, and sums of shape `(samples, 1)`.

    Raises:
        ValueError: If an argument is no integer in range.

    Example:
        >>> x, y = adding(3, steps=10, seed=0)
        >>> bool(np.allclose((x[..., 0] * x[..., 1]).sum(axis=1), y[:, 0]))
        True
    """
    samples, steps, generator = _drawn(samples, steps, seed)
    inputs = np.zeros((samples, steps, 2), np.float32)
    inputs[..., 0] = generator.random((samples, steps))
    rows, half = np.arange(samples), steps // 2
    first, second = generator.integers(0, half, samples), generator.integers(half, steps, samples)
    inputs[rows, first, 1] = inputs[rows, second, 1] = 1.0
    return inputs, np.sum(inputs[..., 0] * inputs[..., 1], axis=1, keepdims=True)


def sines(steps: int = 100) -> Split:
    """Return a sequence of zeros, and a periodic curve for a network to produce out of itself.

    The curve is `sin(p) + sin(2 p) / 2 + sin(4 p) / 4`, with the phase `p` from 0 to 2 pi.

    Args:
        steps: Length of the sequence, at least 4.

    Returns:
        Inputs of zeros and the curve, in float32 of shape `(1, steps, 1)`.

    Raises:
        ValueError: If `steps` is no integer in range.

    Example:
        >>> x, y = sines()
        >>> x.shape, y.shape, round(float(y[0, 25, 0]), 1)
        ((1, 100, 1), (1, 100, 1), 1.0)

    Source: the task of Murray 2019, "Local online learning in recurrent networks with random
    feedback" (the author's code).
    """
    steps = check.positive_integer("steps", steps, minimum=4)
    phase = 2.0 * np.pi * np.arange(steps) / steps
    curve = np.sin(phase) + np.sin(2.0 * phase) / 2.0 + np.sin(4.0 * phase) / 4.0
    return np.zeros((1, steps, 1), np.float32), curve.astype(np.float32)[None, :, None]


def _drawn(samples: Any, steps: Any, seed: Any) -> tuple[int, int, np.random.Generator]:
    samples = check.positive_integer("samples", samples)
    steps = check.positive_integer("steps", steps, minimum=4)
    return samples, steps, np.random.default_rng(check.seed("seed", seed))


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


def _natural_patches() -> tuple[Split, ...]:
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise ImportError(
            "The photographs come with scikit-learn: pip install 'keras-local[demo]'"
        ) from error
    photographs = [each.mean(axis=-1) / 255.0 for each in load_sample_images().images]
    generator = np.random.default_rng(0)
    found = []
    for split, count in _PATCHES.items():
        parts = []
        for photograph in photographs:
            cut = photograph.shape[1] * 3 // 4
            part = photograph[:, :cut] if split == "train" else photograph[:, cut:]
            windows = np.lib.stride_tricks.sliding_window_view(part, (_PATCH, _PATCH))
            rows, columns = (
                generator.integers(0, length, count // len(photographs))
                for length in windows.shape[:2]
            )
            parts.append(windows[rows, columns])
        order = generator.permutation(count)
        images = np.concatenate(parts)[order, :, :, None].astype(np.float32)
        labels = np.repeat(np.arange(len(parts), dtype=np.int32), len(parts[0]))
        found.append((images, labels[order]))
    return tuple(found)


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
    return tuple((images, labels) for images, labels in splits)


def _as_floats(splits: tuple[Split, ...]) -> tuple[Split, ...]:
    return tuple(
        (np.divide(images, 255.0, dtype=np.float32), labels.astype(np.int32))
        for images, labels in splits
    )


def _is_packed(name: str, data_dir: str | os.PathLike[str] | None) -> bool:
    return data_dir is not None and bool(_packed.files(name, Path(data_dir)))


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
