"""What differs between two runs, in a table that fits."""

from __future__ import annotations

import pytest

from launcher.cli.commands.diff import differences_text

ROWS = [
    ("", "calm-otter-3f9a", "train-d73a1d03-7e81"),
    ("command", "for i in $(seq 200); do echo step $i; sleep 0.2; done", "train.py --lr 0.01"),
    ("env LAUNCHER_PARAM_LR", "-", "0.01"),
]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_it_fits_the_terminal(width: int) -> None:
    lines = differences_text(ROWS, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 3
    assert lines[1].endswith("  train.py --lr 0.01"), "the long one gets what the short one leaves"


def test_a_pipe_gets_all_of_it() -> None:
    assert ROWS[1][1] in differences_text(ROWS, None)
