"""Stops a run, in this process or by SIGKILL, and compares what it becomes with the whole run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from dataclasses import dataclass
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


class Count(keras.callbacks.Callback):
    """Says to another process how many batches were trained."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches.release()


def train(name: str, folder: Path, seed: int, out: Path, batches: Any) -> None:
    """Train one case: what a process of `Process` does."""
    warnings.simplefilter("ignore")
    keras.utils.set_random_seed(seed)
    model = CASES[name].make()
    CASES[name].train(model, folder, [Count(batches)])
    np.savez(out, **{str(place): value for place, value in enumerate(values(model))})


class Process:
    """A process that trains a case, and counts its batches.

    Attributes:
        batches: How many batches it was seen to train.
        pace: Seconds of a batch behind the first, with what is written between batches.
    """

    def __init__(self, name: str, folder: Path, seed: int, out: Path) -> None:
        # Processes of a server that has imported everything and computed nothing begin at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.kills.cases"])
        self.out, self.batches, self.pace = out, 0, 0.0
        self._trained = context.Semaphore(0)
        arguments = (name, folder, seed, out, self._trained)
        self.process = context.Process(target=train, args=arguments, daemon=True)
        self.process.start()

    def wait(self) -> list[np.ndarray]:
        """Return the weights at the end."""
        self._see(None)
        assert self.process.exitcode == 0
        with np.load(self.out) as file:
            return [file[str(place)] for place in range(len(file.files))]

    def kill(self, batches: int, seconds: float) -> bool:
        """Kill the process some seconds behind so many batches; return whether it still ran."""
        self._see(batches)
        time.sleep(seconds)
        if self.process.exitcode is None:
            os.kill(self.process.pid or 0, signal.SIGKILL)
        self._see(None)
        return self.process.exitcode == -signal.SIGKILL

    def _see(self, batches: int | None) -> None:
        """Wait for so many batches, or for the end of the process and all it has trained."""
        given_up, begun = time.monotonic() + PATIENCE, 0.0
        while batches is None or self.batches < batches:
            ended = self.process.exitcode is not None
            if self._trained.acquire(timeout=0.0 if ended else 0.05):
                self.batches += 1
                begun = begun or time.monotonic()
                self.pace = (time.monotonic() - begun) / self.batches
            elif ended:
                return
            elif time.monotonic() > given_up:
                raise TimeoutError("The process trains no batch, and does not end.")


@dataclass
class Killed:
    """What followed from the kills of one case.

    Attributes:
        kills: How often it was killed.
        whole: Batches of the run that was left alone.
        last: Batches that the last process had left to train.
        unfinished: How many kills left an unfinished file beside the finished one.
        unreadable: How many finished files could not be read behind a kill.
        gap: The largest difference of the weights from those of the run that was left alone.
    """

    whole: int
    kills: int = 0
    last: int = 0
    unfinished: int = 0
    unreadable: int = 0
    gap: float = 0.0


def killed(name: str, kills: int, seed: int, folder: Path) -> Killed:
    """Kill a case at random moments, each time behind some batches of the process.

    A process spends most of its time with building and tracing. Moments that were drawn from its
    whole time would leave hardly any kills for the training.
    """
    run, out = folder / "run", folder / "run.npz"
    rng = np.random.default_rng([seed, list(CASES).index(name)])
    left_alone = Process(name, folder / "whole", seed, folder / "whole.npz")
    weights = left_alone.wait()
    found = Killed(left_alone.batches)
    left = found.whole  # At least: batches behind what was written last are trained again.
    # Weights that a new process draws must not matter, but those of the first written file do.
    begun = seed
    for turn in range(kills):
        process = Process(name, run, begun, out)
        # Less than what is left, so that the training is not over, and mostly up to its end.
        batches = int(rng.uniform(0.0, 1.6 * left / (kills - turn + 1)))
        found.kills += process.kill(batches, rng.uniform(0.0, 2.0 * left_alone.pace))
        left -= process.batches
        found.unfinished += any(run.glob(".*.tmp"))
        files = list(run.glob("*.npz"))
        found.unreadable += sum(not readable(each) for each in files)
        if files:
            begun = seed + 1 + turn
    last = Process(name, run, begun, out)
    found.gap, found.last = largest(last.wait(), weights), last.batches
    return found


def readable(path: Path) -> bool:
    """Whether every array of a file can be read."""
    try:
        with np.load(path) as file:
            return all(file[each] is not None for each in file.files)
    except Exception:
        return False
