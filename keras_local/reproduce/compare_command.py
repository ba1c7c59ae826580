"""The command `keras-local compare`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from keras_local import _validation as check
from keras_local import datasets


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command to a parser."""
    parser = commands.add_parser(
        "compare",
        help="train a model of your own under several rules, and compare them",
        description="Train the model that a function in a Python file returns under several rules, "
        "from several seeds. Print a table with intervals and a paired test, and write it, the "
        "learning curves and one JSON file for each run into a folder.",
    )
    parser.add_argument(
        "model",
        metavar="FILE.py:FUNCTION",
        help="the function that returns the model, such as net.py:network",
    )
    parser.add_argument(
        "--rules",
        nargs="+",
        required=True,
        metavar="RULE",
        help="aliases of rules, such as kolen_pollack or direct_feedback, or names in the file",
    )
    parser.add_argument(
        "--data",
        default="digits",
        metavar="NAME",
        help=f"one of {', '.join(datasets.NAMES)}, or the name in the file of "
        "((x, y), (x_test, y_test)) or of a function that returns it (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("keras-local-comparison"),
        metavar="DIR",
        help="folder for table, figure and runs (default: %(default)s)",
    )
    _add_training(parser)
    parser.set_defaults(run=_compare)


def _add_training(parser: argparse.ArgumentParser) -> None:
    for name, kind, default, text in (
        ("--seeds", int, 5, "number of seeds, counted from 0"),
        ("--epochs", int, 10, "passes over the training examples"),
        ("--batch-size", int, 100, "examples in a step"),
    ):
        parser.add_argument(
            name, type=kind, default=default, metavar="N", help=f"{text} (default: %(default)s)"
        )
    parser.add_argument(
        "--optimizer",
        metavar="NAME",
        help="name of a Keras optimizer, or of one in the file (default: SGD with step size 0.1)",
    )
    parser.add_argument(
        "--loss",
        metavar="NAME",
        help="name of a Keras loss, or of one in the file (default: cross-entropy)",
    )
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        metavar="RATE",
        help="learning rates to try for each rule, on training examples that are held out",
    )
    parser.add_argument(
        "--control",
        default="symmetric",
        metavar="RULE",
        help="the rule that the others are compared with (default: %(default)s)",
    )


def _compare(options: argparse.Namespace) -> None:
    from keras_local.reproduce.compare import compare

    path, _, function = options.model.rpartition(":")
    allowed = "FILE.py:FUNCTION, such as net.py:network"
    check.require(bool(path) and function.isidentifier(), "model", allowed, options.model)
    module = _loaded(Path(path))
    model_fn = getattr(module, function, None)
    known = [name for name, value in vars(module).items() if name[0] != "_" and callable(value)]
    check.require(callable(model_fn), "model", f"one of {known} behind `{path}:`", options.model)
    data = options.data
    if data not in datasets.NAMES:
        data = _found(module, data)
        data = data() if callable(data) else data
    found = compare(
        model_fn,  # type: ignore[arg-type]
        {name: _found(module, name) for name in options.rules},
        data,
        seeds=options.seeds,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=_found(module, options.optimizer),
        loss=_found(module, options.loss),
        rates=options.rates,
        control=options.control,
        out=options.out,
    )
    print(found.table)
    print(f"\nWritten: {options.out}")


def _found(module: ModuleType, name: Any) -> Any:
    """Return what the file calls by a name, or else the name."""
    return name if name is None else getattr(module, name, name)


def _loaded(path: Path) -> ModuleType:
    """Return a file as a module, which finds the files beside it."""
    check.require(path.suffix == ".py" and path.is_file(), "model", "an existing .py file", path)
    spec = importlib.util.spec_from_file_location(f"_compared_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
