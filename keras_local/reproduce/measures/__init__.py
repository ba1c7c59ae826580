"""Experiments of kind `measure`: functions that give numbers, without `fit`.

A function takes the run (its seed, and its data if there are any) and its arguments from the TOML
file, and returns an `Outcome`.
"""

from __future__ import annotations

from collections.abc import Callable

from keras_local import _validation as check
from keras_local.reproduce.making import fits
from keras_local.reproduce.measures.feedback_rules import (
    equal_start,
    fixed_point,
    linear_feedback,
)
from keras_local.reproduce.measures.fields import natural_fields, on_sphere, recirculation
from keras_local.reproduce.measures.limits import limit_ratio, nudge_bias, precision_ratio
from keras_local.reproduce.measures.plasticity_rules import (
    bcm,
    convallis_rate,
    eligibility_delay,
    nonlinear_mixture,
    principal_components,
)
from keras_local.reproduce.measures.rewards import node_perturbation, reward_hebb
from keras_local.reproduce.outcome import Outcome, Run

FUNCTIONS: dict[str, Callable[..., Outcome]] = {
    "bcm": bcm,
    "convallis_rate": convallis_rate,
    "eligibility_delay": eligibility_delay,
    "equal_start": equal_start,
    "fixed_point": fixed_point,
    "limit_ratio": limit_ratio,
    "linear_feedback": linear_feedback,
    "natural_fields": natural_fields,
    "node_perturbation": node_perturbation,
    "nonlinear_mixture": nonlinear_mixture,
    "nudge_bias": nudge_bias,
    "on_sphere": on_sphere,
    "precision_ratio": precision_ratio,
    "principal_components": principal_components,
    "recirculation": recirculation,
    "reward_hebb": reward_hebb,
}
"""The functions by the names that TOML files use."""


def function_of(name: str) -> Callable[..., Outcome]:
    """Return a function by its name.

    Raises:
        ValueError: If there is none of this name.
    """
    check.one_of("measure: function", name, tuple(FUNCTIONS))
    return FUNCTIONS[name]


def measure(run: Run) -> Outcome:
    """Call the function that the settings name."""
    settings = run.settings.measure
    if settings is None:
        raise ValueError(check.refusal("settings", "of kind 'measure'", run.settings.kind))
    function = function_of(settings.function)
    fits(function, {"run": run, **settings.arguments}, f"measure: {settings.function}")
    return function(run, **settings.arguments)
