"""The progress of a pretraining, written after each epoch, so that a killed run can continue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from keras_local import _runs as runs
from keras_local.ops.datasets import Order

_ARGUMENT = "resume_from"
_NAME = "pretraining.npz"

Histories = dict[str, keras.callbacks.History]


class Journal:
    """The present phase of a pretraining and its progress, in a file if there is a directory.

    A phase is one `fit`, of one layer or of all layers at once. The file contains the number of the
    phase and the epoch, all variables of the encoder and of the phase's optimizer, and the
    histories.

    Args:
        encoder: The encoder.
        phases: The layers of each phase.
        initial_epoch: The first epoch of a phase.
        folder: Directory of the file; None writes no file.
        identity: Numbers and strings that have to be the same for a run to continue.

    Raises:
        ValueError: If the directory contains another run, or a file that cannot be read.
    """

    def __init__(
        self,
        encoder: keras.Model,
        phases: Sequence[Sequence[Any]],
        initial_epoch: int,
        folder: Path | None,
        identity: dict[str, Any],
    ) -> None:
        self.encoder, self.phases = encoder, phases
        self.initial_epoch, self.identity = initial_epoch, identity
        self.path = None if folder is None else folder / _NAME
        self.phase, self.epoch, self.seed = 0, initial_epoch, 0
        self.finished: list[list[dict[str, Any]]] = []
        self.running: dict[str, Any] = {"epoch": [], "history": {}}
        self.saved = None if self.path is None else runs.read(_ARGUMENT, self.path)
        if self.path is not None and self.saved is not None:
            runs.require_same(_ARGUMENT, self.path, self.saved.facts["identity"], identity)
            values = self.saved.arrays["encoder"]
            runs.require_shapes(_ARGUMENT, encoder.variables, values)

    def restore(self) -> None:
        """Restore the state in the file, or write the file if there is none."""
        if self.path is None:
            return
        if self.saved is None:
            self.seed = runs.seed_from(self.encoder.variables)
            self.write()
            return
        facts = self.saved.facts
        self.phase, self.epoch, self.seed = facts["phase"], facts["epoch"], facts["seed"]
        self.finished, self.running = facts["finished"], facts["running"]
        self.running["history"] = _renamed(self.running["history"], facts["names"], self._names)
        runs.assign(self.encoder.variables, self.saved.arrays["encoder"])

    def histories_of(self, phase: int) -> Histories | None:
        """Return the histories of a finished phase, or None."""
        if phase >= len(self.finished):
            return None
        histories = {}
        for layer, kept in zip(self.phases[phase], self.finished[phase], strict=True):
            history = keras.callbacks.History()
            history.epoch, history.history = kept["epoch"], kept["history"]
            history.report = kept["report"]
            histories[layer.name] = history
        return histories

    def begin(self, phase: int, optimizer: Any) -> int:
        """Return the epoch in which a phase begins, and restore its optimizer."""
        if phase != self.phase:
            self.phase, self.epoch = phase, self.initial_epoch
            self.running = {"epoch": [], "history": {}}
        values = [] if self.saved is None else self.saved.arrays.get("optimizer", [])
        if self.saved is not None and self.saved.facts["phase"] == phase and values:
            runs.assign(optimizer.variables, values)
        return self.epoch

    def order(self, phase: int) -> Callable[[int, int], Order] | None:
        """Return the order of samples in a phase; None if no run has to be repeated.

        It is a function of the number of samples and of the batch size.
        """
        if self.path is None:
            return None
        return partial(Order, seed=(self.seed, phase), drop_remainder=True, epoch=self.epoch)

    def keepers(self) -> list[keras.callbacks.Callback]:
        """Return the callback that writes at the end of an epoch, after all others."""
        return [] if self.path is None else [_Keeper(self)]

    def whole(self, history: keras.callbacks.History) -> keras.callbacks.History:
        """Return a history together with the epochs before the run was killed."""
        if self.path is None:
            return history
        history.epoch = list(self.running["epoch"])
        history.history = {key: list(each) for key, each in self.running["history"].items()}
        return history

    def close(self, phase: int, histories: Histories) -> None:
        """Record that a phase has ended."""
        if self.path is None:
            return
        kept = [
            {"epoch": each.epoch, "history": each.history, "report": each.report}
            for each in histories.values()
        ]
        self.finished.append(kept)
        self.phase, self.epoch = phase + 1, self.initial_epoch
        self.running = {"epoch": [], "history": {}}
        self.write()

    def note(self, epoch: int, logs: Any, optimizer: Any) -> None:
        """Record that an epoch has ended."""
        self.epoch = epoch + 1
        self.running["epoch"].append(epoch)
        for key, value in (logs or {}).items():
            self.running["history"].setdefault(key, []).append(float(value))
        self.write(optimizer)

    def write(self, optimizer: Any = None) -> None:
        """Replace the file."""
        if self.path is None:
            return
        facts = {
            "identity": self.identity,
            "phase": self.phase,
            "epoch": self.epoch,
            "seed": self.seed,
            "names": self._names,
            "finished": self.finished,
            "running": self.running,
        }
        arrays = {"encoder": runs.numbers_of(self.encoder.variables)}
        if optimizer is not None:
            arrays["optimizer"] = runs.numbers_of(optimizer.variables)
        runs.write(self.path, facts, arrays)

    @property
    def _names(self) -> list[str]:
        return [layer.name for phase in self.phases for layer in phase]


class _Keeper(keras.callbacks.Callback):
    """Callback that writes the journal; it is the last one, since others change weights, too."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal = journal

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the state after the epoch."""
        self.journal.note(epoch, logs, self.model.optimizer)


def _renamed(history: dict[str, Any], before: Sequence[str], now: Sequence[str]) -> dict[str, Any]:
    """Return a history with the names that the layers have in this process."""
    names = dict(zip(before, now, strict=True))
    renamed = {}
    for key, values in history.items():
        layer, slash, measure = key.rpartition("/")
        renamed[f"{names.get(layer, layer)}{slash}{measure}"] = values
    return renamed
