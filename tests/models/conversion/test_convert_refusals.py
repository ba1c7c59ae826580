"""What `convert` refuses, by name, with the model as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback
from keras_local.models import convert
from tests.models.conversion.support import (
    FA,
    outputs_of,
    quietly,
    sequential,
)
from tests.support import BACKEND, probe, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="conversion: on one backend"),
    # Kolen-Pollack says so of the layer with a regulariser.
    pytest.mark.filterwarnings("ignore:.*`kernel_regularizer` acts on the kernel alone"),
]


class Doubled(keras.layers.Dense):
    """A subclass with a `call` of its own."""

    def call(self, inputs: Any) -> Any:
        return 2.0 * super().call(inputs)


class Mixer(keras.layers.Layer):
    """A layer of somebody else, with a kernel."""

    def build(self, shape: Any) -> None:
        self.matrix = self.add_weight(shape=(shape[-1], shape[-1]), name="matrix")

    def call(self, inputs: Any) -> Any:
        return inputs @ self.matrix


class Scale(keras.layers.Layer):
    """A layer of somebody else, without a kernel."""

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, inputs: Any) -> Any:
        return inputs * self.gain


class Own(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hidden = keras.layers.Dense(5, name="hidden")

    def call(self, inputs: Any) -> Any:
        return self.hidden(inputs)


class OwnCell(keras.layers.Layer):
    """A cell of somebody else."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, inputs: Any, states: Any) -> Any:
        state = inputs @ self.kernel + states[0]
        return state, [state]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class OwnLSTM(keras.layers.LSTM):
    """Of somebody else."""


for _own in (OwnCell, OwnLSTM):
    keras.saving.register_keras_serializable(package="tests")(_own)


KERNELS: dict[str, Callable[[], keras.layers.Layer]] = {
    "OwnLSTM, which holds LSTMCell": lambda: OwnLSTM(5, return_sequences=True, name="odd"),
    "RNN: `cell` must be": lambda: keras.layers.RNN(
        OwnCell(5), return_sequences=True, name="odd", trainable=False
    ),
    "TimeDistributed, which holds Doubled": lambda: keras.layers.TimeDistributed(
        Doubled(5), name="odd"
    ),
    "Bidirectional, which holds": lambda: keras.layers.Bidirectional(
        OwnLSTM(3, return_sequences=True), name="odd"
    ),
    "Doubled, which has kernels": lambda: Doubled(5, name="odd"),
    "Mixer, which has kernels": lambda: Mixer(name="odd"),
    "Own, a model with a `call`": lambda: Own(name="odd"),
}


class TestRefused:
    @pytest.mark.parametrize("kind", KERNELS)
    def test_layers_that_have_no_form(self, kind: str) -> None:
        model = keras.Sequential(
            [keras.Input((4, 5)), KERNELS[kind](), keras.layers.Dense(3, name="last")]
        )
        before = weights_of(model)
        stream = random.getstate()
        with pytest.raises(ValueError, match=rf"`model` must be.*Received.*'odd' \({kind}"):
            quietly(model, FA)
        assert random.getstate() == stream
        for one, other in zip(before, weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)
        for options in ({"exclude": "odd"}, {"include": "last"}):
            twin = quietly(model, FA, **options)
            assert type(twin.layers[0]) is type(model.layers[0])
            x = probe((2, 4, 5))
            np.testing.assert_array_equal(outputs_of(twin, x)[0], outputs_of(model, x)[0])

    def test_a_subclass_of_attention(self) -> None:
        class Mine(keras.layers.MultiHeadAttention):
            """Of somebody else."""

        inputs = keras.Input((4, 6))
        attended = Mine(2, 3, name="attention")(inputs, inputs)
        model = keras.Model(inputs, keras.layers.Dense(3)(attended))
        with pytest.raises(ValueError, match=r"'attention' \(Mine, which holds"):
            quietly(model, FA)
        x = probe((2, 4, 6))
        twin = quietly(model, FA, exclude="attention")
        np.testing.assert_array_equal(outputs_of(twin, x)[0], outputs_of(model, x)[0])

    def test_all_are_named(self) -> None:
        model = keras.Sequential([keras.Input((4, 5)), Mixer(name="one"), OwnLSTM(3, name="two")])
        with pytest.raises(ValueError, match=r"'one' \(Mixer.*'two' \(OwnLSTM"):
            quietly(model, FA)

    @pytest.mark.parametrize(
        "layer", [lambda: Scale(), lambda: keras.layers.PReLU(), lambda: keras.layers.Rescaling(2)]
    )
    def test_layers_without_kernels_are_not(self, layer: Callable[[], keras.layers.Layer]) -> None:
        model = keras.Sequential([keras.Input((4, 5)), layer(), keras.layers.Dense(3)])
        twin = quietly(model, FA)
        assert type(twin.layers[0]) is type(model.layers[0])

    def test_a_layer_that_cannot_be_copied(self) -> None:
        class Secret(keras.layers.Layer):
            def __init__(self, thing: Any) -> None:
                super().__init__(name="secret")

            def call(self, inputs: Any) -> Any:
                return inputs

        layer = Secret(object())
        model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(3)])
        with pytest.raises(ValueError, match=r"`model` must be.*Received: Secret 'secret'"):
            quietly(model, FA)

    def test_nothing_to_convert(self) -> None:
        model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
        with pytest.raises(ValueError, match="a layer to convert"):
            quietly(model, FA)

    def test_subclassed_model(self) -> None:
        model = Own(name="own")
        model(probe((2, 4)))
        with pytest.raises(ValueError, match=r"`model`.*Sequential or functional.*Own 'own'"):
            quietly(model, FA)

    def test_own_train_step(self) -> None:
        class Louder(keras.Model):
            def train_step(self, *arguments: Any) -> Any:
                return super().train_step(*arguments)

        inputs = keras.Input((4,))
        with pytest.raises(ValueError, match=r"`model` must be.*its own \['train_step'\]"):
            quietly(Louder(inputs, keras.layers.Dense(3)(inputs)), FA)

    def test_not_built(self) -> None:
        with pytest.raises(ValueError, match=r"`model`.*built.*Received.*Sequential"):
            quietly(keras.Sequential([keras.layers.Dense(3)]), FA)

    @pytest.mark.parametrize("model", [None, "model", keras.layers.Dense])
    def test_not_a_model(self, model: Any) -> None:
        with pytest.raises(ValueError, match=r"`model` must be a keras\.Model.*Received"):
            quietly(model, FA)

    @pytest.mark.parametrize("rule", ["backprop", 3, feedback.KolenPollack, lambda layer: "nope"])
    def test_unknown_rules(self, rule: Any) -> None:
        with pytest.raises(ValueError, match="`feedback` must be a FeedbackRule"):
            quietly(sequential(), rule)

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("feedback_initializer", "glorot_unifrom"),
            ("feedback_initializer", 3),
            ("connectivity", 1.5),
            ("connectivity", "half"),
            ("verbose", 1),
            ("keep_weights", None),
        ],
    )
    def test_wrong_arguments(self, argument: str, value: Any) -> None:
        options = {"verbose": False, argument: value}
        with pytest.raises((TypeError, ValueError), match=f"`{argument}` must be .*Received"):
            convert(sequential(), FA, **options)

    def test_wrong_seed(self) -> None:
        with pytest.raises(ValueError, match="`seed` must be an integer"):
            quietly(sequential(), FA, seed=-1)
