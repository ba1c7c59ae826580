"""Every network through every way of training; each way must give the same weights."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import dynamics, models
from tests.dynamics.table import (
    BATCH,
    CLASSES,
    PARAMETERS,
    ROWS,
    SAMPLES,
    SHARED,
    STATEFUL,
    Row,
    data,
    find,
    start,
)
from tests.support import (
    BACKEND,
    array,
    compile_options,
    largest_difference,
    tensorflow_only,
    two_replicas,
    weights_of,
)

each = pytest.mark.parametrize("row", PARAMETERS, indirect=True)
shared = pytest.mark.parametrize("row", SHARED, indirect=True)
stateful = pytest.mark.parametrize("row", STATEFUL, indirect=True)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    return find(request.param)


def compiled(row: Row, rate: float | None = None, **options: Any) -> dynamics.Network:
    network = row.make()
    start(network, row)
    options = {**compile_options(), **options}
    network.compile(row.optimizer(row.rate if rate is None else rate), **options)
    return network


def fit(network: Any, row: Row, epochs: int = 1, **arguments: Any) -> list[float]:
    inputs, labels = data(row)
    arguments = {"x": inputs, "y": labels, "batch_size": BATCH, **arguments}
    history = network.fit(epochs=epochs, shuffle=False, verbose=0, **arguments)
    return [float(loss) for loss in history.history["loss"]]


@functools.cache
def trained(row_id: str) -> tuple[Any, list[np.ndarray], list[float], list[np.ndarray]]:
    """A network trained once; where it began, its losses, where it ended."""
    row = find(row_id)
    network = compiled(row)
    begin = weights_of(network)
    losses = fit(network, row, row.epochs)
    return network, begin, losses, weights_of(network)


@functools.cache
def one_epoch(row_id: str) -> tuple[list[float], list[np.ndarray]]:
    network = compiled(find(row_id))
    return fit(network, find(row_id)), weights_of(network)


def moving(network: Any, row: Row) -> list[bool]:
    still = {*row.fixed, *row.memory}
    return [not {w.name, *w.path.split("/")[-2:-1]} & still for w in network.weights]


@pytest.mark.few(4)
@each
def test_it_trains(row: Row) -> None:
    network, begin, losses, end = trained(row.id)
    assert losses[-1] < 0.95 * losses[0] or not row.falls
    for weight, moves, before, after in zip(
        network.weights, moving(network, row), begin, end, strict=True
    ):
        assert not moves or np.abs(after - before).max() > 1e-4, weight.path


@pytest.mark.few(3)
@each
def test_nothing_moves_without_a_learning_rate(row: Row) -> None:
    network, _, _, end = trained(row.id)
    network.optimizer.learning_rate = 0.0
    if getattr(network.optimizer, "momentum", 0.0):
        for moment in network.optimizer.variables[2:]:
            moment.assign(np.zeros(moment.shape))
    fit(network, row)
    network.optimizer.learning_rate = row.rate
    for moves, before, after in zip(moving(network, row), end, weights_of(network), strict=True):
        if moves:
            np.testing.assert_array_equal(before, after)


@shared
@tensorflow_only
@pytest.mark.parametrize(
    "options", [{"run_eagerly": True}, {"jit_compile": True}], ids=["eager", "xla"]
)
def test_same_result_in_every_mode(row: Row, options: dict[str, bool]) -> None:
    if row.draws and options.get("jit_compile"):
        pytest.skip("XLA draws other random numbers")
    network = compiled(row, **{"jit_compile": False, **options})
    losses, wanted = one_epoch(row.id)
    assert fit(network, row) == pytest.approx(losses, rel=1e-5)
    assert largest_difference(weights_of(network), wanted) < 1e-5


@stateful
@tensorflow_only
def test_two_replicas_equal_one_device(row: Row) -> None:
    with two_replicas().scope():
        network = compiled(row)
    losses, wanted = one_epoch(row.id)
    assert fit(network, row) == pytest.approx(losses, rel=1e-5)
    # What it remembers too: a file holds what one device would write.
    assert largest_difference(weights_of(network), wanted) < 1e-5


@pytest.mark.few(1)
@stateful
def test_resumed_equals_uninterrupted(row: Row, tmp_path: Path) -> None:
    """Weights, state of the network and of the optimizer are in the file."""
    network, _, losses, end = trained(row.id)
    first = compiled(row)
    fit(first, row, row.epochs // 2)
    first.save(tmp_path / "network.keras")
    assert largest_difference(weights_of(first), end) > 1e-4
    second = keras.saving.load_model(tmp_path / "network.keras")
    assert type(second) is type(network)
    assert second.get_config() == {**network.get_config(), "name": second.name}
    rest = fit(second, row, row.epochs - row.epochs // 2)
    assert rest == pytest.approx(losses[row.epochs // 2 :], rel=1e-6)
    assert largest_difference(weights_of(second), end) < 1e-6


@shared
@tensorflow_only
def test_export(row: Row, tmp_path: Path) -> None:
    import tensorflow as tf

    network = trained(row.id)[0]
    inputs, _ = data(row)
    network.export(tmp_path / "served", verbose=False)
    models.export(network, tmp_path / "lean")
    wanted = network.predict(inputs, verbose=0)
    for folder in ("served", "lean"):
        served = tf.saved_model.load(str(tmp_path / folder))
        np.testing.assert_allclose(array(served.serve(inputs)), wanted, atol=1e-6)


@shared
def test_scores_and_loss_are_those_of_the_free_phase(row: Row) -> None:
    network = trained(row.id)[0]
    inputs, labels = data(row)
    scores = network.predict(inputs, batch_size=BATCH, verbose=0)
    targets = keras.ops.one_hot(labels, CLASSES) if row.labels else keras.ops.array(inputs)
    assert scores.shape == targets.shape
    cost = array(network.cost(targets, keras.ops.array(scores)))
    loss = network.evaluate(inputs, labels, batch_size=BATCH, verbose=0)
    assert loss == pytest.approx(float(cost.mean()), rel=1e-5)


@shared
def test_labels_may_be_integers_or_one_hot(row: Row) -> None:
    if not row.labels:
        pytest.skip("there are no labels")
    _, labels = data(row)
    losses, wanted = one_epoch(row.id)
    for form in (keras.utils.to_categorical(labels, CLASSES), labels[:, None].astype("uint8")):
        network = compiled(row)
        assert fit(network, row, y=form) == pytest.approx(losses, rel=1e-6)
        assert largest_difference(weights_of(network), wanted) < 1e-6


@shared
@pytest.mark.slow
def test_a_sample_of_weight_two_is_a_sample_that_comes_twice(row: Row) -> None:
    if not row.labels:
        pytest.skip("Keras drops weights of samples without labels; they are refused")
    if not row.separable:
        pytest.skip("a sample acts on the others of its batch")
    if row.draws:
        pytest.skip("a sample that comes twice learns with other random numbers")
    inputs, labels = data(row)
    half = np.arange(BATCH) % (BATCH // 2)
    twice = compiled(row)
    fit(twice, row, x=inputs[:BATCH][half], y=labels[:BATCH][half])
    weighted = compiled(row)
    weights = np.where(np.arange(BATCH) < BATCH // 2, 2.0, 0.0)
    fit(weighted, row, x=inputs[:BATCH], y=labels[:BATCH], sample_weight=weights)
    assert largest_difference(weights_of(twice), weights_of(weighted)) < 1e-6
    assert largest_difference(weights_of(twice), trained(row.id)[1]) > 1e-4


@shared
def test_bad_data_change_nothing(row: Row) -> None:
    network = compiled(row)
    begin = weights_of(network)
    inputs, labels = data(row)
    broken = inputs.copy()
    broken[1] = np.nan
    cases: list[tuple[str, Any, Any]] = [
        ("x", inputs[..., :-1], labels),
        ("x", broken, labels),
    ]
    if row.labels:
        cases += [
            ("y", inputs, labels + 1),
            ("y", inputs, labels - 0.5),
            ("y", inputs, labels[:-1]),
            ("y", inputs, np.zeros((SAMPLES, CLASSES + 1))),
            ("y", inputs, np.ones((SAMPLES, CLASSES))),
            ("y", inputs, np.full(SAMPLES, "cat")),
        ]
    else:
        cases += [("y", inputs, np.zeros(SAMPLES)), ("y", inputs, inputs)]
    for argument, x, y in cases:
        for method in (network.fit, network.evaluate):
            with pytest.raises(ValueError, match=f"`{argument}` must be"):
                method(x, y, verbose=0)
        with pytest.raises(ValueError, match="in `validation_data`"):
            network.fit(inputs, labels, validation_data=(x, y), verbose=0)
        with pytest.raises(ValueError, match=f"`{argument}` must be"):
            network.train_on_batch(x, y)
    with pytest.raises(ValueError, match="`x` must be"):
        network.predict(broken, verbose=0)
    with pytest.raises(ValueError, match="`loss` must be left out"):
        network.compile("sgd", loss="mse")
    assert largest_difference(begin, weights_of(network)) == 0.0


@pytest.mark.daily
@shared
@tensorflow_only
@pytest.mark.parametrize("where", ["inputs", "labels"])
def test_what_a_dataset_hides_is_refused(row: Row, where: str) -> None:
    """NaN, or a label that is no class, in the second batch: the first has changed nothing too."""
    import tensorflow as tf

    if where == "labels" and not row.labels:
        pytest.skip("there are no labels")
    inputs, labels = data(row)
    if where == "inputs":
        inputs[BATCH + 1] = np.nan
    else:
        labels[BATCH + 1] = CLASSES
    network = compiled(row, row.rate)
    begin = weights_of(network)
    samples = (inputs, labels) if row.labels else inputs
    batches = tf.data.Dataset.from_tensor_slices(samples).batch(BATCH)
    with pytest.raises(ValueError, match=r"must be .* in every batch of `x`"):
        network.fit(batches, shuffle=False, verbose=0)
    assert largest_difference(begin, weights_of(network)) == 0.0


ONE_STEP = """
import sys
import numpy as np
from tests.dynamics.table import ROWS, data, start
from tests.support import weights_of
found = {}
for row in ROWS:
    network = row.make()
    start(network, row)
    network.compile(row.optimizer(row.rate))
    inputs, labels = data(row)
    network.fit(inputs, labels, batch_size=len(inputs), shuffle=False, verbose=0)
    found.update({f"{row.id} {i}": w for i, w in enumerate(weights_of(network))})
np.savez(sys.argv[1], **found)
"""


@tensorflow_only
@pytest.mark.thorough  # A process for each backend.
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_take_the_same_step(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", ONE_STEP, str(tmp_path / "found.npz")]
    subprocess.run(command, check=True, env=environment, cwd=root)
    found = np.load(tmp_path / "found.npz")
    for row in ROWS:
        if row.draws:
            continue
        network = compiled(row)
        begin = weights_of(network)
        fit(network, row, batch_size=SAMPLES)
        learned = 0
        for i, (weight, before) in enumerate(zip(weights_of(network), begin, strict=True)):
            moved = np.abs(weight - before).max()
            error = np.abs(found[f"{row.id} {i}"] - weight).max()
            assert error <= min(1e-5, 0.1 * moved) + 1e-7, f"{row.id} {i}"
            learned += bool(moved > 1e-4)
        assert learned, row.id
    assert BACKEND == "tensorflow"
