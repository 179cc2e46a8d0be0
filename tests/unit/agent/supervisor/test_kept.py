"""When a Python that is kept for the next run ends by itself."""

from __future__ import annotations

import io

import pytest

from launcher.agent.supervisor import kept


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable:  40 kB\n", 0.04),
        ("MemTotal: 1000 kB\n", 1.0),
        ("", 1.0),
        ("MemTotal: much\n", 1.0),
    ],
)
def test_how_much_memory_is_left(monkeypatch: pytest.MonkeyPatch, text: str, left: float) -> None:
    monkeypatch.setattr("builtins.open", lambda *_: io.StringIO(text))
    assert kept._memory_left() == left
    assert (left < kept.LEAST_MEMORY) == (left == 0.04)
