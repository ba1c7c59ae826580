"""The demo, quickly: every stage ran, on the images and in the way that its results say."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_local import datasets, feedback, models
from keras_local.reproduce import (
    demo,
    error_paths,
    hebbian_features,
    images,
    progress,
    rows,
    serving,
)
from keras_local.reproduce.results import Results, Score
from keras_local.reproduce.settings import DemoSettings
from tests.reproduce.page import Page, numbers_missing, text_of
from tests.support import tensorflow_only

pytestmark = [tensorflow_only, pytest.mark.daily]

SETTINGS = DemoSettings.of("digits").quick()


@dataclass(frozen=True)
class Run:
    """What was run, where it wrote, and what it said."""

    folder: Path
    results: Results
    printed: str
    command: str


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the demo with a few images and steps, into a folder in which something lies already."""
    folder = tmp_path_factory.mktemp("demo") / "deep" / "report"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "index.html").write_text("old")
    command = "keras-local demo --quick --out 'a <b> & c'"
    output = io.StringIO()
    results = demo.run(
        SETTINGS,
        folder,
        seed=3,
        quick=True,
        command=command,
        console=Console(file=output, width=100),
    )
    return Run(folder, results, output.getvalue(), command)


@pytest.fixture(scope="module")
def data() -> Any:
    return images.load(SETTINGS)


def test_images_are_real_and_as_many_as_said(quick_run: Run, data: Any) -> None:
    (x_train, y_train), (x_test, y_test) = datasets.load("digits")
    assert np.array_equal(data.x_train, x_train[:300])
    assert np.array_equal(data.y_train, y_train[:300])
    assert np.array_equal(data.x_test, x_test[:100])
    assert np.array_equal(data.y_test, y_test[:100])
    images = quick_run.results.images
    assert (images.training, images.training_of) == (300, 1400)
    assert (images.test, images.test_of) == (100, 397)
    assert (images.shape, images.classes, images.data) == ((8, 8, 1), 10, "digits")


def test_every_model_is_there_once(quick_run: Run) -> None:
    results = quick_run.results
    assert [row.key for row in results.error_paths] == ["backprop", "fixed", "updated"]
    assert [row.key for row in results.features] == [
        "hebbian",
        "random",
        "random_softmax",
        "pixels",
        "pixels_softmax",
        "end_to_end",
    ]
    assert results.quick
    assert results.seed == 3


def test_errors_are_counts_of_images(quick_run: Run) -> None:
    for row in (*quick_run.results.error_paths, *quick_run.results.features):
        assert (row.test.images, row.training.images) == (100, 300)
        assert row.test.error == row.test.wrong / 100
        assert row.training.error == row.training.wrong / 300
        # The curve ends where the row does.
        assert row.curve["test_error"][-1] == pytest.approx(row.test.error, abs=1e-6)
        assert row.curve["passes"] == [1, 2]
        assert row.seconds > 0


def test_numbers_of_weights(quick_run: Run) -> None:
    weights = {
        row.key: row.weights
        for row in (*quick_run.results.error_paths, *quick_run.results.features)
    }
    net = (9 * 16 + 16) + (9 * 16 * 32 + 32) + (4 * 4 * 32 * 64 + 64) + (64 * 10 + 10)
    assert weights["backprop"] == weights["fixed"] == weights["updated"] == net
    # Of a readout the labels train its last kernel only.
    assert weights["hebbian"] == weights["random"] == weights["pixels"] == 64 * 10
    assert weights["end_to_end"] == 64 * 64 + 64 + 64 * 10 + 10


def test_angles_move(quick_run: Run) -> None:
    """They fall fastest where the feedback kernel receives the update, too."""
    backprop, fixed, updated = quick_run.results.error_paths
    assert backprop.angles == {}
    assert set(fixed.angles) == set(updated.angles) == {"conv2", "hidden", "scores"}
    for layer, angles in updated.angles.items():
        assert len(angles) == 1 + SETTINGS.error_paths.epochs
        assert angles[0] == pytest.approx(90, abs=6)
        assert angles[-1] < angles[0] - 0.5
        # Both rules start from the same kernels and the same feedback kernels.
        assert fixed.angles[layer][0] == pytest.approx(angles[0], abs=1e-4)
        assert fixed.angles[layer][-1] != pytest.approx(angles[-1], abs=1e-3)


def test_the_net_starts_the_same_and_only_the_rule_differs(data: Any) -> None:
    nets = {
        key: error_paths.convolutional_net(SETTINGS, data, rule, seed=5)
        for key, (rule, _, _) in error_paths.RULES.items()
    }
    for one, other, third in zip(*(net.layers for net in nets.values()), strict=True):
        if not hasattr(one, "kernel"):
            continue
        assert isinstance(one.feedback, feedback.Symmetric)
        assert isinstance(other.feedback, feedback.FeedbackAlignment)
        assert isinstance(third.feedback, feedback.KolenPollack)
        kernels = [np.array(layer.kernel) for layer in (one, other, third)]
        assert np.array_equal(kernels[0], kernels[1])
        assert np.array_equal(kernels[0], kernels[2])
        given = np.array(other.feedback_kernel)
        assert np.allclose(given, np.array(third.feedback_kernel), atol=1e-6)
        assert not np.allclose(given, kernels[1], atol=1e-2)
    again = error_paths.convolutional_net(SETTINGS, data, feedback.Symmetric(), seed=6)
    assert not np.allclose(again.layers[0].kernel, nets["backprop"].layers[0].kernel)


def test_all_rules_see_the_same_batches_in_the_same_order(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backpropagation a second time, after another rule, is the first one again."""
    first, fixed = error_paths.RULES["backprop"], error_paths.RULES["fixed"]
    monkeypatch.setattr(error_paths, "RULES", {"backprop": first, "fixed": fixed, "again": first})
    with progress.Stages(Console(quiet=True)) as stages:
        one, other, again = error_paths.error_paths(SETTINGS, data, 5, stages, {})
    assert one.curve == again.curve
    assert one.training == again.training
    assert other.curve != again.curve


def test_pretraining_is_reported_as_it_was(quick_run: Run) -> None:
    pretrained = quick_run.results.pretrained
    chosen = SETTINGS.encoder
    assert pretrained.units == chosen.units
    assert pretrained.steps == 300 // chosen.batch_size * chosen.epochs
    assert pretrained.won + pretrained.dead == pytest.approx(1.0)
    # U(0, 1) starts at a mean of 64 / 3; the few steps bring it down, but not to 1.
    assert 1.0 < pretrained.mean_norm < 21.0


def test_the_folder(quick_run: Run) -> None:
    """Everything is written, and nothing else is touched."""
    folder = quick_run.folder
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "results.json",
        "saved_model",
        "notes.txt",
        *(f"{name}.png" for name in demo.FIGURES),
    }
    assert (folder / "notes.txt").read_text() == "mine"
    for name in demo.FIGURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_results_json(quick_run: Run) -> None:
    stored = json.loads((quick_run.folder / "results.json").read_text())
    assert stored == json.loads(quick_run.results.to_json())
    assert stored["command"] == quick_run.command
    assert stored["settings"]["encoder"]["p"] == 2.0
    assert stored["environment"]["keras"] == keras.version()
    assert next(iter(stored["seconds"])) == "Load the images"
    assert sum(stored["seconds"].values()) <= stored["total_seconds"]


def test_served_without_the_package(quick_run: Run) -> None:
    served = quick_run.results.served
    assert served.same_classes == served.images == 100
    assert served.largest_difference <= 1e-5 * served.largest_score
    assert served.parameter_bytes == 4 * (64 * 64 + 64 * 10)
    assert served.parameter_bytes <= served.weight_bytes <= 1.05 * served.parameter_bytes
    files = [path for path in (quick_run.folder / "saved_model").rglob("*") if path.is_file()]
    assert served.folder_bytes == sum(path.stat().st_size for path in files)


def test_the_serving_process_cannot_import_the_package(tmp_path: Path) -> None:
    script = serving._SERVE.replace("import numpy as np, tensorflow as tf", "import keras_local")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"keras_local" in done.stderr
    assert b"ModuleNotFoundError" in done.stderr or b"ImportError" in done.stderr


def test_a_model_that_differs_is_told_apart(
    tmp_path: Path, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison would notice an export that predicts something else."""
    model = models.readout(hebbian_features.encoder_of(data), 10, 1.0)
    model.fit(data.x_train, data.y_train, verbose=0)
    export = models.export

    def wrong_export(model: keras.Model, path: Path) -> None:
        other = models.to_plain(model)
        other.set_weights([weight + 0.5 for weight in other.get_weights()])
        export(other, path)

    monkeypatch.setattr(models, "export", wrong_export)
    assert serving.serve(model, data.x_test, tmp_path / "model").largest_difference > 0.1


def test_a_model_that_cannot_be_served_says_why(
    tmp_path: Path, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.readout(hebbian_features.encoder_of(data), 10, 1.0)
    model.fit(data.x_train, data.y_train, verbose=0)
    monkeypatch.setattr(serving, "_SERVE", "raise SystemExit('no such thing')")
    with pytest.raises(RuntimeError, match="could not be served: no such thing"):
        serving.serve(model, data.x_test, tmp_path / "model")


def test_score_counts_wrong_classes() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.eye(2, dtype="float32")])
    images = np.array([[1, 0], [0, 1], [3, 1], [1, 2]], "float32")
    assert rows.score(model, images, np.array([0, 1, 1, 0])) == Score(2, 4)


@pytest.mark.parametrize(("passes", "epochs", "at"), [(580, 20, 29), (30, 30, 1), (41, 21, 2)])
def test_passes_over_the_images(
    passes: int, epochs: int, at: int, monkeypatch: pytest.MonkeyPatch, data: Any
) -> None:
    """An epoch of Keras is several passes; together they are at least those of the settings."""
    seen: dict[str, Any] = {}

    class Model:
        def compile(self, optimizer: Any, *others: Any, **options: Any) -> None:
            seen.update(options, rate=optimizer._learning_rate)

        def fit(self, x: Any, y: Any, **options: Any) -> Any:
            seen.update(options, images=len(x), labels=len(y))
            history = keras.callbacks.History()
            history.epoch = list(range(options["epochs"]))
            history.history = {"val_accuracy": [0.75] * options["epochs"]}
            return history

    settings = dataclasses.replace(
        SETTINGS, softmax=dataclasses.replace(SETTINGS.softmax, passes=passes)
    )
    stage = progress.Stage(None, None)
    monkeypatch.setattr(stage, "callback", lambda: None)
    curve = hebbian_features.fit(settings, data, Model(), stage, softmax=True)  # type: ignore[arg-type]
    assert (seen["epochs"], seen["images"], seen["labels"]) == (epochs, 300 * at, 300 * at)
    assert seen["rate"].decay_steps == math.ceil(300 * at / 100) * epochs
    assert curve["passes"] == [at * (i + 1) for i in range(epochs)]
    assert curve["test_error"] == [0.25] * epochs


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_wrong_seed(seed: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0"):
        demo.run(SETTINGS, tmp_path / "report", seed=seed)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("package", ["matplotlib", "tensorflow"])
def test_a_missing_extra_is_refused_at_once(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: name != package or None)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ImportError, match=rf"{package}: pip install 'keras-local\[demo\]'"):
        demo._require_extras()


def test_a_backend_without_saved_models_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(RuntimeError, match="Received: KERAS_BACKEND=torch"):
        demo.run(SETTINGS, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_every_number_of_the_results_is_in_the_report(quick_run: Run) -> None:
    page = Page((quick_run.folder / "index.html").read_text())
    assert numbers_missing(page, (quick_run.folder / "results.json").read_text()) == []


def test_the_table_shows_what_was_found(quick_run: Run) -> None:
    text = (quick_run.folder / "index.html").read_text()
    visible = text_of(Page(text).visible)
    for row in (*quick_run.results.error_paths, *quick_run.results.features):
        cells = [
            row.label,
            row.detail,
            f"{row.test.wrong}.00 %",  # of 100 images
            f"{row.test.wrong} of 100",
            f"{row.training.wrong / 3:.2f} %",  # of 300 images
            f"{row.weights:,}",
            f"{row.seconds:.1f} s",
        ]
        pattern = r"\s*".join(re.escape(cell) for cell in cells).replace(r"\ ", r"\s")
        assert re.search(pattern, visible), row.key
    for angles in quick_run.results.error_paths[2].angles.values():
        assert f"{angles[0]:.0f}° to {angles[-1]:.0f}°" in visible
    assert "Quick run." in visible
    assert str(quick_run.folder) not in text


def test_warnings_reach_the_report(quick_run: Run) -> None:
    visible = text_of(Page((quick_run.folder / "index.html").read_text()).visible)
    assert any("have converged" in note for note in quick_run.results.notes)
    assert all(text_of([note]) in visible for note in quick_run.results.notes)


def test_the_demo_prints_a_line_for_each_stage(quick_run: Run) -> None:
    """Where there is no terminal, bars would be noise."""
    for stage in quick_run.results.seconds:
        assert len(re.findall(rf"^{re.escape(stage)} +\d", quick_run.printed, re.M)) >= 1
    assert "\x1b" not in quick_run.printed
    assert f"report: {quick_run.folder / 'index.html'}" in quick_run.printed
