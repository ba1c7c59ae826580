"""What `pretrain` warns of and refuses, with the weights as they were."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.models import pretrain
from keras_local.plasticity import KrotovHopfield
from tests.models.pretraining.support import dataset, kernel_of
from tests.plasticity.encoders import hebbian, problem
from tests.support import BACKEND, probe

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data, sparse gradients"),
    # Runs as short as these converge nowhere.
    pytest.mark.filterwarnings("ignore:Only .* have converged"),
]


class TestWarnings:
    def test_units_that_start_inside_the_sphere(self) -> None:
        x, kernel = problem(units=15, batch=24)
        model = hebbian(0.02 * kernel, KrotovHopfield(), name="small")
        with pytest.warns(UserWarning, match=r"'small' start inside.*kernel_initializer"):
            pretrain(model, x, epochs=1, batch_size=8, verbose=0)

    def test_units_inside_the_sphere_above_a_layer_that_draws(self) -> None:
        """Then the layer learns in the graph, and not on inputs that were computed once."""
        x, kernel = problem(units=15, batch=24)
        layer = layers.HebbianDense(15, KrotovHopfield(), name="small")
        model = keras.Sequential([keras.Input((30,)), keras.layers.Dropout(0.1), layer])
        layer.kernel.assign(0.02 * kernel)
        with pytest.warns(UserWarning, match=r"'small' start inside.*kernel_initializer"):
            pretrain(model, x, epochs=1, batch_size=8, verbose=0)

    def test_it_points_at_the_caller(self) -> None:
        x, kernel = problem(units=15, batch=24)
        model = hebbian(0.02 * kernel, KrotovHopfield())
        with pytest.warns(UserWarning, match="start inside") as record:
            pretrain(model, x, epochs=1, batch_size=8, verbose=0)
        assert [w.filename for w in record if "start inside" in str(w.message)] == [__file__]

    @pytest.mark.filterwarnings("default:Only")
    def test_units_that_have_not_converged(self) -> None:
        x, kernel = problem(units=15, batch=24)
        model = hebbian(kernel, KrotovHopfield(), name="short")
        with pytest.warns(UserWarning, match="Only 0% .* 'short' have converged") as record:
            pretrain(model, x, epochs=1, batch_size=8, verbose=0)
        assert [w.filename for w in record if "Only 0%" in str(w.message)] == [__file__]

    def test_silence_where_all_is_well(self) -> None:
        x, kernel = problem(units=15, batch=24)
        kernel /= np.linalg.norm(kernel, axis=0)
        model = hebbian(1.001 * kernel, KrotovHopfield())
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            pretrain(model, x, epochs=1, batch_size=8, step_size=1e-6, verbose=0)

    def test_silence_about_datasets(self) -> None:
        x, kernel = problem(units=15, batch=24)
        kernel /= np.linalg.norm(kernel, axis=0)
        model = hebbian(1.001 * kernel, KrotovHopfield())
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            pretrain(model, dataset(x, batch=4), 1, batch_size=8, step_size=1e-6, verbose=0)


def nan_at(position: tuple[int, int], value: float = np.nan) -> np.ndarray:
    x = probe((24, 30))
    x[position] = value
    return x


def endless() -> Any:
    return dataset(probe((24, 30))).repeat()


X = probe((24, 30))
WRONG: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "rank 1": (lambda: X[0], {}, r"`data`.*\(None, 30\).*Received: data=\(30,\)"),
    "rank 3": (lambda: X[None], {}, r"`data`.*\(None, 30\).*Received: data=\(1, 24, 30\)"),
    "width": (lambda: X[:, :29], {}, r"`data`.*\(None, 30\).*Received: data=\(24, 29\)"),
    "ragged list": (lambda: [[1.0], [1.0, 2.0]], {}, "`data`.*Received.*list"),
    "dict": (lambda: {"x": X}, {}, "`data`.*Received.*dict"),
    "nothing": (lambda: None, {}, "`data`.*Received.*NoneType"),
    "pair": (lambda: (X, np.zeros(24)), {}, "`data`.*Received.*tuple of 2 arrays"),
    "NaN": (lambda: nan_at((3, 4)), {}, "`data` must be finite.*Received.*NaN"),
    "NaN at the end": (lambda: nan_at((23, 29)), {"batch_size": 23}, "`data` must be finite"),
    "infinity": (lambda: nan_at((3, 4), -np.inf), {}, "`data` must be finite.*Received.*infinite"),
    "no samples": (lambda: X[:0], {}, r"`data` must be at least one sample.*\(0, 30\)"),
    "batch": (lambda: X, {"batch_size": 25}, "`batch_size`.*24 samples.*batch_size=25"),
    "batch 0": (lambda: X, {"batch_size": 0}, "`batch_size`.*Received: batch_size=0"),
    "batch 2.5": (lambda: X, {"batch_size": 2.5}, "`batch_size`.*Received: batch_size=2.5"),
    "epochs 0": (lambda: X, {"epochs": 0}, "`epochs`.*Received: epochs=0"),
    "epochs -1": (lambda: X, {"epochs": -1}, "`epochs`.*Received: epochs=-1"),
    "epochs 1.5": (lambda: X, {"epochs": 1.5}, "`epochs`.*Received: epochs=1.5"),
    "step 0": (lambda: X, {"step_size": 0.0}, "`step_size`.*Received: step_size=0.0"),
    "step < 0": (lambda: X, {"step_size": -0.1}, "`step_size`.*Received: step_size=-0.1"),
    "step NaN": (lambda: X, {"step_size": np.nan}, "`step_size`.*Received: step_size=nan"),
    "step text": (lambda: X, {"step_size": "fast"}, "`step_size`.*Received: step_size='fast'"),
    "dataset width": (lambda: dataset(X[:, :29]), {}, r"`data`.*\(30,\).*Received.*29"),
    "dataset rank": (lambda: dataset(X[None], batch=1), {}, r"`data`.*\(30,\).*Received.*24, 30"),
    "dataset NaN": (lambda: dataset(nan_at((20, 1))), {}, "`data` must be finite in every batch"),
    "dataset short": (lambda: dataset(X), {"batch_size": 25}, "`batch_size`.*batch_size=25"),
    "dataset endless": (endless, {}, "`data`.*finite.*Received.*infinite"),
    "dataset empty": (lambda: dataset(X).take(0), {}, "`data` must be a dataset of at least one"),
    "dataset filtered": (lambda: dataset(X).filter(lambda x: False), {}, "`batch_size`"),
    "generator empty": (lambda: iter(()), {}, "`data` must be a source of at least one batch"),
    "generator NaN": (lambda: iter([nan_at((20, 1))]), {}, "`data` must be finite in every batch"),
    "powers": (lambda: X * 1e30, {}, "`data` must be finite, and at most"),
    "double": (lambda: X.astype("float64") * 1e300, {}, "`data` must be finite, and at most"),
    "steps": (lambda: X, {"steps_per_epoch": 2}, "`steps_per_epoch` must be None for an array"),
    "greedy": (lambda: X, {"greedy": "yes"}, "`greedy` must be True or False"),
    "callbacks": (lambda: X, {"callbacks": "x"}, "`callbacks` must be a list of Keras callbacks"),
}


@pytest.fixture
def untouched() -> Iterator[keras.Model]:
    """A model whose weights are the same afterwards, bit for bit."""
    kernel = probe((30, 15), 1)
    model = hebbian(kernel, KrotovHopfield(3.0))
    yield model
    np.testing.assert_array_equal(kernel_of(model), kernel)


@pytest.mark.parametrize(("data", "options", "message"), WRONG.values(), ids=WRONG)
def test_bad_input(
    untouched: keras.Model, data: Callable[[], Any], options: dict[str, Any], message: str
) -> None:
    arguments = {"epochs": 2, "batch_size": 8, "step_size": 0.2, "verbose": 0, **options}
    with pytest.raises(ValueError, match=message):
        pretrain(untouched, data(), **arguments)


class TestBadEncoder:
    def test_nothing_to_pretrain(self) -> None:
        model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(4)])
        with pytest.raises(ValueError, match=r"plasticity rule.*Received: a model of Dense"):
            pretrain(model, X)

    def test_frozen(self, untouched: keras.Model) -> None:
        untouched.trainable = False
        with pytest.raises(ValueError, match=r"Received: a model of HebbianDense \(frozen\)"):
            pretrain(untouched, X)

    def test_not_built(self) -> None:
        with pytest.raises(ValueError, match=r"`encoder`.*built.*Received"):
            pretrain(keras.Sequential([layers.HebbianDense(4)]), X)

    def test_subclassed(self) -> None:
        class Own(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.hidden = layers.HebbianDense(4)

            def call(self, inputs: Any) -> Any:
                return self.hidden(inputs)

        model = Own()
        model(X)
        with pytest.raises(ValueError, match=r"`encoder`.*Sequential or functional.*Received"):
            pretrain(model, X)

    @pytest.mark.parametrize("encoder", [None, "encoder", layers.HebbianDense(4)])
    def test_not_a_model(self, encoder: Any) -> None:
        with pytest.raises(ValueError, match=r"`encoder`.*keras\.Model.*Received"):
            pretrain(encoder, X)

    def test_two_inputs(self) -> None:
        one, other = keras.Input((30,)), keras.Input((30,))
        outputs = layers.HebbianDense(4)(keras.layers.Add()([one, other]))
        with pytest.raises(ValueError, match="Received"):
            pretrain(keras.Model([one, other], outputs), X, batch_size=8)
