"""What every test relies on: a backend, two logical CPUs for TensorFlow, fixed seeds."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves these kernels off on processors without AVX-512. Without them it has no
# convolution with channels first on a CPU, in no layer, and its products take twice as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Two replicas on one machine. Only possible before anything has touched the devices.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()],
    )

    from keras_local.dynamics import Network

    # Compiling takes longer than the few steps of a test; the battery has XLA as a mode of its own.
    Network.suits_xla = False


SOME = 1
"""How many cases of a test run on JAX and PyTorch each time; the others are thorough."""


# Before the choice by marks, which reads them in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases of a test as daily or thorough, but for some that are spread over all."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("thorough") is None:
            cases.setdefault(item.nodeid.split("[")[0], []).append(item)
    for each in cases.values():
        few = each[0].get_closest_marker("few")
        if keras.backend.backend() != "tensorflow":
            count, rest = SOME, pytest.mark.thorough
        elif few is not None:
            count = few.args[0]
            rest = getattr(pytest.mark, few.kwargs.get("rest", "thorough"))
        else:
            continue
        last = len(each) - 1
        chosen = {round(place * last / max(count - 1, 1)) for place in range(count)}
        for place, item in enumerate(each):
            if place not in chosen:
                item.add_marker(rest)


# Python looks for garbage among all that lives, by itself and where Keras asks. Traced graphs
# live long: after thousands of tests that took seconds each time.
def pytest_collection_finish() -> None:
    """Spare what the imports made these searches."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def tidy() -> Iterator[None]:
    """Collect what the tests of a file leave, and spare what still lives."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seed Python, NumPy and the backend before each test, and return the seed."""
    value = 20190404
    keras.utils.set_random_seed(value)
    return value
