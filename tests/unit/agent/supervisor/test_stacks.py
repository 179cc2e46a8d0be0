"""Pythons that can be asked for their stacks: nothing else about them changes, and nobody is hurt."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.agent.supervisor.stacks import StackTaker, ask
from support import lab as labs

WAITS = """
import os, sys

def waiting_for_a_line():
    os.write(1, b"%d\\n" % os.getpid())
    sys.stdin.readline()
"""


def _env(**more: str) -> dict[str, str]:
    env = {**os.environ, **more}
    StackTaker(lambda *_, **__: None, wanted=True).prepare(env)
    return env


@contextmanager
def _waiting(script: str, *options: str, **env: str) -> Iterator[list[int]]:
    """Pythons that wait, by the pids that they print."""
    words = [sys.executable, *options, "-c", WAITS + script]
    process = subprocess.Popen(
        words, env=_env(**env), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    try:
        yield [int(process.stdout.readline()) for _ in range(1 + script.count("fork"))]
        process.stdin.write(b"\n" * 8)
    finally:
        process.stdin.close()
        assert process.wait(60) == 0, "being asked has hurt it"
        process.stdout.close()


def test_a_python_tells_where_it_waits_each_time_it_is_asked() -> None:
    with _waiting("waiting_for_a_line()") as (pid,):
        for _ in range(2):
            said = ask(pid, 60.0)
            assert said.count("in waiting_for_a_line") == 1, said
            assert said.startswith(f"Process {pid}: ")


def test_a_fork_tells_its_own() -> None:
    script = """
if os.fork():
    def of_the_parent(): waiting_for_a_line()
    of_the_parent()
    os.wait()
else:
    def of_the_child(): waiting_for_a_line()
    of_the_child()
"""
    with _waiting(script) as pids:
        told = [ask(pid, 60.0) for pid in pids]
    assert sorted("in of_the_child" in text for text in told) == [False, True], told
    assert sorted("in of_the_parent" in text for text in told) == [False, True], told


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("os.closerange(3, 1024); waiting_for_a_line()", []),
        ("import signal; signal.signal(signal.SIGRTMAX - 7, signal.SIG_DFL)\nwaiting_for_a_line()", []),
        ("waiting_for_a_line()", ["-I"]),
        ("print(os.getpid(), flush=True); os.execvp('head', ['head', '-n1'])", []),
    ],
    ids=["all closed", "the signal is not caught", "isolated", "another program"],
)  # fmt: skip
def test_who_cannot_answer_is_not_asked(script: str, options: list[str]) -> None:
    """The signal would kill it, or its answer go into another file."""
    with _waiting(script, *options) as (pid,):
        labs.wait_until(lambda: "head" in _command(pid) or "exec" not in script, "the program")
        assert ask(pid, 0.2) == ""


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def test_who_has_ended_says_nothing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert ask(process.pid, 0.2) == ""


def test_a_sitecustomize_of_the_users_own_runs_as_before(tmp_path: Path) -> None:
    """Found on their PYTHONPATH, which stands behind; what it raises is told as Python tells it."""
    own = tmp_path / "sitecustomize.py"
    show = "import sys, sitecustomize; print(sitecustomize.__file__, [p for p in sys.path if 'inside' in p])"
    env = _env(PYTHONPATH=str(tmp_path))
    own.write_text("import builtins; builtins.mine = 1\n")
    words = [sys.executable, "-c", show + "; print(mine)"]
    ran = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert ran.stdout == f"{own} []\n1\n", ran.stderr
    own.write_text("raise RuntimeError('mine is broken')\n")
    words[2] = "pass"
    ran = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    env["PYTHONPATH"] = str(tmp_path)
    plain = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert "mine is broken" in ran.stderr
    assert (ran.stdout, ran.stderr, ran.returncode) == (
        plain.stdout,
        plain.stderr,
        plain.returncode,
    )


def test_without_a_time_for_stalls_no_python_is_touched() -> None:
    env = {"PYTHONPATH": "/x"}
    StackTaker(lambda *_, **__: None, wanted=False).prepare(env)
    assert env == {"PYTHONPATH": "/x"}
