"""Exit codes and signals in words."""

from __future__ import annotations

import pytest

from launcher.records import events as ev


@pytest.mark.parametrize(
    ("code", "oom", "exit_code", "reason", "meaning"),
    [
        (1, False, 1, "exit-1", "exited with 1"),
        (127, False, 127, "exit-127", "exited with 127 (command not found)"),
        (-11, False, 139, "signal-SIGSEGV", "killed by SIGSEGV"),
        (-9, True, 137, "out-of-memory", "killed by the kernel, which was out of memory"),
        (-99, False, 227, "signal-signal 99", "killed by signal 99"),
    ],
)
def test_failure_in_words(code: int, oom: bool, exit_code: int, reason: str, meaning: str) -> None:
    failure = ev.Failure("gpu1", "rank-0", 0, code, oom, 1.0)
    assert (failure.exit_code, str(failure.reason), failure.meaning) == (exit_code, reason, meaning)
