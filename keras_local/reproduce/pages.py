"""The report: a page for each source, written from results alone."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_local import _validation as check
from keras_local.reproduce import cells
from keras_local.reproduce.drawings import Cells, draw, factor, label
from keras_local.reproduce.experiment import (
    CHANCE,
    PRESETS,
    TAGS,
    TRUST,
    Experiment,
    Preset,
    ids,
)
from keras_local.reproduce.statistics import interval_of_runs, wilson

Results = dict[str, dict[str, Cells]]
"""For each id and preset, the results of its variants."""


def write(results: Path, out: Path, date: str | None = None) -> list[Path]:
    """Write the pages and their figures.

    Args:
        results: Folder of results.
        out: Folder of the pages; files of their names are replaced.
        date: The date on the pages; today by default.

    Returns:
        The files of the pages, the index first.

    Raises:
        ValueError: If the folder holds no results, or a file in it is not a result.
    """
    found, experiments = _collected(results)
    check.require(bool(found), "results", "a folder with results of `keras-local run`", results)
    date = datetime.date.today().isoformat() if date is None else check.text("date", date)
    out.mkdir(parents=True, exist_ok=True)
    by_source: dict[str, list[Experiment]] = {}
    for name in sorted(experiments):
        by_source.setdefault(slug(experiments[name].source), []).append(experiments[name])
    written = [out / "index.md"]
    written[0].write_text(_index(found, experiments, date), encoding="utf-8")
    for source, several in by_source.items():
        text = _page(several, found, out, date)
        if text:
            written.append(out / f"{source}.md")
            written[-1].write_text(text, encoding="utf-8")
    return written


def slug(source: str) -> str:
    """Return the name of the page of a source: its authors and year.

    >>> slug("Krotov & Hopfield 2019, Generalization")
    'krotov-hopfield-2019'
    """
    words = re.findall(r"[a-z0-9]+", re.split(r"[,;]", source)[0].lower())
    return "-".join(words)


def _collected(results: Path) -> tuple[Results, dict[str, Experiment]]:
    """Return all results, and the experiments of the catalogue and of the folder."""
    found: Results = {}
    experiments = {name: Experiment.of(name) for name in ids()}
    for path, facts in cells.results(results):
        name = facts["id"]
        if name not in experiments:
            experiments[name] = Experiment.of(str(path.parents[1] / "experiment.toml"))
        facts["path"] = str(path)
        of_preset = found.setdefault(name, {}).setdefault(facts["preset"], {})
        of_preset.setdefault(facts["variant"], []).append(facts)
    for name, presets in found.items():
        for preset, of_variants in presets.items():
            order = [each for each in experiments[name].variants if each in of_variants]
            presets[preset] = {
                each: sorted(of_variants[each], key=lambda cell: cell["seed"]) for each in order
            }
    return found, experiments


def _index(found: Results, experiments: dict[str, Experiment], date: str) -> str:
    run = [name for name in experiments if name in found]
    lines = [
        "# Results of the papers' experiments",
        "",
        f"Written by `keras-local report` on {date}: {len(run)} of {len(experiments)} experiments "
        "have results here.",
        "",
        "| experiment | source | preset | seeds | verdict |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(experiments):
        experiment = experiments[name]
        if name not in found:
            lines.append(f"| `{name}` | {experiment.source} | | | not run |")
            continue
        link = f"[`{name}`]({slug(experiment.source)}.md#{name})"
        for preset in PRESETS:
            if several := found[name].get(preset):
                seeds = max(len(each) for each in several.values())
                verdict = "; ".join(_verdicts(experiment, preset, several, short=True))
                lines.append(f"| {link} | {experiment.source} | {preset} | {seeds} | {verdict} |")
    return "\n".join([*lines, ""])


def _page(several: list[Experiment], found: Results, out: Path, date: str) -> str:
    run = [each for each in several if each.id in found]
    if not run:
        return ""
    title = re.split(r"[,;]", several[0].source)[0]
    lines = [f"# {title}", "", f"Written by `keras-local report` on {date}.", ""]
    for experiment in several:
        lines += [f"({experiment.id})=", f"## {experiment.id}", "", experiment.title, ""]
        lines += [f"{experiment.source}. Controls: {', '.join(experiment.control)}.", ""]
        for text in (experiment.note, _warning(experiment)):
            lines += [text, ""] if text else []
        if experiment.id not in found:
            lines += ["Not run.", ""]
        for preset in PRESETS:
            if of_variants := found.get(experiment.id, {}).get(preset):
                lines += _preset(experiment, preset, of_variants, out)
        absent = [each for each in experiment.presets if each not in found.get(experiment.id, {})]
        if experiment.id in found and absent:
            lines += [f"Not run: {', '.join(absent)}.", ""]
    return "\n".join(lines)


def _warning(experiment: Experiment) -> str:
    """Return what a reader must know of values that were not checked against their source."""
    said = []
    if experiment.unverified:
        said.append(f"**Unverified:** {experiment.unverified}")
    remembered = [name for name, value in experiment.published.items() if value[1] == "M"]
    if remembered:
        said.append(
            f"**Unverified:** the published values of {', '.join(remembered)} are from memory."
        )
    if experiment.published:
        said.append(f"Published values are {TRUST[experiment.trust]}.")
    else:
        said.append("No published number could be read: ours is the reference.")
    return " ".join(said)


def _preset(experiment: Experiment, preset: str, several: Cells, out: Path) -> list[str]:
    scale = factor(experiment)
    lines = [
        f"### Preset {preset}",
        "",
        f"| variant | published | {label(experiment)} | 95 % interval | seeds | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for variant in experiment.variants:
        published = _published(experiment, variant, scale)
        if variant not in several:
            lines.append(f"| {variant} | {published} | not run | | | |")
            continue
        of_seeds = several[variant]
        mean, between = _interval(experiment, of_seeds, scale)
        minutes = sum(each["seconds"] for each in of_seeds) / len(of_seeds) / 60.0
        lines.append(
            f"| {variant} | {published} | {mean} | {between} | {len(of_seeds)} | {minutes:.1f} |"
        )
    lines += ["", *(f"- {each}" for each in _verdicts(experiment, preset, several)), ""]
    lines += [*_provenance(experiment, preset, several), ""]
    stem = f"{experiment.id}-{preset}"
    for path in draw(experiment, several, out / "figures", stem):
        lines += [f"![{path.stem}](figures/{path.name})", ""]
    return lines


def _published(experiment: Experiment, variant: str, scale: float) -> str:
    if variant not in experiment.published:
        return "–"
    value, tag = experiment.published[variant]
    return f"{_number(scale * value)} ({TAGS[tag]})"


def _interval(
    experiment: Experiment, several: list[dict[str, Any]], scale: float
) -> tuple[str, str]:
    """Return the mean and its interval: Student's over seeds, Wilson's for one seed."""
    values = [scale * each["final"][experiment.metric] for each in several]
    found = interval_of_runs(values)
    if found.count > 1:
        return _number(found.mean), f"± {_number(found.half)}"
    final = several[0]["final"]
    if experiment.metric == "test_error":
        of_images = wilson(final["wrong"], final["images"])
        return _number(found.mean), (
            f"{_number(scale * of_images.low)} to {_number(scale * of_images.high)} (images)"
        )
    return _number(found.mean), "one seed"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "diverged"


def _mean(experiment: Experiment, several: Cells, variant: str) -> float | None:
    if variant == CHANCE:
        return experiment.chance
    if variant not in several:
        return None
    values = [each["final"][experiment.metric] for each in several[variant]]
    return float(sum(values) / len(values))


def _verdicts(
    experiment: Experiment, preset: str, several: Cells, short: bool = False
) -> list[str]:
    """Return for each order and band of the preset whether it holds."""
    chosen: Preset = experiment.presets[preset]
    said, inside = [], True
    for first, second, margin in chosen.order:
        better, worse = (_mean(experiment, several, each) for each in (first, second))
        if better is None or worse is None:
            said.append(f"{first} better than {second}: not run")
            continue
        gain = worse - better if experiment.better == "lower" else better - worse
        holds = gain >= margin
        inside = inside and holds
        scale = factor(experiment)
        by = f"by {_number(scale * gain)}" if math.isfinite(gain) else "a run diverged"
        said.append(
            f"{first} better than {second} by at least {_number(scale * margin)}: "
            f"{'yes' if holds else '**no**'}, {by}"
        )
    for variant, (low, high) in chosen.bands.items():
        mean = _mean(experiment, several, variant)
        scale = factor(experiment)
        between = f"{variant} between {_number(scale * low)} and {_number(scale * high)}"
        if mean is None:
            said.append(f"{between}: not run")
            continue
        holds = low <= mean <= high
        inside = inside and holds
        reason = experiment.explained.get(f"{preset}.{variant}", "not explained yet")
        said.append(f"{between}: {'inside' if holds else f'**outside**: {reason}'}")
    if short:
        if not said:
            return ["no band: ours is the reference"]
        missing = any(each.endswith("not run") for each in said)
        return ["partly run" if missing else "inside" if inside else "**outside**"]
    return said or ["No band and no order are known: ours is the reference."]


def _provenance(experiment: Experiment, preset: str, several: Cells) -> list[str]:
    every = [each for of_seeds in several.values() for each in of_seeds]

    def all_of(values: Iterable[Any]) -> str:
        return ", ".join(sorted({str(each) for each in values}))

    dirty = any(each["dirty"] for each in every)
    lines = [
        f"Revision {all_of(each['revision'] for each in every)}"
        f"{' (with changes)' if dirty else ''}, "
        f"{all_of(each['versions']['backend'] for each in every)}, "
        f"{all_of(each['device'] for each in every)}, "
        f"{all_of(each['precision'] for each in every)}.",
        "",
        f"    keras-local run {experiment.id} --preset {preset}",
    ]
    if any(each["stand_in"] for each in every):
        lines[:0] = [
            "**Digits took the place of the data set.** This only shows that the experiment runs.",
            "",
        ]
    sets = {shown for each in every for shown in re.findall(r"--set \S+", each["command"])}
    if sets:
        lines += ["", f"With {', '.join(sorted(sets))}."]
    return lines
