"""Trains cases on several workers, replicas or devices, and says how far from one device they end.

    python -m tests.distribute.runner --kind workers --count 2 [CASE ...]

One group of processes trains all cases that are asked for: TensorFlow takes its time to start.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).parents[2]
Kind = Literal["workers", "replicas", "devices"]
LIMIT = 3600
"""Seconds after which processes are given up."""


def run_cases(
    names: Iterable[str],
    kind: Kind = "workers",
    count: int = 2,
    stock: bool = False,
    steps: int | None = None,
) -> dict[str, float | str]:
    """Train each case on several devices and on one, and compare what comes out.

    Args:
        names: Of the cases in `tests.distribute.cases.CASES`.
        kind: `"workers"`, processes of TensorFlow; `"replicas"`, of TensorFlow in one process;
            `"devices"`, of JAX in one process.
        count: How many of them.
        stock: Whether workers have TensorFlow's own strategy.
        steps: Of every training; None for those of `CASES`.

    Returns:
        For each case the largest difference from one device, in any weight, in parts of the
        largest entry of that weight; or what went wrong.
    """
    names = list(names)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "order.json"
        order = {"names": names, "kind": kind, "count": count, "stock": stock, "steps": steps}
        file.write_text(json.dumps(order))
        run_processes(
            [sys.executable, "-m", "tests.distribute.process", str(file)], kind, count, Path(folder)
        )
        return _compared(names, Path(folder), count if kind == "workers" else 1)


def run_processes(command: list[str], kind: Kind, count: int, folder: Path) -> list[str]:
    """Run a command in as many processes as there are workers, and return what each printed."""
    environments = [dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONPATH=str(ROOT))]
    if kind == "devices":
        environments[0].update(
            KERAS_BACKEND="jax",
            XLA_FLAGS=f"--xla_force_host_platform_device_count={count}",
            JAX_PLATFORMS="cpu",
        )
    elif kind == "replicas":
        environments[0].update(KERAS_BACKEND="tensorflow")
    else:
        environments = [
            {**environments[0], "KERAS_BACKEND": "tensorflow", "TF_CONFIG": config}
            for config in cluster(count)
        ]
    with ExitStack() as stack:
        logs = [folder / f"log_{k}.txt" for k in range(len(environments))]
        started = []
        for environment, log in zip(environments, logs, strict=True):
            stream = stack.enter_context(log.open("w"))
            started.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT
                )
            )
        try:
            codes = [process.wait(LIMIT) for process in started]
        finally:
            for process in started:
                process.kill()
    said = [log.read_text() for log in logs]
    for code, text in zip(codes, said, strict=True):
        if code:
            raise RuntimeError(f"A process ended with {code}: {text[-3000:]}")
    return said


def cluster(workers: int) -> list[str]:
    """The `TF_CONFIG` of each worker on this machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(workers)
    ]


def _compared(names: list[str], folder: Path, processes: int) -> dict[str, float | str]:
    found = [dict(np.load(folder / f"found_{k}.npz")) for k in range(processes)]
    errors: dict[str, str] = {}
    for k in range(processes):
        errors.update(json.loads((folder / f"errors_{k}.json").read_text()))
    result: dict[str, float | str] = {}
    for name in names:
        if name in errors:
            result[name] = errors[name]
            continue
        one = _parts(found[0], f"{name}/one/")
        others = [_parts(each, f"{name}/several/") for each in found]
        result[name] = max(difference(one, other) for other in others)
    return result


def _parts(found: dict[str, np.ndarray], start: str) -> list[np.ndarray]:
    return [found[key] for key in found if key.startswith(start)]


def difference(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """The largest difference, in parts of the largest entry of each array."""
    worst = 0.0
    for a, b in zip(first, second, strict=True):
        a, b = a.astype("float64"), b.astype("float64")
        scale = float(np.max(np.abs(a), initial=0.0)) or 1.0
        apart = float(np.max(np.abs(a - b), initial=0.0)) / scale
        worst = apart if np.isnan(apart) else max(worst, apart)
    return worst


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", help="names of cases, or how they begin (default: all)")
    parser.add_argument("--kind", choices=("workers", "replicas", "devices"), default="workers")
    parser.add_argument("--count", type=int, default=2, help="how many (default: %(default)s)")
    parser.add_argument("--stock", action="store_true", help="TensorFlow's own strategy")
    arguments = parser.parse_args()
    from tests.distribute.cases import CASES

    starts = tuple(arguments.cases)
    names = [name for name in CASES if not starts or name.startswith(starts)]
    results: dict[str, Any] = run_cases(
        names, arguments.kind, arguments.count, stock=arguments.stock
    )
    for name, value in results.items():
        print(f"{name:55s} {value if isinstance(value, str) else format(value, '.1e')}")


if __name__ == "__main__":
    main()
