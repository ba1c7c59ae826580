"""Every row through every way of training; each way must give the same weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.battery import cells
from tests.battery.rows import Row
from tests.battery.table import PARAMETERS
from tests.support import BACKEND, array, largest_difference, two_replicas, weights_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="a battery for TensorFlow")


@pytest.fixture(params=PARAMETERS)
def row(request: pytest.FixtureRequest) -> Row:
    return cells.find(request.param)


def test_it_trains(row: Row) -> None:
    """The loss falls, and every weight moves that is not declared fixed."""
    reference = cells.reference(row.id)
    if row.supervised and row.falls:
        assert reference.losses[-1] < 0.95 * reference.losses[0]
    paths = [weight.path for weight in reference.model.weights]
    for path, before, after in zip(paths, reference.start, reference.end, strict=True):
        moved = float(np.abs(after - before).max())
        if path.split("/")[-1] in row.fixed:
            assert moved == 0.0, path
        else:
            assert moved > 1e-3, path


def test_nothing_moves_without_a_learning_rate(row: Row) -> None:
    reference = cells.reference(row.id)
    cells.start_anew(reference.model, reference.start)
    rate = float(reference.model.optimizer.learning_rate)
    reference.model.optimizer.learning_rate = 0.0
    cells.fit(reference.model, row)
    reference.model.optimizer.learning_rate = rate
    weights = zip(reference.model.weights, reference.start, strict=True)
    # A constraint acts in each step, however small it is.
    plastic = [x for x in reference.model._flatten_layers() if hasattr(x, "plasticity")]
    bounded = {id(each.kernel) for each in plastic if each.plasticity.constrains}
    for weight, before in weights:
        # Some count the steps, whatever they do, or follow the activity.
        if weight.name not in ("alignment_step", *row.memory) and id(weight) not in bounded:
            np.testing.assert_array_equal(before, array(weight))
    reference.model.set_weights(reference.end)


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "options", [{"run_eagerly": True}, {"jit_compile": True}], ids=["eager", "xla"]
)
def test_same_result_in_every_mode(row: Row, options: dict[str, bool]) -> None:
    if row.draws and options.get("jit_compile"):
        pytest.skip("XLA draws other numbers")
    reference = cells.reference(row.id)
    other = cells.run(row, reference.start, **options)
    assert other.losses == pytest.approx(reference.losses, rel=1e-5)
    assert largest_difference(other.end, reference.end) < 5e-6


@pytest.mark.few(2)
def test_two_replicas_equal_one_device(row: Row) -> None:
    reference = cells.reference(row.id)
    keras.utils.set_random_seed(cells.SEED)
    with two_replicas().scope():
        model = cells.build(row)
        model.set_weights(reference.start)
        cells.compiled(model, row)
    losses = cells.fit(model, row)
    assert losses == pytest.approx(reference.losses, rel=1e-6)
    assert largest_difference(weights_of(model), reference.end) < 2e-6


# How far from the end in float32 half precision may end, in parts of the way.
TOLERANCE = {"mixed_float16": 0.01, "mixed_bfloat16": 0.05}


@pytest.mark.few(1)
def test_mixed_float16_is_near_float32(row: Row) -> None:
    check_half_precision(row, "mixed_float16")


@pytest.mark.few(1)
def test_mixed_bfloat16_is_near_float32(row: Row) -> None:
    check_half_precision(row, "mixed_bfloat16")


def check_half_precision(row: Row, policy: str) -> None:
    reference = cells.reference(row.id)
    assert deviation_from(reference, row, policy, stock=False) < TOLERANCE[policy]
    if row.twin is not None:
        assert stock_deviation(row, policy) < TOLERANCE[policy]


STOCK: dict[tuple[object, str], float] = {}


def stock_deviation(row: Row, policy: str) -> float:
    key = (row.twin, policy)
    if key not in STOCK:
        STOCK[key] = deviation_from(cells.run(row, part=row.twin), row, policy, stock=True)
    return STOCK[key]


def deviation_from(reference: cells.Run, row: Row, policy: str, stock: bool) -> float:
    keras.config.set_dtype_policy(policy)
    try:
        half = cells.run(row, reference.start, part=row.twin if stock else None)
    finally:
        keras.config.set_dtype_policy("float32")
    assert half.model.layers[0].compute_dtype == policy.removeprefix("mixed_")
    assert np.isfinite(half.losses).all()
    assert all(np.isfinite(weight).all() for weight in half.end)
    return cells.distance(half.end, reference.end) / reference.way
