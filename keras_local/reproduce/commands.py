"""The sub-commands of `keras-local` for experiments: `list`, `run`, `report`, `pack`."""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_local import datasets

_RESULTS = Path("keras-local-results")


def add(several: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-commands to a parser."""
    _add_list(several)
    _add_run(several)
    _add_report(several)
    _add_pack(several)


def _add_list(several: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = several.add_parser(
        "list",
        help="show the experiments",
        description="Show the id, the source and the question of each experiment.",
    )
    parser.add_argument(
        "--cost",
        action="store_true",
        help="show minutes for one seed with all variants, on two quiet cores",
    )
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> None:
    from keras_local.reproduce.experiment import Experiment, ids

    for name in ids():
        experiment = Experiment.of(name)
        line = f"{name:24} {experiment.kind:9}"
        if options.cost:
            minutes = (experiment.presets.get(each) for each in ("quick", "paper"))
            costs = [None if each is None else each.minutes for each in minutes]
            shown = ["-" if cost is None else f"{cost:g}" for cost in costs]
            line += f"{shown[0]:>6} / {shown[1]:<6}{experiment.gpu:4}"
        print(f"{line} {experiment.source}: {experiment.title}")


def _add_run(several: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = several.add_parser(
        "run",
        help="run experiments",
        description="Run experiments: each variant with each seed. A result that is there already "
        "is kept, and a run that was killed goes on.",
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        metavar="ID",
        help="ids as `list` shows them, or files .toml of your own",
    )
    parser.add_argument("--all", action="store_true", help="run all experiments")
    parser.add_argument(
        "--preset",
        choices=("smoke", "quick", "paper"),
        default="quick",
        help="seconds, minutes, or the settings of the source (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=integer(range(1, sys.maxsize), "of at least 1"),
        metavar="N",
        help="number of seeds, counted from 0 (default: that of the experiment, 1 for smoke)",
    )
    parser.add_argument("--variants", nargs="+", default=(), metavar="NAME", help="only these")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="KEY=VALUE",
        help="change a setting by its dotted key, such as train.epochs=3; may be repeated",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=_RESULTS,
        metavar="DIR",
        help="folder of the results (default: %(default)s)",
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of data sets, or of files that `pack` wrote"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace results of other settings in the folder"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard too")
    parser.set_defaults(run=_run)


def integer(range_: range, allowed: str) -> Callable[[str], int]:
    """Return a function from a word of the command line to an integer in a range.

    Args:
        range_: The range.
        allowed: The range in words.
    """

    def parsed(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = range_.start - 1
        if number not in range_:
            raise argparse.ArgumentTypeError(f"must be an integer {allowed}. Received: {text!r}")
        return number

    return parsed


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from keras_local.reproduce import runner
    from keras_local.reproduce.experiment import Experiment, ids

    if options.all == bool(options.experiments):
        raise ValueError("give ids of experiments (see `keras-local list`), or --all")
    experiments = [Experiment.of(name) for name in options.experiments or ids()]
    if options.all:  # Not every source has settings that fit into a run.
        experiments = [each for each in experiments if options.preset in each.presets]
    console = Console()
    count = runner.run(
        experiments,
        runner.Options(
            preset=options.preset,
            out=options.out,
            seeds=options.seeds,
            variants=tuple(options.variants),
            changes=changes_of(options.changes),
            data_dir=options.data_dir,
            force=options.force,
            tensorboard=options.tensorboard,
            command=options.command_line,
        ),
        console,
    )
    console.print(
        f"{count.done} runs done, {count.kept} kept, {len(count.failed)} failed; "
        f"results in {options.out}",
        highlight=False,
    )
    for name, error in count.failed:
        console.print(f"\n{name}\n{error}", highlight=False, markup=False)
    return 1 if count.failed else 0


def changes_of(texts: list[str]) -> dict[str, Any]:
    """Return changes of settings from texts `KEY=VALUE`, with values as in TOML.

    >>> changes_of(["train.epochs=3", "model.feedback=frfb"])
    {'train.epochs': 3, 'model.feedback': 'frfb'}

    Raises:
        ValueError: If there is no `=` in a text.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"--set must be KEY=VALUE. Received: {text!r}")
        try:
            changes[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key] = value
    return changes


def _add_report(several: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = several.add_parser(
        "report",
        help="write pages from results",
        description="Write a page for each source, with tables and figures, from the results of "
        "`keras-local run`. The same results give the same bytes, but for the date.",
    )
    parser.add_argument(
        "results", type=Path, nargs="?", default=_RESULTS, metavar="DIR", help="folder of results"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the pages (default: `report` in the folder of results)",
    )
    parser.add_argument("--date", default=None, help="the date on the pages (default: today)")
    parser.add_argument(
        "--no-figures", dest="figures", action="store_false", help="write tables alone"
    )
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    from keras_local.reproduce import pages

    out = options.out or options.results / "report"
    written = pages.write(options.results, out, options.date, options.figures)
    print(f"{len(written)} pages, see {written[0]}")


def _add_pack(several: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = several.add_parser(
        "pack",
        help="write a data set into small files",
        description="Write a data set into files that `--data-dir` and `datasets.load` read where "
        "TensorFlow Datasets is not installed.",
    )
    parser.add_argument(
        "name",
        choices=[name for name in datasets.NAMES if name not in datasets.OFFLINE],
        metavar="NAME",
        help="%(choices)s",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where to write")
    parser.add_argument(
        "--part",
        type=float,
        default=40.0,
        metavar="MIB",
        help="largest size of a file (default: %(default)s)",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder of TensorFlow Datasets")
    parser.set_defaults(run=_pack)


def _pack(options: argparse.Namespace) -> None:
    for path in datasets.pack(options.name, options.folder, options.part, options.data_dir):
        print(f"{path}  {Path(path).stat().st_size / 2**20:.1f} MiB")
