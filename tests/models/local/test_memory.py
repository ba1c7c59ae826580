"""The memory of a training step does not grow with depth: what block by block is for."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from benchmarks._memory import MEGABYTE, peak
from keras_local.ops.blocks import Updates
from tests.support import array, tensorflow_only

pytestmark = [tensorflow_only, pytest.mark.timeout(1800)]
STACK = "tests.models.local.nets:stack"


@pytest.mark.daily
@pytest.mark.slow
def test_sixteen_blocks_need_the_memory_of_four() -> None:
    """Backpropagation needs 3.4 times as much."""
    assert peak(STACK, 16, "pred") <= 1.1 * peak(STACK, 4, "pred")


@pytest.mark.thorough
@pytest.mark.parametrize("loss", ["pred", "sim", "pred_sim"])
def test_thirty_two_blocks_need_the_memory_of_four(loss: str) -> None:
    assert peak(STACK, 32, loss) <= 1.1 * peak(STACK, 4, loss)


@pytest.mark.thorough
def test_backpropagation_needs_more_with_each_block() -> None:
    """The measurement sees what it is made for."""
    assert peak(STACK, 16, "backprop") > 2.5 * peak(STACK, 4, "backprop")


@pytest.mark.thorough
def test_compiled_steps() -> None:
    assert peak(STACK, 16, "pred", True) <= 1.1 * peak(STACK, 4, "pred", True)


@pytest.mark.thorough
@pytest.mark.parametrize("loss", ["pred", "pred_sim"])
def test_steps_of_jax(loss: str) -> None:
    """The gradients of all heads wait for the optimizer, and nothing else grows.

    Four blocks of backpropagation need more than 32 blocks; without an order of its own, XLA
    computes several blocks at once.
    """
    pytest.importorskip("jax")
    four, more = (peak(STACK, count, loss, backend="jax") for count in (4, 32))
    head = 4096 * 10 * 4 / MEGABYTE
    assert more <= 1.1 * four + (32 - 4) * head
    assert more <= peak(STACK, 4, "backprop", backend="jax")


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50"])
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_networks_of_keras_need_a_third(name: str, backend: str) -> None:
    pytest.importorskip(backend)
    maker = "benchmarks.memory_applications:application"
    whole, blocks = (peak(maker, name, loss, backend=backend) for loss in ("backprop", "pred"))
    assert blocks <= whole / 3.0


def test_the_optimizer_waits_for_the_gradients() -> None:
    """Else the momentum of all weights, times its factor, is held from the start of the step."""
    import tensorflow as tf

    weight = keras.Variable(np.ones(3, "float32"))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build([weight])

    @tf.function
    def step(inputs: Any) -> None:
        updates = Updates(optimizer, [weight])
        updates.add([weight], [tf.square(inputs)])
        updates.finish()

    graph = step.get_concrete_function(tf.TensorSpec((3,))).graph
    readings = [each for each in graph.get_operations() if each.type == "ReadVariableOp"]
    assert readings
    for reading in readings:
        assert "Square" in {each.type for each in reading.control_inputs}
    step(tf.fill((3,), 2.0))
    np.testing.assert_allclose(array(weight), 1.0 - 0.1 * 4.0, rtol=1e-6)
