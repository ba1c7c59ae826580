"""The report of the demo: a page, its figures, its numbers, and a few lines for the console."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_local.reproduce.results import Results, Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


def write(folder: Path, results: Results, figures: Mapping[str, Figure]) -> None:
    """Write `index.html`, `results.json` and one PNG file for each figure.

    Args:
        folder: Where they go; files of the same names are replaced.
        results: What was found.
        figures: Figures by name.
    """
    pictures = {}
    for name, figure in figures.items():
        buffer = io.BytesIO()
        # Without the date the same run gives the same file.
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
        pictures[name] = buffer.getvalue()
        (folder / f"{name}.png").write_bytes(pictures[name])
    (folder / "results.json").write_text(results.to_json(), encoding="utf-8")
    (folder / "index.html").write_text(render(results, pictures), encoding="utf-8")


def show(console: Console, results: Results, folder: Path) -> None:
    """Print the table of errors and where the report is."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    images = results.images
    console.print()
    console.print(
        Text(f"{images.data}: errors on {images.test:,} test images", style="bold"), soft_wrap=True
    )
    if results.quick:
        console.print(Text("Quick run: the errors mean nothing.", style="yellow"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model")
    for heading in ("test", "training", "mean angle", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rows in (results.error_paths, results.features):
        for row in rows:
            table.add_row(
                row.label,
                _percent(row.test.error),
                _percent(row.training.error),
                " to ".join(_degrees(angle) for angle in _mean_angles(row)),
                _seconds(row.seconds),
            )
        table.add_section()
    served = results.served
    console.print(table)
    console.print(
        f"served without keras_local: {served.same_classes:,} of {served.images:,} images in the "
        f"same class, largest difference of a score {served.largest_difference:.2g}",
        highlight=False,
        soft_wrap=True,
    )
    for note in results.notes:
        console.print(Text(f"note: {note}"), style="yellow", soft_wrap=True)
    console.print(
        f"{_seconds(results.total_seconds)} in all ({_seconds(results.cpu_seconds)} of processor "
        "time)",
        highlight=False,
    )
    console.print(Text(f"report: {folder / 'index.html'}", style="bold"), soft_wrap=True)


def render(results: Results, pictures: Mapping[str, bytes]) -> str:
    """Return the page: one file with its style and its figures, that needs no network.

    Args:
        results: What was found.
        pictures: The figures `learning_curves`, `alignment`, `receptive_fields` and
            `readout_curves` as PNG.
    """
    body = "\n".join(
        [
            _header(results),
            _errors(results),
            _error_paths(results, pictures),
            _features(results, pictures),
            _serving(results),
            _time(results),
            _repetition(results),
        ]
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>keras_local on {escape(results.images.data)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _header(results: Results) -> str:
    images = results.images
    by_key = {row.key: row for row in (*results.error_paths, *results.features)}
    hebbian, updated = by_key["hebbian"], by_key["updated"]
    angles = _mean_angles(updated)
    quick = (
        '<p class="warning" role="note"><strong>Quick run.</strong> A few images and steps, to see '
        "that all works. The errors mean nothing.</p>"
        if results.quick
        else ""
    )
    tiles = [
        (
            _percent(hebbian.test.error),
            "test error of a linear readout of Hebbian features, which learned without labels",
        ),
        (
            _percent(updated.test.error),
            "test error with updated random feedback, "
            f"{_percent(by_key['backprop'].test.error)} with backpropagation",
        ),
        (
            f"{_degrees(angles[0])} to {_degrees(angles[-1])}",
            "angle between the forward weights and the updated feedback weights, mean of layers",
        ),
        (
            f"{results.served.largest_difference:.2g}",
            "largest difference of a class score when the exported model is served without "
            f"keras_local; the largest score is {results.served.largest_score:.3g}",
        ),
    ]
    return f"""<header>
<h1>keras_local on {escape(images.data)}</h1>
<p class="lead">Nets that learn by rules a synapse could compute, beside backpropagation:
{images.training:,} training images, {images.test:,} test images, {images.classes} classes,
seed {results.seed}.</p>
{quick}
<ul class="tiles">
{"".join(f"<li><b>{escape(value)}</b><span>{escape(text)}</span></li>" for value, text in tiles)}
</ul>
</header>"""


def _errors(results: Results) -> str:
    images = results.images
    largest = max(row.test.error for row in (*results.error_paths, *results.features))
    hebbian = next(row for row in results.features if row.key == "hebbian")
    error = hebbian.test.error
    spread = 1.96 * (error * (1.0 - error) / images.test) ** 0.5
    first = f"The same convolutional net, {_of(images.error_paths, images.training_of)}"
    second = f"{results.pretrained.units} features, {_of(images.training, images.training_of)}"
    return f"""<section>
<h2>Errors</h2>
<div class="table"><table class="cards">
<thead><tr><th>Model</th><th class="n">Test error</th><th class="n">Training error</th>
<th class="n">Weights trained with labels</th><th class="n">Time</th></tr></thead>
<tbody>
<tr class="group"><th colspan="5" scope="rowgroup">{first}</th></tr>
{"".join(_error_row(row, largest) for row in results.error_paths)}
<tr class="group"><th colspan="5" scope="rowgroup">{second}</th></tr>
{"".join(_error_row(row, largest) for row in results.features)}
</tbody></table></div>
<p class="small">All errors are those after the last epoch: the test images chose neither an epoch
nor a setting in this run. One of {_of(images.test, images.test_of, "test")} is
{_percent(1 / images.test)}, and an error of {_percent(error)} measured on so many is known to about
{100 * spread:.1f} points up or down (95 % interval). Smaller differences say little.</p>
</section>"""


def _error_row(row: Trained, largest: float) -> str:
    width = 100.0 * row.test.error / largest if largest else 0.0
    return f"""<tr><th scope="row">{escape(row.label)}<small>{escape(row.detail)}</small></th>
<td class="n" data-label="Test error"><span><b>{_percent(row.test.error)}</b>
<small>{row.test.wrong:,} of {row.test.images:,}</small>
<i class="bar"><i style="width:{width:.1f}%"></i></i></span></td>
<td class="n" data-label="Training error">{_percent(row.training.error)}</td>
<td class="n" data-label="Weights trained with labels">{row.weights:,}</td>
<td class="n" data-label="Time">{_seconds(row.seconds)}</td></tr>
"""


def _error_paths(results: Results, pictures: Mapping[str, bytes]) -> str:
    rows = [row for row in results.error_paths if row.angles]
    table = _table(
        ["Angle before and after training", *(row.label for row in rows)],
        [
            [
                layer,
                *(
                    f"{_degrees(row.angles[layer][0])} to {_degrees(row.angles[layer][-1])}"
                    for row in rows
                ),
            ]
            for layer in rows[0].angles
        ],
    )
    angles = [(f"{row.label}: {layer}", row.angles[layer]) for row in rows for layer in row.angles]
    learning = _figure(
        pictures["learning_curves"],
        "Test error over training for the three error paths",
        "Test error of the same net with three error paths.",
        _curve_table("Epoch", results.error_paths),
    )
    alignment = _figure(
        pictures["alignment"],
        "Angle between kernel and feedback kernel by layer over training",
        "Angle between forward and feedback weights. Unrelated weights are at 90 degrees, "
        "backpropagation is at 0.",
        _table(
            ["Epoch", *(name for name, _ in angles)],
            [
                [str(epoch), *(f"{values[epoch]:.1f}" for _, values in angles)]
                for epoch in range(len(angles[0][1]))
            ],
        ),
    )
    return f"""<section>
<h2>Three ways back for the error</h2>
<p>Backpropagation sends errors down through the transposed forward weights, which a synapse cannot
know. Here the same net starts from the same weights and sees the same batches in the same order
three times; only the weights that carry the error differ. Random weights that stay fixed can teach
if the forward weights come to lie at an acute angle to them. Random weights that receive the
forward weights' own update turn towards them by themselves.</p>
{learning}
{alignment}
{table}
<p class="small">The lowest convolution is left out: nothing below it needs an error. All layers
learn from the local hinge loss, by SGD.</p>
</section>"""


def _features(results: Results, pictures: Mapping[str, bytes]) -> str:
    pretrained = results.pretrained
    fields = _figure(
        pictures["receptive_fields"],
        "Weights of the Hebbian units as images",
        "What each Hebbian unit has learned to look for. Red raises its activity, blue lowers it."
        if results.images.shape[-1] == 1
        else "What each Hebbian unit has learned to look for. Grey is no weight.",
        "",
    )
    curves = _figure(
        pictures["readout_curves"],
        "Test error over training of the readouts and of end-to-end backpropagation",
        "Test error while the labels come in.",
        _curve_table("Passes", results.features),
    )
    facts = _facts(
        [
            ("Units that won for some image", _percent(pretrained.won)),
            ("Units that never won", _percent(pretrained.dead)),
            ("Units on the unit sphere (within 0.1)", _percent(pretrained.converged)),
            ("Mean norm of a unit", f"{pretrained.mean_norm:.3f}"),
            ("Steps", f"{pretrained.steps:,}"),
            ("Time", _seconds(pretrained.seconds)),
        ]
    )
    return f"""<section>
<h2>Features without labels</h2>
<p>For each image the unit with the largest current moves its weights towards the image, the one of
rank {results.settings["encoder"]["rank"]} moves away. Labels come in afterwards, for a linear layer
on the frozen features. The other rows of the table tell what the features are worth: the same
readout of random features and of the raw image, and backpropagation through as many units.</p>
{fields}
{facts}
{curves}
</section>"""


def _serving(results: Results) -> str:
    served = results.served
    facts = _facts(
        [
            ("Largest difference of a class score", f"{served.largest_difference:.2g}"),
            ("Largest class score", f"{served.largest_score:.3g}"),
            ("Same class", f"{served.same_classes:,} of {served.images:,} images"),
            ("Weights of the model", _bytes(served.parameter_bytes)),
            (
                "Weights on disk",
                f"{_bytes(served.weight_bytes)} "
                f"({served.weight_bytes / served.parameter_bytes:.2f} times)",
            ),
            ("Whole folder, with the graph", _bytes(served.folder_bytes)),
            ("Process imported Keras", "yes" if served.keras_imported else "no"),
            ("Time", _seconds(served.seconds)),
        ]
    )
    return f"""<section>
<h2>Served without the package</h2>
<p>The readout was exported as a SavedModel of built-in operations, in
<code>{escape(served.folder)}/</code> beside this page, and loaded by a fresh process in which
importing keras_local fails. Both predicted all test images.</p>
{facts}
</section>"""


def _time(results: Results) -> str:
    longest = max(results.seconds.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="n">{_seconds(seconds)}</td>'
        f'<td class="wide"><i class="bar"><i style="width:{100 * seconds / longest:.1f}%"></i></i>'
        "</td></tr>"
        for name, seconds in results.seconds.items()
    )
    return f"""<section>
<h2>Time</h2>
<div class="table"><table class="plain"><tbody>{rows}
<tr class="total"><th scope="row">all</th><td class="n">{_seconds(results.total_seconds)}</td>
<td class="wide"></td></tr>
</tbody></table></div>
<p class="small">{_seconds(results.cpu_seconds)} of processor time, the start of Python and of the
serving process included. Other work on the machine makes the clock run longer than that.</p>
</section>"""


def _repetition(results: Results) -> str:
    settings = "\n\n".join(
        f"[{table}]\n" + "\n".join(f"{name} = {_toml(value)}" for name, value in entries.items())
        for table, entries in (
            (table, {name: value for name, value in entries.items() if value is not None})
            for table, entries in results.settings.items()
        )
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in results.notes)
    return f"""<section>
<h2>Repeat it</h2>
<pre class="command"><code>{escape(results.command)}</code></pre>
{_facts(results.environment.items())}
<h3>Settings</h3>
<pre><code>{escape(settings)}</code></pre>
{f"<h3>Warnings</h3><ul>{notes}</ul>" if notes else ""}
<p class="small">The seed fixes the weights and the order of the images. Rounding differs between
machines and versions, so that single images may change sides.</p>
<details><summary>All numbers, as in results.json</summary>
<pre><code>{escape(results.to_json())}</code></pre></details>
</section>"""


def _figure(picture: bytes, alternative: str, caption: str, numbers: str) -> str:
    data = base64.b64encode(picture).decode("ascii")
    details = f"<details><summary>The numbers</summary>{numbers}</details>" if numbers else ""
    return f"""<figure>
<img src="data:image/png;base64,{data}" alt="{escape(alternative)}">
<figcaption>{escape(caption)}</figcaption>
{details}
</figure>"""


def _curve_table(unit: str, rows: Sequence[Trained]) -> str:
    steps = sorted({step for row in rows for step in row.curve["passes"]})
    errors = [dict(zip(row.curve["passes"], row.curve["test_error"], strict=True)) for row in rows]
    return _table(
        [unit, *(row.label for row in rows)],
        [
            [str(step), *(_percent(error[step]) if step in error else "" for error in errors)]
            for step in steps
        ],
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th class="n" scope="col">{escape(text)}</th>' for text in heads[1:])
    lines = "".join(
        f'<tr><th scope="row">{escape(cells[0])}</th>'
        + "".join(f'<td class="n">{escape(text)}</td>' for text in cells[1:])
        + "</tr>"
        for cells in rows
    )
    return (
        f'<div class="table"><table><thead><tr><th scope="col">{escape(heads[0])}</th>{head}'
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs)
    return f"<dl>{lines}</dl>"


def _mean_angles(row: Trained) -> list[float]:
    """Return the mean angle over layers before and after training; nothing without feedback."""
    if not row.angles:
        return []
    return [sum(v[i] for v in row.angles.values()) / len(row.angles) for i in (0, -1)]


def _of(used: int, all_of_them: int, kind: str = "training") -> str:
    if used == all_of_them:
        return f"{used:,} {kind} images"
    return f"the first {used:,} of {all_of_them:,} {kind} images"


def _percent(fraction: float) -> str:
    return f"{100.0 * fraction:.2f}\N{NO-BREAK SPACE}%"


def _degrees(angle: float) -> str:
    return f"{angle:.0f}°"


def _seconds(seconds: float) -> str:
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _bytes(count: int) -> str:
    return f"{count:,} bytes" if count < 10_000 else f"{count / 1000:,.1f} kB"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value)


_STYLE = """
:root {
  --page: #fbfbfa; --card: #ffffff; --text: #1d2126; --soft: #5b6570; --line: #dfe3e6;
  --accent: #0b62a4; --track: #e8ecef; --code: #f1f3f4; --warn: #fff3cd; --warn-text: #5c4400;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1c2024; --text: #e4e7ea; --soft: #a0a9b2; --line: #323940;
    --accent: #6cb4ee; --track: #2b3238; --code: #20252a; --warn: #4a3a0a; --warn-text: #ffe9a8;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3rem 0 .75rem; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: 0 0 1rem; max-width: 46rem; }
.lead { font-size: 1.1rem; color: var(--soft); }
.small, figcaption, small { font-size: .875rem; color: var(--soft); }
.warning {
  background: var(--warn); color: var(--warn-text); border-radius: .5rem; padding: .75rem 1rem;
}
.tiles {
  list-style: none; padding: 0; margin: 1.75rem 0 0; display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr));
}
.tiles li {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem;
}
.tiles b {
  display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums;
}
.tiles span { display: block; margin-top: .35rem; font-size: .875rem; color: var(--soft); }
.table { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td {
  padding: .55rem 0 .55rem 1.25rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; font-weight: normal;
}
th:first-child { padding-left: 0; }
thead th { font-size: .8125rem; color: var(--soft); vertical-align: bottom; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
tbody th small, td small { display: block; }
.group th { padding-top: 1.25rem; font-weight: 600; }
.plain { width: auto; min-width: 60%; }
.plain .wide { width: 14rem; vertical-align: middle; }
.total th, .total td { font-weight: 600; border-bottom: 0; }
.bar {
  display: block; height: .35rem; border-radius: .2rem; background: var(--track); overflow: hidden;
  min-width: 5.5rem; margin-top: .3rem;
}
.plain .bar { margin: 0; }
.bar i { display: block; height: 100%; background: var(--accent); border-radius: .2rem; }
figure { margin: 1.75rem 0; }
figure img {
  display: block; max-width: 100%; height: auto; background: #fff; padding: .75rem;
  border: 1px solid var(--line); border-radius: .6rem; width: 40rem;
}
figcaption { margin-top: .5rem; max-width: 46rem; }
details { margin-top: .5rem; font-size: .9rem; }
summary { cursor: pointer; color: var(--accent); }
details table { font-size: .85rem; margin-top: .5rem; }
details th, details td { padding-top: .25rem; padding-bottom: .25rem; }
dl {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .75rem 1.5rem;
  margin: 1.25rem 0;
}
dt { font-size: .8125rem; color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
pre {
  background: var(--code); border: 1px solid var(--line); border-radius: .5rem; padding: .9rem 1rem;
  overflow-x: auto; font-size: .85rem; line-height: 1.5;
}
code { font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
p code { background: var(--code); padding: .1em .3em; border-radius: .25em; font-size: .9em; }
@media (max-width: 40rem) {
  main { padding-top: 1.5rem; }
  h1 { font-size: 1.6rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tiles li { padding: .75rem; }
  .tiles b { font-size: 1.25rem; }
  .cards, .cards tbody { display: block; }
  .cards thead { position: absolute; left: -999rem; }
  .cards tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  .cards th, .cards td { display: block; border: 0; padding: .15rem 0; }
  .cards td { display: flex; justify-content: space-between; text-align: right; gap: 1rem; }
  .cards td::before {
    content: attr(data-label); color: var(--soft); font-size: .875rem; white-space: normal;
    text-align: left;
  }
  .cards .group { border-bottom: 0; padding-bottom: 0; }
  dl { grid-template-columns: 1fr 1fr; gap: .75rem 1rem; }
  .plain { width: 100%; }
  .plain .wide { width: 35%; }
  .plain .bar { min-width: 3rem; }
}
@media print {
  :root {
    --page: #fff; --card: #fff; --text: #000; --soft: #444; --line: #bbb; --accent: #0b62a4;
    --track: #ddd; --code: #f5f5f5; --warn: #fff; --warn-text: #000;
  }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; }
  figure, tr, dl, .tiles { break-inside: avoid; }
  figure img { width: auto; max-height: 11cm; border: 0; padding: 0; }
  details { display: none; }
  .bar i { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  pre { white-space: pre-wrap; }
}
"""
