"""Peak memory and time of a training step against depth, width and batch.

    python -m benchmarks.memory_depth [--depths 4 8 16 32] [--figure memory.png]
    python -m benchmarks.memory_depth --depths 8 --widths 8 16 32 --batches 64 256
    python -m benchmarks.memory_depth --time --depths 4 16 --widths 16 64 [--rounds 5]

and the same with `KERAS_BACKEND=jax` in front. Peaks are measured as in `_memory` and kept in a
file, so that a run that was stopped goes on, and a figure has both backends. Time is the median
over interleaved steps, over that of backpropagation through the same blocks, with quartiles.

Blocks are a convolution (16 maps of 16 x 16), batch normalisation and ReLU, 256 images; Hebbian
layers are the same convolution alone, and Forward-Forward has layers of 500 units, more where there
are more maps. Their peaks are compared with their own at another depth.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "true"  # Read when TensorFlow is imported.

import keras
import numpy as np

import keras_local as kl
from benchmarks import _memory
from benchmarks._rounds import interleaved, ratio


class Size(NamedTuple):
    """What is measured: the number of layers, of maps in each, and of images in a batch."""

    depth: int
    width: int = 16
    batch: int = 256

    @property
    def units(self) -> int:
        """Number of units of a layer without maps."""
        return 500 * self.width // 16


def _images(size: Size) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size.batch, 16, 16, size.width)).astype("float32")
    return images, rng.integers(0, 10, size.batch)


def _blocks(size: Size, scope: Any = None) -> Any:
    """Return blocks of convolution, normalisation and ReLU, and a linear output."""
    keras.utils.set_random_seed(0)
    layers: list[Any] = [keras.Input((16, 16, size.width))]
    for _ in range(size.depth):
        with scope or nullcontext():
            convolution = keras.layers.Conv2D(size.width, 3, padding="same", use_bias=False)
            relu = keras.layers.ReLU()
        # Keras 3.15 cannot compute a layer again that is called with `training`.
        layers += [convolution, keras.layers.BatchNormalization(), relu]
    return keras.Sequential(
        [*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    )


def _compiled(model: Any, size: Size) -> Any:
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    return (model, *_images(size))


def backpropagation(size: Size) -> Any:
    """Return the stock net with a batch."""
    return _compiled(_blocks(size), size)


def rematerialised(size: Size) -> Any:
    """Return the stock net, whose convolutions and ReLUs are computed again for gradients."""
    return _compiled(_blocks(size, keras.RematScope("full")), size)


def local_losses(size: Size, loss: Any = "pred") -> Any:
    """Return the net whose blocks have losses of their own."""
    return _compiled(kl.models.local_losses(_blocks(size), loss), size)


def direct_random_target(size: Size) -> Any:
    """Return the net in which targets go to the hidden layers."""
    return _compiled(kl.models.direct(_blocks(size), "direct_random_target"), size)


def hebbian(size: Size) -> Any:
    """Return layers that learn together without labels."""
    keras.utils.set_random_seed(0)
    rule = kl.plasticity.HardWTA()
    # So that activity has the same size in all layers.
    start = keras.initializers.RandomNormal(stddev=1.0 / (9 * size.width) ** 0.5, seed=0)
    arguments = {"padding": "same", "plasticity": rule, "kernel_initializer": start}
    layers = [kl.layers.HebbianConv2D(size.width, 3, **arguments) for _ in range(size.depth)]
    model = keras.Sequential([keras.Input((16, 16, size.width)), *layers])
    jit = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.SGD(1e-4), loss=None, jit_compile=jit)
    return model, _images(size)[0], np.zeros((size.batch, 1), "float32")


def forward_forward(size: Size) -> Any:
    """Return a network that compares samples with right and wrong labels."""
    keras.utils.set_random_seed(0)
    model = kl.dynamics.ForwardForwardNetwork([size.units] * (size.depth + 1) + [10])
    model.compile(keras.optimizers.SGD(0.01))
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(size.batch, size.units)).astype("float32")
    return model, inputs, rng.integers(0, 10, size.batch)


KINDS = {
    "backpropagation": backpropagation,
    "keras.RematScope": rematerialised,
    'local_losses, "pred"': local_losses,
    "direct_random_target": direct_random_target,
    "Hebbian layers together": hebbian,
    "ForwardForwardNetwork": forward_forward,
}
TIMED = {
    **dict(list(KINDS.items())[:4]),
    'local_losses, "sim"': partial(local_losses, loss="sim"),
    'local_losses, "pred_sim"': partial(local_losses, loss="pred_sim"),
}


def _sizes(arguments: argparse.Namespace) -> list[list[Size]]:
    """Return the sizes to measure; those of one inner list differ in depth alone."""
    pairs = product(arguments.widths, arguments.batches)
    return [[Size(depth, *pair) for depth in arguments.depths] for pair in pairs]


def measured(arguments: argparse.Namespace) -> dict[str, float]:
    """Measure the peaks that the file does not have yet, and print a table."""
    kept, backend = arguments.results, keras.backend.backend()
    found: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    for sizes in _sizes(arguments):
        _, width, batch = sizes[0]
        of = f"{arguments.depths} layers, {width} maps, batch {batch}"
        print(f"{backend}: peak of a step in MB, {of}")
        for name in arguments.kinds:
            row = []
            for size in sizes:
                key = _key(backend, name, size)
                if key not in found:
                    made = KINDS[name](size)
                    found[key] = _memory.measured(made, arguments.steps) / _memory.MEGABYTE
                    kept.write_text(json.dumps(found, indent=1))
                    del made
                    keras.backend.clear_session()
                row.append(found[key])
            numbers = "".join(f"{value:8.1f}" for value in row)
            print(f"  {name:26s}{numbers}", flush=True)
    return found


def _key(backend: str, name: str, size: Size) -> str:
    """Return the name of a peak in the file; that of the default size names the depth alone."""
    usual = size == Size(size.depth)
    return f"{backend}/{name}/{size.depth}" + ("" if usual else f"/{size.width}/{size.batch}")


def timed(arguments: argparse.Namespace) -> None:
    """Print how long a step takes, over backpropagation."""
    for size in (size for sizes in _sizes(arguments) for size in sizes):
        steps = {}
        for name, make in TIMED.items():
            model, x, y = make(size)
            batch = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
            steps[name] = lambda model=model, batch=batch: model.train_on_batch(*batch)
        times = interleaved(steps, arguments.rounds, repeats=1)
        of = f"{size.depth} blocks of {size.width} maps, batch {size.batch}"
        print(f"\n{keras.backend.backend()}, {of}: time of a step over backpropagation")
        for name in list(steps)[1:]:
            print(f"  {name:26s}{ratio(times, name, 'backpropagation')}", flush=True)
        keras.backend.clear_session()


def draw(found: dict[str, float], path: Path) -> None:
    """Draw the peaks of the default width and batch over those of the fewest layers."""
    from matplotlib import pyplot as plt

    backends = sorted({key.split("/")[0] for key in found}, reverse=True)
    figure, panels = plt.subplots(
        1, len(backends), figsize=(4.2 * len(backends), 3.4), sharey=True, squeeze=False
    )
    for panel, backend in zip(panels[0], backends, strict=True):
        for name, marker in zip(KINDS, "osD^vP", strict=True):
            start = f"{backend}/{name}/"
            depths = {key: key[len(start) :] for key in found if key.startswith(start)}
            own = {int(depth): found[key] for key, depth in depths.items() if depth.isdigit()}
            if own:
                heights = [own[depth] / own[min(own)] for depth in sorted(own)]
                panel.plot(sorted(own), heights, marker=marker, label=name, markersize=5, alpha=0.8)
                panel.set_xticks(sorted(own))
        panel.set(title=backend, xlabel="layers")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    panels[0][0].set_ylabel("peak over that of the fewest layers")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", nargs="+", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--widths", nargs="+", type=int, default=[Size(0).width], help="maps")
    parser.add_argument("--batches", nargs="+", type=int, default=[Size(0).batch], help="images")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--steps", type=int, default=9, help="steps of which the median is taken")
    parser.add_argument("--results", type=Path, default=Path("memory_depth.json"))
    parser.add_argument("--figure", type=Path, help="file for a figure")
    parser.add_argument("--time", action="store_true", help="measure time, not memory")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.time:
        timed(arguments)
        return
    found = measured(arguments)
    if arguments.figure:
        draw(found, arguments.figure)


if __name__ == "__main__":
    main()
