"""Results of runs: one JSON file for each variant and seed, and arrays for figures beside it."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_local
from keras_local import _validation as check
from keras_local.reproduce import json_files

SCHEMA = 1

TIMES = ("started", "seconds", "cpu_seconds", "resumed", "command")
"""What differs between a run that was killed and taken up again and one that was not."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the result of one variant with one seed is.

    Attributes:
        out: Folder of all results.
        id: The experiment.
        preset: The preset.
        variant: The variant.
        seed: The seed.
    """

    out: Path
    id: str
    preset: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Name of variant and seed."""
        return f"{json_files.file_name(self.variant)}-s{self.seed}"

    @property
    def folder(self) -> Path:
        """Folder of the results of a preset."""
        return self.out / self.id / self.preset

    @property
    def path(self) -> Path:
        """File of the result."""
        return self.folder / f"{self.name}.json"

    @property
    def work(self) -> Path:
        """Folder of the state of an unfinished run."""
        return self.folder / ".unfinished" / self.name

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.folder / "logs" / self.name


def write(place: Place, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a result; the JSON file comes last, and all of it at once."""
    place.folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        temporary = place.path.with_suffix(".npz.tmp")
        with open(temporary, "wb") as file:
            members: dict[str, Any] = dict(arrays)
            np.savez_compressed(file, **members)
        os.replace(temporary, place.path.with_suffix(".npz"))
    json_files.write(place.path, facts)


def read(path: Path) -> dict[str, Any]:
    """Return a result; numbers that were not finite are NaN.

    Raises:
        ValueError: If the file is not a result.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a result of `keras-local run`: {error}") from error
    valid = isinstance(facts, dict) and facts.get("schema") == SCHEMA
    check.require(valid, str(path), f"a result of schema {SCHEMA}", type(facts).__name__)
    found = {name: json_files.numbers(facts.get(name, {})) for name in ("final", "history")}
    return {**facts, **found}


def results(out: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield all results in a folder, in the order of experiments, presets, variants and seeds."""
    for path in sorted(out.glob("*/*/*.json")):
        yield path, read(path)


def environment() -> dict[str, Any]:
    """Return with what and on what a run computes."""
    return {
        "versions": json_files.versions(),
        **_revision(),
        "device": _device(),
        "threads": os.cpu_count(),
        "precision": keras.config.dtype_policy().name,
    }


def _device() -> str:
    accelerators = [name for name in keras.distribution.list_devices() if "cpu" not in name]
    return ", ".join(accelerators) if accelerators else f"{platform.machine()} CPU"


def _revision() -> dict[str, Any]:
    """Return the commit of the package, if it lies in a repository of its own."""
    root = Path(keras_local.__file__).parents[1]
    if not (root / ".git").exists():
        return {"revision": None, "dirty": None}
    try:
        said = [
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return {"revision": None, "dirty": None}
    return {"revision": said[0][:12], "dirty": bool(said[1])}
