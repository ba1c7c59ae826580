"""The state and the identity of a run in a file, so that a killed run can continue.

A file is replaced as a whole and never written in place. Therefore there is always a readable file,
even if the process is killed at any moment. The file identifies its run: another run is refused
before anything has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _labels
from keras_local import _validation as check

_FORMAT = 1
_WHOLE = 1 << 24
"""Larger arrays (in bytes) count with only some of their rows in the identity of a run."""
_ROWS = 512

Facts = Mapping[str, Any]
"""The values of JSON."""


@dataclass(frozen=True)
class Saved:
    """The content of a file.

    Attributes:
        facts: Everything that was written in addition to the arrays.
        arrays: Groups of arrays, by name.
    """

    facts: dict[str, Any]
    arrays: dict[str, list[np.ndarray]]


def write(path: Path, facts: Facts, arrays: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write a file, or keep the existing one if this fails.

    The bytes have reached the disk before the new file takes the place of the old one, and the
    directory after that.
    """
    members: dict[str, Any] = {
        f"{group}/{place}": _bits(each)
        for group, members in arrays.items()
        for place, each in enumerate(members)
    }
    said = json.dumps({**facts, "format": _FORMAT})
    temporary = path.with_name(_temporary(path.name, os.getpid()))
    try:
        with open(temporary, "wb") as file:
            np.savez(file, facts=np.frombuffer(said.encode(), "uint8"), **members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def read(argument: str, path: Path) -> Saved | None:
    """Return the content of a file, or None if there is none; refuse other files."""
    if not path.exists():
        return None
    allowed = f"a directory whose {path.name} was written by keras_local and is whole"
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(file["facts"].tobytes().decode())
            names = [name for name in file.files if name != "facts"]
            arrays: dict[str, list[np.ndarray]] = {}
            for name in names:
                arrays.setdefault(name.rpartition("/")[0], []).append(file[name])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        received = f"{path}: {error}"
        raise ValueError(check.refusal(argument, allowed, received)) from error
    check.require(
        isinstance(facts, dict) and facts.get("format") == _FORMAT, argument, allowed, path
    )
    return Saved(facts, arrays)


def path_of(argument: str, value: Any) -> Path:
    """Return a path of the user's, which need not exist."""
    allowed = "the path of a directory that can be written"
    valid = isinstance(value, (str, os.PathLike)) and isinstance(os.fspath(value), str)
    check.require(valid and "\0" not in os.fspath(value), argument, allowed, value)
    check.require(bool(os.fspath(value)), argument, allowed, value)
    return Path(value)


def directory(argument: str, value: Any) -> Path:
    """Return a directory of the user's, made if it is not there, without what killed runs left."""
    allowed = "the path of a directory that can be written"
    path = path_of(argument, value)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(check.refusal(argument, allowed, str(path))) from error
    check.require(os.access(path, os.W_OK | os.X_OK), argument, allowed, str(path))
    _clear(path)
    return path


def numbers_of(variables: Sequence[Any]) -> list[np.ndarray]:
    """Return copies of the values of variables."""
    return [np.array(ops.convert_to_numpy(each)) for each in variables]


def require_shapes(argument: str, variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Refuse values that do not fit the variables."""
    allowed = f"a directory of a run with {len(variables)} arrays of the shapes of this model"
    check.require(len(variables) == len(values), argument, allowed, f"{len(values)} arrays")
    for variable, value in zip(variables, values, strict=True):
        same = tuple(variable.shape) == tuple(value.shape)
        received = f"{tuple(value.shape)} for {variable.path}: {tuple(variable.shape)}"
        check.require(same, argument, allowed, received)


def assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Give variables their saved values, bit for bit."""
    for variable, value in zip(variables, values, strict=True):
        dtype = np.asarray(ops.convert_to_numpy(variable)).dtype
        variable.assign(value.view(dtype) if dtype.kind == "V" else value)


def require_same(argument: str, path: Path, saved: Facts, now: Facts) -> None:
    """Refuse a directory that contains another run."""
    differences = [
        f"{key}: {saved.get(key, 'none')} there, {now.get(key, 'none')} here"
        for key in {**saved, **now}
        if saved.get(key) != now.get(key)
    ]
    allowed = "an empty directory, or that of the same run"
    received = f"{path}, which holds another run ({'; '.join(differences)})"
    check.require(not differences, argument, allowed, received)


def identity_of_model(model: Any) -> str:
    """Return a hash of the model's config and of its weights' shapes.

    Names do not count, because Keras numbers its automatic names through the whole process.
    """
    shapes = [[list(each.shape), str(each.dtype)] for each in model.variables]
    return _hash(json.dumps([identity_of_config(model), shapes]).encode())


def identity_of_config(thing: Any) -> str:
    """Return a hash of the config of a Keras object, without names."""
    try:
        config = keras.saving.serialize_keras_object(thing)
    except (
        NotImplementedError,
        TypeError,
        ValueError,
    ):  # A user's model may have no config.
        config = type(thing).__name__
    return identity_of(config)


def identity_of(config: Any) -> str:
    """Return a hash of a config, without names."""
    return _hash(json.dumps(_nameless(config), sort_keys=True, default=_said).encode())


def identity_of_optimizer(optimizer: Any) -> str:
    """Return a hash of an optimizer's arguments.

    A learning rate that is a number does not count: callbacks change it, and it is restored.
    """
    config = keras.saving.serialize_keras_object(optimizer)
    _drop_rates(config)
    return identity_of(config)


def identity_of_data(data: Any) -> str:
    """Return shape and type of each array, with a hash of its contents (of some rows, if large)."""
    said = []
    for each in keras.tree.flatten(data):
        array = _labels.as_numpy(each)
        rows = array
        if array.nbytes > _WHOLE:
            rows = array[np.unique(np.linspace(0, len(array) - 1, _ROWS).astype("int64"))]
        objects = rows.dtype.kind == "O"
        contents = repr(rows.tolist()).encode() if objects else rows.tobytes()
        said.append(f"{array.shape} {array.dtype} {_hash(contents)}")
    return ", ".join(said)


def seed_from(variables: Sequence[Any]) -> int:
    """Return a seed that follows from the values of variables: equal on all workers of a run."""
    digest = hashlib.sha256()
    for value in numbers_of(variables):
        digest.update(value.tobytes())
    return int.from_bytes(digest.digest()[:4], "big")


def refuse_backups(callback: keras.callbacks.Callback, allowed: str) -> None:
    """Refuse a `BackupAndRestore`, also inside a `CallbackList`: its state is not that of the run.

    Args:
        callback: The callback or list.
        allowed: What is allowed instead, for the message.
    """
    several = isinstance(callback, keras.callbacks.CallbackList)
    for each in callback.callbacks if several else [callback]:
        backup = isinstance(each, keras.callbacks.BackupAndRestore)
        check.require(not backup, "callbacks", allowed, each)


def require_order(model: Any, x: Any, shuffle: bool) -> None:
    """Let a model refuse an order of samples from which it cannot learn.

    A model that needs a certain order has a method `check_order(x, shuffle)`.
    """
    says: Callable[[Any, Any], None] | None = getattr(model, "check_order", None)
    if says is not None:
        says(x, shuffle)


def _bits(array: np.ndarray) -> np.ndarray:
    """Return an array in a dtype that NumPy can write; it may not know half precision."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _temporary(name: str, process: int) -> str:
    return f".{name}.{platform.node()}.{process}.tmp"


def _clear(path: Path) -> None:
    """Remove unfinished files of processes on this machine that do not run any more."""
    if os.name != "posix":  # Elsewhere there is no harmless way to ask for a process.
        return
    for found in path.glob(_temporary("*.npz", 0).replace(".0.tmp", ".*.tmp")):
        process = found.name.split(".")[-2]
        if process.isdecimal() and not _is_running(int(process)):
            found.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync(path: Path) -> None:
    """Write the entries of a directory to the disk, if the system allows it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _hash(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()[:16]


def _said(thing: Any) -> str:
    """Return a replacement for an object that JSON does not know."""
    if hasattr(thing, "shape"):
        return identity_of_data(thing)
    return type(thing).__name__


def _nameless(config: Any) -> Any:
    """Return a config in which names are replaced by their numbers."""
    names: dict[str, str] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            name = part.get("name")
            if isinstance(name, str):
                names.setdefault(name, f"<{len(names)}>")
        for each in _parts(part):
            collect(each)

    def replaced(part: Any) -> Any:
        if isinstance(part, str):
            return names.get(part, part)
        if isinstance(part, dict):
            kept = [(str(key), each) for key, each in part.items() if key != "shared_object_id"]
            # Such as a loss for each block, by the name of the block.
            by_name = all(key in names for key, _ in kept)
            return {names[key] if by_name else key: replaced(each) for key, each in kept}
        return [replaced(each) for each in part] if isinstance(part, (list, tuple)) else part

    collect(config)
    return replaced(config)


def _parts(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return list(part.values())
    return list(part) if isinstance(part, (list, tuple)) else []


def _drop_rates(config: Any) -> None:
    if isinstance(config, dict) and isinstance(config.get("learning_rate"), float):
        del config["learning_rate"]
    for each in _parts(config):
        _drop_rates(each)
