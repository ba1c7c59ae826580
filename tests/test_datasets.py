from __future__ import annotations

import os
import pathlib
import sys
import types
from typing import Any

import numpy as np
import pytest

from keras_local import datasets


def prepared(name):
    folder = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return (pathlib.Path(folder).expanduser() / name).is_dir()


def check(splits, shape, sizes):
    for (images, labels), size in zip(splits, sizes, strict=True):
        assert images.shape == (size, *shape)
        assert images.dtype == np.float32
        assert images.min() == 0.0
        assert images.max() == 1.0
        assert labels.shape == (size,)
        assert labels.dtype == np.int32
        assert np.array_equal(np.unique(labels), np.arange(10))


def test_digits():
    splits = datasets.load("digits")
    check(splits, (8, 8, 1), (1400, 397))


def test_digits_are_split_as_documented():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(1797)
    (x_train, y_train), (x_test, y_test) = datasets.load("digits", flatten=True)
    for row, source in ((0, order[0]), (1399, order[1399])):
        np.testing.assert_array_equal(x_train[row], x[source] / 16)
        assert y_train[row] == y[source]
    for row, source in ((0, order[1400]), (396, order[1796])):
        np.testing.assert_array_equal(x_test[row], x[source] / 16)
        assert y_test[row] == y[source]
    ours = np.sort(np.concatenate([x_train, x_test]).sum(axis=1))
    np.testing.assert_allclose(ours, np.sort(x.sum(axis=1) / 16), rtol=1e-6)


def test_digits_are_upright_images():
    (images, _), _ = datasets.load("digits")
    (vectors, _), _ = datasets.load("digits", flatten=True)
    np.testing.assert_array_equal(vectors.reshape(-1, 8, 8, 1), images)
    # Rows are rows: the outer columns of a digit are empty, its first and last row are not.
    assert images[:, :, 0].max() < 0.6 * images[:, 0, :].max()


def test_natural_patches():
    splits = datasets.load("natural_patches")
    for (images, labels), size in zip(splits, (20_000, 4_000), strict=True):
        assert images.shape == (size, 16, 16, 1)
        assert images.dtype == np.float32
        assert 0.0 <= images.min() < 0.05
        assert 0.95 < images.max() <= 1.0
        assert labels.dtype == np.int32
        assert np.bincount(labels).tolist() == [size // 2, size // 2]
    (again, _), _ = datasets.load("natural_patches", flatten=True)
    np.testing.assert_array_equal(again, splits[0][0].reshape(-1, 256))
    assert datasets.is_prepared("natural_patches")


def test_natural_patches_are_upright_and_lie_in_their_part():
    from sklearn.datasets import load_sample_images

    for label, photograph in enumerate(load_sample_images().images):
        grey = np.float32(photograph.mean(axis=-1) / 255)
        width = grey.shape[1]
        parts = (range(width * 3 // 4), range(width * 3 // 4, width))
        for (images, labels), columns in zip(datasets.load("natural_patches"), parts, strict=True):
            patch = images[labels == label][0, :, :, 0]
            rows, lefts = np.nonzero(grey[:-15, :-15] == patch[0, 0])
            found = [
                left
                for row, left in zip(rows, lefts, strict=True)
                if np.array_equal(grey[row : row + 16, left : left + 16], patch)
            ]
            assert found
            assert {found[0], found[0] + 15} <= set(columns)


def test_two_loads_share_nothing():
    (first, _), _ = datasets.load("digits")
    first[:] = 7.0
    (second, _), _ = datasets.load("digits")
    assert second.max() == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "sizes", "first_labels"),
    [
        ("mnist", (28, 28, 1), (60000, 10000), [4, 1, 0, 7, 8, 1, 2, 7, 1, 6]),
        ("fashion_mnist", (28, 28, 1), (60000, 10000), None),
        ("cifar10", (32, 32, 3), (50000, 10000), None),
    ],
)
def test_downloaded_sets(name, shape, sizes, first_labels, capfd):
    pytest.importorskip("tensorflow_datasets")
    if not prepared(name):
        pytest.skip(f"{name} is not prepared on this machine")
    splits = datasets.load(name)
    check(splits, shape, sizes)
    (images, labels), (_, test_labels) = splits
    assert np.bincount(test_labels).tolist() == [1000] * 10 or name == "mnist"
    # Multiples of 1/255, all of them.
    np.testing.assert_allclose(images[:100] * 255, np.round(images[:100] * 255), atol=1e-4)
    if first_labels:
        assert labels[:10].tolist() == first_labels
    output = capfd.readouterr()
    assert output.out == ""
    assert "%|" not in output.err


class Builder:
    """Stands in for a TFDS builder, without a network."""

    data_dir = "/nowhere"

    def __init__(self, ready=False, failure=None):
        self.ready, self.failure, self.calls = ready, failure, []

    def is_prepared(self):
        return self.ready

    def download_and_prepare(self):
        print("Downloading and preparing")
        print("Dl Size...: 50%|", file=sys.stderr)
        if self.failure:
            raise self.failure
        self.ready = True

    def as_dataset(self, **options):
        self.calls.append(options)
        assert self.ready
        images = np.arange(2 * 2 * 2 * 3, dtype="uint8").reshape(2, 2, 2, 3)
        return [(images, np.array([1, 2])), (images + 200, np.array([3, 9]))]


@pytest.fixture
def fake(monkeypatch):
    def install(builder):
        names = []

        def find(name, data_dir):
            names.append((name, data_dir))
            return builder

        module = types.SimpleNamespace(builder=find, as_numpy=lambda x: x)
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
        return names

    return install


def test_a_set_is_prepared_once_and_quietly(fake, capsys):
    builder = Builder()
    names = fake(builder)
    (x, y), (x_test, y_test) = datasets.load("cifar10", data_dir=pathlib.Path("/somewhere"))
    np.testing.assert_array_equal(x, (np.arange(24) / 255).astype("float32").reshape(2, 2, 2, 3))
    assert x_test.max() == np.float32(223 / 255)
    assert (y.tolist(), y_test.tolist()) == ([1, 2], [3, 9])
    assert (y.dtype, x.dtype) == (np.int32, np.float32)
    assert names == [("cifar10", "/somewhere")]
    assert builder.calls[0]["shuffle_files"] is False
    assert builder.calls[0]["split"] == ["train", "test"]
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "Preparing cifar10 in /nowhere (once)\n"
    (flat, _), _ = datasets.load("cifar10", flatten=True)
    np.testing.assert_array_equal(flat, x.reshape(2, 12))
    assert names[1] == ("cifar10", None)
    assert capsys.readouterr().err == ""


def test_a_failed_download_says_what_to_do(fake):
    fake(Builder(failure=ConnectionError("no route to host")))
    with pytest.raises(RuntimeError, match="no route to host") as error:
        datasets.load("mnist")
    for hint in ("'mnist'", "network", "TFDS_DATA_DIR", "data_dir=", "digits"):
        assert hint in str(error.value)
    assert isinstance(error.value.__cause__, ConnectionError)


def test_an_unreachable_network_is_given_up_soon(fake, monkeypatch):
    downloader = types.SimpleNamespace(MAX_RETRIES=10)
    seen = []

    class Unreachable(Builder):
        def download_and_prepare(self):
            seen.append(downloader.MAX_RETRIES)
            raise ConnectionError

    fake(Unreachable())
    monkeypatch.setattr(datasets.importlib, "import_module", lambda name: downloader)
    with pytest.raises(RuntimeError):
        datasets.load("mnist")
    assert seen == [3]
    assert downloader.MAX_RETRIES == 10


def test_interrupts_pass(fake):
    fake(Builder(failure=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        datasets.load("mnist")


def test_missing_packages_name_the_extra(fake, monkeypatch):
    fake(Builder(failure=ImportError("importlib_resources")))
    with pytest.raises(ImportError, match=r"keras-local\[tensorflow\]"):
        datasets.load("mnist")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"keras-local\[tensorflow\]"):
        datasets.load("mnist")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"keras-local\[demo\]"):
        datasets.load("digits")


@pytest.mark.parametrize("name", ["MNIST", "imagenet", "", None, 3])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="`name` must be one of 'digits', 'mnist'") as error:
        datasets.load(name)
    assert f"name={name!r}" in str(error.value)


def test_digits_need_no_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    check(datasets.load("digits"), (8, 8, 1), (1400, 397))


class TestSequences:
    def test_delayed_xor(self) -> None:
        x, y = datasets.delayed_xor(200, steps=9, seed=3)
        first, second = x[:, 0, 0] > 0, x[:, 4, 1] > 0
        assert np.array_equal(first ^ second, y.astype(bool))
        assert set(np.unique(y)) == {0, 1}
        assert np.all(x[:, -1] == (0, 0, 1))
        assert np.array_equal(x, datasets.delayed_xor(200, steps=9, seed=3)[0])

    def test_adding(self) -> None:
        x, y = datasets.adding(500, steps=7, seed=3)
        assert np.all(x[..., 1].sum(axis=1) == 2)
        assert np.all(x[:, :3, 1].sum(axis=1) == 1)
        assert abs(np.mean((y - 1.0) ** 2) - 1 / 6) < 0.03

    def test_sines(self) -> None:
        x, y = datasets.sines(8)
        assert not x.any()
        p = 2 * np.pi * np.arange(8) / 8
        expected = np.sin(p) + np.sin(2 * p) / 2 + np.sin(4 * p) / 4
        np.testing.assert_allclose(y[0, :, 0], expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("argument", "options"),
        [
            ("samples", {"samples": 0}),
            ("steps", {"samples": 3, "steps": 3}),
            ("seed", {"samples": 3, "seed": "a"}),
        ],
    )
    def test_wrong_arguments(self, argument: str, options: Any) -> None:
        for draw in (datasets.delayed_xor, datasets.adding):
            with pytest.raises(ValueError, match=f"`{argument}` must be"):
                draw(**options)
        with pytest.raises(ValueError, match="`steps` must be"):
            datasets.sines(2.5)  # type: ignore[arg-type]
