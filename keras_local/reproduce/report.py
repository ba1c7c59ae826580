"""The report of the demo: a page, its figures, its numbers, and a few lines for the console."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_local.reproduce.report_style import STYLE
from keras_local.reproduce.results import Results, Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


def write(folder: Path, results: Results, figures: Mapping[str, Figure]) -> None:
    """Write `index.html`, `results.json` and one PNG file for each figure.

    Args:
        folder: The folder to write to; files of the same names are replaced.
        results: The results of the demo.
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
    """Print the table of errors and the path of the report."""
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
    """Return the page: one HTML file with its style and its figures, which needs no network.

    Args:
        results: The results of the demo.
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
<style>{STYLE}</style>
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
<p class="lead">Networks that learn by rules a synapse could compute, beside backpropagation:
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
    first = f"The same convolutional network, {_of(images.error_paths, images.training_of)}"
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
<p class="small">All errors are those after the last epoch: neither the number of epochs nor any
setting was chosen by the test images in this run.
One of {_of(images.test, images.test_of, "test")} is {_percent(1 / images.test)},
and an error of {_percent(error)} measured on so many is known to about {100 * spread:.1f} points
up or down (95 % interval). Smaller differences mean little.</p>
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
        "Test error of the same network with three error paths.",
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
<h2>Three error paths</h2>
<p>Backpropagation sends errors down through the transposed forward weights, which a synapse cannot
know. Here the same network is trained three times, from the same weights and with the same batches
in the same order; only the weights that carry the error differ. With fixed random weights the
network can learn if the forward weights come to lie at an acute angle to them. Random weights that
receive the forward weights' own updates turn towards the forward weights.</p>
{learning}
{alignment}
{table}
<p class="small">The lowest convolution is left out, since no layer below it needs an error. All
layers learn by SGD from the local hinge loss.</p>
</section>"""


def _features(results: Results, pictures: Mapping[str, bytes]) -> str:
    pretrained = results.pretrained
    fields = _figure(
        pictures["receptive_fields"],
        "Weights of the Hebbian units as images",
        "The weights of each Hebbian unit. Red pixels raise its activity, blue pixels lower it."
        if results.images.shape[-1] == 1
        else "The weights of each Hebbian unit. Grey stands for a weight of zero.",
        "",
    )
    curves = _figure(
        pictures["readout_curves"],
        "Test error over training of the readouts and of end-to-end backpropagation",
        "Test error while the readouts are trained.",
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
<p>For each image, the unit with the largest current moves its weights towards the image, and the
unit of rank {results.settings["encoder"]["rank"]} moves its weights away. Labels are used only
afterwards, for a linear layer on the frozen features. The other rows of the table are there for
comparison: the same readout of random features and of the raw image, and backpropagation through
as many units.</p>
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
<code>{escape(served.folder)}/</code> beside this page, and loaded by a new process that cannot
import keras_local. Both processes predicted all test images.</p>
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
<p class="small">{_seconds(results.cpu_seconds)} of processor time, with the start of Python and of
the serving process. If other programs run on the machine, the times above are longer.</p>
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
<p class="small">The seed determines the initial weights and the order of the images. Rounding
differs between machines and versions, so that single images may be classified differently.</p>
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
    """Return the mean angle over layers, before and after training; empty without feedback."""
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
