"""What of an encoder has to be computed while some of its layers learn."""

from __future__ import annotations

import keras

from keras_local.layers import HebbianDense
from keras_local.models.pretraining.encoder_graph import part_with
from tests.support import tensorflow_only


@tensorflow_only
def test_the_part_ends_where_its_layers_learn() -> None:
    inputs = keras.Input((4,))
    low, high = HebbianDense(3, "oja", name="low"), HebbianDense(2, "oja", name="high")
    # An operation that is no layer stands between them.
    model = keras.Model(inputs, keras.layers.Softmax()(high(keras.ops.relu(low(inputs)))))
    below = part_with(model, [low])
    assert [layer.name for layer in below.layers[1:]] == ["low"]
    assert below.output.shape == (None, 3)
    whole = part_with(model, [low, high])
    assert [output.shape for output in whole.outputs] == [(None, 3), (None, 2)]
    assert not any(isinstance(layer, keras.layers.Softmax) for layer in whole.layers)
