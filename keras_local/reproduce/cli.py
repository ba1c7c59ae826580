"""The command `keras-local`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras_local
from keras_local.reproduce import commands
from keras_local.reproduce.compare_command import add_compare
from keras_local.reproduce.settings import DEMO_DATA


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Args:
        arguments: The words after `keras-local` on the command line; those of `sys.argv` by
            default.

    Returns:
        The exit status: 0 for success, 1 if the sub-command raises an error, 130 after Ctrl-C.
        Arguments that cannot be parsed end the process with status 2, as `argparse` does.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["keras-local", *arguments])
    run: Callable[[argparse.Namespace], int | None] = options.run
    try:
        return run(options) or 0
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"keras-local: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-local: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-local", description="Experiments of keras_local and their reports."
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {keras_local.__version__}"
    )
    several = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(several)
    commands.add(several)
    add_compare(several)
    return parser


def _add_demo(several: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = several.add_parser(
        "demo",
        help="train, compare, export and report on real images",
        description="Train one network with backpropagation, with fixed and with updated random "
        "feedback; pretrain a Hebbian encoder without labels and fit a linear readout; export it "
        "and serve it in a new process; write a report with tables and figures.",
    )
    parser.add_argument(
        "--data",
        choices=DEMO_DATA,
        default="digits",
        help="the data set (default: %(default)s, which needs no download and takes about one and "
        "a half minutes; the others take about ten)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("keras-local-demo"),
        metavar="DIR",
        help="folder for the report; files of the same names are replaced (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=commands.integer(range(2**32), "from 0 to 2**32 - 1"),
        default=0,
        metavar="N",
        help="seed of the random numbers (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="use a few images and steps, only to see that everything works; the report says so",
    )
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from rich.console import Console

    from keras_local.reproduce import demo
    from keras_local.reproduce.settings import DemoSettings

    settings = DemoSettings.of(options.data)
    demo.run(
        settings.quick() if options.quick else settings,
        options.out,
        seed=options.seed,
        quick=options.quick,
        command=options.command_line,
        console=Console(),
    )


if __name__ == "__main__":
    raise SystemExit(main())
