"""Moments that people name."""

from __future__ import annotations

import time

import pytest

from launcher.jobs.durations import moment

NOW = time.mktime((2026, 11, 27, 13, 30, 20, 0, 0, -1))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("14:00", 1780),
        ("9:05", 20 * 3600 - 1520),
        ("13:30", 86400 - 20),
        ("2026-11-28 13:30", 86400 - 20),
        ("2026-11-28T13:30", 86400 - 20),
    ],
)
def test_a_time_is_the_next_one(text: str, seconds: float) -> None:
    assert moment(text, NOW) - NOW == seconds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2pm", "not a time: '2pm'"),
        ("25:00", "not a time"),
        ("2026-02-30 10:00", "not a time"),
        ("2026-11-27 13:30", "is over: it is 13:30 on 2026-11-27"),
        ("2027-01-27 13:30", "more than 30 days ahead"),
        ("", "not a time"),
    ],
)
def test_what_is_no_moment_to_come_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        moment(text, NOW)
