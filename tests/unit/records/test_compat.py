"""Records of the previous release, which told why in English, are read as codes."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.records import compat
from launcher.records import events as ev
from launcher.records.reasons import StopReason


@pytest.mark.parametrize(
    ("told", "why", "origin", "detail"),
    [
        ("by-user", "by-user", None, ""),
        ("by-user on lab2", "by-user", "lab2", ""),
        ("killed by the user", "killed-by-user", None, ""),
        ("killed by the user on gpu-on-1", "killed-by-user", "gpu-on-1", ""),
        ("trial-over", "trial-over", None, ""),
        ("a rank failed", "process-failed", None, ""),
        ("a rank failed on lab2", "process-failed", "lab2", ""),
        ("the lead has ended", "primary-finished", None, ""),
        ("the group has finished", "group-finished", None, ""),
        ("too few hosts are left", "too-few-hosts", None, ""),
        ("lease expired", "orphan-timeout", None, ""),
        ("login session ended on lab1", "login-session-ended", "lab1", ""),
        ("supervisor was terminated", "supervisor-terminated", None, ""),
        ("launcher gave up", "launcher-failed", None, ""),
        ("its launcher had given up", "host-given-up", None, ""),
        ("its launcher died before it took part", "spare-left-over", None, ""),
        ("it cannot take the place of lab2", "spare-unfit", None, ""),
        ("exit-7, starting again", "restarting", None, "exit-7"),
        ("exit-7, starting again on lab1", "restarting", "lab1", "exit-7"),
        ("host-unreachable, starting again", "restarting", None, "host-unreachable"),
        ("the moon is full", "other", None, "the moon is full"),
        ("the moon is full on lab1", "other", None, "the moon is full on lab1"),
        ("exit-7", "other", None, "exit-7"),
        ("quota-exceeded", "other", None, "quota-exceeded"),
    ],
)
def test_why_processes_were_stopped(told: str, why: str, origin: str | None, detail: str) -> None:
    line = {
        "event": "StopRequested",
        "seq": 4,
        "time": 9.0,
        "why": told,
        "processes": 3,
        "grace": 5.0,
    }
    event = ev.from_journal("gpu1", line, 0.0)
    assert isinstance(event, ev.StopRequested)
    assert (event.why, event.origin, event.detail) == (why, origin, detail)
    assert isinstance(event.why, StopReason)
    assert ev.decode(ev.encode(event)) == event, "what this version writes is read as it stands"


@pytest.mark.parametrize(
    ("reason", "code", "host"),
    [
        ("all-ranks-exited-0", "all-ranks-exited-0", None),
        ("lead-exited-0", "primary-exited-0", None),
        ("exit-7", "exit-7", None),
        ("signal-SIGSEGV", "signal-SIGSEGV", None),
        ("finished-on-1-of-2-hosts", "finished-on-1-of-2-hosts", None),
        ("lease-expired", "orphan-timeout", None),
        ("by-user-on-lab2", "by-user", "lab2"),
        ("a-rank-failed-on-lab2", "process-failed", "lab2"),
        ("supervisor-was-terminated", "supervisor-terminated", None),
        ("login-session-ended-on-gpu-1", "login-session-ended", "gpu-1"),
        ("exit-7,-starting-again", "restarting", None),
        ("quota-exceeded", "quota-exceeded", None),
    ],
)
def test_why_a_run_ended(reason: str, code: str, host: str | None) -> None:
    event = ev.decode({"event": "RunEnded", "time": 9.0, "status": "stopped", "reason": reason})
    assert event == ev.RunEnded(9.0, "stopped", code, host)
    told: dict[str, Any] = compat.receipt({"run": "r", "status": "stopped", "reason": reason})
    assert (told["reason"], told.get("reason_host")) == (code, host)
