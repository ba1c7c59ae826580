"""The report: a page for each source, written from results alone."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_local import _validation as check
from keras_local.reproduce import cells, verdicts
from keras_local.reproduce.drawings import Cells, draw, factor, label
from keras_local.reproduce.experiment import PRESETS, TAGS, TRUST, Experiment, ids

Results = dict[str, dict[str, Cells]]
"""For each id and preset, the results of its variants."""


def write(results: Path, out: Path, date: str | None = None, figures: bool = True) -> list[Path]:
    """Write the pages and their figures.

    Args:
        results: Folder of results.
        out: Folder of the pages; files of their names are replaced.
        date: The date on the pages; today by default.
        figures: Whether figures are drawn.

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
        if any(each.id in found for each in several):
            written.append(out / f"{source}.md")
            text = _page(several, found, out if figures else None)
            written[-1].write_text(text, encoding="utf-8")
    return written


def slug(source: str) -> str:
    """Return the name of the page of a source: its authors and year.

    >>> slug("Krotov & Hopfield 2019, Generalization")
    'krotov-hopfield-2019'
    """
    return "-".join(re.findall(r"[a-z0-9]+", _paper(source).lower()))


def _paper(source: str) -> str:
    """Return the authors and the year of the first paper of a source.

    >>> _paper("Bienenstock, Cooper & Munro 1982; Law & Cooper 1994")
    'Bienenstock, Cooper & Munro 1982'
    >>> _paper("Eligibility traces, a formula")
    'Eligibility traces'
    """
    first = source.split(";")[0]
    dated = re.match(r".*?\b(?:19|20)\d\d\b", first)
    return dated[0] if dated else first.split(",")[0]


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
    run = [each for name, each in sorted(experiments.items()) if each.id in found]
    absent = [each for name, each in sorted(experiments.items()) if each.id not in found]
    lines = [
        "# Results of the papers' experiments",
        "",
        f"Written by `keras-local report` on {date}: {len(run)} of {len(experiments)} experiments "
        f"have results here, {_repeated(found)} of them with three seeds or more.",
        "",
        *_EXPLANATION,
        "",
        "| experiment | control beaten | orders and bands | question | preset | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for experiment in run:
        link = f"[`{experiment.id}`]({slug(experiment.source)}.md#{experiment.id})"
        for preset in PRESETS:
            if several := found[experiment.id].get(preset):
                said = _summary(experiment, preset, several)
                row = (link, *said, experiment.title, preset, str(_seeds(several)))
                lines.append(f"| {' | '.join(row)} |")
    lines += _absent(absent)
    pages = sorted({slug(each.source) for each in run})
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def _absent(several: list[Experiment]) -> list[str]:
    """Return the table of experiments that were not run, with what a seed is thought to take."""
    if not several:
        return []
    lines = ["", "## Not run", ""]
    lines += ["| experiment | minutes a seed | question | source |", "|---|---|---|---|"]
    for each in several:
        quick = each.presets.get("quick")
        minutes = "–" if quick is None or quick.minutes is None else f"{quick.minutes:g}"
        lines.append(f"| `{each.id}` | {minutes} | {each.title} | {each.source} |")
    return lines


_EXPLANATION = (
    "Each row is an experiment; its link leads to the page of its paper, with the published and "
    "the measured number of every variant. The preset `quick` takes minutes and often fewer images "
    "or epochs than the paper; `paper` has the settings of the paper. A **control** is what "
    "learning has to be better than, such as hidden layers that do not learn. A **band** is where "
    "the mean over seeds was expected before it was measured, and an **order** which variant was "
    "expected to be better. What lies outside stays outside: bands are not widened afterwards. A "
    "measure that a formula predicts has a band and no control (–).",
    "",
    "```sh",
    "keras-local run ID --preset quick --seeds 3 --out results",
    "keras-local report results",
    "```",
)
"""How to read the table, and how to repeat it."""


def _repeated(found: Results) -> int:
    """Return how many experiments have at least three seeds of every variant of a preset."""
    return sum(
        any(min(len(each) for each in several.values()) >= 3 for several in presets.values())
        for presets in found.values()
    )


def _seeds(several: Cells) -> int:
    return min(len(each) for each in several.values())


def _summary(experiment: Experiment, preset: str, several: Cells) -> tuple[str, str]:
    """Return in a few words whether controls are beaten, and whether orders and bands hold."""
    beaten = verdicts.controls(experiment, preset, several)
    within = verdicts.bands(experiment, preset, several)
    expected = [*within.values(), *verdicts.orders(experiment, preset, several)]
    said = "all hold" if len(expected) > 1 else "holds"
    outside = [variant for variant, each in within.items() if each.holds is False]
    missed = sum(each.holds is False for each in expected) - len(outside)
    if not expected:
        said = "none: ours is the reference"
    elif outside or missed:
        parts = [f"outside: {', '.join(outside)}"] if outside else []
        parts += [f"{missed} order{'s' if missed > 1 else ''} not met"] if missed else []
        said = f"**{'; '.join(parts)}**"
    elif any(each.holds is None for each in expected):
        said = "partly run"
    return _beaten(beaten), said


def _beaten(several: list[verdicts.Verdict]) -> str:
    if not several:
        return "–"
    if any(each.holds is False for each in several):
        return "**no**"
    return "not run" if any(each.holds is None for each in several) else "yes"


def _page(several: list[Experiment], found: Results, out: Path | None) -> str:
    lines = [
        f"# {_paper(several[0].source)}",
        "",
        "Part of the [results of the papers' experiments](index.md).",
        "",
    ]
    for experiment in several:
        if experiment.id not in found:
            continue
        lines += [f"({experiment.id})=", f"## {experiment.id}", "", f"**{experiment.title}**", ""]
        lines += [f"Source: {experiment.source}. {_warning(experiment)}", ""]
        lines += [experiment.note, ""] if experiment.note else []
        for preset in PRESETS:
            if of_variants := found[experiment.id].get(preset):
                lines += _preset(experiment, preset, of_variants, out)
        lines += _other_presets(experiment, set(found[experiment.id]))
    if absent := [each for each in several if each.id not in found]:
        lines += ["## Not run", ""]
        lines += [f"- `{each.id}` ({each.source}): {each.title}" for each in absent]
        lines += [""]
    return "\n".join(lines)


def _other_presets(experiment: Experiment, run: set[str]) -> list[str]:
    """Say which presets were not run, and which have the settings of one that was."""
    lines = []
    for preset in experiment.presets:
        if preset in run or preset == "smoke":
            continue
        same = [each for each in sorted(run) if _same(experiment, preset, each)]
        said = f"has the same settings as `{same[0]}`" if same else "was not run"
        lines += [f"The preset `{preset}` {said}.", ""]
    return lines


def _same(experiment: Experiment, first: str, second: str) -> bool:
    """Return whether two presets have the same variants with the same settings."""
    variants = experiment.variants_of(first)
    return set(variants) == set(experiment.variants_of(second)) and all(
        experiment.settings(first, each) == experiment.settings(second, each) for each in variants
    )


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


def _preset(experiment: Experiment, preset: str, several: Cells, out: Path | None) -> list[str]:
    lines = [f"### {experiment.id}, preset {preset}", ""]
    lines += [*_table(experiment, preset, several), ""]
    within = verdicts.bands(experiment, preset, several)
    expected = verdicts.controls(experiment, preset, several)
    expected += verdicts.orders(experiment, preset, several)
    expected += [each for each in within.values() if each.holds is False]
    lines += [f"- {each.line}" for each in expected]
    lines += [""] if expected else []
    if not within and not experiment.presets[preset].order:
        lines += ["No band and no order are known: ours is the reference.", ""]
    lines += [*_provenance(experiment, preset, several), ""]
    if out is not None:
        for path in draw(experiment, several, out / "figures", f"{experiment.id}-{preset}"):
            lines += [f"![{path.stem}](figures/{path.name})", ""]
    return lines


def _table(experiment: Experiment, preset: str, several: Cells) -> list[str]:
    """Return the table of variants; columns that would be empty are left out."""
    scale = factor(experiment)
    within = verdicts.bands(experiment, preset, several)
    columns = [f"variant | {label(experiment)}, 95 % interval"]
    columns += ["published"] if experiment.published else []
    columns += ["band", "seeds"] if within else ["seeds"]
    lines = [f"| {' | '.join(columns)} |"]
    lines.append(f"|{'---|' * (lines[0].count('|') - 1)}")
    for variant in experiment.variants:
        named = f"`{variant}`, control" if variant in experiment.control else f"`{variant}`"
        of_seeds = several.get(variant, [])
        mean = verdicts.measured(experiment, of_seeds) if of_seeds else "not run"
        row = [named, mean]
        row += [_published(experiment, variant, scale)] if experiment.published else []
        if verdict := within.get(variant):
            low, high = (
                verdicts.short(scale * each) for each in experiment.presets[preset].bands[variant]
            )
            words = {None: "", True: ": inside", False: ": **outside**"}
            row += [f"{low} to {high}{words[verdict.holds]}"]
        elif within:
            row += ["–"]
        lines.append(f"| {' | '.join(row)} | {len(of_seeds)} |")
    return lines


def _published(experiment: Experiment, variant: str, scale: float) -> str:
    if variant not in experiment.published:
        return "–"
    value, tag = experiment.published[variant]
    return f"{verdicts.short(scale * value)} ({TAGS[tag]})"


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
        f"{all_of(each['precision'] for each in every)}; "
        f"{_minutes(every)} minutes of processor time for all variants with one seed.",
        "",
        "```sh",
        f"keras-local run {experiment.id} --preset {preset} --seeds {_seeds(several)}",
        "```",
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


def _minutes(every: list[dict[str, Any]]) -> str:
    """Return the mean processor time of a seed, which other programs make no longer."""
    seeds = len({each["seed"] for each in every})
    minutes = float(sum(each["cpu_seconds"] for each in every)) / seeds / 60.0
    return f"{minutes:.1f}" if minutes >= 0.1 else "less than 0.1"
