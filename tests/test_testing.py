"""The checks that the package offers: they pass for the rules, and fail for broken ones."""

import keras
import numpy as np
import pytest

import keras_local as kl

RULES = [
    kl.feedback.Symmetric(),
    kl.feedback.FeedbackAlignment(),
    kl.feedback.KolenPollack(),
    kl.feedback.KolenPollack(separate=True),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_feedback_rules_pass(rule):
    kl.testing.check_feedback_rule(rule)


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
