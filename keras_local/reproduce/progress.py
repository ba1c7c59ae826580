"""Progress bars of a command: one for each stage, with the time that it took."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import keras

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def without_advice() -> Iterator[None]:
    """Silence TensorFlow's warning that many models are built, which is done on purpose here."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Stage:
    """One progress bar. `callback` moves it during `fit`; `say` writes a note beside it.

    Args:
        progress: The `rich` progress display.
        task: The bar's id in it.
    """

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task
        self.note = ""

    def say(self, note: str) -> None:
        """Write `note` beside the bar."""
        self.note = note
        self._progress.update(self._task, note=note)

    def callback(self) -> keras.callbacks.Callback:
        """Return a Keras callback that moves the bar with the epochs."""

        def begin(logs: Any = None) -> None:
            self._progress.update(self._task, total=callback.params["epochs"], completed=0)

        callback = keras.callbacks.LambdaCallback(
            on_train_begin=begin,
            on_epoch_end=lambda epoch, logs=None: self._progress.advance(self._task),
        )
        return callback


class Stages:
    """The progress bars of a command, a context manager.

    If the console is no terminal but a file, each stage is one line, written at its end.

    Args:
        console: The `rich` console.

    >>> import io
    >>> from rich.console import Console
    >>> console = Console(file=io.StringIO(), width=80)
    >>> with Stages(console) as stages, stages("counting") as stage:
    ...     stage.say("up to ten")
    >>> sorted(stages.seconds)
    ['counting']
    """

    seconds: dict[str, float]
    """How many seconds each stage took."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<32}"),
            # These colours exist on terminals of 16 colours too.
            BarColumn(
                bar_width=18, complete_style="cyan", finished_style="green", pulse_style="cyan"
            ),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
            # What TensorFlow prints would otherwise appear in the middle of the bars.
            redirect_stderr=True,
            redirect_stdout=True,
        )
        self.seconds = {}

    def __enter__(self) -> Self:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop updating the bars, and leave them on the screen."""
        self._progress.stop()

    @contextmanager
    def __call__(self, name: str) -> Iterator[Stage]:
        """Show a bar while the body of the `with` statement runs, and measure its time."""
        task = self._progress.add_task(name, total=None, note="")
        stage = Stage(self._progress, task)
        start = time.perf_counter()
        yield stage
        seconds = time.perf_counter() - start
        self.seconds[name] = seconds
        self._progress.update(task, total=1, completed=1)
        self._progress.stop_task(task)
        if not self._console.is_terminal:
            self._console.print(f"{name:<32} {seconds:6.1f} s  {stage.note}", highlight=False)
