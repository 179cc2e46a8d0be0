"""What a host tells of projects: nobody can keep it from telling of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import lean
from launcher.agent.host import project_books
from launcher.agent.supervisor.projects import round_steps
from launcher.agent.supervisor.projects.clerk import Clerk, fitting


def book(run: str, user: str, hosts: int = 1) -> dict[str, Any]:
    names = [f"h{n:055}" for n in range(hosts)]
    return {
        "project": "x",
        "run": run,
        "user": user,
        "gpus": 1,
        "preemptible": False,
        "hosts": names,
    }


def test_who_has_many_books_crowds_nobody_out() -> None:
    many = [book(f"many{n}", "eve", 200) for n in range(40)]
    few = [book(f"few{n}", user) for user in ("ann", "bob") for n in range(3)]
    member = {"run": "lives", "user": "eve"}
    found = {"members": [member], "books": [*many, *few], "user": "root"}
    told = fitting(found, 100_000)
    assert len(lean.dumps(told)) <= 100_000
    assert told["members"] == [member] and told["user"] == "root"
    assert [one for one in told["books"] if one["user"] != "eve"] == few
    assert 5 < len(told["books"]) - len(few) < 40
    assert fitting(found, 1 << 20) is found


def test_books_of_users_that_no_project_has_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))
    monkeypatch.setattr(project_books, "PLACE", str(tmp_path))
    books = [*[book(f"run{n}", "eve", 200) for n in range(50)], book("mine", "ann")]
    monkeypatch.setattr(project_books, "read", lambda: [dict(one) for one in books])
    look: Any = {"round": 1, "do": round_steps.LOOK}
    (word,) = Clerk("run", 0.0, ["ann"]).hear(look, 0.0)
    assert (word["answer"]["done"], word["answer"]["said"]["books"]) == (1, books[-1:])


def test_what_was_told_for_a_decision_is_told_again_once_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader has heard what stood here during the decision: what it heard before that is no news here,
    but it is to the leader."""
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))
    monkeypatch.setattr(project_books, "PLACE", str(tmp_path))
    books: list[dict[str, Any]] = []
    monkeypatch.setattr(project_books, "read", lambda: [dict(one) for one in books])
    clerk = Clerk("run", 0.0)
    (before,) = clerk.look(0.0)
    books.append(book("short", "ann"))
    ask: Any = {"round": 1, "do": round_steps.LOOK}
    (during,) = clerk.hear(ask, 1.0)
    assert during["answer"]["said"]["books"] == books
    books.clear()
    assert clerk.look(clerk.next_look) == [before]
    assert clerk.look(clerk.next_look) == [], "no news"
