"""Hosts whose Python has the projects, and what each of them took."""

from __future__ import annotations

import pytest

from support.framework_lab import lab

__all__ = ["lab"]

#: By project: seconds by hand, and by launcher.
TIMES: dict[str, tuple[float, float]] = {}


#: Of projects that abort or hang as Python ends, through no fault of who starts them.
FAULTS: list[str] = []


@pytest.fixture(scope="session")
def faults() -> list[str]:
    """Which projects did so; printed at the end."""
    return FAULTS


@pytest.fixture(scope="session")
def times() -> dict[str, tuple[float, float]]:
    """What each project took; printed at the end."""
    return TIMES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the times: once each, by a launcher that has never seen the hosts. None is a condition;
    ``python -m benchmarks projects`` measures."""
    if TIMES:
        terminalreporter.section("seconds by hand, by launcher, and their ratio")
    for name, (hand, ours) in TIMES.items():
        terminalreporter.write_line(f"{name:28}{hand:7.1f}{ours:7.1f}{ours / hand:7.2f}")
    if FAULTS:
        terminalreporter.section("faults of the projects themselves (pytorch/pytorch#190489)")
    for fault in FAULTS:
        terminalreporter.write_line(fault)
