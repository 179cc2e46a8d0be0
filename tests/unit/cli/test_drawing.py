"""Pictures that change, as a terminal gets them."""

from __future__ import annotations

import pytest

from launcher.cli.drawing import draw


def test_a_line_that_fills_the_screen_keeps_its_last_column(
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw(["a" * 80, "b"])
    line, *_ = capsys.readouterr().err.split("\r\n")
    assert line == "\x1b[H\x1b[K" + "a" * 80
