"""Which training steps lower for a TPU, on a machine without one.

    KERAS_BACKEND=jax python -m tests.distribute.lowering [CASE ...]

`jax.export` makes the code of a whole training step, with optimizer and metrics, for other
platforms than this one. Whatever has no form there fails. That a step lowers does not say that it
was run. Left out is the call of Python by which plastic layers report divergence.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np

from tests.battery import cells
from tests.battery.table import ROWS as LAYERS
from tests.dynamics import table as networks

PLATFORMS = ("tpu",)


def lowered(model: Any, batch: tuple[Any, ...]) -> int:
    """Return the size of the step's code in bytes."""
    # Here, since the tests of TensorFlow import every module and need no JAX.
    import jax

    model._symbolic_build(data_batch=batch)
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    exported = jax.export.export(jax.jit(model.train_step), platforms=PLATFORMS)(state, batch)
    return len(exported.mlir_module_serialized)


def layer(row: Any) -> tuple[Any, tuple[Any, ...]]:
    """A compiled model of the battery of layers, and a batch."""
    model = cells.build(row)
    cells.compiled(model, row, jit_compile=True)
    inputs, labels = cells.data(row)
    return model, _batch(inputs[: cells.BATCH], labels, cells.BATCH)


def network(row: Any) -> tuple[Any, tuple[Any, ...]]:
    """A compiled network, and a batch."""
    made = row.make()
    networks.start(made, row)
    made.compile(row.optimizer(row.rate), jit_compile=True)
    inputs, labels = networks.data(row)
    return made, _batch(inputs[: networks.BATCH], labels, networks.BATCH)


def _batch(inputs: np.ndarray, labels: Any, size: int) -> tuple[Any, ...]:
    return (inputs,) if labels is None else (inputs, np.asarray(labels[:size]))


def main() -> None:
    """Lower all cases, or those whose names begin as an argument does."""
    if keras.backend.backend() != "jax":
        raise SystemExit("Set KERAS_BACKEND=jax.")
    import jax

    # Plastic layers report divergence by a call of Python, of which JAX has no form to export.
    jax.debug.callback = lambda *arguments, **options: None
    starts = tuple(sys.argv[1:])
    found = {f"layer-{row.id}": (layer, row) for row in LAYERS}
    found |= {f"network-{row.id}": (network, row) for row in networks.ROWS}
    names = [name for name in found if not starts or name.startswith(starts)]
    right = 0
    for name in names:
        make, row = found[name]
        try:
            said = f"{lowered(*make(row)) / 1024:.0f} kB"
            right += 1
        except Exception as error:
            said = f"{type(error).__name__}: {str(error)[:150]}"
        print(f"{name:55s} {said}", flush=True)
    print(f"{right} of {len(names)} lower for {', '.join(PLATFORMS)}")


if __name__ == "__main__":
    main()
