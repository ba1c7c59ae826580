"""What every test relies on: a backend, two logical CPUs for TensorFlow, fixed seeds."""

from __future__ import annotations

import os

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


# Before pytest-xdist, which reads the marks in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares runs: a file, or in the battery a row of its table."""
    for item in items:
        row = getattr(item, "callspec", None) and item.callspec.params.get("row")
        item.add_marker(pytest.mark.xdist_group(row if isinstance(row, str) else item.path.stem))


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seed Python, NumPy and the backend before each test, and return the seed."""
    value = 20190404
    keras.utils.set_random_seed(value)
    return value
