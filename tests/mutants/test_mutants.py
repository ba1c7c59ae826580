"""The tool itself, on a project of one module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.__main__ import main
from tests.mutants.choice import mutants_of, sample, shares, silent_lines
from tests.mutants.run import Record, mirror_tests

pytestmark = pytest.mark.daily

MODULE = '''"""Two functions."""

from __future__ import annotations


def checked(x: int | None) -> bool:
    return x > 3


def unchecked(x: float) -> float:
    return x + 1.0
'''
TEST = """import pytest
from toy import part


def test_checked():
    assert part.checked(4)
    assert not part.checked(3)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("cosmic_ray")
    # The project needs no TensorFlow.
    monkeypatch.setattr("tests.mutants.run.HEAVY", ())
    for name, text in {
        "toy/__init__.py": "",
        "toy/part.py": MODULE,
        "tests/test_part.py": TEST,
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["thorough"]\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_it_tells_what_is_tested_from_what_is_not(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(project), "--areas", "toy", "--count", "2", "--seed", "1"]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert "1 of 2 killed" in shown
    assert "-    return x + 1.0" in shown
    # Nothing has changed in the project itself.
    assert (project / "toy/part.py").read_text() == MODULE
    # What is known already is not tried again.
    assert main([*arguments, "--least", "50"]) == 0
    assert "2 of them known" in capsys.readouterr().out
    assert len(Record(project / ".tox/mutants-1-2.jsonl").known) == 2


def test_annotations_are_left_alone(project: Path) -> None:
    assert silent_lines(MODULE) == {6, 10}
    assert {mutant.line for mutant in mutants_of(project, "toy/part.py")} == {7, 11}


def test_the_sample_follows_from_the_seed(project: Path) -> None:
    chosen = [sample(project, ["toy"], 2, seed) for seed in (3, 3, 4, 5, 6, 7)]
    assert chosen[0] == chosen[1]
    assert any(other != chosen[0] for other in chosen)
    assert all(len({mutant.line for mutant in each}) == 2 for each in chosen)


def test_every_area_has_its_share() -> None:
    assert shares({"a": 1000, "b": 10, "c": 3}, 20, 5) == {"a": 12, "b": 5, "c": 3}


def test_the_tests_of_a_file() -> None:
    root = Path(__file__).parents[2]
    assert mirror_tests(root, "keras_local/losses.py")[:3] == [
        "keras_local/losses.py",
        "tests/golden/test_signatures.py",
        "tests/test_losses.py",
    ]
    found = mirror_tests(root, "keras_local/layers/feedback/dense.py")
    assert "tests/layers/feedback/test_layer.py" in found
    assert not any(path.startswith("tests/layers/hebbian") for path in found)
