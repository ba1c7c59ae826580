"""What `callbacks.TensorBoardFigures` writes, read back from its files."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, plots
from keras_local.callbacks import TensorBoardFigures
from keras_local.models import pretrain
from tests.support import probe, tensorflow_only

pytest.importorskip("matplotlib")
pytestmark = [
    tensorflow_only,
    pytest.mark.filterwarnings("ignore:Only"),
]


def images(folder: Path) -> list[tuple[str, int, np.ndarray]]:
    """Name, step and pixels of all images, in the order in which they were written."""
    import tensorflow as tf
    from matplotlib import image

    found = []
    for file in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "images"
                width, height, png = value.tensor.string_val
                pixels = image.imread(io.BytesIO(png), format="png")
                assert pixels.shape[:2] == (int(height), int(width))
                found.append((value.tag, event.step, pixels))
    return found


def flat_figure(level: Callable[[], float]) -> Callable[[], Any]:
    """Draw nothing but one grey, so that a picture tells when it was drawn."""

    def draw() -> Any:
        from matplotlib.figure import Figure

        return Figure(figsize=(1.0, 0.5), facecolor=(level(),) * 3)

    return draw


def model() -> keras.Sequential:
    """A model of one weight, that grows by 0.1 a step."""
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    net = keras.Sequential([keras.Input((1,)), layer])
    net.compile(keras.optimizers.SGD(0.1), lambda y, prediction: -prediction)
    return net


def run(folder: Path, epochs: int, **options: Any) -> list[tuple[str, int, np.ndarray]]:
    net = model()
    level = flat_figure(lambda: float(net.layers[0].kernel[0, 0]))
    board = TensorBoardFigures(folder, {"level": level}, **options)
    net.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=epochs, verbose=0, callbacks=[board])
    return images(folder / "figures")


def test_each_epoch_as_it_was(tmp_path: Path) -> None:
    found = run(tmp_path, 3)
    assert [(name, step) for name, step, _ in found] == [("level", step) for step in range(4)]
    levels = [pixels[0, 0, 0] for *_, pixels in found]
    np.testing.assert_allclose(levels, [0.0, 0.1, 0.2, 0.3], atol=0.01)
    assert found[0][2].shape[:2] == (50, 100)


def test_some_epochs_and_the_last(tmp_path: Path) -> None:
    found = run(tmp_path, 5, every=2, dpi=40)
    assert [step for _, step, _ in found] == [0, 2, 4, 5]
    assert found[0][2].shape[:2] == (20, 40)
    assert found[-1][2][0, 0, 0] == pytest.approx(0.5, abs=0.01)


def test_figures_of_pretraining(tmp_path: Path) -> None:
    """Two layers, one after the other: their epochs follow upon each other."""
    first, second = (layers.HebbianDense(units, name=f"of_{units}") for units in (9, 4))
    encoder = keras.Sequential([keras.Input((16,)), first, second])
    samples = np.abs(probe((30, 16)))
    figures = {
        "wins": lambda: plots.win_counts(first, samples),
        "norms": lambda: plots.norm_histogram(second),
    }
    board = TensorBoardFigures(tmp_path, figures, dpi=30)
    pretrain(encoder, samples, 1, batch_size=10, step_size=0.3, verbose=0, callbacks=[board])
    found = images(tmp_path / "figures")
    assert [(name, step) for name, step, _ in found] == [
        (name, step) for step in range(4) for name in figures
    ]
    wins, norms = ([pixels for name, _, pixels in found if name == one] for one in figures)
    assert np.any(wins[0] != wins[1]), "the first layer learns in the first epoch"
    np.testing.assert_array_equal(wins[1], wins[3])
    np.testing.assert_array_equal(norms[0], norms[2])
    assert np.any(norms[2] != norms[3])


def test_no_figure_nothing_written(tmp_path: Path) -> None:
    net = model()
    board = TensorBoardFigures(tmp_path / "logs", {"wrong": lambda: 3})
    with pytest.raises(ValueError, match=r"`figures`.*'wrong'.*Received: figures='int'"):
        net.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0, callbacks=[board])
    assert float(net.layers[0].kernel[0, 0]) == 0.0
    assert not (tmp_path / "logs").exists()


def test_missing_tensorflow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras_local.ops._tensorflow", None)
    board = TensorBoardFigures(tmp_path, {"level": flat_figure(lambda: 0.0)})
    with pytest.raises(ImportError, match=r"keras-local\[tensorflow\]"):
        board.on_train_begin()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"figures": {}}, "figures"),
        ({"figures": [print]}, "figures"),
        ({"figures": {"a": 3}}, "figures"),
        ({"every": 0}, "every"),
        ({"dpi": 0}, "dpi"),
    ],
)
def test_bad_arguments(options: dict[str, Any], named: str) -> None:
    arguments = {"log_dir": "logs", "figures": {"level": flat_figure(lambda: 0.0)}, **options}
    with pytest.raises(ValueError, match=f"`{named}` must be .*Received: {named}="):
        TensorBoardFigures(**arguments)
