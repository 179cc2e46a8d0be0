"""Curves of a terminal: any numbers in any room."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from launcher.cli.render.dots import plot


def test_a_line_that_falls() -> None:
    assert plot([3.0, 2.0, 1.0, 0.0], 8, 2) == ["3 ┤⠑⠤⡀⠀⠀", "0 ┤⠀⠀⠈⠒⢄"]


def test_a_step_is_joined_and_a_gap_is_not() -> None:
    whole = plot([0.0] * 20 + [1.0] * 20, 43, 3)
    assert "⡇" in whole[1] or "⢸" in whole[1], "between both levels"
    gap = plot([0.0, math.nan, 1.0], 23, 2)
    assert gap[0].count("⠀") > 15 and gap[1].count("⠀") > 15


def test_a_constant_is_in_the_middle() -> None:
    lines = plot([5.0] * 4, 10, 3)
    assert set(lines[1].partition("│")[2]) <= {"⠉", "⠒", "⠤", "⣀"}
    assert not set(lines[0].partition("┤")[2]) - {"⠀"}


@given(
    st.lists(st.floats(), max_size=40),
    st.integers(0, 40),
    st.integers(0, 8),
)
def test_it_fits_whatever_it_gets(values: list[float], width: int, height: int) -> None:
    lines = plot(values, width, height)
    assert len(lines) in (0, height)
    assert all(len(line) == width for line in lines)
