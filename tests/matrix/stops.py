"""A process that begins a training and is killed in it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import keras

from tests.distribute.cases import cases
from tests.kills.runner import PATIENCE

STEPS = 4
"""Of every training of the matrix."""
LAST = 5
"""The batch behind which a process is killed: within the second epoch, or the second layer."""


class Killed(keras.callbacks.Callback):
    """Kills the process behind a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        if self.batches == LAST:
            os.kill(os.getpid(), signal.SIGKILL)


def begin(name: str, seed: int, folder: Path) -> None:
    """What the process does."""
    warnings.simplefilter("ignore")
    case = cases(STEPS)[name]
    keras.utils.set_random_seed(seed)
    case.resume(case.make(), folder, [Killed()])


class Process:
    """A process that begins the training of a row, and is killed.

    Args:
        name: Of the row.
        seed: Of its weights and draws.
        folder: Where it writes.
    """

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        # Processes of a server that has imported everything and computed nothing begin at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.matrix.stops"])
        self.process = context.Process(target=begin, args=(name, seed, folder), daemon=True)
        self.process.start()

    def wait(self) -> None:
        """Wait for its death."""
        self.process.join(PATIENCE)
        if self.process.exitcode != -signal.SIGKILL:
            self.process.kill()
            raise AssertionError(f"was not killed, but ended with {self.process.exitcode}")
