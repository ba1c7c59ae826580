"""Data sets in files of their own: what is written is what is read, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_local import _packed, datasets
from keras_local.reproduce import cli


def splits(channels: int) -> tuple[_packed.Split, _packed.Split]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (90, 9, 9, channels)).astype("uint8")
    labels = generator.integers(0, 10, 90)
    return (images[:70], labels[:70]), (images[70:], labels[70:])


@pytest.mark.parametrize("channels", [1, 3])
def test_all_pixels_come_back(channels: int, tmp_path: Path) -> None:
    train, test = splits(channels)
    written = _packed.write("mnist", tmp_path, train, test, part=0.005)
    assert len(written) > 1
    assert all(path.stat().st_size < 0.005 * 2**20 + 1500 for path in written)
    assert datasets.is_prepared("mnist", tmp_path)
    for (x, y), (images, labels) in zip(
        datasets.load("mnist", data_dir=tmp_path), (train, test), strict=True
    ):
        assert x.dtype == np.float32
        np.testing.assert_array_equal(np.rint(x * 255), images)
        np.testing.assert_array_equal(y, labels)


def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    written = _packed.write("mnist", tmp_path, *splits(1), part=0.005)
    written[-1].unlink()
    with pytest.raises(ValueError, match=r"all \d+ files of mnist"):
        datasets.load("mnist", data_dir=tmp_path)
    written[0].write_bytes(b"nothing")
    with pytest.raises(ValueError, match="keras-local pack"):
        datasets.load("mnist", data_dir=tmp_path)


def test_pack_refuses_nonsense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="name"):
        datasets.pack("digits", tmp_path)
    with pytest.raises(ValueError, match="part"):
        datasets.pack("mnist", tmp_path, part=0.0)
    with pytest.raises(SystemExit):
        cli.main(["pack", "digits", str(tmp_path)])
    assert "digits" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_packs_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = splits(1)
    loaded = tuple((x / np.float32(255), y.astype("int32")) for x, y in (train, test))
    monkeypatch.setattr(datasets, "load", lambda name, data_dir: loaded)
    assert cli.main(["pack", "mnist", str(tmp_path / "packed")]) == 0
    assert "mnist-0.npz" in capsys.readouterr().out
    monkeypatch.undo()
    (x, _), _ = datasets.load("mnist", data_dir=tmp_path / "packed")
    np.testing.assert_array_equal(np.rint(x * 255), train[0])
