"""The surrogate gradient: a weight change that any optimizer carries out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import ops
from keras_local.ops.backend import backend
from tests.support import (
    BACKEND,
    array,
    compile_options,
    model_gradients,
    probe,
    tensorflow_only,
    two_replicas,
)


@keras.saving.register_keras_serializable(package="keras_local_tests")
class Moving(keras.layers.Layer):
    """Passes its inputs on and asks for the change `factor * mean(inputs)` of each weight."""

    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape: Any) -> None:
        self.weight = self.add_weight(name="weight", shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs: Any) -> Any:
        change = self.factor * keras.ops.mean(inputs, axis=0)
        self.add_loss(ops.surrogate_loss(self.weight, change))
        return inputs


def test_value_is_zero_whatever_the_weight() -> None:
    weight = keras.Variable(probe((3, 2)) * 1e6)
    loss = ops.surrogate_loss(weight, keras.ops.convert_to_tensor(probe((3, 2), 1)))
    assert tuple(loss.shape) == ()
    assert float(array(loss)) == 0.0


@pytest.mark.parametrize("upstream", [1.0, 0.25])
def test_gradient_is_minus_the_change(upstream: float) -> None:
    x = probe((4, 3))
    layer = Moving()
    layer.build(x.shape)
    scaled = ScaledLosses(layer, upstream)
    gradients, below = model_gradients(scaled, x, lambda outputs: 0.0 * keras.ops.sum(outputs))
    np.testing.assert_allclose(gradients["0:weight"], -upstream * x.mean(axis=0), rtol=1e-6)
    assert not below.any(), "the change must not reach the layers below"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gradient_as_given(dtype: str) -> None:
    """That of a loss times what the loss is multiplied with, in the weight's precision."""
    value = keras.ops.cast(probe((3, 2)), dtype)
    gradient = keras.ops.cast(probe((3, 2), 1), dtype)
    (found,) = ops.gradients(lambda x: 0.5 * ops.gradient_loss(x, gradient), [value])
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    np.testing.assert_allclose(array(found), 0.5 * array(gradient), rtol=1e-3)


class ScaledLosses(keras.layers.Layer):
    """A layer whose own losses enter times a factor, as under a loss scale."""

    def __init__(self, layer: Moving, factor: float) -> None:
        super().__init__()
        self.layer = layer
        self.factor = factor
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        change = keras.ops.mean(inputs, axis=0)
        self.add_loss(self.factor * ops.surrogate_loss(self.layer.weight, change))
        return inputs


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "loss-scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_fit_without_labels_adds_rate_times_change(make: Any) -> None:
    x = probe((8, 3), 1)
    model = keras.Sequential([keras.Input((3,)), Moving(2.0)])
    model.compile(make(), loss=None, **compile_options())
    model.fit(x, batch_size=4, epochs=1, shuffle=False, verbose=0)
    expected = 1.0 + 0.1 * 2.0 * (x[:4].mean(axis=0) + x[4:].mean(axis=0))
    np.testing.assert_allclose(array(model.layers[0].weight), expected, rtol=1e-6)


def test_change_stands_beside_a_loss() -> None:
    """The change of the layer and the gradient of the head are applied in the same step."""
    x, y = probe((8, 3), 1), probe((8, 1), 2)
    model = keras.Sequential([keras.Input((3,)), Moving(), keras.layers.Dense(1, use_bias=False)])
    kernel = array(model.layers[1].kernel).astype("float64")
    model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    gradient = 2.0 * x.T @ (x @ kernel - y) / 8
    np.testing.assert_allclose(array(model.layers[1].kernel), kernel - 0.1 * gradient, atol=1e-6)
    weight = array(model.layers[0].weight)
    np.testing.assert_allclose(weight, 1.0 + 0.1 * x.mean(axis=0), atol=1e-6)


def test_touched_rows_receive_their_changes() -> None:
    """The changes of a row that comes twice are added; the other rows receive none."""
    weight = keras.Variable(probe((5, 3)))
    change = probe((3, 3), 1)
    rows, changes = tensors([4, 1, 4], change)
    loss = ops.surrogate_loss(backend.take_rows(weight.value, rows), changes)
    assert float(array(loss)) == 0.0

    layer = TouchedRows([4, 1, 4], change)
    gradients, _ = model_gradients(layer, probe((1, 2)), lambda outputs: keras.ops.sum(outputs))
    expected = np.zeros((5, 3), "float32")
    expected[1] = -change[1]
    expected[4] = -change[0] - change[2]
    np.testing.assert_allclose(gradients["0:weight"], expected, rtol=1e-6)


class TouchedRows(keras.layers.Layer):
    """Asks for changes of some rows of its weight."""

    def __init__(self, rows: list[int], change: np.ndarray) -> None:
        super().__init__()
        self.rows, self.change = tensors(rows, change)
        self.weight = self.add_weight(name="weight", shape=(5, 3), initializer="ones")
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        read = backend.take_rows(self.weight.value, self.rows)
        self.add_loss(ops.surrogate_loss(read, self.change))
        return inputs


def tensors(rows: list[int], change: np.ndarray) -> tuple[Any, Any]:
    convert = keras.ops.convert_to_tensor
    return convert(np.array(rows, "int32")), convert(change)


def test_one_replica_outside_a_strategy() -> None:
    value = probe((3,))
    assert ops.replica_count() == 1
    assert int(ops.replica_index()) == 0
    total = ops.replica_sum(keras.ops.convert_to_tensor(value))
    np.testing.assert_array_equal(array(total), value)


@tensorflow_only
class TestReplicas:
    def test_sum_over_replicas(self) -> None:
        import tensorflow as tf

        strategy = two_replicas()

        def step() -> Any:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            share = tf.fill((2,), 1.0 + 10.0 * tf.cast(number, "float32"))
            index = ops.replica_index()
            return ops.replica_sum(share), ops.replica_count(), tf.convert_to_tensor(index)

        # One function around both replicas, as in `fit`: run one by one, they would leave their
        # collective behind for the next strategy in this process.
        sums, counts, numbers = tf.function(lambda: strategy.run(step))()
        for total in strategy.experimental_local_results(sums):
            np.testing.assert_array_equal(array(total), [12.0, 12.0])
        assert {int(count) for count in strategy.experimental_local_results(counts)} == {2}
        assert [int(n) for n in strategy.experimental_local_results(numbers)] == [0, 1]

    def test_several_sums_in_one_exchange(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mean needs the sum and the number of samples; the replicas wait once, not twice."""
        import tensorflow as tf

        strategy, exchanges = two_replicas(), []
        exchange = tf.distribute.ReplicaContext.all_reduce

        def counted(*arguments: Any) -> Any:
            exchanges.append(arguments)
            return exchange(*arguments)

        monkeypatch.setattr(tf.distribute.ReplicaContext, "all_reduce", counted)

        def step() -> Any:
            first = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "float32")
            rows = tf.stack([[first, 1.0], [first, 3.0], [first, 5.0]])
            return ops.replica_mean(rows), *ops.replica_sums(first, tf.fill((2,), first + 1.0))

        results = tf.function(lambda: strategy.run(step))()
        assert len(exchanges) == 2 * 2, "two calls on each of two replicas"
        for found, expected in zip(results, ([0.5, 3.0], 1.0, [3.0, 3.0]), strict=True):
            for value in strategy.experimental_local_results(found):
                np.testing.assert_array_equal(array(value), expected)

    def test_changes_of_the_replicas_are_summed(self) -> None:
        """Each replica hands in its share: the sum of both is applied, not the mean."""
        x = probe((8, 3), 1)
        with two_replicas().scope():
            model = keras.Sequential([keras.Input((3,)), Moving()])
            model.compile(keras.optimizers.SGD(0.1), loss=None, jit_compile=False)
        model.fit(x, batch_size=8, epochs=1, shuffle=False, verbose=0)
        expected = 1.0 + 0.1 * (x[:4].mean(axis=0) + x[4:].mean(axis=0))
        np.testing.assert_allclose(array(model.layers[0].weight), expected, rtol=1e-6)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow has replicas")
def test_elsewhere_a_step_sees_the_global_batch() -> None:
    assert ops.replica_count() == 1
