"""Every way into a network has the same checks, and what goes wrong leaves nothing behind."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import dynamics
from tests.dynamics.table import CLASSES, INPUTS, ROWS, SAMPLES, data, find, start
from tests.support import BACKEND, array, tensorflow_only, two_replicas

KINDS = ["equilibrium", "conv_equilibrium", "contrastive_hebbian", "local_backprop"]
KINDS += ["microcircuit", "temporal_difference", "predictive_coding", "burstprop"]
KINDS += ["difference_target", "segregated_dendrites", "forward_forward", "recirculation"]
every = pytest.mark.parametrize("kind", KINDS)
X, Y = data(ROWS[0])


def made(kind: str = KINDS[0], optimizer: Any = None, **options: Any) -> Any:
    row = find(kind)
    network = row.make()
    start(network, row)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9) if optimizer is None else optimizer
    network.compile(optimizer, **{"run_eagerly": True, **options})
    return network


def state(network: Any) -> list[np.ndarray]:
    """Weights, counters, memories, seeds and the optimizer; the sums of metrics are left out."""
    metrics = {id(each) for each in network.metrics_variables}
    variables = [*network.variables, *network.optimizer.variables]
    return [array(each).copy() for each in variables if id(each) not in metrics]


def assert_same(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_table_has_every_network() -> None:
    classes = {type(find(kind).make()) for kind in KINDS}
    public = {getattr(dynamics, name) for name in dynamics.__all__}
    layers = {dynamics.Synapses, dynamics.ConvSynapses, dynamics.Network}
    assert classes == public - layers


@pytest.mark.few(4)
@every
@pytest.mark.slow
def test_nothing_changes_with_trainable_false(kind: str) -> None:
    row = find(kind)
    inputs, labels = data(row)
    network = made(kind)
    network.train_on_batch(inputs, labels)
    network.trainable = False
    network.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    network.make_train_function()
    before = state(network)
    with warnings.catch_warnings():
        # On TensorFlow Keras says that there is nothing to train.
        warnings.simplefilter("ignore", UserWarning)
        network.train_on_batch(inputs, labels)
    assert_same(before, state(network))


@pytest.mark.few(5)
@every
def test_a_step_that_is_not_finite_is_undone(kind: str) -> None:
    """Weights, momentum, counters, memories and seeds are those of before; training goes on."""
    row = find(kind)
    inputs, labels = data(row)
    network = made(kind)
    network.train_on_batch(inputs, labels)
    network.optimizer.learning_rate = math.inf
    before = state(network)
    with pytest.raises(ValueError, match=r"`loss` must be finite\..*Try .*smaller"):
        network.train_on_batch(inputs, labels)
    assert_same(before, state(network))
    network.optimizer.learning_rate = 0.01
    assert math.isfinite(float(np.ravel(network.train_on_batch(inputs, labels))[0]))
    assert max(np.abs(a - b).max() for a, b in zip(before, state(network), strict=True)) > 0


@pytest.mark.few(9, rest="thorough")
@every
@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
def test_outputs_have_the_type_of_the_policy(kind: str, policy: str) -> None:
    if policy == "float64" and BACKEND == "jax":
        pytest.skip("JAX has no float64 unless asked for")
    row = find(kind)
    network = row.make(dtype=policy)
    wanted = keras.dtype_policies.get(policy).compute_dtype
    outputs = network(np.ones((2, *row.inputs), "float32"))
    assert keras.backend.standardize_dtype(outputs.dtype) == wanted
    assert {each.dtype for each in network.trainable_variables} == {network.working_dtype}


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_synapses_called_alone_have_the_type_of_the_policy(policy: str) -> None:
    layers = [(dynamics.Synapses(3, dtype=policy), (2, 4))]
    layers.append((dynamics.ConvSynapses(3, dtype=policy), (2, 4, 4, 1)))
    for layer, shape in layers:
        outputs = layer(np.ones(shape, "float32"))
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        assert layer.kernel.dtype == "float32"


@pytest.mark.few(5)
@every
def test_configs_clones_and_summaries(kind: str) -> None:
    network = find(kind).make()
    copy = keras.models.clone_model(network)
    assert type(copy) is type(network)
    assert {**copy.get_config(), "name": 0} == {**network.get_config(), "name": 0}
    copy.set_weights(network.get_weights())
    lines: list[str] = []
    network.summary(print_fn=lambda line, **_: lines.append(line))
    assert network.name in "".join(lines)


@pytest.mark.daily
def test_one_undone_step_among_several_of_one_execution() -> None:
    """The loss says so behind the step, and the steps behind it change nothing either."""
    network = made(run_eagerly=False, jit_compile=False)
    network.fit(X, Y, batch_size=8, verbose=0)
    for optimizer in (keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.1)):
        network = made(optimizer=optimizer, run_eagerly=False, jit_compile=False)
        network.compile(optimizer, jit_compile=False, steps_per_execution=2)
        network.fit(X, Y, batch_size=8, verbose=0)
        optimizer.learning_rate = math.inf
        before = state(network)
        with pytest.raises(ValueError, match="`loss` must be finite"):
            network.fit(X, Y, batch_size=8, verbose=0)
        assert_same(before, state(network))


@pytest.mark.few(1)
@tensorflow_only
@pytest.mark.parametrize("mode", ["xla", "replicas"])
def test_undone_with_xla_and_in_replicas(mode: str) -> None:
    if mode == "xla":
        network = made(run_eagerly=False, jit_compile=True)
    else:
        with two_replicas().scope():
            network = made(run_eagerly=False)
    network.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    network.optimizer.learning_rate = math.inf
    before = state(network)
    with pytest.raises(ValueError, match="`loss` must be finite"):
        network.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert_same(before, state(network))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_fit_leaves_the_state_of_the_last_batch(error: type[BaseException]) -> None:
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise error

    network, other = made(), made()
    with pytest.raises(error):
        network.fit(X, Y, batch_size=8, shuffle=False, callbacks=[Interrupt()], verbose=0)
    other.fit(X[:8], Y[:8], batch_size=8, shuffle=False, verbose=0)
    assert_same(state(other), state(network))
    assert math.isfinite(network.fit(X, Y, batch_size=8, verbose=0).history["loss"][0])


def test_a_users_list_of_callbacks_stays_as_it_was() -> None:
    network = made()
    given = keras.callbacks.CallbackList([], add_history=True, model=network)
    count = len(given.callbacks)
    network.fit(X, Y, batch_size=8, callbacks=given, verbose=0)
    assert len(given.callbacks) == count
    network.optimizer.learning_rate = math.inf
    with pytest.raises(ValueError, match="`loss` must be finite"):
        network.fit(X, Y, batch_size=8, callbacks=given, verbose=0)
    assert len(given.callbacks) == count


class Batches(keras.utils.PyDataset):
    def __init__(self, x: Any, y: Any) -> None:
        super().__init__()
        self.x, self.y = x, y

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = slice(8 * index, 8 * index + 8)
        return self.x[rows], self.y[rows]


def generated(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    for first in range(0, SAMPLES, 8):
        yield x[first : first + 8], y[first : first + 8]


def dataset(x: Any, y: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


SOURCES: dict[str, Callable[[Any, Any], Any]] = {
    "generator": generated,
    "dataset": dataset,
    "py_dataset": Batches,
}
OUTSIDE, NOT_A_NUMBER = Y.copy(), X.copy()
OUTSIDE[-1] = CLASSES
NOT_A_NUMBER[-1] = np.nan
HUGE = (X.astype("float64") * 1e300, Y)


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", list(SOURCES))
def test_streams_train_as_arrays_do_and_are_checked(kind: str) -> None:
    if kind == "dataset" and BACKEND != "tensorflow":
        pytest.skip("a data set of TensorFlow")
    make, network, other = SOURCES[kind], made(), made()
    network.fit(make(X, Y), epochs=1, shuffle=False, verbose=0)
    other.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    for one, two in zip(state(network), state(other), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    before = state(network)
    for x, y, name in ((X, OUTSIDE, "y"), (NOT_A_NUMBER, Y, "x"), (*HUGE, "x")):
        for call in (network.fit, network.evaluate):
            with pytest.raises(ValueError, match=f"`{name}` must be"):
                call(make(x, y), verbose=0)
        with pytest.raises(ValueError, match="must be"):
            network.fit(make(x, y), validation_data=make(x, y), verbose=0)
        if name == "x":
            with pytest.raises(ValueError, match="`x` must be"):
                network.predict(make(x, y), verbose=0)
        assert_same(before, state(network))


def test_arrays_are_checked_on_every_way_in() -> None:
    network = made()
    network.train_on_batch(X, Y)
    before = state(network)
    cases = [(X, OUTSIDE, "y"), (NOT_A_NUMBER, Y, "x"), (*HUGE, "x"), (X[:0], Y[:0], "x")]
    cases += [({"x": X}, Y, "x"), (X[:, :-1], Y, "x"), (X, Y[:-1], "y"), (X, None, "y")]
    cases += [(X, np.random.default_rng(0).normal(size=(SAMPLES, CLASSES)), "y")]
    for x, y, name in cases:
        for call in (network.fit, network.evaluate):
            with pytest.raises(ValueError, match=f"`{name}` must be"):
                call(x, y, verbose=0)
        for call in (network.train_on_batch, network.test_on_batch):
            with pytest.raises(ValueError, match=f"`{name}` must be"):
                call(x, y)
        with pytest.raises(ValueError, match=r"`[xy]` must be .* in `validation_data`"):
            network.fit(X, Y, validation_data=(x, y), verbose=0)
        if name == "x":
            for call in (network.predict, network.predict_on_batch):
                with pytest.raises(ValueError, match="`x` must be"):
                    call(x)
    for weights in (np.full(SAMPLES, np.nan), np.ones(3)):
        with pytest.raises(ValueError, match="`sample_weight` must be"):
            network.fit(X, Y, sample_weight=weights, verbose=0)
    for name, value in {
        "batch_size": 0,
        "epochs": "2",
        "steps_per_epoch": True,
        "validation_split": 1.0,
        "shuffle": "no",
    }.items():
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            network.fit(X, Y, verbose=0, **{name: value})
    assert_same(before, state(network))


def test_scores_and_losses_of_a_network_that_diverges_are_refused() -> None:
    """Of weights that are finite, and too large."""
    network = dynamics.PredictiveCodingNetwork([INPUTS, 7, CLASSES], activation="linear")
    network.compile("sgd", run_eagerly=True)
    for synapses in network.synapses:
        synapses.kernel.assign(np.full(synapses.kernel.shape, 1e30))
    for call in (network.predict_on_batch, lambda x: network.predict(x, verbose=0)):
        with pytest.raises(ValueError, match="scores are not finite"):
            call(X)
    for call in (network.test_on_batch, network.train_on_batch):
        with pytest.raises(ValueError, match="`loss` must be finite"):
            call(X, Y)
    with pytest.raises(ValueError, match="`loss` must be finite"):
        network.evaluate(X, Y, verbose=0)


def test_recirculation_takes_samples_alone() -> None:
    network = made("recirculation")
    for name, arguments in {
        "y": {"y": X},
        "sample_weight": {"sample_weight": np.ones(SAMPLES)},
        "class_weight": {"class_weight": {0: 1.0}},
        "validation_data": {"validation_data": (X, None, np.ones(SAMPLES))},
    }.items():
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            network.fit(X, verbose=0, **arguments)
    assert "val_loss" in network.fit(X, validation_data=(X,), verbose=0).history
