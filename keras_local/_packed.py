"""Data sets of images in a few small files that need nothing but NumPy to be read.

Each file `NAME-0.npz`, `NAME-1.npz`, ... holds some of the images, training images first. Pixels
are stored as differences of neighbours and of colours, compressed by LZMA: exact, and for photos a
third smaller than without the differences.
"""

from __future__ import annotations

import lzma
import zipfile
from pathlib import Path

import numpy as np

from keras_local import _validation as check

Split = tuple[np.ndarray, np.ndarray]

_MARGIN = 0.95
_SAMPLE = 2000


def files(name: str, folder: Path) -> list[Path]:
    """Return the files of a packed data set in a folder, in their order."""
    found = folder.glob(f"{name}-*.npz")
    numbered = [path for path in found if path.stem.removeprefix(f"{name}-").isdecimal()]
    return sorted(numbered, key=lambda path: int(path.stem.removeprefix(f"{name}-")))


def write(name: str, folder: Path, train: Split, test: Split, part: float) -> list[Path]:
    """Write images in uint8 with their labels, at most `part` MiB in a file."""
    images = np.concatenate([train[0], test[0]])
    labels = np.concatenate([train[1], test[1]]).astype("uint8")
    folder.mkdir(parents=True, exist_ok=True)
    sample = images[:_SAMPLE]
    bytes_of_one = len(_coded(sample)) / len(sample)
    rows = max(1, int(_MARGIN * part * 2**20 / bytes_of_one))
    written = []
    parts = -(-len(images) // rows)
    for number in range(parts):
        chosen = slice(number * rows, (number + 1) * rows)
        path = folder / f"{name}-{number}.npz"
        np.savez(
            path,
            images=np.frombuffer(_coded(images[chosen]), "uint8"),
            shape=np.array(images[chosen].shape),
            labels=labels[chosen],
            facts=np.array([number, parts, len(train[0])]),
        )
        written.append(path)
    return written


def read(name: str, folder: Path) -> tuple[Split, Split]:
    """Return training and test images in uint8 with their labels.

    Raises:
        ValueError: If a file is missing or is not one of ours.
    """
    images, labels, trained = [], [], 0
    paths = files(name, folder)
    for number, path in enumerate(paths):
        try:
            with np.load(path, allow_pickle=False) as file:
                place, parts, trained = (int(each) for each in file["facts"])
                images.append(_decoded(file["images"].tobytes(), tuple(file["shape"])))
                labels.append(file["labels"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, lzma.LZMAError) as error:
            allowed = "a folder with files that `keras-local pack` wrote"
            received = f"{path}: {error}"
            raise ValueError(check.refusal("data_dir", allowed, received)) from error
        allowed = f"a folder with all {parts} files of {name}"
        whole = place == number and parts == len(paths)
        check.require(whole, "data_dir", allowed, [each.name for each in paths])
    every, of_all = np.concatenate(images), np.concatenate(labels)
    return (every[:trained], of_all[:trained]), (every[trained:], of_all[trained:])


def _coded(images: np.ndarray) -> bytes:
    planes = np.moveaxis(images, -1, 0).copy()
    if len(planes) == 3:  # Colours are much alike: red and blue as differences from green.
        planes[0] -= planes[1]
        planes[2] -= planes[1]
    planes[..., 1:] = planes[..., 1:] - planes[..., :-1]
    return lzma.compress(planes.tobytes(), preset=6)


def _decoded(coded: bytes, shape: tuple[int, ...]) -> np.ndarray:
    planes = np.frombuffer(lzma.decompress(coded), "uint8")
    planes = planes.reshape(shape[-1], *shape[:-1]).copy()
    np.cumsum(planes, axis=-1, dtype="uint8", out=planes)
    if len(planes) == 3:
        planes[0] += planes[1]
        planes[2] += planes[1]
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))
