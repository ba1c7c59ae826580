"""Files of runs: replaced as a whole, refused where they are of another run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_local import _runs as runs
from keras_local import dynamics, layers, models, plasticity
from tests.support import array, probe


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    arrays = {"a": [probe((2, 3)), np.array(3, "int64")], "b": []}
    runs.write(path, {"epoch": 3, "loss": 0.1}, arrays)
    saved = runs.read("directory", path)
    assert saved is not None
    assert saved.facts == {"epoch": 3, "loss": 0.1, "format": 1}
    for one, other in zip(saved.arrays["a"], arrays["a"], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert [each.name for each in tmp_path.iterdir()] == ["run.npz"]
    assert runs.read("directory", tmp_path / "none.npz") is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "uint32", "bool"])
def test_variables_of_any_type(dtype: str, tmp_path: Path) -> None:
    before = keras.Variable(np.arange(4).reshape(2, 2), dtype=dtype)
    runs.write(tmp_path / "run.npz", {}, {"all": runs.numbers_of([before])})
    saved = runs.read("directory", tmp_path / "run.npz")
    after = keras.Variable(np.zeros((2, 2)), dtype=dtype)
    assert saved is not None
    runs.assign([after], saved.arrays["all"])
    np.testing.assert_array_equal(array(after).astype("float32"), array(before).astype("float32"))


def test_a_write_that_fails_leaves_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.npz"
    runs.write(path, {"epoch": 1}, {})

    def full(file: object, **arrays: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(OSError, match="No space"):
        runs.write(path, {"epoch": 2}, {})
    saved = runs.read("directory", path)
    assert saved is not None
    assert saved.facts["epoch"] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["run.npz"]


def test_bytes_reach_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    sync, replace = runs.os.fsync, runs.os.replace
    monkeypatch.setattr(runs.os, "fsync", lambda handle: (done.append("sync"), sync(handle)))
    monkeypatch.setattr(runs.os, "replace", lambda *names: (done.append("name"), replace(*names)))
    runs.write(tmp_path / "run.npz", {}, {})
    assert done == ["sync", "name", "sync"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    left = tmp_path / runs._temporary("run.npz", int(gone))
    # Process 1 runs; a file of another machine may be one that is being written.
    others = [tmp_path / runs._temporary("run.npz", 1), tmp_path / ".run.npz.elsewhere.9.tmp"]
    for each in (left, *others):
        each.write_bytes(b"half")
    runs.directory("directory", tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.Sequential(
            [keras.Input((4,)), layers.FeedbackDense(3, feedback="weight_mirror")]
        ),
        lambda: keras.Sequential(
            [keras.Input((4,)), layers.HebbianDense(3, plasticity.KrotovHopfield())]
        ),
        lambda: dynamics.EquilibriumNetwork([4, 3, 2], persistent=5),
        lambda: models.local_losses(
            keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, (5, 5, 2))]), "pred"
        ),
    ],
)
def test_the_same_program_is_the_same_run(make: object) -> None:
    """Names are numbered through the process, and seeds that nobody gave are drawn."""
    one, other = make(), make()  # type: ignore[operator]
    assert runs.identity_of_model(one) == runs.identity_of_model(other)


def test_identities_differ() -> None:
    def net(units: int, activation: str, rule: object) -> keras.Model:
        layer = layers.HebbianDense(units, rule, activation)
        return keras.Sequential([keras.Input((4,)), layer])

    nets = [
        net(3, "relu", "oja"),
        net(4, "relu", "oja"),
        net(3, "tanh", "oja"),
        net(3, "relu", "hebb"),
    ]
    assert len({runs.identity_of_model(each) for each in nets}) == 4
    sgd = keras.optimizers.SGD
    found = [sgd(0.1), sgd(0.2), sgd(0.1, momentum=0.9), keras.optimizers.Adam(0.1)]
    # The learning rate is restored: callbacks change it.
    assert len({runs.identity_of_optimizer(each) for each in found}) == 3
    x = probe((10, 3))
    data = [x, x[:9], x + 1, x.astype("float64"), {"a": x}, (x, x)]
    assert len({runs.identity_of_data(each) for each in data}) == 5


def test_large_data_are_known_by_some_rows() -> None:
    x = np.zeros((3000, 2000), "float32")
    before = runs.identity_of_data(x)
    x[-1, 5] = 1.0
    assert runs.identity_of_data(x) != before
