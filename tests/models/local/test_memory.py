"""The memory of a training step does not grow with depth: what block by block is for."""

from __future__ import annotations

import pytest

from benchmarks._memory import MEGABYTE, peak
from tests.support import tensorflow_only

pytestmark = [tensorflow_only, pytest.mark.timeout(1800)]
STACK = "tests.models.local.nets:stack"


@pytest.mark.daily
@pytest.mark.slow
def test_sixteen_blocks_need_the_memory_of_four() -> None:
    """But for the gradients of all heads, and for a tensor that a thread holds by chance.

    Backpropagation needs 3.4 times as much.
    """
    assert peak(STACK, 16, "pred") <= 1.3 * peak(STACK, 4, "pred")


@pytest.mark.thorough
@pytest.mark.parametrize("loss", ["pred", "sim", "pred_sim"])
def test_thirty_two_blocks_need_the_memory_of_four(loss: str) -> None:
    assert peak(STACK, 32, loss) <= 1.3 * peak(STACK, 4, loss)


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
def test_networks_of_keras_need_a_third(name: str) -> None:
    maker = "tests.models.local.nets:application"
    assert peak(maker, name, "pred") <= peak(maker, name, "backprop") / 3.0
