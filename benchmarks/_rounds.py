"""Interleaved timing: every candidate once a round, ratios within the round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(
    steps: Mapping[str, Callable[[], object]], rounds: int, repeats: int
) -> dict[str, list[float]]:
    """Return milliseconds a call, one entry a round, for each step."""
    for step in steps.values():
        for _ in range(3):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(repeats):
                step()
            times[name].append(1e3 * (time.perf_counter() - start) / repeats)
    return times


def ratio(times: dict[str, list[float]], name: str, base: str) -> str:
    """Return the median quotient of two steps over the rounds, with its quartiles."""
    quotients = [a / b for a, b in zip(times[name], times[base], strict=True)]
    low, middle, high = statistics.quantiles(quotients, n=4)
    return f"{middle:6.3f}  [{low:.3f}, {high:.3f}]"
