"""Stops a run, in this process or by SIGKILL, and compares what it becomes with the whole run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.kills.cases import CASES, Case
from tests.support import array

PATIENCE = 600.0
"""Seconds after which a process that says nothing is given up."""


class Stop(Exception):
    """Stands for the end of a process."""


class StopAfter(keras.callbacks.Callback):
    """Stops a run after so many calls: at batches, or at epochs where only these are seen."""

    def __init__(self, calls: int, epochs: bool) -> None:
        super().__init__()
        self.left, self.epochs = calls, epochs

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._count(not self.epochs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._count(self.epochs)

    def _count(self, counts: bool) -> None:
        self.left -= counts
        if self.left < 0:
            raise Stop


def values(model: Any) -> list[np.ndarray]:
    """All variables of a model, and of its optimizer if it has one."""
    optimizer = getattr(model, "optimizer", None)
    return [array(each) for each in (*model.variables, *getattr(optimizer, "variables", ()))]


def difference(
    case: Case, folder: Path, stops: tuple[int, ...] = (4, 2), epochs: bool = False
) -> float:
    """Return the largest difference of a run that was stopped and begun anew from a whole one.

    Args:
        case: The run.
        folder: An empty directory.
        stops: After how many batches (or epochs) each stop comes; a fresh model follows.
        epochs: Whether epochs are counted.
    """
    whole, model = case.make(), case.make()
    for one, other in zip(model.variables, whole.variables, strict=True):
        one.assign(array(other))
    case.train(whole, folder / "whole", [])
    for stop in stops:
        try:
            case.train(model, folder / "run", [StopAfter(stop, epochs)])
            raise AssertionError("The run was over before it was stopped.")
        except Stop:
            model = case.make()
    case.train(model, folder / "run", [])
    return largest(values(model), values(whole))


def largest(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The largest difference of arrays; infinite if any is not finite."""
    found = 0.0
    for one, other in zip(some, others, strict=True):
        if not np.array_equal(one, other):
            gap = float(np.max(np.abs(one.astype("float64") - other.astype("float64"))))
            found = max(found, gap if np.isfinite(gap) else np.inf)
    return found


def train(name: str, folder: Path, seed: int, out: Path, ready: Any) -> None:
    """Train one case: what a process of `Process` does."""
    warnings.simplefilter("ignore")
    keras.utils.set_random_seed(seed)
    model = CASES[name].make()
    ready.set()
    CASES[name].train(model, folder, [])
    np.savez(out, **{str(place): value for place, value in enumerate(values(model))})


class Process:
    """A process that trains a case, and says so when it begins."""

    def __init__(self, name: str, folder: Path, seed: int, out: Path) -> None:
        # Processes of a server that has imported everything and computed nothing begin at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.kills.cases"])
        self.out, ready = out, context.Event()
        arguments = (name, folder, seed, out, ready)
        self.process = context.Process(target=train, args=arguments, daemon=True)
        self.process.start()
        assert ready.wait(PATIENCE)
        self.begun = time.monotonic()

    def wait(self) -> tuple[list[np.ndarray], float]:
        """Return the weights at the end, and how long the training took."""
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0
        taken = time.monotonic() - self.begun
        with np.load(self.out) as file:
            return [file[str(place)] for place in range(len(file.files))], taken

    def kill(self, after: float) -> bool:
        """Kill the process after some seconds; return whether it still ran."""
        self.process.join(after)
        if self.process.exitcode is not None:
            return False
        os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join(PATIENCE)
        return self.process.exitcode == -signal.SIGKILL


def killed(name: str, kills: int, seed: int, folder: Path) -> tuple[int, int, float]:
    """Kill a case at random moments.

    Returns:
        How often it was killed, how many files could not be read then, and the largest difference
        of its weights from those of a run that was left alone.
    """
    rng = np.random.default_rng(seed)
    whole, taken = Process(name, folder / "whole", seed, folder / "whole.npz").wait()
    done = unreadable = 0
    share = taken / (kills + 1)
    for turn in range(3 * kills):
        if done == kills:
            break
        # Other seeds: weights that a fresh process draws must not matter.
        begun = seed if turn == 0 else seed + 1 + turn
        process = Process(name, folder / "run", begun, folder / "run.npz")
        if not process.kill(rng.uniform(0.0, 1.6 * share)):
            break
        done += 1
        for file in (folder / "run").glob("*.npz"):
            try:
                with np.load(file) as found:
                    _ = [found[each] for each in found.files]
            except Exception:
                unreadable += 1
    weights, _ = Process(name, folder / "run", seed + 99, folder / "run.npz").wait()
    return done, unreadable, largest(weights, whole)
