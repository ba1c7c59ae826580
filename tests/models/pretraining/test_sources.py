"""What pretraining takes as data and as an encoder, and that it leaves flags as they were."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import pytest

from keras_local.layers import HebbianDense
from keras_local.models import pretrain
from keras_local.plasticity import KrotovHopfield
from tests.models.pretraining.support import dataset, kernel_of
from tests.plasticity.encoders import assert_close, hebbian
from tests.support import BACKEND, array, probe

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data, sparse gradients"),
    # Runs as short as these converge nowhere.
    pytest.mark.filterwarnings("ignore:Only .* have converged"),
]

X = probe((24, 30))


class Batches(keras.utils.PyDataset):
    """Inputs and labels, in batches of five."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        rows = slice(5 * index, 5 * index + 5)
        return X[rows], np.zeros(len(X[rows]))


class Endless(Batches):
    num_batches = None  # type: ignore[assignment]

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index % 5)


class TestSources:
    """What `fit` takes: the same batches, whatever holds them."""

    @staticmethod
    def kernel_after(data: Any, **options: Any) -> np.ndarray:
        model = hebbian(probe((30, 15), 1), KrotovHopfield(3.0))
        pretrain(model, data, epochs=1, batch_size=24, step_size=0.2, verbose=0, **options)
        return kernel_of(model)

    @pytest.mark.parametrize(
        "source",
        [
            Batches,
            lambda: (Batches()[i] for i in range(5)),
            lambda: iter([X[:20], X[20:]]),
            lambda: X.tolist(),
        ],
        ids=["PyDataset", "generator", "iterator", "list"],
    )
    def test_the_kind_does_not_matter(self, source: Callable[[], Any]) -> None:
        # One batch of all samples: their order does not matter.
        assert_close(self.kernel_after(source()), self.kernel_after(X).astype("float64"), 1e-5)

    def test_an_endless_source_needs_its_steps(self) -> None:
        with pytest.raises(ValueError, match=r"`data`.*`steps_per_epoch`.*infinite"):
            self.kernel_after(Endless())
        got = self.kernel_after(Endless(), steps_per_epoch=5)
        assert_close(got, self.kernel_after(X).astype("float64"), 1e-5)
        got = self.kernel_after(dataset(X, batch=6).repeat(), steps_per_epoch=4)
        assert_close(got, self.kernel_after(X).astype("float64"), 1e-5)


class TestNested:
    @pytest.mark.parametrize("greedy", [True, False])
    def test_layers_in_nested_models_learn_as_in_a_flat_one(self, greedy: bool) -> None:
        def layers() -> list[Any]:
            kernels = [probe((30, 15), 1), probe((15, 8), 2), probe((8, 4), 3)]
            made = [HebbianDense(kernel.shape[1], KrotovHopfield()) for kernel in kernels]
            for layer, kernel in zip(made, kernels, strict=True):
                layer.build((None, len(kernel)))
                layer.kernel.assign(np.abs(kernel))
            return made

        results = []
        for nest in (False, True):
            parts = layers()
            lower = [keras.Sequential([keras.Input((30,)), *parts[:2]])] if nest else parts[:2]
            model = keras.Sequential([keras.Input((30,)), *lower, parts[2]])
            arguments = {"epochs": 2, "batch_size": 24, "step_size": 0.01, "verbose": 0}
            histories = pretrain(model, np.abs(X), greedy=greedy, **arguments)
            assert list(histories) == [part.name for part in parts]
            results.append([array(part.kernel) for part in parts])
        for one, other in zip(*results, strict=True):
            assert_close(one, other.astype("float64"), 1e-5)

    def test_inside_of_a_wrapper(self) -> None:
        inner = HebbianDense(4, KrotovHopfield())
        wrapper = keras.layers.TimeDistributed(inner)
        model = keras.Sequential([keras.Input((2, 30)), wrapper])
        before = array(inner.kernel)
        with pytest.raises(ValueError, match=r"`encoder`.*Received.*inside of time_distributed"):
            pretrain(model, np.ones((24, 2, 30)), epochs=1, batch_size=8, verbose=0)
        np.testing.assert_array_equal(array(inner.kernel), before)

    def test_called_twice(self) -> None:
        layer, inputs = HebbianDense(30, KrotovHopfield()), keras.Input((30,))
        model = keras.Model(inputs, layer(layer(inputs)))
        with pytest.raises(ValueError, match=r"`encoder`.*calls each plastic layer once"):
            pretrain(model, X, epochs=1, batch_size=8, verbose=0)


class TestFlags:
    @staticmethod
    def model() -> keras.Model:
        norm, top = keras.layers.BatchNormalization(), keras.layers.Dense(3)
        hebbian = HebbianDense(5, KrotovHopfield(), kernel_initializer="uniform")
        model = keras.Sequential([keras.Input((30,)), norm, hebbian, top])
        top.bias.trainable = False
        norm.gamma.trainable = False
        return model

    @pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
    @pytest.mark.filterwarnings("ignore:The units of layer", "ignore:Only 0%")
    def test_of_each_weight_come_back(self, error: Any) -> None:
        class Interrupt(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if error is not None:
                    raise error

        model = self.model()
        flags = [weight.trainable for weight in model.weights]
        gamma = array(model.layers[0].gamma)
        with pytest.raises(error) if error else nullcontext():
            arguments = {"epochs": 1, "batch_size": 8, "step_size": 0.01, "verbose": 0}
            pretrain(model, X, callbacks=[Interrupt()], **arguments)
        assert [weight.trainable for weight in model.weights] == flags
        np.testing.assert_array_equal(array(model.layers[0].gamma), gamma)


def test_layers_that_draw_act_while_the_layer_above_learns() -> None:
    """Augmentation: what is drawn differs from step to step."""
    kernels = []
    for noise in (0.0, 1.0):
        keras.utils.set_random_seed(0)
        layer = HebbianDense(5, KrotovHopfield())
        model = keras.Sequential([keras.Input((30,)), keras.layers.GaussianNoise(noise), layer])
        layer.kernel.assign(np.abs(probe((30, 5), 1)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pretrain(model, X, epochs=1, batch_size=24, step_size=0.1, verbose=0)
        kernels.append(array(layer.kernel))
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
