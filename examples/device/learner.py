"""What runs on the device: NumPy, the LiteRT interpreter, and the file of the learner.

    python examples/device/learner.py learner.tflite stream.npz

`examples/learn_on_device.py` writes both files and starts this script.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main() -> None:
    """Learn from a stream of single images."""
    path, data = sys.argv[1:]
    stream = np.load(data)
    x, y = stream["x"], stream["y"].astype("int32")
    # One interpreter for all functions: the weights live in it.
    learner = Interpreter(model_path=path)
    infer, learn = (learner.get_signature_runner(name) for name in ("infer", "learn"))

    new = np.unique(y)
    report("before", infer, stream, new)
    seen = np.zeros(10)
    started = time.perf_counter()
    for image, label in zip(x, y, strict=True):
        # With this rate the weights of a class are the mean of its images so far.
        seen[label] += 1
        learn(x=image[None], y=label[None], rate=np.float32(1 / seen[label]))
    per_image = (time.perf_counter() - started) / len(x)
    print(f"learned from {len(x)} images, {1e6 * per_image:.0f} microseconds each")
    report("after", infer, stream, new)

    # What has been learned outlives the interpreter, in files and in other interpreters.
    weights = learner.get_signature_runner("weights")()
    other = Interpreter(model_path=path)
    other.get_signature_runner("restore")(**weights)
    scores = other.get_signature_runner("infer")(x=stream["test_x"])["outputs"]
    same = np.array_equal(scores, infer(x=stream["test_x"])["outputs"])
    print(f"another interpreter with these weights gives the same scores: {same}")
    print("modules of TensorFlow or Keras:", sorted({"tensorflow", "keras"} & set(sys.modules)))


def report(when: str, infer: object, stream: np.lib.npyio.NpzFile, new: np.ndarray) -> None:
    """Print the accuracy on the test images of new, of old and of all classes."""
    right = infer(x=stream["test_x"])["outputs"].argmax(axis=1) == stream["test_y"]
    of_new = np.isin(stream["test_y"], new)
    print(
        f"accuracy {when}: new classes {right[of_new].mean():.3f}, "
        f"old classes {right[~of_new].mean():.3f}, all {right.mean():.3f}"
    )


if __name__ == "__main__":
    main()
