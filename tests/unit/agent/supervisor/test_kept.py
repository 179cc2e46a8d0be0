"""When a Python that is kept for the next run ends by itself, and how it is asked whether it fits."""

from __future__ import annotations

import io
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from launcher.agent.relay import kept_pythons, usage
from launcher.agent.supervisor import kept
from launcher.agent.supervisor.warm import keeper, places, question
from launcher.agent.supervisor.warm.asked import Asked
from launcher.agent.supervisor.warm.forking import Warm

ENV = {"PATH": "/usr/bin", "TOKEN": "hush"}


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


@pytest.mark.parametrize(
    ("age", "seconds"), [(0.0, 600.0), (keeper.OLDEST - 60.0, 60.0), (keeper.OLDEST + 1.0, None)]
)
def test_what_was_imported_ends_a_day_later(
    tmp_path: Path, age: float, seconds: float | None
) -> None:
    warm = Warm(lambda *_, **__: None, str(tmp_path))
    warm.imported, warm._asked = (
        time.time() - age,
        Asked(["a"], ["python", "x.py"], ENV, "/", False),
    )
    made = keeper.Keeper(str(tmp_path), -1, {}, False)
    assert made.is_too_old(warm) == (seconds is None)
    if seconds is not None:
        made.open(warm, 600.0)
        assert made.seconds == pytest.approx(seconds, abs=1.0)
        made.listen()
        about = places.known(str(tmp_path))
        assert about and about["until"] == pytest.approx(time.time() + seconds, abs=2.0)


def test_places_of_owners_that_were_killed_go_when_somebody_looks(tmp_path: Path) -> None:
    dead, young, owned = (places.make(str(tmp_path)) for _ in range(3))
    for place in (dead, owned):
        os.makedirs(os.path.join(place, "code.1", "written"))
        os.symlink(str(tmp_path), os.path.join(place, "code"))
        lock = places.own(place)
        if place == dead:
            os.close(lock)
        os.utime(place, (1.0, 1.0))
    usage.usage(str(tmp_path), lambda: None)
    left = {
        os.path.join(tmp_path, places.FOLDER, name) for name in os.listdir(tmp_path / places.FOLDER)
    }
    assert left == {young, owned}
    places.forget_code(owned)
    assert os.listdir(owned) == ["supervisor.lock"] and tmp_path.exists()


@pytest.mark.parametrize(
    ("modules", "argv", "env", "programs", "why"),
    [
        (["a"], ["python", "x.py"], ENV, {"python": "one"}, None),
        (["b"], ["python", "x.py"], ENV, {"python": "one"}, ("other-modules", "a")),
        (["a"], ["python", "y.py"], ENV, {"python": "one"}, ("other-command", "")),
        (["a"], ["python", "x.py"], ENV, {"python": "two"}, ("other-command", "")),
        (
            ["a"],
            ["python", "x.py"],
            {**ENV, "TOKEN": ""},
            {"python": "one"},
            ("other-variable", "TOKEN"),
        ),
        (
            ["a"],
            ["python", "x.py"],
            {"PATH": "/usr/bin"},
            {"python": "one"},
            ("other-variable", "TOKEN"),
        ),
        (["a"], ["python", "x.py"], {**ENV, "A": ""}, {"python": "one"}, ("other-variable", "A")),
    ],
)
def test_a_question_says_what_differs_and_has_no_value(
    modules: list[str],
    argv: list[str],
    env: dict[str, str],
    programs: dict[str, str],
    why: tuple[str, str] | None,
) -> None:
    there = Asked(["a"], ["python", "x.py"], ENV, "/place/code", False)
    wanted = Asked(modules, argv, env, "/place/code", False)
    key = os.urandom(question.KEY)
    asked = question.question(wanted, programs, key)
    assert question.unlike(there, {"python": "one"}, asked) == why
    assert "hush" not in str(asked) and "/usr/bin" not in str(asked)
    other = question.question(wanted, programs, os.urandom(question.KEY))
    assert other["variables"] != asked["variables"]  # nobody compares two questions


def test_one_that_fits_and_then_stands_still_is_killed_before_another_supervisor_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_pythons, "BEGINS", 0.1)
    ready, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(tmp_path)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("sock")
                listener.listen()
                os.write(tells, b"1")
                client = listener.accept()[0]
                client.recv(1 << 16)
                client.sendall(b'{"fits":{}}\n')
                signal.pause()
        finally:
            os._exit(0)
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    os.close(tells)
    assert kept_pythons._offer(str(tmp_path), {"op": "take"}, {"op": "begin"}) is None
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
