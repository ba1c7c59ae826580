"""Measures of networks that settle: which small parameter makes them compute a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_local import _validation as check
from keras_local import dynamics
from keras_local.reproduce.outcome import Outcome, Run

_SIZES = [8, 10, 6, 3]

_SMALL = 32.0
"""The limit is approached by a parameter so many times smaller."""


def nudge_bias(run: Run, nudging: str, nudge: float = 0.125, points: int = 4) -> Outcome:
    """Halve the nudge of equilibrium propagation; by how much does the error of its change fall?

    The reference is the change with a very small centred nudge, all in double precision.

    Args:
        run: The run, for its seed.
        nudging: `"one_sided"`, `"centred"` or `"holomorphic"`.
        nudge: The larger of the two nudges.
        points: Points of the holomorphic nudges.
    """

    def changes(strength: float, kind: str) -> list[np.ndarray]:
        network = dynamics.EquilibriumNetwork(
            _SIZES,
            form="prototypical",
            nudging=kind,  # type: ignore[arg-type]
            nudge=strength,
            points=points,
            free_steps=150,
            nudged_steps=150,
            dtype="float64",
        )
        return _changes(run, network, scale=0.4)

    exact = changes(1e-3, "centred")
    errors = [_distance(changes(each, nudging), exact) for each in (nudge, nudge / 2.0)]
    return _ratio(errors)


def limit_ratio(run: Run, network: str) -> Outcome:
    """Halve the parameter in whose limit a network computes backpropagation.

    Args:
        run: The run, for its seed.
        network: `"contrastive_hebbian"` (feedback `gamma`), `"microcircuit"` (mixing `lam`) or
            `"predictive_coding"` (the inverse variance of the outputs).
    """
    makers: dict[str, tuple[float, Callable[[float], Any]]] = {
        "contrastive_hebbian": (
            0.025,
            lambda small: dynamics.ContrastiveHebbianNetwork(
                _SIZES, gamma=small, free_steps=90, clamped_steps=90, dtype="float64"
            ),
        ),
        "microcircuit": (
            0.02,
            lambda small: dynamics.MicrocircuitNetwork(
                _SIZES, lam=small, top_down="transposed", dtype="float64"
            ),
        ),
        "predictive_coding": (
            0.01,
            lambda small: dynamics.PredictiveCodingNetwork(
                _SIZES, output_variance=1.0 / small, steps=300, step_size=0.2, dtype="float64"
            ),
        ),
    }
    check.one_of("network", network, tuple(makers))
    first, make = makers[network]
    # Interneurons have to predict the layer above for the weights that there are now.
    after = (lambda built: built.predict_itself()) if network == "microcircuit" else None
    exact, *others = (
        _changes(run, make(each), after=after) for each in (first / _SMALL, first, first / 2.0)
    )
    return _ratio([_distance(each, exact) for each in others])


def precision_ratio(run: Run, precision: float = 1e-3) -> Outcome:
    """Take a tenth of the precision of the images in a linear network of local backpropagation.

    Its change over the precision comes nearer to backpropagation of the generator of the images.

    Args:
        run: The run, for its seed.
        precision: The larger of the two precisions.
    """

    def changes(small: float) -> list[np.ndarray]:
        network = dynamics.LocalBackpropNetwork(
            [9, 6, 4],
            activation="linear",
            tau=None,
            simulation_time=6.0,
            time_step=0.02,
            precision=(small, 1.0, 1.0),
            learn_bias=False,
            dtype="float64",
        )
        return [each / small for each in _changes(run, network)]

    exact = changes(precision / 1000.0)
    return _ratio([_distance(changes(each), exact) for each in (precision, precision / 10.0)])


def _changes(
    run: Run, network: Any, scale: float = 0.5, after: Callable[[Any], None] | None = None
) -> list[np.ndarray]:
    """Return the changes of the kernels for four samples; equal weights for all networks."""
    generator = np.random.default_rng(run.seed)
    sizes = network.sizes
    x = generator.uniform(0.0, 1.0, (4, sizes[0]))
    targets = np.eye(sizes[-1])[generator.integers(0, sizes[-1], 4)]
    inputs = keras.ops.convert_to_tensor(x, "float64")
    network(inputs)
    for weight in network.weights:
        if len(weight.shape) == 2:
            deviation = scale / weight.shape[0] ** 0.5
            weight.assign(generator.standard_normal(weight.shape) * deviation)
    if after is not None:
        after(network)
    share = keras.ops.full((4,), 0.25, dtype="float64")
    wanted = keras.ops.convert_to_tensor(targets, "float64")
    pairs = network.changes(inputs, wanted, network.free_phase(inputs), share)
    # Those of the way up come first; interneurons have nothing to learn in the limit.
    kernels = [change for weight, change in pairs if len(weight.shape) == 2][: len(sizes) - 1]
    return [np.asarray(keras.ops.convert_to_numpy(each), "float64") for each in kernels]


def _distance(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    errors = [
        np.linalg.norm(a - b) / np.linalg.norm(b)
        for a, b in zip(found, exact, strict=True)
        if np.linalg.norm(b) > 0.0
    ]
    return float(np.mean(errors))


def _ratio(errors: list[float]) -> Outcome:
    return Outcome({"ratio": errors[0] / errors[1], "error": errors[1]})
