"""Codes of reasons: read as they were written, and known on both sides."""

from __future__ import annotations

import pytest

from launcher.agent.base import protocol
from launcher.records.reasons import EndReason, Reason, StopReason


@pytest.mark.parametrize("code", [*EndReason, *StopReason])
def test_codes_say_no_more_than_they_are(code: EndReason | StopReason) -> None:
    """No blank, no name of a host, and what is written is read back."""
    assert str(code).replace("-", "").isalnum()
    assert str(Reason.parse(str(code))) == code


@pytest.mark.parametrize(
    "text",
    [
        "exit-7",
        "signal-SIGSEGV",
        "signal-signal 99",
        "setup-exit-3",
        "finished-on-1-of-2-hosts",
        "by-user",
    ],
)
def test_a_reason_is_read_as_it_was_written(text: str) -> None:
    assert str(Reason.parse(text)) == text
    assert Reason.parse(text).code != StopReason.OTHER


def test_hosts_use_codes_that_are_known_here() -> None:
    names = [name for name in dir(protocol) if name in StopReason.__members__]
    assert {getattr(protocol, name) for name in names} == {StopReason[name].value for name in names}
    assert len(names) == 11
