"""A process of those in which cases are trained: `python -m tests.distribute.process FILE`.

FILE is that of a JSON object, which the runner writes: what kind of devices, how many, and which
cases. Beside it each process writes what it found.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.support import largest_difference, weights_of


def strategy_of(order: dict[str, Any]) -> Any:
    """What spreads a training over workers, replicas or devices."""
    if order["kind"] == "devices":
        return keras.distribution.DataParallel(devices=keras.distribution.list_devices())
    import tensorflow as tf

    if order["kind"] == "workers":
        if order["stock"]:
            return tf.distribute.MultiWorkerMirroredStrategy()
        import keras_local as kl

        return kl.distribute.multi_worker()
    cpus = tf.config.list_physical_devices("CPU")
    several = [tf.config.LogicalDeviceConfiguration()] * order["count"]
    tf.config.set_logical_device_configuration(cpus[0], several)
    return tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(order["count"])])


def outcome(case: Any, scope: Any, all_in_scope: bool) -> list[np.ndarray]:
    """What a case gives under a strategy, or under none."""
    keras.utils.set_random_seed(7)
    with scope():
        model = case.make()
        before = weights_of(model)
        if all_in_scope:
            parts = case.train(model)
    if not all_in_scope:
        parts = case.train(model)
    if largest_difference(before, weights_of(model)) < 1e-4:
        raise AssertionError("The training has not moved the weights.")
    return [np.asarray(part) for part in parts]


def main(file: Path) -> None:
    """Train all cases, and keep what comes out."""
    order = json.loads(file.read_text())
    strategy = strategy_of(order)
    place = (
        json.loads(os.environ["TF_CONFIG"])["task"]["index"] if order["kind"] == "workers" else 0
    )
    from keras_local.dynamics import Network
    from tests.distribute.cases import CASES, cases

    known = CASES if order["steps"] is None else cases(order["steps"])

    # As in the other tests: compiling takes longer than the few steps.
    Network.suits_xla = False
    start = time.perf_counter()
    found: dict[str, np.ndarray] = {}
    errors: dict[str, str] = {}
    on_jax = order["kind"] == "devices"
    for name in order["names"]:
        runs = {"several": strategy.scope}
        if place == 0:
            runs["one"] = contextlib.nullcontext
        for run, scope in runs.items():
            try:
                parts = outcome(known[name], scope, on_jax)
            except Exception as error:
                traceback.print_exc()
                errors[name] = f"{type(error).__name__}: {str(error).strip()[:300]}"
                break
            found.update({f"{name}/{run}/{k}": part for k, part in enumerate(parts)})
        print(f"{time.perf_counter() - start:7.1f} {name}", flush=True)
    np.savez(file.parent / f"found_{place}.npz", **found)
    (file.parent / f"errors_{place}.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
