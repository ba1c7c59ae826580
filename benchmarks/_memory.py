"""Peak memory of a training step, measured in a process of its own.

    peak("benchmarks.depth:equal_blocks", 32, "pred")

calls `equal_blocks(32, "pred")` of that module in a new process. It returns a compiled model with
one batch, `(model, x, y)`, or on TensorFlow also a function without arguments that makes a step.

* TensorFlow counts what its allocator has given away at most during a step, above what it holds
  before. This needs a setting of the environment that is read when TensorFlow is imported.
* JAX says what a compiled step reserves for intermediate results.

The memory of the whole process is no measure: it has the graph in it, which grows with depth.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

MEGABYTE = 1e6
_REGION = 2**27
"""Numbers of the tensor that makes room at the start: half a gigabyte."""
_STEPS = 7
_MARK = "peak in bytes:"


def peak(maker: str, *arguments: Any, backend: str = "tensorflow", timeout: float = 3600) -> float:
    """Return the peak of a training step above rest, in megabytes.

    Args:
        maker: `"module:function"`; the module must be importable from the folder of this project.
        arguments: Arguments of the function, which JSON can carry.
        backend: `"tensorflow"` or `"jax"`.
        timeout: Seconds after which a process that still runs is an error.
    """
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPU_ALLOCATOR_USE_BFC": "true",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    command = [sys.executable, "-m", "benchmarks._memory", maker, json.dumps(arguments)]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=timeout
    )
    marked = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not marked:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return float(marked[-1].removeprefix(_MARK)) / MEGABYTE


def measured(made: Any, steps: int = _STEPS) -> float:
    """Return the peak of a step in this process, in bytes; the median of some steps."""
    import keras

    if keras.backend.backend() == "jax":
        return _compiled(*made)
    return _allocated(made if callable(made) else _step(*made), steps)


def _step(model: Any, x: Any, y: Any) -> Callable[[], Any]:
    import keras

    x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
    return lambda: model.train_on_batch(x, y)


def _allocated(step: Callable[[], Any], steps: int) -> float:
    import tensorflow as tf

    # The allocator gives away the smallest free piece that is large enough, whole if it is less
    # than twice as large. In one large region, pieces have the sizes of tensors and add up.
    tf.zeros(_REGION)
    for _ in range(2):  # The first step makes the graph and the variables of the optimizer.
        step()
    peaks = []
    for _ in range(steps):
        tf.config.experimental.reset_memory_stats("CPU:0")
        before = tf.config.experimental.get_memory_info("CPU:0")["current"]
        step()
        peaks.append(tf.config.experimental.get_memory_info("CPU:0")["peak"] - before)
    # By chance, threads hold a tensor or two longer than they need.
    found = statistics.median(peaks)
    if not found:
        raise RuntimeError("TensorFlow counted nothing: TF_CPU_ALLOCATOR_USE_BFC was set too late")
    return float(found)


def _compiled(model: Any, x: Any, y: Any) -> float:
    import jax

    data = (jax.numpy.asarray(x), jax.numpy.asarray(y))
    model.train_on_batch(*data)  # Makes all variables.
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    lowered = jax.jit(model.train_step, donate_argnums=0).lower(state, data)
    return float(lowered.compile().memory_analysis().temp_size_in_bytes)


if __name__ == "__main__":
    module, name = sys.argv[1].split(":")
    print(_MARK, measured(getattr(import_module(module), name)(*json.loads(sys.argv[2]))))
