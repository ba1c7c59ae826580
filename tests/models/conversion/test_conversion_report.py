"""What is said of a converted model, and of any other."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from keras_local import feedback
from keras_local.models import conversion_report, convert
from tests.models.conversion.support import (
    FA,
    nested,
    quietly,
    sequential,
    trained,
)
from tests.support import BACKEND

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="conversion: on one backend"),
    # Kolen-Pollack says so of the layer with a regulariser.
    pytest.mark.filterwarnings("ignore:.*`kernel_regularizer` acts on the kernel alone"),
]


class TestReport:
    def test_of_a_converted_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        model = trained("residual")
        twin = convert(model, "kolen_pollack", exclude=keras.layers.Dense)
        printed = capsys.readouterr().out
        report = conversion_report(twin)
        assert printed.strip() == str(report)
        assert [row.kind for row in report.converted] == ["FeedbackConv2D"] * 2
        assert [row.rules for row in report.converted] == [("KolenPollack",)] * 2
        assert [row.parameters for row in report.converted] == [72, 148]
        assert [row.feedback_parameters for row in report.converted] == [73, 145]
        assert [(row.kind, row.rules) for row in report.left] == [("Dense", ())]
        assert report.others["BatchNormalization"] == 1
        for part in (report.left[0].path, "2 of 3 layers", "backpropagation", "1 Add"):
            assert part in printed

    def test_of_any_model(self) -> None:
        report = conversion_report(nested())
        assert not report.converted
        assert [row.path for row in report.left] == ["inner/hidden", "inner/common", "stack/hidden"]

    @pytest.mark.parametrize(
        ("rule", "options", "idle"),
        [
            ("symmetric_alignment", {}, ("a",)),
            ("symmetric_alignment", {"lowest": False}, ()),
            (feedback.KolenPollack(separate=True), {}, ("a",)),
            ("kolen_pollack", {}, ()),
            (FA, {}, ()),
        ],
    )
    def test_tells_of_feedback_that_learns_for_nobody(
        self, rule: Any, options: Any, idle: tuple[str, ...]
    ) -> None:
        stack = [keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
        model = keras.Sequential([keras.Input((4,)), *stack])
        report = conversion_report(quietly(model, rule, **options))
        assert report.idle == idle
        assert ("nothing is trained below a: " in str(report)) == bool(idle)

    def test_says_nothing_if_asked(self, capsys: pytest.CaptureFixture[str]) -> None:
        convert(sequential(), FA, verbose=False)
        assert not capsys.readouterr().out

    @pytest.mark.parametrize("model", [None, keras.Sequential([keras.layers.Dense(3)])])
    def test_refused(self, model: Any) -> None:
        with pytest.raises(ValueError, match=r"`model` must be .* built"):
            conversion_report(model)
