"""Direct feedback and direct random targets: what reaches the hidden layers, and what may not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from tests import oracles, oracles_direct
from tests.support import (
    array,
    cases,
    compile_options,
    largest_difference,
    model_gradients,
    probe,
    tensorflow_only,
    train,
    two_replicas,
    weights_of,
)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
KINDS: dict[str, Callable[..., Any]] = {
    "error": layers.DirectFeedback,
    "sign": lambda **options: layers.DirectFeedback(sign=True, **options),
    "target": layers.DirectRandomTarget,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def dense_net(
    kind: str, activation: str | None = "tanh", feedback: Any = "detached", **options: Any
) -> keras.Model:
    inputs = keras.Input((6,))
    first = layers.FeedbackDense(5, activation, feedback="detached")(inputs)
    second = layers.FeedbackDense(5, activation, feedback=feedback)(first)
    logits = layers.FeedbackDense(3, feedback=feedback)(second)
    outputs = KINDS[kind](name="direct", **options)([logits, first, second])
    return keras.Model(inputs, outputs)


def conv_net(kind: str) -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    hidden = layers.FeedbackConv2D(3, 3, padding="same", activation="tanh", feedback="detached")(
        inputs
    )
    pooled = keras.layers.MaxPooling2D()(hidden)
    upper = layers.FeedbackConv2D(4, 2, activation="tanh", feedback="detached")(pooled)
    logits = layers.FeedbackDense(3, feedback="detached")(keras.layers.Flatten()(upper))
    return keras.Model(inputs, KINDS[kind](name="direct")([logits, hidden, upper]))


def data(model: keras.Model, samples: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """The class is the largest of the first three inputs."""
    inputs = probe((samples, *model.input_shape[1:]), 1)
    return inputs, np.argmax(inputs.reshape(samples, -1)[:, :3], axis=1)


def parts(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if hasattr(layer, "kernel")]


def kernels(model: keras.Model) -> list[np.ndarray]:
    return [array(layer.kernel) for layer in parts(model)]


def biases(model: keras.Model) -> list[np.ndarray]:
    return [array(layer.bias) for layer in parts(model)]


def direct_weights(model: keras.Model) -> list[np.ndarray]:
    return [array(weight) for weight in model.get_layer("direct").feedback_kernels]


# --- The formula ----------------------------------------------------------------------------------


@every_kind
def test_gradients_equal_the_oracle(kind: str) -> None:
    model = dense_net(kind)
    inputs, labels = data(model)
    gradients, below = model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))
    expected, of_biases = oracles_direct.step(
        kind, inputs, labels, kernels(model), biases(model), direct_weights(model)
    )
    for layer in range(3):
        np.testing.assert_allclose(
            gradients[f"{2 * layer}:kernel"], expected[layer], rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(
            gradients[f"{2 * layer + 1}:bias"], of_biases[layer], rtol=1e-4, atol=1e-6
        )
        assert np.abs(expected[layer]).max() > 1e-2
    np.testing.assert_array_equal(below, np.zeros_like(below))


@every_kind
def test_one_step_of_fit_equals_the_oracle(kind: str) -> None:
    model = dense_net(kind)
    inputs, labels = data(model)
    start, start_biases = kernels(model), biases(model)
    expected, of_biases = oracles_direct.step(
        kind, inputs, labels, start, start_biases, direct_weights(model)
    )
    train(model, keras.optimizers.SGD(0.5), inputs, labels, LOSS, batch_size=16)
    for before, after, gradient in zip(start, kernels(model), expected, strict=True):
        np.testing.assert_allclose(after, before - 0.5 * gradient, rtol=1e-4, atol=1e-6)
    for before, after, gradient in zip(start_biases, biases(model), of_biases, strict=True):
        np.testing.assert_allclose(after, before - 0.5 * gradient, rtol=1e-4, atol=1e-6)


@every_kind
def test_a_feature_map_has_a_weight_for_each_unit(kind: str) -> None:
    model = conv_net(kind)
    inputs, labels = data(model, 4)
    k1, k2, k3 = kernels(model)
    c1, c2, c3 = biases(model)
    d1, d2 = direct_weights(model)
    assert d1.shape == (3, 6, 6, 3)
    assert d2.shape == (3, 2, 2, 4)
    lower = oracles.Convolution((1, 1), "same", (1, 1))
    upper = oracles.Convolution((1, 1), "valid", (1, 1))
    h1 = lower.apply(inputs, k1) + c1
    pooled = np.tanh(h1).reshape(4, 3, 2, 3, 2, 3).max(axis=(2, 4))
    h2 = upper.apply(pooled, k2) + c2
    flat = np.tanh(h2).reshape(4, -1)
    _, error = oracles.cross_entropy(oracles.dense(flat, k3) + c3, labels)
    sent = oracles_direct.signal(kind, error, labels)
    delta1 = oracles_direct.send(sent, d1) * oracles.tanh_derivative(h1)
    delta2 = oracles_direct.send(sent, d2) * oracles.tanh_derivative(h2)
    expected = [
        lower.kernel_gradient(inputs, delta1, k1.shape),
        upper.kernel_gradient(pooled, delta2, k2.shape),
        oracles.dense_kernel_gradient(flat, error),
    ]
    gradients, _ = model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))
    for name, gradient in zip(("0:kernel", "2:kernel", "4:kernel"), expected, strict=True):
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-4, atol=1e-6)
        assert np.abs(gradient).max() > 1e-2


def test_the_product_of_the_kernels_gives_backpropagation_in_a_linear_net() -> None:
    model = dense_net("error", activation=None)
    inputs, labels = data(model)
    _, second, third = kernels(model)
    to_first, to_second = model.get_layer("direct").feedback_kernels
    to_first.assign((second @ third).T)
    to_second.assign(third.T)
    stock = keras.Sequential(
        [keras.Input((6,)), *(keras.layers.Dense(units) for units in (5, 5, 3))]
    )
    stock.set_weights([array(weight) for weight in model.trainable_weights])

    def loss(outputs: Any) -> Any:
        return LOSS(labels, outputs)

    ours, theirs = (model_gradients(net, inputs, loss)[0] for net in (model, stock))
    for name, gradient in theirs.items():
        np.testing.assert_allclose(ours[name], gradient, rtol=1e-4, atol=1e-6)
    to_first.assign(-array(to_first))
    changed = model_gradients(model, inputs, loss)[0]
    np.testing.assert_allclose(changed["0:kernel"], -theirs["0:kernel"], rtol=1e-4, atol=1e-6)


@every_kind
def test_upper_kernels_have_no_part_in_what_hidden_layers_get(kind: str) -> None:
    """The error at the logits is held fixed, so that only the way down could differ."""
    model = dense_net(kind)
    inputs, _ = data(model)
    # One negative entry for each example, as errors of one label have.
    values = np.abs(probe((16, 3), 5)) * (1 - 2 * np.eye(3, dtype="float32")[np.arange(16) % 3])
    error = keras.ops.convert_to_tensor(values)

    def lowest() -> np.ndarray:
        loss = model_gradients(model, inputs, lambda outputs: keras.ops.sum(outputs * error))
        return loss[0]["0:kernel"]

    before = lowest()
    for layer in parts(model)[1:]:
        layer.kernel.assign(3.0 * array(layer.kernel) + 1.0)
    np.testing.assert_array_equal(lowest(), before)
    assert np.abs(before).max() > 1e-2


def test_a_target_is_the_one_negative_entry_of_the_error() -> None:
    layer = layers.DirectRandomTarget()
    error = np.array(
        [[0.2, -0.3, 0.1], [-1e-7, 1e-7, 0.0], [0.0, 0.0, 0.0], [0.0, 1e-9, 0.0]], "float32"
    )
    sent = array(layer.signal(keras.ops.convert_to_tensor(error), keras.ops.ones(()) * 0.25))
    np.testing.assert_array_equal(sent, [[0, 0.25, 0], [0.25, 0, 0], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("loss", ["sigmoid", "hinge"])
def test_other_losses_with_one_negative_entry_give_the_target_too(loss: str) -> None:
    from keras_local.losses import LocalHinge

    model = dense_net("target")
    inputs, labels = data(model)
    # The hinge has an error only where the true class is below its margin: everywhere, then.
    last = parts(model)[-1].kernel
    last.assign(0.1 * array(last))
    one_hot = np.eye(3, dtype="float32")[labels]
    function = (
        keras.losses.BinaryCrossentropy(from_logits=True) if loss == "sigmoid" else LocalHinge()
    )
    gradients, _ = model_gradients(model, inputs, lambda outputs: function(one_hot, outputs))
    expected, _ = oracles_direct.step(
        "target", inputs, labels, kernels(model), biases(model), direct_weights(model)
    )
    for layer in range(2):
        np.testing.assert_allclose(
            gradients[f"{2 * layer}:kernel"], expected[layer], rtol=1e-4, atol=1e-6
        )


# --- Chains that are left open --------------------------------------------------------------------


def taught(loss: Any, targets: np.ndarray, epochs: int = 1) -> keras.Model:
    """A net with random targets that was fitted to given targets in small batches."""
    model = dense_net("target")
    model.compile(keras.optimizers.SGD(0.5), loss, **compile_options())
    model.fit(probe((16, 6)), targets, batch_size=8, epochs=epochs, verbose=0)
    return model


def test_one_sigmoid_unit_has_no_target() -> None:
    inputs = keras.Input((6,))
    hidden = layers.FeedbackDense(5, feedback="detached")(inputs)
    logits = layers.FeedbackDense(1, feedback="detached")(hidden)
    with pytest.raises(ValueError, match=r"one-hot target.*at least two classes.*\(None, 1\)"):
        layers.DirectRandomTarget()([logits, hidden])
    layers.DirectFeedback()([logits, hidden])


@tensorflow_only
def test_several_labels_at_once_stop_the_step() -> None:
    several = np.tile(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], "float32"), (8, 1))
    for loss, targets in (
        (keras.losses.BinaryCrossentropy(from_logits=True), several),
        (keras.losses.CategoricalCrossentropy(from_logits=True), several / 2),
    ):
        with pytest.raises(Exception, match=r"teaches one class.*targets must be integers"):
            taught(loss, targets)


@pytest.mark.few(2)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("family", ["CategoricalCrossentropy", "BinaryCrossentropy"])
def test_one_label_goes_on_to_teach_when_it_is_learned(family: str, smoothing: float) -> None:
    """Small negative entries, of smoothing or of rounding, are no labels."""
    labels = np.eye(3, dtype="float32")[np.arange(16) % 3]
    loss = getattr(keras.losses, family)(from_logits=True, label_smoothing=smoothing)
    model = taught(loss, labels, epochs=60)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@every_kind
def test_an_open_chain_is_refused_and_named(kind: str) -> None:
    inputs = keras.Input((6,))
    first = layers.FeedbackDense(5, "tanh", feedback="detached", name="first")(inputs)
    second = layers.FeedbackDense(5, "tanh", feedback="kolen_pollack", name="second")(first)
    logits = layers.FeedbackDense(3, feedback="detached", name="logits")(second)
    direct = KINDS[kind]()
    with pytest.raises(ValueError, match=r"'first'.*'second'.*'second'") as caught:
        direct([logits, first, second])
    assert "stop_gradient" in str(caught.value)
    assert "detached" in str(caught.value)
    assert not direct.built
    # With the first hidden tensor alone the same graph is sound.
    direct([logits, second])


def open_chains() -> dict[str, Callable[[Any, Any], Any]]:
    """Ways from a hidden tensor to the logits, open and closed; `(hidden, block) -> logits`."""

    def nested(feedback: str) -> keras.Model:
        inner = keras.Input((5,))
        return keras.Model(inner, layers.FeedbackDense(3, feedback=feedback)(inner))

    def skip(hidden: Any) -> Any:
        upper = layers.FeedbackDense(5, feedback="detached")(hidden)
        return keras.layers.Dense(3)(keras.layers.Add()([upper, hidden]))

    def wrapped(hidden: Any, feedback: str) -> Any:
        row = keras.layers.Reshape((1, 5))(hidden)
        inner = layers.FeedbackDense(3, feedback=feedback)
        return keras.layers.Flatten()(keras.layers.TimeDistributed(inner)(row))

    return {
        "open stock": lambda hidden: keras.layers.Dense(3)(hidden),
        "open symmetric": lambda hidden: layers.FeedbackDense(3, feedback="symmetric")(hidden),
        "open skip": skip,
        "open model": lambda hidden: nested("frfb")(hidden),
        "open wrapped": lambda hidden: wrapped(hidden, "frfb"),
        "open operation": lambda hidden: keras.layers.Dense(3)(keras.ops.tanh(hidden)),
        "detached": lambda hidden: layers.FeedbackDense(3, feedback="detached")(hidden),
        "detached model": lambda hidden: nested("detached")(hidden),
        "detached sequential": lambda hidden: keras.Sequential(
            [layers.FeedbackDense(4, feedback="detached"), keras.layers.Dense(3)]
        )(hidden),
        "detached wrapped": lambda hidden: wrapped(hidden, "detached"),
        "stopped": lambda hidden: keras.layers.Dense(3)(keras.ops.stop_gradient(hidden)),
        "stopped above": lambda hidden: keras.layers.Dense(3)(
            keras.ops.stop_gradient(keras.layers.Dense(4, "relu")(hidden))
        ),
    }


@pytest.mark.few(6)
@pytest.mark.parametrize("name", open_chains())
def test_chains_are_followed_through_every_kind_of_node(name: str) -> None:
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(5, "tanh", name="hidden")(inputs)
    logits = open_chains()[name](hidden)
    if name.startswith("open"):
        with pytest.raises(ValueError, match="sends its own error to the output of 'hidden'"):
            layers.DirectFeedback()([logits, hidden])
    else:
        layers.DirectFeedback()([logits, hidden])


def test_the_direct_error_of_one_layer_must_not_reach_the_next() -> None:
    """The chain from the logits is cut, but the one from the upper hidden tensor is not."""
    inputs = keras.Input((6,))
    first = keras.layers.Dense(5, "tanh", name="first")(inputs)
    second = keras.layers.Dense(5, "tanh", name="second")(first)
    logits = keras.layers.Dense(3)(keras.ops.stop_gradient(second))
    with pytest.raises(ValueError, match="the error at 'second' reaches it as well"):
        layers.DirectFeedback()([logits, first, second])


def test_two_heads_may_send_to_one_hidden_layer() -> None:
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(5, "tanh", name="hidden")(inputs)
    cut = keras.ops.stop_gradient(hidden)
    heads = [layers.DirectFeedback()([keras.layers.Dense(3)(cut), hidden]) for _ in range(2)]
    kernels = [array(head._keras_history.operation.feedback_kernels[0]) for head in heads]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-2
    layers.DirectFeedback()([keras.layers.Dense(2)(keras.ops.concatenate(heads)), hidden])


# --- The layer ------------------------------------------------------------------------------------


@pytest.mark.few(1)
@every_kind
def test_the_weights_never_change_while_the_net_learns(kind: str) -> None:
    model = dense_net(kind)
    inputs, labels = data(model)
    fixed, start = direct_weights(model), kernels(model)
    losses = train(model, keras.optimizers.Adam(0.02), inputs, labels, LOSS, epochs=30)
    assert losses[-1] < 0.8 * losses[0]
    for before, after in zip(fixed, direct_weights(model), strict=True):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(start, kernels(model), strict=True):
        assert np.abs(before - after).max() > 1e-2
    names = [weight.name for weight in model.get_layer("direct").non_trainable_weights]
    assert names == ["feedback_kernel_1", "feedback_kernel_2"]


@pytest.mark.parametrize(("kind", "bound"), [("error", 1.0), ("target", np.sqrt(6.0))])
def test_the_law_counts_the_units_of_the_hidden_tensor(kind: str, bound: float) -> None:
    logits, hidden = keras.Input((8,)), keras.Input((4, 5, 6))
    layer = KINDS[kind]()
    layer([logits, hidden])
    weights = array(layer.feedback_kernels[0])
    bound = bound / np.sqrt(4 * 5 * 6)
    assert weights.shape == (8, 4, 5, 6)
    assert 0.95 * bound < np.abs(weights).max() <= bound
    # Uniform: the mean square is a third of the bound's.
    np.testing.assert_allclose(np.mean(weights**2), bound**2 / 3, rtol=0.1)


def test_hidden_tensors_of_one_shape_get_weights_of_their_own() -> None:
    def drawn(seed: int) -> list[np.ndarray]:
        law = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        return direct_weights(dense_net("error", feedback_initializer=law))

    first, second = drawn(1)
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 0.5
    assert largest_difference([first, second], drawn(1)) == 0.0
    assert largest_difference([first, second], drawn(2)) > 0.5
    ones = direct_weights(dense_net("error", feedback_initializer="ones"))
    assert largest_difference(ones, [np.ones((3, 5))] * 2) == 0.0


@pytest.mark.few(1)
@every_kind
def test_save_and_load(kind: str, tmp_path: Any) -> None:
    law = keras.initializers.RandomNormal(stddev=0.5, seed=3)
    model = dense_net(kind, feedback_initializer=law)
    inputs, labels = data(model)
    train(model, "sgd", inputs, labels, LOSS, epochs=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert largest_difference(weights_of(model), weights_of(loaded)) == 0.0
    assert loaded.get_layer("direct").get_config() == model.get_layer("direct").get_config()
    for net in (model, loaded):
        train(net, keras.optimizers.SGD(0.1), inputs, labels, LOSS, epochs=2)
    assert largest_difference(weights_of(model), weights_of(loaded)) < 1e-6
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = dense_net(kind)
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert largest_difference(weights_of(model), weights_of(fresh)) == 0.0


def test_logits_keep_their_precision_and_their_mask() -> None:
    logits, hidden = keras.Input((3,)), keras.Input((5,), dtype="float16")
    layer = layers.DirectFeedback(dtype="mixed_float16")
    assert layer([logits, hidden]).dtype == "float32"
    outputs = layer([probe((2, 3)), probe((2, 5)).astype("float16")])
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    assert layer.feedback_kernels[0].dtype == "float32"


def test_bad_input_is_refused() -> None:
    logits, hidden = keras.Input((3,)), keras.Input((5,))
    for inputs in (logits, [logits], [], probe((2, 3))):
        with pytest.raises(ValueError, match="`inputs` must be a list"):
            layers.DirectFeedback()(inputs)
    with pytest.raises(ValueError, match="different tensors"):
        layers.DirectFeedback()([logits, hidden, hidden])
    with pytest.raises(ValueError, match=r"`inputs` must be logits \(batch, classes\)"):
        layers.DirectFeedback()([keras.Input((4, 3, 3)), hidden])
    with pytest.raises(ValueError, match="hidden tensors of defined shapes"):
        layers.DirectFeedback()([logits, keras.Input((None, 5))])
    with pytest.raises(ValueError, match="`sign` must be True or False"):
        layers.DirectFeedback(sign="yes")


# --- Where it runs --------------------------------------------------------------------------------


def trained(model: keras.Model, **options: Any) -> list[np.ndarray]:
    inputs, labels = data(model, 32)
    optimizer = options.pop("optimizer", None) or keras.optimizers.SGD(0.2, momentum=0.5)
    train(model, optimizer, inputs, labels, LOSS, epochs=3, **options)
    return [array(weight) for weight in model.trainable_weights]


@tensorflow_only
@pytest.mark.parametrize(
    ("kind", "mode"),
    cases(
        itertools.product(KINDS, [{"run_eagerly": True}, {"jit_compile": True}]),
        daily=[("error", {"run_eagerly": True}), ("target", {"jit_compile": True})],
    ),
)
def test_eager_and_compiled_steps_equal_the_graph(kind: str, mode: dict[str, Any]) -> None:
    model, other = conv_net(kind), conv_net(kind)
    other.set_weights(weights_of(model))
    start = [array(weight) for weight in model.trainable_weights]
    ends = trained(model), trained(other, **mode)
    assert largest_difference(start, ends[0]) > 1e-2
    assert largest_difference(*ends) < 1e-5


@tensorflow_only
@pytest.mark.parametrize("kind", cases(KINDS, daily=["error"]))
def test_mixed_precision_follows_float32(kind: str) -> None:
    """The loss scale divides out again, and is 2^15 at first."""
    model = conv_net(kind)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = conv_net(kind)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(weights_of(model))
    start = [array(weight) for weight in model.trainable_weights]
    ends = trained(model), trained(half)
    assert isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer)
    assert float(half.optimizer.dynamic_scale) == 2.0**15
    for before, one, other in zip(start, *ends, strict=True):
        way = np.linalg.norm(one - before)
        assert way > 1e-2
        assert np.linalg.norm(one - other) < 0.02 * way


@tensorflow_only
@pytest.mark.parametrize("kind", cases(KINDS, daily=["target"]))
def test_two_replicas_equal_one_device(kind: str) -> None:
    model = conv_net(kind)
    with two_replicas().scope():
        two = conv_net(kind)
        two.set_weights(weights_of(model))
        inputs, labels = data(two, 32)
        two.compile(keras.optimizers.SGD(0.2, momentum=0.5), LOSS, **compile_options())
    start = [array(weight) for weight in model.trainable_weights]
    one = trained(model)
    two.fit(inputs, labels, batch_size=8, epochs=3, shuffle=False, verbose=0)
    other = [array(weight) for weight in two.trainable_weights]
    assert largest_difference(start, one) > 1e-2
    assert largest_difference(one, other) < 1e-6
