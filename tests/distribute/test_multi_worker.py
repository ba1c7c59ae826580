"""Several worker processes learn what one process learns; so do replicas, and devices of JAX."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Any

import pytest

import keras_local as kl
from tests.distribute.cases import CASES, FEW, NOISE
from tests.distribute.process import outcome
from tests.distribute.runner import difference, run_cases
from tests.support import BACKEND, tensorflow_only, two_replicas

HOUR = 3600
"""Seconds until pytest gives a test up: the machine may have more to do."""

KINDS = {
    "workers": ("workers", 2),
    "two replicas": ("replicas", 2),
    "four replicas": ("replicas", 4),
    "devices of JAX": ("devices", 2),
}
TOLERANCE = 1e-5
"""Of the largest entry of each weight."""


def wrong(results: dict[str, float | str], tolerance: float) -> dict[str, Any]:
    """What is further from one device than allowed, or went wrong."""
    return {
        name: value
        for name, value in results.items()
        if isinstance(value, str) or not value <= tolerance
    }


@tensorflow_only
@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["layer-dense-weight_mirror", "centred-activation_alignment"])
def test_noise_and_means_on_two_replicas(name: str) -> None:
    one, two = (
        outcome(CASES[name], scope, False)
        for scope in (contextlib.nullcontext, two_replicas().scope)
    )
    assert difference(one, two) < 1e-6


def test_the_chosen_cases_exist() -> None:
    assert not {*NOISE, *FEW} - set(CASES)


@tensorflow_only
@pytest.mark.daily
@pytest.mark.slow
@pytest.mark.timeout(HOUR)
def test_two_workers_equal_one_process() -> None:
    """One of each kind; the services are data sets, validation, callbacks, an interruption."""
    names = [*FEW, "services-stock", "services-interrupted"]
    assert wrong(run_cases(names), TOLERANCE) == {}


@tensorflow_only
@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(HOUR)
def test_the_strategy_of_tensorflow_still_fails() -> None:
    """In this Keras; one that is mended needs no strategy of ours."""
    (result,) = run_cases(["services-stock"], stock=True).values()
    assert isinstance(result, str), (
        "Keras trains under TensorFlow's own strategy. `keras_local.distribute.multi_worker` can "
        "return that, and say in the guide from which version of Keras on."
    )


@tensorflow_only
@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(5 * HOUR)
def test_every_case_on_two_workers() -> None:
    assert wrong(run_cases(CASES), TOLERANCE) == {}


@tensorflow_only
@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(HOUR)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_noise_and_means(kind: tuple[Any, int]) -> None:
    """Twenty steps with random numbers end where they end on one device."""
    if kind[0] == "devices" and importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX")
    assert wrong(run_cases(NOISE, *kind), 1e-6) == {}


@tensorflow_only
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("cluster_resolver", "localhost:2222"),
        ("cluster_resolver", {"worker": ["localhost:2222"]}),
        ("communication_options", "NCCL"),
        ("communication_options", 1 << 70),
    ],
)
def test_wrong_arguments_are_refused(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be a .* of `tf.distribute`, or None"):
        kl.distribute.multi_worker(**{argument: value})


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow has the strategy")
def test_other_backends_refuse() -> None:
    with pytest.raises(NotImplementedError, match=r"KERAS_BACKEND='(jax|torch)'"):
        kl.distribute.multi_worker()
