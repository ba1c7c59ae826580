"""What results say of an experiment: is its control beaten, do orders hold, are means in bands."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras_local.reproduce.drawings import Cells, factor
from keras_local.reproduce.experiment import CHANCE, Experiment
from keras_local.reproduce.statistics import interval_of_runs, wilson


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of one expectation.

    Attributes:
        text: The expectation and the numbers, in words.
        holds: Whether it is met; None if a variant was not run.
        reason: Why it is not met, if that is known.
    """

    text: str
    holds: bool | None
    reason: str = ""

    @property
    def line(self) -> str:
        """The expectation, what became of it, and why."""
        if self.holds is None:
            return f"{self.text}: not run"
        if self.holds:
            return f"{self.text}: yes"
        return f"{self.text}: **no**. {self.reason or 'Not explained yet.'}"


def mean_of(experiment: Experiment, several: Cells, variant: str) -> float | None:
    """Return the mean of a variant over its seeds, or None if it was not run."""
    if variant == CHANCE:
        return experiment.chance
    if variant not in several:
        return None
    values = [each["final"][experiment.metric] for each in several[variant]]
    return float(sum(values) / len(values))


def bands(experiment: Experiment, preset: str, several: Cells) -> dict[str, Verdict]:
    """Return for each variant with a band whether its mean lies inside."""
    scale, found = factor(experiment), {}
    for variant, (low, high) in experiment.presets[preset].bands.items():
        mean = mean_of(experiment, several, variant)
        text = f"`{variant}` between {short(scale * low)} and {short(scale * high)}"
        holds = None if mean is None else low <= mean <= high
        found[variant] = Verdict(text, holds, _reason(experiment, preset, variant))
    return found


def orders(experiment: Experiment, preset: str, several: Cells) -> list[Verdict]:
    """Return for each order of a preset whether it holds."""
    scale, found = factor(experiment), []
    for first, second, margin in experiment.presets[preset].order:
        text = f"`{first}` better than {_named(second)}"
        if margin:
            text += f" by at least {short(scale * margin)}"
        gain = _gain(experiment, several, first, second)
        if gain is not None:
            by = f"by {short(scale * gain)}" if math.isfinite(gain) else "a run diverged"
            text += f" ({by})"
        holds = None if gain is None else gain >= margin
        reason = _reason(experiment, preset, first) or _reason(experiment, preset, second)
        found.append(Verdict(text, holds, reason))
    return found


def controls(experiment: Experiment, preset: str, several: Cells) -> list[Verdict]:
    """Return for each control whether the best of the other variants beats it.

    `chance` is a control only of the number that guessing gives, so that it says nothing of a
    measure whose band is around another number.
    """
    found = []
    others = [each for each in several if each not in experiment.control]
    for control in experiment.control:
        if control == CHANCE and experiment.presets[preset].bands:
            continue
        gains = {
            each: gain
            for each in others
            if (gain := _gain(experiment, several, each, control)) is not None
        }
        if not gains:
            found.append(Verdict(f"{_named(control)} is beaten", None))
            continue
        beaten = [each for each, gain in gains.items() if gain > 0]
        text = f"{_named(control)} is beaten by {_counted(beaten, list(gains))}"
        reason = _reason(experiment, preset, control)
        found.append(Verdict(text[0].upper() + text[1:], bool(beaten), reason))
    return found


def _counted(beaten: list[str], every: list[str]) -> str:
    """Return how many variants there are of all, with the names of those that are not."""
    if len(beaten) == len(every):
        return f"`{every[0]}`" if len(every) == 1 else f"all {len(every)} other variants"
    rest = ", ".join(f"`{each}`" for each in every if each not in beaten)
    return f"{len(beaten)} of {len(every)} other variants (not by {rest})"


def _gain(experiment: Experiment, several: Cells, first: str, second: str) -> float | None:
    """Return by how much the first is better than the second; None if one was not run."""
    better, worse = (mean_of(experiment, several, each) for each in (first, second))
    if better is None or worse is None:
        return None
    return worse - better if experiment.better == "lower" else better - worse


def _reason(experiment: Experiment, preset: str, variant: str) -> str:
    return experiment.explained.get(f"{preset}.{variant}", "")


def _named(variant: str) -> str:
    return CHANCE if variant == CHANCE else f"`{variant}`"


def measured(experiment: Experiment, several: list[dict[str, Any]]) -> str:
    """Return the mean of runs with its interval: Student's over seeds, Wilson's for one seed."""
    scale = factor(experiment)
    found = interval_of_runs([scale * each["final"][experiment.metric] for each in several])
    if not math.isfinite(found.mean):
        return "diverged"
    if found.count > 1:
        return with_interval(found.mean, found.half, percent=scale == 100.0)
    final = several[0]["final"]
    if experiment.metric == "test_error":
        of_images = wilson(final["wrong"], final["images"])
        ends = (f"{scale * each:.2f}" for each in (of_images.low, of_images.high))
        return f"{found.mean:.2f} ({' to '.join(ends)})"
    return short(found.mean)


def with_interval(mean: float, half: float, percent: bool) -> str:
    """Return a mean with as many places as its interval gives a meaning to.

    >>> with_interval(12.3456, 0.789, percent=True), with_interval(-10.61234, 0.0567, percent=False)
    ('12.35 ± 0.79', '−10.612 ± 0.057')
    >>> with_interval(3.2e-9, 4e-10, percent=False)
    '3.20e−09 ± 4.0e−10'
    """
    if percent:
        return f"{mean:.2f} ± {half:.2f}".replace("-", "−")
    if half == 0:
        return f"{short(mean)} ± 0"
    largest = max(abs(mean), half)
    if not 1e-3 <= largest < 1e5:
        return f"{mean:.2e} ± {half:.1e}".replace("-", "−")
    places = 1 - math.floor(math.log10(half)) if half > 1e-4 else 4
    places = min(max(places, 0), 4)
    return f"{mean:.{places}f} ± {half:.{places}f}".replace("-", "−")


def short(value: float) -> str:
    """Return a number in four digits, with a true minus sign.

    >>> short(-12.34567)
    '−12.35'
    """
    return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "diverged"
