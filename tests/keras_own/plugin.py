"""A pytest plugin: Keras' own tests meet our layers where they ask for those of Keras.

`pytest -p tests.keras_own.plugin FILES` with the environment variable `KERAS_OWN_OUTCOMES` set to a
file, into which the outcome of each test is written.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from typing import Any

import keras
import keras.src
import pytest

from keras_local import layers

TWINS: dict[str, type[keras.layers.Layer]] = {
    "Dense": layers.FeedbackDense,
    "Conv1D": layers.FeedbackConv1D,
    "Conv2D": layers.FeedbackConv2D,
    "Conv3D": layers.FeedbackConv3D,
    "DepthwiseConv1D": layers.FeedbackDepthwiseConv1D,
    "DepthwiseConv2D": layers.FeedbackDepthwiseConv2D,
    "SeparableConv1D": layers.FeedbackSeparableConv1D,
    "SeparableConv2D": layers.FeedbackSeparableConv2D,
    "Conv1DTranspose": layers.FeedbackConv1DTranspose,
    "Conv2DTranspose": layers.FeedbackConv2DTranspose,
    "Conv3DTranspose": layers.FeedbackConv3DTranspose,
    "EinsumDense": layers.FeedbackEinsumDense,
    "SimpleRNN": layers.FeedbackSimpleRNN,
    "LSTM": layers.FeedbackLSTM,
    "GRU": layers.FeedbackGRU,
    "MultiHeadAttention": layers.FeedbackMultiHeadAttention,
}
OUTCOMES: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Put our layers in the places of Keras', and let them learn as those do."""
    for ours in TWINS.values():
        _default(ours.__init__, "feedback", "symmetric")
    stock = {name: getattr(keras.layers, name) for name in TWINS}
    for module in list(sys.modules.values()):
        # Where a test may import them from; the code of Keras itself keeps its own.
        name = getattr(module, "__name__", "")
        if name in ("keras.layers", "keras.src.layers") or name.startswith("keras.src.layers."):
            for twin, ours in TWINS.items():
                if vars(module).get(twin) is stock[twin] and _public(name, stock[twin]):
                    setattr(module, twin, ours)


def _public(module: str, stock: type) -> bool:
    """Tell a module that hands a class out from one that builds on it."""
    return module in ("keras.layers", "keras.src.layers", stock.__module__)


def _default(function: Any, argument: str, value: Any) -> None:
    places = [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.default is not each.empty and each.kind is not each.KEYWORD_ONLY
    ]
    defaults = list(function.__defaults__)
    defaults[places.index(argument)] = value
    function.__defaults__ = tuple(defaults)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note how each test ends; one that asks for a package that is not there is skipped."""
    report = (yield).get_result()
    if report.when == "call" or report.outcome != "passed":
        missing = call.excinfo is not None and call.excinfo.errisinstance(ImportError)
        name = f"{item.path.stem}::{item.nodeid.split('::', 1)[-1]}"
        OUTCOMES[name] = "skipped" if missing else report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the outcomes down."""
    if path := os.environ.get("KERAS_OWN_OUTCOMES"):
        with open(path, "w") as file:
            json.dump(OUTCOMES, file)
