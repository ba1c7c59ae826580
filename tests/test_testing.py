"""The checks that the package offers: they pass for the rules, and fail for broken ones."""

import keras
import numpy as np
import pytest

import keras_local as kl

feedback = kl.feedback
RULES = {
    "symmetric": feedback.Symmetric(),
    "alignment": feedback.FeedbackAlignment(),
    "detached": feedback.Detached(),
    "kolen_pollack": feedback.KolenPollack(),
    "kolen_pollack_separate": feedback.KolenPollack(separate=True),
    "uniform_signs": feedback.SignSymmetry("uniform"),
    "batchwise_signs": feedback.SignSymmetry("batchwise"),
    "fixed_signs": feedback.SignSymmetry("fixed"),
    "mirror": feedback.WeightMirror(),
    "symmetric_alignment": feedback.SymmetricAlignment(),
    "activation_alignment": feedback.ActivationAlignment(),
    "information_alignment": feedback.InformationAlignment(),
    "local_alignment": feedback.LocalAlignment(
        feedback.Regulariser([feedback.Decay(0.1), feedback.SelfAlign(0.2)])
    ),
    "norm": feedback.MatchedNorm(feedback.KolenPollack()),
    "noise": feedback.NoisyUpdates(feedback.KolenPollack(), 0.01),
    "norm_of_noise": feedback.MatchedNorm(feedback.NoisyUpdates(feedback.WeightMirror())),
}
"""All that the package exports, and wrappers around wrappers."""

INTERFACES = {"FeedbackRule", "AlignmentRule", "WrappedRule", "RandomConnectivity"}


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("alignment", "detached", "norm_of_noise", "fixed_signs", "batchwise_signs")
        else pytest.param(name, marks=pytest.mark.thorough)
        for name in RULES
    ],
)
def test_feedback_rules_pass(name):
    kl.testing.check_feedback_rule(RULES[name])


def test_no_feedback_rule_is_left_out():
    exported = {
        name
        for name, kind in vars(feedback).items()
        if isinstance(kind, type) and issubclass(kind, feedback.FeedbackRule)
    }
    assert exported - INTERFACES == {type(rule).__name__ for rule in RULES.values()}


@keras.saving.register_keras_serializable(package="tests")
class Counting(kl.feedback.FeedbackAlignment):
    """Has a memory, which it assigns itself: how often it was called in training."""

    def weights(self, kernel, initializer):
        memory = kl.feedback.FeedbackWeight("calls", (1,), "zeros", trainable=False)
        return [*super().weights(kernel, initializer), memory]

    def assignment(self, kernel, feedback_kernel):
        return [*super().assignment(kernel, feedback_kernel), np.zeros(1, "float32")]

    def error_kernel(self, kernel, *feedback):
        return feedback[0]

    def local_gradients(self, synapses, inputs, outputs):
        calls = synapses.variables[1]
        calls.assign(calls + 1.0)
        return None


def test_a_rule_with_a_memory_passes():
    kl.testing.check_feedback_rule(Counting())


@keras.saving.register_keras_serializable(package="tests")
class Leaking(kl.feedback.FeedbackAlignment):
    """Sends half of the error through the forward kernel."""

    def error_kernel(self, kernel, *feedback):
        return 0.5 * (kernel + feedback[0])


def test_an_assignment_that_does_not_hold_is_found():
    with pytest.raises(AssertionError, match="the assigned feedback kernel"):
        kl.testing.check_feedback_rule(Leaking())


class Unregistered(kl.feedback.FeedbackAlignment):
    def get_config(self):
        return {"unknown": 1}


def test_a_config_that_does_not_restore_is_found():
    with pytest.raises((AssertionError, TypeError)):
        kl.testing.check_feedback_rule(Unregistered())


def change(pre, kernel):
    """Krotov & Hopfield's fast rule for p = 3, rank 2, delta 0.4."""
    total = np.zeros_like(kernel)
    for sample in pre:
        currents = sample @ (np.sign(kernel) * kernel**2)
        first, second = np.argsort(-currents)[:2]
        for unit, gain in ((first, 1.0), (second, -0.4)):
            total[:, unit] += gain * (sample - currents[unit] * kernel[:, unit])
    return total


def test_plasticity_rule_passes():
    kl.testing.check_plasticity_rule(kl.plasticity.KrotovHopfield(p=3), change)


@pytest.mark.parametrize(
    "rule",
    [
        kl.plasticity.KrotovHopfield(p=2),
        kl.plasticity.KrotovHopfield(p=3, delta=0.3),
        kl.plasticity.KrotovHopfield(p=3, rank=3),
    ],
    ids=["other p", "other delta", "other rank"],
)
def test_another_rule_is_found(rule):
    with pytest.raises(AssertionError, match="the change"):
        kl.testing.check_plasticity_rule(rule, change)
