"""Every network, for the files that later versions have to load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_local import dynamics

SAMPLES = 6
SIZES = [4, 5, 3]
NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[], Any]]] = {
    "burstprop": ((4,), lambda: dynamics.BurstpropNetwork(SIZES)),
    "burstprop_learned": ((4,), lambda: dynamics.BurstpropNetwork(SIZES, feedback="learned")),
    "contrastive_hebbian": ((4,), lambda: dynamics.ContrastiveHebbianNetwork(SIZES)),
    "conv_equilibrium": (
        (4, 4, 1),
        lambda: dynamics.ConvEquilibriumNetwork(
            (4, 4, 1), (2, 2), 3, cost="mse", free_steps=6, nudged_steps=2
        ),
    ),
    "conv_equilibrium_cross_entropy": (
        (4, 4, 1),
        lambda: dynamics.ConvEquilibriumNetwork((4, 4, 1), (2,), 3, free_steps=6, nudged_steps=2),
    ),
    "difference_target": ((4,), lambda: dynamics.DifferenceTargetPropagation(SIZES, seed=1)),
    "equilibrium": ((4,), lambda: dynamics.EquilibriumNetwork(SIZES)),
    "equilibrium_persistent": (
        (4,),
        lambda: dynamics.EquilibriumNetwork(SIZES, persistent=SAMPLES, feedback="separate"),
    ),
    "equilibrium_holomorphic": (
        (4,),
        lambda: dynamics.EquilibriumNetwork(SIZES, form="prototypical", nudging="holomorphic"),
    ),
    "forward_forward": ((4,), lambda: dynamics.ForwardForwardNetwork(SIZES)),
    "local_backprop": ((4,), lambda: dynamics.LocalBackpropNetwork(SIZES, time_step=0.05)),
    "local_backprop_learned": (
        (4,),
        lambda: dynamics.LocalBackpropNetwork(SIZES, fix_A=None, tau=None, time_step=0.05),
    ),
    "microcircuit": ((4,), lambda: dynamics.MicrocircuitNetwork(SIZES)),
    "microcircuit_ode": (
        (4,),
        lambda: dynamics.MicrocircuitNetwork(
            SIZES, form="ode", top_down="learned", learn_apical=True, simulation_time=2.0
        ),
    ),
    "predictive_coding": ((4,), lambda: dynamics.PredictiveCodingNetwork(SIZES, steps=5)),
    "predictive_coding_zil": (
        (4,),
        lambda: dynamics.PredictiveCodingNetwork(SIZES, inference="zil", activation="tanh"),
    ),
    "recirculation": ((4,), lambda: dynamics.RecirculationAutoencoder(4, 3)),
    "segregated_dendrites": ((4,), lambda: dynamics.SegregatedDendritesNetwork(SIZES)),
    "temporal_difference": (
        (4,),
        lambda: dynamics.TemporalDifferenceNetwork(SIZES, batch_size=SAMPLES),
    ),
}
