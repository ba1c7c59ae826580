from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_local.losses import LocalHinge, PowerLoss, SquaredHinge
from tests.support import cases

BACKEND = keras.backend.backend()
LOSSES = [LocalHinge(), PowerLoss(), SquaredHinge()]


def hinge_oracle(labels, logits, off_class_factor):
    """Loss of each sample and its derivative, with loops."""
    batch, classes = logits.shape
    losses, errors = np.zeros(batch), np.zeros((batch, classes))
    mu = off_class_factor / (classes - 1)
    for b in range(batch):
        for c in range(classes):
            o = float(logits[b, c])
            if c == labels[b]:
                losses[b] += max(1 - o, 0)
                errors[b, c] = -1 if o < 1 else 0
            else:
                losses[b] += mu * max(1 + o, 0)
                errors[b, c] = mu if o > -1 else 0
    return losses, errors


def power_oracle(labels, scores, power, beta):
    batch, classes = scores.shape
    losses, errors = np.zeros(batch), np.zeros((batch, classes))
    for b in range(batch):
        for c in range(classes):
            target = 1.0 if c == labels[b] else -1.0
            squashed = np.tanh(beta * float(scores[b, c]))
            distance = abs(squashed - target)
            losses[b] += distance**power
            slope = power * distance ** (power - 1) * np.sign(squashed - target)
            errors[b, c] = slope * beta * (1 - squashed**2)
    return losses, errors


def gradient(loss, labels, logits):
    """Derivative of the loss with respect to the logits, on any backend."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensor = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = loss(labels, tensor)
        return tape.gradient(value, tensor).numpy()
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: loss(labels, x))(jax.numpy.asarray(logits)))
    import torch

    tensor = torch.tensor(logits, requires_grad=True)
    loss(labels, tensor).backward()
    return tensor.grad.numpy()


def value(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


@settings(max_examples=25, deadline=None)
@given(
    batch=st.sampled_from([1, 5]),
    classes=st.sampled_from([2, 3, 7]),
    factor=st.floats(0.01, 12),
    seed=st.integers(0, 2**16),
)
def test_hinge_equals_loops(batch, classes, factor, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(batch, classes), scale=2).astype("float32")
    labels = rng.integers(0, classes, batch)
    losses, errors = hinge_oracle(labels, logits, factor)
    loss = LocalHinge(factor, reduction="sum")
    np.testing.assert_allclose(value(loss(labels, logits)), losses.sum(), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(gradient(loss, labels, logits), errors, rtol=2e-6)
    mean = value(LocalHinge(factor)(labels, logits))
    np.testing.assert_allclose(mean, losses.mean(), rtol=2e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.sampled_from([1, 5]),
    classes=st.sampled_from([2, 3, 7]),
    power=st.floats(1, 8),
    beta=st.floats(0.01, 2),
    seed=st.integers(0, 2**16),
)
def test_power_equals_loops(batch, classes, power, beta, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(batch, classes)).astype("float32")
    labels = rng.integers(0, classes, batch)
    losses, errors = power_oracle(labels, scores, power, beta)
    loss = PowerLoss(power, beta, reduction="sum")
    np.testing.assert_allclose(value(loss(labels, scores)), losses.sum(), rtol=1e-5)
    # Where the squashing has saturated on the wrong side, 1 - tanh^2 has lost its digits.
    atol = 3e-7 * beta * power * 2**power
    np.testing.assert_allclose(gradient(loss, labels, scores), errors, rtol=2e-5, atol=atol)


def test_hinge_worked_example():
    out = np.array([[1.53125, -0.8671875, -0.765625], [1.71875, -0.5859375, -0.859375]], "float32")
    labels = np.array([0, 2])
    assert float(LocalHinge()(labels, out)) == 1.8046875
    expected = [[0, 0.25, 0.25], [0.25, 0.25, -0.5]]
    np.testing.assert_array_equal(gradient(LocalHinge(), labels, out), expected)


def test_hinge_derivative_at_the_margins():
    below, above = np.nextafter(1, 0, dtype="float32"), np.nextafter(1, 2, dtype="float32")
    logits = np.array([[1, -1], [below, -below], [above, -above]], "float32")
    errors = gradient(LocalHinge(reduction="sum"), np.zeros(3, int), logits)
    np.testing.assert_array_equal(errors, [[0, 0], [-1, 1], [0, 0]])


def test_hinge_error_is_local():
    logits = np.array([[0.2, 0.3, -0.4]], "float32")
    moved = np.array([[0.2, 9.0, 9.0]], "float32")
    labels = np.array([0])
    assert gradient(LocalHinge(), labels, logits)[0, 0] == -1
    assert gradient(LocalHinge(), labels, moved)[0, 0] == -1


def test_off_class_factor_weighs_the_wrong_classes():
    logits = np.zeros((1, 100), "float32")
    # 1 of the correct class and 99 mu = off_class_factor of the others.
    assert float(LocalHinge(10.0)(np.array([3]), logits)) == pytest.approx(11.0)
    assert float(LocalHinge(0.0)(np.array([3]), logits)) == pytest.approx(1.0)


def test_power_loss_keeps_small_distances():
    # tanh(9) is 1 in float32; the distance to it is not 0.
    error = gradient(PowerLoss(1.0), np.array([0]), np.array([[9.0, -9.0]], "float32"))
    exact = -4 * np.exp(-18.0)
    np.testing.assert_allclose(error, [[exact, -exact]], rtol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1e30])
def test_gradient_is_finite_everywhere(loss, scale):
    logits = (np.array([[1.0, -1.0, 1.0]]) * scale).astype("float32")
    assert np.isfinite(gradient(loss, np.array([0]), logits)).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_forms_of_labels_agree(loss):
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    labels = np.array([0, 3, 1, 1, 2])
    expected = float(loss(labels, logits))
    for same in (
        labels.astype("uint8"),
        labels.astype("float32"),
        labels[:, None],
        np.eye(4)[labels],
        np.eye(4, dtype=bool)[labels],
        labels.tolist(),
    ):
        assert float(loss(same, logits)) == expected


@pytest.mark.parametrize("loss", LOSSES)
def test_sample_weights(loss):
    logits = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    first = float(loss(np.array([1]), logits[:1]))
    weighted = float(loss(np.array([1, 2]), logits, sample_weight=np.array([2.0, 0.0])))
    assert weighted == pytest.approx(first)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_widened(loss, dtype):
    logits = ops.cast(np.random.default_rng(0).normal(size=(64, 5)), dtype)
    wide = value(ops.cast(logits, "float32"))
    labels = np.arange(64) % 5
    result = loss(labels, logits)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    assert float(result) == float(loss(labels, wide))
    direct = loss.call(ops.convert_to_tensor(labels), logits)
    assert keras.backend.standardize_dtype(direct.dtype) == "float32"


@pytest.mark.parametrize("loss_class", [LocalHinge, PowerLoss, SquaredHinge])
def test_half_precision_as_global_type(loss_class):
    # 2049 is no float16: its neighbour would be taken for the class.
    logits = np.zeros((1, 2050), "float32")
    logits[0, 2049] = 3.0
    expected = float(loss_class()(np.array([2049]), logits))
    keras.config.set_floatx("float16")
    try:
        loss = loss_class()
        assert loss.dtype == "float32"
        assert float(loss(np.array([2049]), logits)) == expected
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("labels", "logits", "named"),
    [
        (np.eye(4)[[0, 1]], np.zeros((2, 3)), ["(2, 4)", "(batch, 3)"]),
        (np.zeros(2), np.zeros((2, 3, 1)), ["(2, 3, 1)"]),
        (np.zeros(2), np.zeros(2), ["(2,)"]),
        (np.zeros(2), np.zeros((2, 1)), ["(2, 1)", "at least 2 classes"]),
        (np.zeros(3), np.zeros((2, 3)), ["(3,)", "(2, 3)"]),
        (np.zeros(1), np.zeros((2, 3)), ["(1,)", "(2, 3)"]),
        (np.zeros((2, 1, 1)), np.zeros((2, 3)), ["(2, 1, 1)"]),
        (np.array(1), np.zeros((1, 3)), ["()"]),
        (np.array([0, 3]), np.zeros((2, 3)), ["from 0 to 2", "3.0"]),
        (np.array([0, -1]), np.zeros((2, 3)), ["from 0 to 2", "-1.0"]),
        (np.array([[0], [7]]), np.zeros((2, 3)), ["from 0 to 2", "7.0"]),
        (np.array([0, 0.5]), np.zeros((2, 3)), ["0.5"]),
        (np.array([0, np.nan]), np.zeros((2, 3)), ["nan"]),
        (np.array([[0, 0.25, 0.75], [1, 0, 0]]), np.zeros((2, 3)), ["one-hot", "0.75"]),
        (np.array([[0, 0, 0], [1, 0, 0]]), np.zeros((2, 3)), ["one-hot"]),
        (np.array([[0, 1, 1], [1, 0, 0]]), np.zeros((2, 3)), ["one-hot"]),
    ],
)
def test_bad_input(loss, labels, logits, named):
    with pytest.raises(ValueError, match="Received") as error:
        loss(labels, logits.astype("float32"))
    for part in named:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("loss_class", "arguments", "match"),
    [
        (LocalHinge, {"off_class_factor": -0.1}, "off_class_factor"),
        (LocalHinge, {"off_class_factor": float("nan")}, "off_class_factor"),
        (LocalHinge, {"off_class_factor": "1"}, "off_class_factor"),
        (PowerLoss, {"power": 0.9}, "power"),
        (PowerLoss, {"power": float("inf")}, "power"),
        (PowerLoss, {"beta": 0.0}, "beta"),
        (PowerLoss, {"beta": -1.0}, "beta"),
    ],
)
def test_bad_arguments(loss_class, arguments, match):
    with pytest.raises(ValueError, match=f"`{match}` must be"):
        loss_class(**arguments)


@pytest.mark.parametrize(
    "loss",
    [
        LocalHinge(2.5, reduction="sum", name="mine"),
        PowerLoss(4.0, 0.3, reduction="none", name="mine"),
    ],
)
def test_round_trip(loss):
    config = keras.saving.serialize_keras_object(loss)
    assert config["registered_name"] == f"keras_local>{type(loss).__name__}"
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(loss)
    assert restored.get_config() == loss.get_config()
    assert keras.losses.get(keras.losses.serialize(loss)).get_config() == loss.get_config()


def small_model(loss, jit_compile=False, optimizer=None):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, jit_compile=jit_compile)
    return model


@pytest.mark.parametrize(
    ("loss_class", "jit_compile"),
    cases(
        itertools.product([LocalHinge, PowerLoss, SquaredHinge], [False, True]),
        daily=[(LocalHinge, True), (PowerLoss, True), (SquaredHinge, False)],
    ),
)
def test_learns_in_fit_and_survives_saving(loss_class, jit_compile, tmp_path):
    if BACKEND == "torch" and jit_compile:
        pytest.skip("torch.compile takes minutes")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype("float32")
    y = np.argmax(x @ rng.normal(size=(3, 4)), axis=-1)
    model = small_model(loss_class(), jit_compile, keras.optimizers.Adam(0.05))
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=10, verbose=0)
    after = model.evaluate(x, y, verbose=0)
    assert after < 0.7 * before
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert restored.evaluate(x, y, verbose=0) == pytest.approx(after, rel=1e-5)
    assert isinstance(restored.loss, loss_class)


@pytest.mark.parametrize("loss_class", [LocalHinge, PowerLoss, SquaredHinge])
@pytest.mark.parametrize("label", [4, -1, 1000])
def test_no_compiled_step_learns_from_a_label_out_of_range(loss_class, label):
    if BACKEND != "tensorflow":
        pytest.skip("TensorFlow graphs")
    import tensorflow as tf

    model = small_model(loss_class())
    x, y = np.ones((8, 3), "float32"), np.array([0, 1, 2, 3, 0, 1, 2, label])
    before = model.get_weights()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"is not in \[0, 4\)"):
        model.fit(x, y, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("loss_class", [LocalHinge, PowerLoss, SquaredHinge])
@pytest.mark.parametrize("label", [4, -1])
def test_where_no_error_is_possible_the_loss_is_nan_and_nothing_moves(loss_class, label):
    if BACKEND == "torch":
        pytest.skip("labels are always concrete")
    model = small_model(loss_class(), jit_compile=True)
    x, y = np.ones((8, 3), "float32"), np.array([0, 1, 2, 3, 0, 1, 2, label])
    before = model.get_weights()
    history = model.fit(x, y, verbose=0).history
    assert np.isnan(history["loss"][0])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # and a proper batch trains afterwards
    assert np.isfinite(model.fit(x[:4], y[:4], verbose=0).history["loss"][0])
    assert not np.array_equal(before[0], model.get_weights()[0])


@pytest.mark.parametrize("loss_class", [LocalHinge, PowerLoss, SquaredHinge])
def test_soft_labels_in_a_graph(loss_class):
    """Refused by name; XLA, which cannot, gives NaN and moves nothing."""
    if BACKEND != "tensorflow":
        pytest.skip("TensorFlow graphs")
    import tensorflow as tf

    labels = np.full((4, 4), 0.25, "float32")
    model = small_model(loss_class(), jit_compile=False)
    before = model.get_weights()
    with pytest.raises(tf.errors.InvalidArgumentError, match="`y_true` must be integers from 0"):
        model.fit(np.ones((4, 3)), labels, verbose=0)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="`y_true` must be one-hot rows"):
        loss_class()(labels, np.zeros((4, 4), "float32"))
    model = small_model(loss_class(), jit_compile=True)
    before = model.get_weights()
    assert np.isnan(model.fit(np.ones((4, 3)), labels, verbose=0).history["loss"][0])
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_width_is_checked_in_fit():
    model = small_model(LocalHinge())
    before = model.get_weights()
    with pytest.raises(ValueError, match="y_true") as error:
        model.fit(np.ones((6, 3)), np.eye(5)[[0, 1, 2, 3, 4, 0]], verbose=0)
    assert "5" in str(error.value)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_unknown_shapes_do_not_broadcast():
    if BACKEND != "tensorflow":
        pytest.skip("only TensorFlow has unknown shapes")
    import tensorflow as tf

    @tf.function(
        input_signature=[tf.TensorSpec((None, None)), tf.TensorSpec((None, 3), tf.float32)]
    )
    def loss(labels, logits):
        return LocalHinge()(labels, logits)

    logits = tf.zeros((4, 3))
    assert float(loss(tf.one_hot([0, 1, 2, 0], 3), logits)) == pytest.approx(2.0)
    for wrong in (tf.ones((4, 1)), tf.one_hot([0], 3), tf.one_hot([0, 1, 2, 0], 4)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            loss(wrong, logits)

    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec((None, 3), tf.float32)])
    def unknown(labels, logits):
        return LocalHinge()(labels, logits)

    for labels in ([0, 1, 2, 0], [[0], [1], [2], [0]], np.eye(3)[[0, 1, 2, 0]]):
        assert float(unknown(tf.constant(labels, tf.float32), logits)) == pytest.approx(2.0)
    for wrong in (
        [0.0, 1.0],
        [[0.0]],
        np.eye(4),
        np.eye(3)[:1],
        [0.0, 1.0, 2.0, 3.0],
        np.eye(3) / 3,
    ):
        with pytest.raises(tf.errors.InvalidArgumentError):
            unknown(tf.constant(wrong, tf.float32), logits)


def test_mixed_precision_fit():
    if BACKEND == "torch":
        pytest.skip("float16 on a CPU")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype("float32")
    y = np.argmax(x @ rng.normal(size=(3, 4)), axis=-1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, dtype="mixed_float16")])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model.compile(optimizer, LocalHinge())
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_squared_hinge_equals_loops():
    rng = np.random.default_rng(0)
    for classes in (2, 5):
        scores = rng.normal(0, 1.5, (7, classes)).astype("float32")
        labels = rng.integers(0, classes, 7)
        losses, errors = np.zeros(7), np.zeros((7, classes))
        for b in range(7):
            for c in range(classes):
                target = 1.0 if c == labels[b] else -1.0
                shortfall = max(1.0 - target * float(scores[b, c]), 0.0)
                losses[b] += shortfall**2
                errors[b, c] = -2.0 * target * shortfall
        loss = SquaredHinge()
        assert float(value(loss(labels, scores))) == pytest.approx(losses.mean(), rel=1e-5)
        np.testing.assert_allclose(gradient(loss, labels, scores), errors / 7, atol=1e-6)
        # That of Keras is the mean over classes, of labels as rows.
        stock = keras.losses.SquaredHinge()(np.eye(classes)[labels], scores)
        assert float(value(stock)) == pytest.approx(losses.mean() / classes, rel=1e-5)
