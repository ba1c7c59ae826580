"""What measurements and conversion ask of a direct layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.layers.direct.layer import cuts_for_direct_layer, operations_of
from tests.layers.direct.test_direct_layers import LOSS, data, dense_net
from tests.support import model_gradients


def test_after_a_measurement_errors_go_directly_again() -> None:
    """`exact_errors` and `measured` act inside of their blocks alone, also if these fail."""
    model = dense_net("error")
    inputs, labels = data(model)

    def gradients() -> dict[str, Any]:
        return model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))[0]

    direct = model.get_layer("direct")
    usual = gradients()
    for block in (direct.exact_errors, direct.measured):
        with pytest.raises(KeyError), block():
            raise KeyError
    for name, value in gradients().items():
        np.testing.assert_array_equal(value, usual[name])
    with direct.exact_errors():
        chain = gradients()
    assert np.abs(chain["0:kernel"]).max() == 0.0 < np.abs(usual["0:kernel"]).max()
    np.testing.assert_allclose(chain["4:kernel"], usual["4:kernel"], rtol=1e-5)


def test_cuts_below_a_direct_layer_are_told_from_others() -> None:
    inputs = keras.Input((6,))
    hidden = layers.FeedbackDense(5, "tanh", feedback="detached")(inputs)
    cut, other = keras.ops.stop_gradient(hidden), keras.ops.stop_gradient(inputs)
    logits = layers.FeedbackDense(3, feedback="detached")(cut)
    outputs = layers.DirectFeedback()([logits, hidden])
    spare = layers.FeedbackDense(3, feedback="detached")(other)
    model = keras.Model(inputs, [outputs, spare])
    found = [each for each in operations_of(model) if cuts_for_direct_layer(each)]
    assert found == [cut._keras_history.operation]
