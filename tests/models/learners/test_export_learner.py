"""Learners in LiteRT, SavedModel and ONNX files take the steps that their models take here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.learners.runner import run
from tests.models.learners.table import PARAMETERS, ROWS, Row, find

CLOSE = 1e-5


@pytest.mark.parametrize("row", PARAMETERS)
def test_litert(row: Row, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    assert run(row, "litert", tmp_path, alone=row.day == "always") <= CLOSE


@pytest.mark.thorough
@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_saved_model(row: Row, tmp_path: Path) -> None:
    assert run(row, "tf_saved_model", tmp_path) <= CLOSE


@pytest.mark.daily
@pytest.mark.parametrize("name", ["krotov-p3", "equilibrium-centred"])
def test_onnx(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    assert run(find(name), "onnx", tmp_path) <= CLOSE
