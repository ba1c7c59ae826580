"""Settings: what the package ships is valid, nonsense is refused by name."""

from __future__ import annotations

import dataclasses

import pytest

from keras_local.reproduce.settings import DEMO_DATA, DemoSettings

TEXT = """
[data]
name = "digits"

[error_paths]
filters = [16, 32]
kernel_size = 3
hidden = 64
activation = "tanh"
learning_rate = 0.1
momentum = 0.9
batch_size = 50
epochs = 25

[encoder]
units = 64
p = 2
rank = 2
delta = 0.4
initial = "uniform"
step_size = 0.05
batch_size = 50
epochs = 143

[readout]
power = 4.5
loss_power = 6
beta = 0.3
learning_rate = 0.03
batch_size = 100
passes = 580

[softmax]
learning_rate = 0.01
batch_size = 100
passes = 200
"""


@pytest.mark.parametrize("name", DEMO_DATA)
def test_every_data_set_has_settings(name: str) -> None:
    settings = DemoSettings.of(name)
    assert settings.data.name == name
    assert settings.encoder.epochs > 1


def test_values_come_from_the_text() -> None:
    settings = DemoSettings.from_toml(TEXT.replace("epochs = 143", "epochs = 7"))
    assert settings.encoder.epochs == 7
    assert settings.error_paths.filters == (16, 32)
    assert settings.error_paths.images is None
    # A whole number in TOML is a number where a number is asked for.
    assert settings.encoder.p == 2.0
    assert isinstance(settings.encoder.p, float)


def test_digits_are_those_of_the_pilot() -> None:
    """4000 steps of batches of 50, U(0, 1), p = 2, rank 2, delta 0.4, RePU 4.5."""
    settings = DemoSettings.of("digits")
    encoder = settings.encoder
    assert (encoder.units, encoder.p, encoder.rank, encoder.delta) == (64, 2, 2, 0.4)
    assert encoder.initial == "uniform"
    assert 1400 // encoder.batch_size * encoder.epochs == pytest.approx(4000, abs=20)
    assert settings.readout.power == 4.5
    assert (settings.data.training, settings.data.test) == (None, None)


def test_quick_is_small_and_leaves_the_rest() -> None:
    settings = DemoSettings.of("mnist")
    quick = settings.quick()
    assert quick.data.training is not None
    assert quick.data.training <= 500
    assert quick.encoder.epochs < settings.encoder.epochs
    assert quick.readout.passes < settings.readout.passes
    assert quick.encoder.units == settings.encoder.units
    # The settings themselves are as before.
    assert settings == DemoSettings.of("mnist")


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DemoSettings.of("digits").encoder.units = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "digits"', 'name = "letters"', r"data: `name` must be one of .*letters"),
        ("filters = [16, 32]", "filters = [16]", r"error_paths: `filters`.*16"),
        ("filters = [16, 32]", "filters = [16, 3.5]", r"error_paths: filters: .*list of int.*3.5"),
        ("filters = [16, 32]", "filters = 16", r"filters: must be a list of int. Received: 16"),
        ('"tanh"', '"softmax"', r"`activation` must be one of 'relu', 'tanh'.*softmax"),
        ("momentum = 0.9", "momentum = 1.0", r"`momentum` must be .* at most 0.999"),
        ("learning_rate = 0.1", "learning_rate = 0", r"`learning_rate` must be .*greater than 0"),
        ("learning_rate = 0.1", "learning_rate = nan", r"`learning_rate` must be a finite"),
        ("units = 64", "units = 0", r"encoder: `units` must be an integer of at least 1"),
        ("units = 64", "units = 1", r"encoder: `rank` must be at most units=1. Received: rank=2"),
        ("units = 64", "units = 64.0", r"encoder: units: must be of type int. Received: 64.0"),
        ("units = 64", 'units = "64"', r"encoder: units: must be of type int. Received: '64'"),
        ("units = 64", "units = true", r"encoder: units: must be of type int. Received: True"),
        ("p = 2", "p = 0.5", r"encoder: `p` must be .* at least 1"),
        ("p = 2", "p = true", r"encoder: p: must be of type float. Received: True"),
        ("delta = 0.4", "delta = -0.4", r"encoder: `delta` must be .*-0.4"),
        ('"uniform"', '"zeros"', r"encoder: `initial` must be one of"),
        ("power = 4.5", "power = 0.9", r"readout: `power` must be .* at least 1"),
        ("passes = 200", "passes = -1", r"softmax: `passes` must be an integer of at least 1"),
        ("passes = 200", "", r"softmax: entry 'passes' is missing"),
        ("beta = 0.3", "beta = 0.3\ngamma = 1", r"readout: unknown entry 'gamma'. Allowed: power"),
        ("[softmax]", "[soft_max]", r"unknown entry 'soft_max'. Allowed: data, error_paths"),
        ("beta = 0.3", "beta = ", r"not TOML"),
    ],
)
def test_nonsense_is_refused(old: str, new: str, message: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(ValueError, match=message) as caught:
        DemoSettings.from_toml(TEXT.replace(old, new, 1), "mine.toml")
    assert str(caught.value).startswith("mine.toml: ")


def test_a_table_has_to_be_a_table() -> None:
    with pytest.raises(ValueError, match=r"softmax: must be a table. Received: 3"):
        DemoSettings.from_toml("softmax = 3\n" + TEXT[: TEXT.index("[softmax]")])


def test_unknown_data_set() -> None:
    with pytest.raises(ValueError, match=r"`data` must be one of .*Received: data='letters'"):
        DemoSettings.of("letters")
