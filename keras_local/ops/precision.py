"""The precision in which weights learn and sums are taken."""

from __future__ import annotations

from typing import Any

import keras


def precise(dtype: Any) -> str:
    """Return the name of double precision for double precision, otherwise of single precision."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"
