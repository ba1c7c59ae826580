"""What cannot be exported is refused by name, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl


def dense(optimizer: Any = None, loss: Any = "mse", **arguments: Any) -> Any:
    layer = kl.layers.FeedbackDense(3, name="first", **arguments)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.1) if optimizer is None else optimizer, loss)
    return model


class OwnStep(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class OwnDescent(keras.optimizers.SGD):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient / 2.0, variable, learning_rate)


def own_step() -> Any:
    model = OwnStep([keras.Input((4,)), kl.layers.FeedbackDense(3)])
    model.compile("sgd", "mse")
    return model


def conv_3d() -> Any:
    model = keras.Sequential(
        [keras.Input((4, 4, 4, 1)), kl.layers.FeedbackConv3D(2, 2, name="volume")]
    )
    model.compile("sgd", "mse")
    return model


def recurrent() -> Any:
    model = keras.Sequential([keras.Input((5, 3)), kl.layers.FeedbackLSTM(4, name="memory")])
    model.compile("sgd", "mse")
    return model


def grouped() -> Any:
    layer = kl.layers.FeedbackConv2D(4, 2, groups=2, name="grouped")
    model = keras.Sequential([keras.Input((4, 4, 2)), layer])
    model.compile("sgd", "mse")
    return model


def holomorphic() -> Any:
    network = kl.dynamics.EquilibriumNetwork(
        [4, 3, 2], form="prototypical", nudging="holomorphic", free_steps=2, nudged_steps=2
    )
    network.compile("sgd")
    return network


def unmeasured() -> Any:
    encoder = keras.Sequential([keras.Input((4,)), kl.layers.HebbianDense(3)])
    return kl.models.hebbian_readout(encoder, 2)


SGD = keras.optimizers.SGD
REFUSED: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "no model": (lambda: kl.layers.FeedbackDense(3), ("`model`", "FeedbackDense")),
    "class": (lambda: keras.Sequential, ("`model`", "Sequential")),
    "not built": (
        lambda: keras.Sequential([kl.layers.FeedbackDense(3)]),
        ("`model`", "built", "learning_form"),
    ),
    "own step": (own_step, ("`model`", "train_step", "learning_form", "OwnStep")),
    "adam": (lambda: dense("adam"), ("`model.optimizer`", "SGD", "Adam")),
    "own optimizer": (lambda: dense(OwnDescent(0.1)), ("`model.optimizer`", "OwnDescent")),
    "manhattan": (
        lambda: dense(kl.optimizers.BatchManhattan(0.1)),
        ("`model.optimizer`", "BatchManhattan"),
    ),
    "decay": (lambda: dense(SGD(0.1, weight_decay=0.1)), ("`model.optimizer.weight_decay`",)),
    "clipping": (lambda: dense(SGD(0.1, clipnorm=1.0)), ("`model.optimizer.clipnorm`",)),
    "average": (lambda: dense(SGD(0.1, use_ema=True)), ("`model.optimizer.use_ema`",)),
    "half precision": (
        lambda: dense(dtype="mixed_bfloat16"),
        ("`model`", "float32", "'first'", "mixed_bfloat16"),
    ),
    "frozen": (lambda: dense(trainable=False), ("`model`", "learn")),
    "3d": (conv_3d, ("`model`", "Conv3DBackprop", "'volume'")),
    "recurrent": (recurrent, ("`model`", "'memory'", "a loop keeps for its gradient")),
    "readout without a scale": (unmeasured, ("`model`", "fitted")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    make, words = REFUSED[case]
    path = tmp_path / "learner.tflite"
    with pytest.raises(ValueError, match="must be") as refused:
        kl.models.export_learner(make(), path, format="litert")
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert not path.exists()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(grouped, ("groups of channels", "'grouped'"), id="groups"),
        pytest.param(holomorphic, ("batch_size",), id="free batch"),
    ],
)
def test_refused_by_the_runtime(
    make: Callable[[], Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "learner.tflite"
    with pytest.raises(ValueError, match="`model` must be") as refused:
        kl.models.export_learner(make(), path, format="litert")
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert not path.exists()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("format", "tflite"),
        ("format", None),
        ("format", 3),
        ("batch_size", 0),
        ("batch_size", True),
        ("batch_size", "8"),
        ("batch_size", 10**30),
        ("path", None),
        ("path", 3),
        ("path", ""),
        ("path", Path),
        ("path", "learner.onnx"),
    ],
)
def test_arguments(argument: str, value: Any, tmp_path: Path) -> None:
    arguments = {"path": tmp_path / "x.tflite", "format": "litert", argument: value}
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        kl.models.export_learner(dense(), **arguments)
    assert not list(tmp_path.iterdir())


def test_the_model_is_as_it_was(tmp_path: Path) -> None:
    """Tracing changes no weight, no counter and no generator."""
    model = dense(feedback="weight_mirror")
    x, y = np.ones((2, 4), "float32"), np.zeros((2, 3), "float32")
    model.train_on_batch(x, y)
    before = [np.array(variable) for variable in model.variables]
    kl.models.export_learner(model, tmp_path)
    after = [np.array(variable) for variable in model.variables]
    assert all(map(np.array_equal, before, after))
