"""An experiment of a paper as data: one TOML file, its variants and presets, checked when read."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from keras_local import _validation as check
from keras_local.reproduce.reading import choices, parsed, read_table
from keras_local.reproduce.sections import Settings

PRESETS = ("smoke", "quick", "paper")
"""From seconds to hours: a test, a result in minutes, and the settings of the source."""

Figure = Literal["curves", "bars", "alignment", "receptive_fields", "table"]
"""What the report draws, or only puts into its table."""

CHANCE = "chance"
"""The control of an experiment whose only comparison is with guessing."""

TAGS = {
    "C": "the authors' code or log",
    "P": "the paper's text",
    "S": "a description of the paper",
    "T": "a third party",
    "M": "from memory, unverified",
    "N": "computed from the formula",
    "us": "measured by this project before",
}
"""Where a published value comes from."""

Trust = Literal["=", "~", "?"]

TRUST: dict[Trust, str] = {
    "=": "good enough to expect ours in a band around them",
    "~": "good for its direction only",
    "?": "unknown, or not comparable: our first mean becomes the reference",
}

_SECTIONS = ("data", "model", "train", "encoder", "readout", "measure")


@dataclasses.dataclass(frozen=True)
class Preset:
    """How long an experiment runs, and what has to come out.

    Attributes:
        set: Changes of the settings, by dotted key.
        variants: Changes for some variants, after their own.
        only: The variants that run; all by default.
        order: Lists `[first, second, margin]`: the mean of the first variant has to be better than
            that of the second by at least the margin. The second may be `"chance"`.
        bands: Lowest and highest mean of a variant.
        minutes: Minutes for one seed with all variants, on two quiet cores.
    """

    set: dict[str, Any] = dataclasses.field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    only: tuple[str, ...] = ()
    order: tuple[Any, ...] = ()
    bands: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    minutes: float | None = None

    def __post_init__(self) -> None:
        for each in self.order:
            valid = isinstance(each, list) and [type(part) for part in each[:2]] == [str, str]
            valid = valid and len(each) == 3 and isinstance(each[2], (int, float))
            check.require(valid, "order", "a list of [first, second, margin]", each)
        for name, band in self.bands.items():
            valid = len(band) == 2 and band[0] <= band[1]
            check.require(valid, f"bands: {name}", "[lowest, highest]", band)
        if self.minutes is not None:
            check.real("minutes", self.minutes, 0.0)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment: its settings, its variants, and what is known of its result.

    Attributes:
        id: Its name in lower case, which is also that of its file.
        source: The paper, with its figure or table.
        kind: `"train"` (a model learns by `fit`), `"pretrain"` (an encoder learns without labels,
            then readouts learn on it) or `"measure"` (a function of `measures` gives numbers).
        variants: What is compared: changes of the settings, by dotted key.
        control: The variants that the others have to beat, or `["chance"]`.
        presets: `smoke`, `quick` and, if there is one, `paper`.
        title: What is asked, in a sentence.
        seeds: How many seeds run by default, counted from 0.
        metric: The number of a result that is compared, `test_error` for classes.
        better: Whether `"lower"` or `"higher"` numbers are better.
        chance: The metric of guessing.
        figures: What the report draws: `curves`, `bars`, `alignment`, `receptive_fields`, `table`.
        published: For a variant, the published value and a tag of `TAGS`.
        trust: How far the published values can be trusted, a key of `TRUST`.
        unverified: What about the settings or values was not checked against the source.
        explained: Why a result lies outside of its band, for `preset.variant`.
        note: What else a reader has to know.
        gpu: The batch of runs on a GPU that the paper preset belongs to.
        data: The table of `sections.Data`, likewise the following.
        model: `sections.Model`.
        train: `sections.Train`.
        encoder: `sections.Encoder`.
        readout: `sections.Readout`.
        measure: `sections.Measure`.
        text: The TOML text.

    >>> Experiment.of("amit-depth-fashion").kind
    'train'
    """

    id: str
    source: str
    kind: Literal["train", "pretrain", "measure"]
    variants: dict[str, dict[str, Any]]
    control: tuple[str, ...]
    presets: dict[str, Preset]
    title: str
    seeds: int = 3
    metric: str = "test_error"
    better: Literal["lower", "higher"] = "lower"
    chance: float = 0.9
    figures: tuple[Figure, ...] = ("bars",)
    published: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    trust: Trust = "?"
    unverified: str = ""
    explained: dict[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    gpu: str = ""
    data: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    train: dict[str, Any] | None = None
    encoder: dict[str, Any] | None = None
    readout: dict[str, Any] | None = None
    measure: dict[str, Any] | None = None
    text: str = dataclasses.field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        allowed = "lower-case letters, digits, `-` and `_`"
        plain = self.id.replace("-", "").replace("_", "")
        check.require(plain.isalnum() and self.id == self.id.lower(), "id", allowed, self.id)
        choices(self)
        check.positive_integer("seeds", self.seeds)
        for name in self.presets:
            check.one_of("presets", name, PRESETS)
        check.require("smoke" in self.presets, "presets", "with `smoke`", list(self.presets))
        check.require(bool(self.variants), "variants", "at least one", "none")
        check.require(bool(self.control), "control", 'some variants, or ["chance"]', "none")
        for name in self.control:
            check.one_of("control", name, (*self.variants, CHANCE))
        self._check_names()

    def _check_names(self) -> None:
        """Refuse names of variants that there are not, in what is known of results."""
        names = tuple(self.variants)
        for name, value in self.published.items():
            check.one_of("published", name, names)
            valid = len(value) == 2 and isinstance(value[0], (int, float)) and value[1] in TAGS
            allowed = f"[value, tag] with a tag of {', '.join(TAGS)}"
            check.require(valid, f"published: {name}", allowed, list(value))
        for where in self.explained:
            preset, _, variant = where.partition(".")
            check.one_of("explained", preset, PRESETS)
            check.one_of("explained", variant, names)
        for name, chosen in self.presets.items():
            for variant in (*chosen.bands, *chosen.only, *chosen.variants):
                check.one_of(f"presets: {name}", variant, names)
            for first, second, _ in chosen.order:
                check.one_of(f"presets: {name}: order", first, names)
                check.one_of(f"presets: {name}: order", second, (*names, CHANCE))

    @classmethod
    def of(cls, name: str) -> Self:
        """Return an experiment of the catalogue by its id, or one from a file `NAME.toml`.

        Raises:
            ValueError: If there is no such experiment, or the file is not one.
        """
        if name.endswith(".toml"):
            path = Path(name)
            check.require(path.is_file(), "experiment", "an id or an existing file", name)
            return cls.from_toml(path.read_text(encoding="utf-8"), name)
        known = ids()
        allowed = "an id that `keras-local list` shows, or a file .toml"
        check.require(name in known, "experiment", allowed, name)
        return cls.from_toml(text_of(name), name)

    @classmethod
    def from_toml(cls, text: str, source: str = "experiment") -> Self:
        """Return the experiment that a TOML text contains.

        The settings of all presets and variants are read too.

        Raises:
            ValueError: If the text is not TOML, an entry is unknown, missing or of the wrong type,
                or a value is out of its range; the message names source, table and entry.
        """
        table = parsed(text, source)
        allowed = "no entry of a file: it is the file"
        check.require("text" not in table, f"{source}: text", allowed, "an entry")
        experiment = read_table(cls, {**table, "text": text}, source)
        for preset in experiment.presets:
            for variant in experiment.variants_of(preset):
                experiment.settings(preset, variant)
        return experiment

    def variants_of(self, preset: str) -> tuple[str, ...]:
        """Return the variants that run in a preset."""
        return self.presets[preset].only or tuple(self.variants)

    def settings(
        self, preset: str, variant: str, changes: Mapping[str, Any] | None = None
    ) -> Settings:
        """Return the settings of one variant in one preset.

        Args:
            preset: `"smoke"`, `"quick"` or `"paper"`.
            variant: Name of the variant.
            changes: Further changes, by dotted key.

        Raises:
            ValueError: If there is no such preset or variant, or a change leads to settings that
                are not allowed; the message names experiment, preset, variant and key.
        """
        check.one_of("preset", preset, tuple(self.presets))
        check.one_of("variant", variant, tuple(self.variants))
        chosen = self.presets[preset]
        tables = {name: copy.deepcopy(getattr(self, name)) for name in _SECTIONS}
        tables = {name: table for name, table in tables.items() if table is not None}
        where = f"{self.id}, preset {preset}, variant {variant}"
        several = (chosen.set, self.variants[variant], chosen.variants.get(variant, {}))
        for several_changes in (*several, changes or {}):
            for key, value in several_changes.items():
                replace(tables, key, value, where)
        return read_table(Settings, {"kind": self.kind, **tables}, where)


def replace(tables: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Give the entry that a dotted key names another value; numbers are places in lists.

    >>> tables = {"encoder": {"layers": [{"units": 3}]}}
    >>> replace(tables, "encoder.layers.0.units", 5, "here")
    >>> tables
    {'encoder': {'layers': [{'units': 5}]}}

    Raises:
        ValueError: If the key leads through something that is neither a table nor a list, or beyond
            the end of a list.
    """
    parts = key.split(".")
    check.require(parts[0] in tables, f"{where}: {key}", f"in one of {list(tables)}", key)
    inner: Any = tables
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if isinstance(inner, list):
            allowed = f"a place in a list of {len(inner)}"
            inside = part.isdecimal() and int(part) < len(inner)
            check.require(inside, f"{where}: {key}", allowed, part)
            index: Any = int(part)
        else:
            check.require(isinstance(inner, dict), f"{where}: {key}", "a key of a table", part)
            index = part
        if last:
            inner[index] = copy.deepcopy(value)
        elif isinstance(inner, dict):
            inner = inner.setdefault(index, {})
        else:
            inner = inner[index]


@cache
def ids() -> tuple[str, ...]:
    """Return the ids of the catalogue, in alphabetical order."""
    files = resources.files(__package__).joinpath("catalogue").iterdir()
    return tuple(sorted(each.name[:-5] for each in files if each.name.endswith(".toml")))


def text_of(name: str) -> str:
    """Return the TOML text of an experiment of the catalogue."""
    file = resources.files(__package__).joinpath("catalogue", f"{name}.toml")
    return file.read_text(encoding="utf-8")
