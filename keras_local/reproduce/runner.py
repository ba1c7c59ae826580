"""Runs experiments: each variant with each seed, one result a file, nothing twice."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import os
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_local import _validation as check
from keras_local.reproduce import cells, measures
from keras_local.reproduce.arrays import Arrays, load
from keras_local.reproduce.cells import Place
from keras_local.reproduce.checking import check_settings
from keras_local.reproduce.encoding import pretrain
from keras_local.reproduce.experiment import Experiment, ids
from keras_local.reproduce.outcome import Outcome, Run
from keras_local.reproduce.progress import Stage, Stages, without_advice
from keras_local.reproduce.sections import Settings
from keras_local.reproduce.training import train

if TYPE_CHECKING:
    from rich.console import Console

_KINDS: dict[str, Callable[[Run], Outcome]] = {
    "train": train,
    "pretrain": pretrain,
    "measure": measures.measure,
}


@dataclass(frozen=True)
class Options:
    """How experiments run.

    Attributes:
        preset: `"smoke"`, `"quick"` or `"paper"`.
        out: Folder of the results.
        seeds: Number of seeds, counted from 0; that of the experiment by default.
        variants: Names of the variants that run; all by default.
        changes: Changes of settings, by dotted key.
        data_dir: Folder of data sets, as in `datasets.load`.
        force: Whether results of other settings are replaced.
        tensorboard: Whether logs for TensorBoard are written.
        command: The command, for the results.
    """

    preset: str
    out: Path
    seeds: int | None = None
    variants: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    data_dir: str | None = None
    force: bool = False
    tensorboard: bool = False
    command: str = ""


@dataclass
class Count:
    """How many runs there were.

    Attributes:
        done: Runs that ended now.
        kept: Runs that had ended before.
        failed: For each failed run, its name and the error.
    """

    done: int = 0
    kept: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def run(experiments: Sequence[Experiment], options: Options, console: Console) -> Count:
    """Run experiments; a failed run does not stop the others.

    Raises:
        ValueError: If a preset, a variant or a setting does not exist, or a result of other
            settings is in the folder; nothing has run then.
    """
    planned = [
        (each, place, each.settings(place.preset, place.variant, options.changes))
        for each in experiments
        for place in _places(each, options)
    ]
    for _, place, settings in planned:
        check_settings(settings, f"{place.id}, preset {place.preset}, variant {place.variant}")
        allowed = "a folder with results of the same settings, or `--force` to replace them"
        fits = options.force or not place.path.exists() or _is_there(place, settings)
        check.require(fits, "out", allowed, f"{place.path} of other settings")
    count = Count()
    with Stages(console) as stages, without_advice():
        for experiment, place, settings in planned:
            if _is_there(place, settings):
                count.kept += 1
                continue
            name = f"{place.id} {place.variant} s{place.seed}"
            try:
                with stages(name) as stage:
                    _run(experiment, place, settings, options, stage)
                count.done += 1
            except Exception as error:  # Whatever it is, the other runs go on.
                console.print(f"[red]failed[/red] {name}: {error}", highlight=False)
                count.failed.append((name, traceback.format_exc()))
    for folder in {place.folder for _, place, _ in planned}:
        _tidy(folder)
    return count


def _places(experiment: Experiment, options: Options) -> list[Place]:
    """Return which results are wanted, seed by seed."""
    presets = tuple(experiment.presets)
    check.require(
        options.preset in presets, f"preset of {experiment.id}", f"one of {presets}", options.preset
    )
    known = experiment.variants_of(options.preset)
    for name in options.variants:
        check.one_of(f"variants of {experiment.id}", name, tuple(experiment.variants))
    chosen = options.variants or known
    seeds = options.seeds or (1 if options.preset == "smoke" else experiment.seeds)
    return [
        Place(options.out, experiment.id, options.preset, variant, seed)
        for seed in range(seeds)
        for variant in chosen
    ]


def _is_there(place: Place, settings: Settings) -> bool:
    """Return whether the folder has a result of these settings."""
    return place.path.exists() and bool(cells.read(place.path)["settings_sha"] == settings.sha)


def _run(
    experiment: Experiment, place: Place, settings: Settings, options: Options, stage: Stage
) -> None:
    """Run one variant with one seed, and write its result."""
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    begin, cpu = time.perf_counter(), sum(os.times()[:4])
    # Automatic names, which are in the history, begin at 1 again.
    keras.backend.clear_session()
    resumed = place.work.exists()
    arrays = None
    if settings.data is not None:
        arrays = load(settings.data, options.data_dir, stand_in=place.preset == "smoke")
    place.work.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        outcome = _KINDS[settings.kind](
            _context(experiment, place, settings, options, arrays, stage)
        )
    metric = outcome.final.get(experiment.metric)
    check.require(metric is not None, "metric", f"one of {list(outcome.final)}", experiment.metric)
    stage.say(f"{experiment.metric} {metric:.4g}")
    facts = {
        "schema": cells.SCHEMA,
        "id": place.id,
        "preset": place.preset,
        "variant": place.variant,
        "seed": place.seed,
        "settings": settings.as_dict(),
        "settings_sha": settings.sha,
        "data_sha": None if arrays is None else arrays.sha,
        "stand_in": arrays is not None and arrays.stand_in,
        **cells.environment(),
        "command": options.command,
        "started": started,
        "seconds": round(time.perf_counter() - begin, 2),
        "cpu_seconds": round(sum(os.times()[:4]) - cpu, 2),
        "resumed": resumed,
        "history": outcome.history,
        "final": outcome.final,
        "extra": outcome.extra,
        "warnings": sorted({str(w.message) for w in caught if w.category is UserWarning}),
    }
    if experiment.id not in ids():  # The report has to know what was run.
        place.folder.mkdir(parents=True, exist_ok=True)
        place.folder.with_name("experiment.toml").write_text(experiment.text, encoding="utf-8")
    cells.write(place, facts, outcome.arrays)
    shutil.rmtree(place.work, ignore_errors=True)


def _context(
    experiment: Experiment,
    place: Place,
    settings: Settings,
    options: Options,
    arrays: Arrays | None,
    stage: Stage,
) -> Run:
    def callbacks(phase: str) -> list[keras.callbacks.Callback]:
        found: list[keras.callbacks.Callback] = [stage.callback()]
        found.append(EpochTable(place.logs / f"{phase}.csv"))
        if options.tensorboard:
            found.append(keras.callbacks.TensorBoard(place.logs / phase, write_graph=False))
        return found

    def images(name: str) -> np.ndarray:
        if settings.data is None:
            raise ValueError(check.refusal("data", "given", "none"))
        other = dataclasses.replace(settings.data, name=name)
        smoke = place.preset == "smoke"
        found: np.ndarray = load(other, options.data_dir, stand_in=smoke).train[0]
        return found

    return Run(
        settings=settings,
        seed=place.seed,
        arrays=arrays,
        folder=place.work,
        shared=place.folder / ".unfinished" / "encoders",
        callbacks=callbacks,
        images=images,
        fields="receptive_fields" in experiment.figures and place.seed == 0,
    )


class EpochTable(keras.callbacks.Callback):
    """Keeps a table of the logs of each epoch, in CSV; a run that goes on continues it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add a row, in place of one of the same epoch that a killed run left."""
        numbers = {key: float(np.mean(each)) for key, each in (logs or {}).items()}
        row: dict[str, Any] = {"epoch": epoch, **numbers}
        rows: list[dict[str, Any]] = []
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = [each for each in csv.DictReader(file) if int(each["epoch"]) < epoch]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        names = list(dict.fromkeys(key for each in (*rows, row) for key in each))
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            table.writerows([*rows, row])


def _tidy(folder: Path) -> None:
    """Remove encoders that no unfinished run needs."""
    unfinished = folder / ".unfinished"
    others = [each for each in unfinished.glob("*") if each.name != "encoders"]
    if not others:
        with contextlib.suppress(OSError):
            shutil.rmtree(unfinished)
