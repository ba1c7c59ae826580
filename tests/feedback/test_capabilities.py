"""What rules say about themselves, and what holds for every rule that says it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers, models
from keras_local.feedback import (
    Detached,
    FeedbackAlignment,
    KolenPollack,
    MatchedNorm,
    NoisyUpdates,
    RandomConnectivity,
    SignSymmetry,
    Symmetric,
    WeightMirror,
)
from tests.support import BACKEND, array, compile_options, probe, two_replicas

SENDS, OWN, ACTIVITY, FOLLOWS, DRAWS = (
    "sends_errors",
    "has_own_kernel",
    "learns_from_activity",
    "follows_kernel",
    "draws",
)
TRUE_OF: list[tuple[feedback.FeedbackRule, set[str]]] = [
    (Symmetric(), {SENDS}),
    (Detached(), set()),
    (FeedbackAlignment(), {SENDS, OWN}),
    (KolenPollack(), {SENDS, OWN, FOLLOWS}),
    (KolenPollack(decay=0.1), {SENDS, OWN, FOLLOWS}),
    (SignSymmetry(), {SENDS, OWN}),
    (SignSymmetry("batchwise"), {SENDS, OWN, DRAWS}),
    (WeightMirror(), {SENDS, OWN, ACTIVITY, DRAWS}),
    (WeightMirror(noise=None), {SENDS, OWN, ACTIVITY}),
    (feedback.SymmetricAlignment(), {SENDS, OWN, ACTIVITY}),
    (MatchedNorm(KolenPollack()), {SENDS, OWN, FOLLOWS}),
    (NoisyUpdates(KolenPollack()), {SENDS, OWN, FOLLOWS, DRAWS}),
    (NoisyUpdates(feedback.ActivationAlignment()), {SENDS, OWN, ACTIVITY, DRAWS}),
    (RandomConnectivity(FeedbackAlignment(), 0.5), {SENDS, OWN}),
    (RandomConnectivity(Symmetric(), 0.5), {SENDS, OWN}),
    (RandomConnectivity(Detached(), 0.5), set()),
    (
        MatchedNorm(NoisyUpdates(RandomConnectivity(WeightMirror(), 0.5))),
        {SENDS, OWN, ACTIVITY, DRAWS},
    ),
]


def _named(value: Any) -> str:
    # A set prints in another order in each process, and the workers of a run have to agree.
    return str(sorted(value) if isinstance(value, set) else value)[:60]


@pytest.mark.parametrize(("rule", "true"), TRUE_OF, ids=_named)
def test_what_a_rule_says(rule: feedback.FeedbackRule, true: set[str]) -> None:
    said = {name for name in (SENDS, OWN, ACTIVITY, FOLLOWS, DRAWS) if getattr(rule, name)}
    assert said == true


@pytest.mark.parametrize(("rule", "true"), TRUE_OF, ids=_named)
def test_a_wrapper_says_what_the_rule_inside_says(
    rule: feedback.FeedbackRule, true: set[str]
) -> None:
    class Plain(feedback.WrappedRule):
        """A user's wrapper that changes nothing."""

    said = {name for name in (SENDS, OWN, ACTIVITY, FOLLOWS, DRAWS) if getattr(Plain(rule), name)}
    assert said == true
    assert Plain(rule).innermost is rule.innermost


def test_connect_is_final() -> None:
    with pytest.raises(TypeError, match=r"Own\.connect: `FeedbackRule\.connect` is final"):

        class Own(FeedbackAlignment):
            def connect(self, *arguments: Any) -> Any:
                raise NotImplementedError


def test_connect_of_another_base_is_noticed_too() -> None:
    class Other:
        def connect(self, *arguments: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(TypeError, match="is final"):

        class Own(Other, FeedbackAlignment):  # type: ignore[misc]
            pass


@pytest.mark.parametrize("terms", [False, True])
def test_wrappers_adapt_the_rule_inside(terms: bool) -> None:
    class Plain(feedback.WrappedRule):
        """A user's wrapper with an attribute of its own."""

        note = "kept"

    adapted = Plain(Plain(KolenPollack())).adapt(kernel_has_own_terms=terms)
    assert type(adapted) is Plain
    assert adapted.innermost == KolenPollack(separate=True if terms else None)
    masked = MatchedNorm(NoisyUpdates(RandomConnectivity(KolenPollack(), 0.5)))
    assert masked.adapt(kernel_has_own_terms=terms).innermost == KolenPollack(separate=True)
    assert masked.innermost == KolenPollack()


def moved_below(**arguments: Any) -> float:
    below = keras.layers.Dense(6)
    model = keras.Sequential([keras.Input((5,)), below, layers.FeedbackDense(3, **arguments)])
    model.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
    before = array(below.kernel)
    top = array(model.layers[-1].kernel)
    model.fit(probe((8, 5)), probe((8, 3), 1), verbose=0)
    assert np.abs(array(model.layers[-1].kernel) - top).max() > 1e-3
    return float(np.abs(array(below.kernel) - before).max())


@keras.saving.register_keras_serializable(package="keras_local_tests")
class Silent(feedback.FeedbackRule):
    """A user's rule that has feedback weights which learn from errors, and sends none."""

    @property
    def sends_errors(self) -> bool:
        return False

    def weights(self, kernel: Any, initializer: Any) -> list[feedback.FeedbackWeight]:
        return [feedback.FeedbackWeight("copy", tuple(kernel.shape), initializer, True)]

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        return feedback[0]

    def assignment(self, kernel: Any, feedback_kernel: Any) -> list[Any]:
        return [feedback_kernel]

    def feedback_gradients(self, signals: Any) -> tuple[Any, ...]:
        return (signals.kernel_gradient,)


@pytest.mark.parametrize(
    "arguments",
    [
        {"feedback": "detached"},
        {"feedback": "detached", "connectivity": 1.0},
        {"feedback": RandomConnectivity(Detached(), 1.0)},
        {"feedback": RandomConnectivity(RandomConnectivity(Detached(), 1.0), 1.0)},
        {"feedback": Silent()},
        {"feedback": MatchedNorm(Silent())},
        {"feedback": NoisyUpdates(MatchedNorm(Silent())), "connectivity": 0.9},
    ],
    ids=str,
)
def test_a_rule_that_sends_no_errors_sends_none(arguments: dict[str, Any]) -> None:
    assert moved_below(**arguments) == 0.0


def test_the_others_send_errors() -> None:
    assert moved_below(feedback="feedback_alignment") > 1e-3


def test_a_users_rule_that_sends_no_errors_can_learn_from_them() -> None:
    layer = layers.FeedbackDense(3, feedback=Silent())
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
    start = array(layer.kernel) - array(layer.feedback_kernel)
    before = array(layer.feedback_kernel)
    model.fit(probe((8, 5)), probe((8, 3), 1), verbose=0)
    np.testing.assert_allclose(array(layer.kernel) - array(layer.feedback_kernel), start, atol=1e-6)
    assert np.abs(array(layer.feedback_kernel) - before).max() > 1e-3


@keras.saving.register_keras_serializable(package="keras_local_tests")
class Remembering(feedback.FeedbackRule):
    """A user's rule with a memory: errors return through a running mean of what it saw."""

    def weights(self, kernel: Any, initializer: Any) -> list[feedback.FeedbackWeight]:
        return [feedback.FeedbackWeight("seen", tuple(kernel.shape), "zeros", trainable=False)]

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        return kernel + feedback[0]

    def assignment(self, kernel: Any, feedback_kernel: Any) -> list[Any]:
        return [feedback_kernel - kernel]

    def local_gradients(self, synapses: Any, inputs: Any, outputs: Any) -> None:
        count = keras.ops.cast(keras.ops.shape(inputs)[0], inputs.dtype)
        product = synapses.linear_map.kernel_gradient(inputs, outputs, synapses.kernel) / count
        synapses.variables[0].assign(0.5 * synapses.feedback[0] + 0.5 * product)


def trained_memory(rule: feedback.FeedbackRule, trainable: bool = True) -> Any:
    layer = layers.FeedbackDense(3, feedback=rule, kernel_initializer="ones")
    layer.trainable = trainable
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
    return layer, model


@pytest.mark.skipif(BACKEND != "tensorflow", reason="replicas are TensorFlow's")
@pytest.mark.parametrize("wrap", [lambda rule: rule, MatchedNorm], ids=["itself", "wrapped"])
def test_a_memory_is_the_same_on_all_replicas(wrap: Any) -> None:
    """And the one that a single device would have: a mean over examples."""
    inputs, targets = probe((16, 4)), probe((16, 3), 1)
    alone, model = trained_memory(wrap(Remembering()))
    model.fit(inputs, targets, batch_size=8, shuffle=False, verbose=0)
    strategy = two_replicas()
    with strategy.scope():
        spread, model = trained_memory(wrap(Remembering()))
    model.fit(inputs, targets, batch_size=8, shuffle=False, verbose=0)
    memories = strategy.experimental_local_results(spread._feedback_weights[0].value)
    one, other = (memory.numpy() for memory in memories)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, array(alone._feedback_weights[0]), rtol=1e-4, atol=1e-5)
    assert np.abs(one).max() > 0.1


LOCAL = [
    KolenPollack(decay=0.5),
    WeightMirror(),
    WeightMirror(every=2, noise=None),
    feedback.SymmetricAlignment(update_forward=True),
    NoisyUpdates(MatchedNorm(feedback.ActivationAlignment()), 0.5),
    Remembering(),
]


@pytest.mark.few(6)
@pytest.mark.parametrize("rule", LOCAL, ids=str)
@pytest.mark.parametrize("frozen", ["layer", "model"])
def test_a_frozen_layer_does_not_learn_from_activity(rule: Any, frozen: str) -> None:
    layer, model = trained_memory(rule, trainable=frozen != "layer")
    if frozen == "model":
        model.trainable = False
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), model])
    model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
    before = [array(weight) for weight in layer.weights]
    model.fit(probe((8, 4)), probe((8, 3), 1), batch_size=4, verbose=0)
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, array(weight), err_msg=weight.path)
    assert not layer.losses


def test_a_users_rule_that_learns_from_activity_can_be_aligned() -> None:
    """`align` asks the rule, not its class."""

    @keras.saving.register_keras_serializable(package="keras_local_tests")
    class Copying(FeedbackAlignment):
        def weights(self, kernel: Any, initializer: Any) -> list[feedback.FeedbackWeight]:
            return [feedback.FeedbackWeight("copy", tuple(kernel.shape), initializer, True)]

        def local_gradients(self, synapses: Any, inputs: Any, outputs: Any) -> Any:
            return None, synapses.feedback[0] - synapses.kernel

    layer = layers.FeedbackDense(3, feedback=Copying())
    model = keras.Sequential([keras.Input((4,)), layer])
    kernel = array(layer.kernel)
    optimizer = keras.optimizers.SGD(1.0)
    models.align(model, probe((4, 4)), optimizer=optimizer, verbose=0)
    np.testing.assert_array_equal(array(layer.kernel), kernel)
    np.testing.assert_allclose(array(layer.feedback_kernel), kernel, atol=1e-6)
