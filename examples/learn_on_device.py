"""Three new digits learned on a device: a learner in LiteRT, without TensorFlow and Keras there."""

# %% [markdown]
# # Three new digits, learned on the device
#
# A layer of competing units and the means of seven classes learn the digits 0 to 6 here. The model
# is exported as one file that goes on learning. A second process, which has NumPy and the LiteRT
# interpreter and nothing else, learns the digits 7, 8 and 9 from a stream of single images.
#
#     python examples/learn_on_device.py
#
# What runs there is `examples/device/learner.py`.

# %%
from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_local as kl

# %%
KNOWN = 7
UNITS = 200

parser = argparse.ArgumentParser(description="A learner that travels to a device.")
parser.add_argument(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="seed of the random numbers (default: %(default)s)",
)
parser.add_argument(
    "--pretraining-epochs",
    type=int,
    default=200,
    metavar="N",
    help="passes over the training images without labels (default: %(default)s)",
)
parser.add_argument(
    "--learner", metavar="FILE", help="file for the learner (.tflite), which is kept"
)

# %% [markdown]
# The encoder sees images of the first seven digits alone, and no label. The means of their classes
# are those of one pass. The scores of the three other classes are zero so far.


# %%
def train(x: np.ndarray, y: np.ndarray, epochs: int) -> keras.Model:
    """Return class means on competing units that saw the images without their labels."""
    rule = kl.plasticity.KrotovHopfield(p=3, rank=2, delta=0.2)
    start = keras.initializers.RandomUniform(0.0, 1.0)
    encoder = keras.Sequential(
        [
            keras.Input((64,)),
            kl.layers.HebbianDense(UNITS, plasticity=rule, kernel_initializer=start),
        ]
    )
    kl.models.pretrain(encoder, x, epochs=epochs, batch_size=50, step_size=0.02, verbose=0)
    classifier = kl.models.hebbian_readout(encoder, classes=10)
    classifier.fit(x, y, batch_size=64, verbose=0)
    return classifier


# %% [markdown]
# What the device gets: the file, a stream of the new digits, and images to be tested with.


# %%
def main() -> None:
    """Train here, export, and let another process learn."""
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    (x, y), (test_x, test_y) = kl.datasets.load("digits", flatten=True)
    old = y < KNOWN
    classifier = train(x[old], y[old], arguments.pretraining_epochs)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(arguments.learner or Path(folder) / "learner.tflite")
        report = kl.models.export_learner(classifier, path, format="litert")
        print(f"{path.name}: {report.size / 1000:.0f} kB, {len(report.operators)} operators")
        data = Path(folder) / "stream.npz"
        np.savez(data, x=x[~old], y=y[~old], test_x=test_x, test_y=test_y)
        device = Path(__file__).parent / "device" / "learner.py"
        subprocess.run([sys.executable, str(device), str(path), str(data)], check=True)


if __name__ == "__main__":
    main()
