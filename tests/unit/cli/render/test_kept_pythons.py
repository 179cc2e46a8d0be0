"""What hosts keep for the next run, as ``launcher warm`` shows it."""

from __future__ import annotations

import time

from launcher.cli.render.kept_pythons import kept_text
from launcher.transport.answers.runs import Kept, KeptPython

NOW = time.mktime((2026, 11, 30, 14, 0, 0, 0, 0, -1))


def _kept(pid: int, memory: int = 226_000_000, command: str = "train.py") -> Kept:
    return Kept((KeptPython(("torch",), command, NOW, 540.0 + pid % 9, (pid, pid + 1), memory),), 0)


def test_many_hosts_that_keep_the_same_are_one_row() -> None:
    """Each has process ids and a memory use of its own."""
    known = {f"gpu{n}": _kept(4000 + 7 * n, 220_000_000 + n) for n in range(1, 64)}
    known["gpu64"] = _kept(100, command="pretraining/on/many/path.py")
    assert kept_text(known, NOW).splitlines() == [
        "hosts      until          memory         pids     modules for the script",
        "gpu[1-63]  14:09 (9 min)  220.0 MB each  -        torch for train.py",
        "gpu64      14:09 (9 min)  226.0 MB       100 101  torch for pretraining/on/many/path.py",
        "end them: launcher warm --end",
    ]
    assert kept_text(known, NOW, 80).splitlines()[2:4] == [
        "gpu64      14:09 (9 min)  226.0 MB       100 101  torch for",
        "                                                  pretraining/on/many/path.py",
    ]
    odd = {f"gpu{n * n}-{n}": _kept(n) for n in range(1, 65)}
    assert max(map(len, kept_text(odd, NOW, 80).splitlines())) <= 80


def test_scripts_that_begin_alike_have_rows_of_their_own() -> None:
    known = {f"gpu{n}": _kept(100, command=f"pretraining/with/a/long/path{n}.py") for n in (1, 2)}
    assert len(kept_text(known, NOW).splitlines()) == 4
