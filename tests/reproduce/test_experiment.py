"""Experiments as data: what the reader takes and refuses, and every file of the catalogue."""

from __future__ import annotations

import re

import pytest

from keras_local.reproduce.checking import check_settings
from keras_local.reproduce.experiment import CHANCE, Experiment, ids, text_of
from keras_local.reproduce.making import encoder_of

GOOD = """
id = "mine"
source = "Somebody 2030"
title = "Does it learn?"
kind = "train"
control = ["frozen"]
[data]
name = "digits"
flatten = true
[model]
layers = [
  { name = "Dense", units = 20, activation = "tanh" },
  { name = "Dense", units = 10, called = "scores" },
]
feedback = "urfb"
[train]
optimizer = { name = "SGD", learning_rate = 0.1 }
loss = "softmax"
batch_size = 20
epochs = 3
[variants]
URFB = {}
frozen = { "model.frozen_below" = "scores" }
[published]
URFB = [0.05, "M"]
[presets.smoke]
set = { "train.epochs" = 1 }
order = [["URFB", "frozen", 0.0]]
bands = { URFB = [0.0, 0.5] }
"""


def test_variants_and_presets_change_settings() -> None:
    experiment = Experiment.from_toml(GOOD)
    plain, frozen = (experiment.settings("smoke", each) for each in ("URFB", "frozen"))
    assert plain.train is not None
    assert frozen.model is not None
    assert plain.train.epochs == 1
    assert frozen.model.frozen_below == "scores"
    assert plain.sha != frozen.sha
    changed = experiment.settings("smoke", "URFB", {"model.layers.0.units": 7})
    assert changed.model is not None
    assert changed.model.layers[0]["units"] == 7
    assert experiment.settings("smoke", "URFB").sha == plain.sha


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "train"', 'kind = "traim"', "kind"),
        ("batch_size = 20", "batch_size = -20", "batch_size"),
        ("batch_size = 20", 'batch_size = "few"', "batch_size: must be of type int"),
        ("batch_size = 20", "batchsize = 20", "batchsize"),
        ('name = "digits"', 'name = "letters"', "letters"),
        ('control = ["frozen"]', 'control = ["forzen"]', "forzen"),
        ('control = ["frozen"]', "control = []", "control"),
        ('id = "mine"', 'id = "Mine"', "`id`"),
        ('[0.05, "M"]', '[0.05, "X"]', "published"),
        ('[0.05, "M"]', '["low", "M"]', "published"),
        ("URFB = [0.05", "FRFB = [0.05", "published"),
        ('["URFB", "frozen", 0.0]', '["URFB", "frozen"]', "order"),
        ('["URFB", "frozen", 0.0]', '["URFB", "fixed", 0.0]', "fixed"),
        ("[0.0, 0.5]", "[0.5, 0.0]", "bands"),
        ("[presets.smoke]", "[presets.tiny]", "presets"),
        ("[presets.smoke]", "[presets.quick]", "smoke"),
        ('"train.epochs" = 1', '"traim.epochs" = 1', "traim"),
        ('"train.epochs" = 1', '"train.epoch" = 1', "epoch"),
        ('"train.epochs" = 1', '"model.layers.2.units" = 1', "a place in a list of 2"),
        ('"train.epochs" = 1', '"train.epochs.first" = 1', "a key of a table"),
        ('[data]\nname = "digits"\nflatten = true\n', "", "data"),
        ('feedback = "urfb"', 'feedback = "urfb"\nmake = "reference.simpnet"', "make"),
        ("[variants]", "[encoder]\nepochs = 3\n[variants]", "encoder"),
        ("URFB = {}", "URFB = 3", "must be a table"),
        ('name = "digits"', 'name = "digits"\nscale = "large"', "scale"),
        ("epochs = 3", 'epochs = 3\nrecord = ["angle"]', "record"),
        ('kind = "train"', 'kind = "train"\nfigures = ["pie"]', "figures"),
        ('kind = "train"', 'kind = "train"\ntrust = "!"', "trust"),
        ('id = "mine"', 'id = "mine"\ntext = "x"', "text"),
        ('id = "mine"', "id = mine", "not TOML"),
    ],
)
def test_nonsense_is_refused_by_name(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=re.escape(message)):
        Experiment.from_toml(GOOD.replace(old, new), "mine.toml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.layers.0.name", "Dens", "Dens"),
        ("model.layers.0.unit", 3, "unit"),
        ("model.feedback", {"name": "urfb", "decai": 1.0}, "decai"),
        ("model.layers.0.activation", {"name": "os.system"}, "os.system"),
        ("train.optimizer.name", "SDG", "SDG"),
        ("train.optimizer.schedule", "linear", "schedule"),
        ("train.loss", "hinge", "loss"),
        ("train.loss", {"name": "LocalHinge", "mu": 1.0}, "mu"),
        ("model.direct", "sideways", "direct"),
    ],
)
def test_objects_are_checked_before_they_are_built(key: str, value: object, message: str) -> None:
    settings = Experiment.from_toml(GOOD).settings("smoke", "URFB", {key: value})
    with pytest.raises(ValueError, match=re.escape(message)):
        check_settings(settings, "mine")


def test_layers_can_take_the_place_of_an_encoder_of_the_package() -> None:
    encoder = Experiment.of("softhebb-mnist").settings("quick", "raw").encoder
    assert encoder is not None
    assert encoder_of(encoder, (28, 28, 1)).output_shape == (None, 784)


def test_there_are_experiments() -> None:
    assert len(ids()) >= 70


@pytest.mark.parametrize("name", ids())
def test_catalogue(name: str) -> None:
    """Each file is read, its names and arguments exist, in all variants and presets."""
    experiment = Experiment.of(name)
    assert experiment.id == name
    assert experiment.text == text_of(name)
    for preset in experiment.presets:
        for variant in experiment.variants_of(preset):
            check_settings(experiment.settings(preset, variant), f"{name} {preset} {variant}")


@pytest.mark.parametrize("name", ids())
def test_each_smoke_preset_compares_with_the_controls(name: str) -> None:
    experiment = Experiment.of(name)
    smoke = experiment.presets["smoke"]
    beaten = {second for _, second, margin in smoke.order if margin >= 0.0}
    if any(not low <= experiment.chance <= high for low, high in smoke.bands.values()):
        beaten.add(CHANCE)
    for control in experiment.control:
        assert control in beaten or f"smoke.{control}" in experiment.explained
