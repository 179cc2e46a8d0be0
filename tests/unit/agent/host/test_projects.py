"""What runs say of their projects: claims that are gone with their holder, and books that are not."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base.protocol import Refused
from launcher.agent.host import project_books, projects, socket_names
from launcher.agent.host.project_round import ProjectRound
from launcher.agent.supervisor.projects.member import Member, who_takes


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of sockets and books that no other test has."""
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))
    monkeypatch.setattr(project_books, "PLACE", str(tmp_path))


def members() -> list[Any]:
    return projects.members(socket_names.seen())


def test_a_claim_is_read_as_it_was_entered_and_gone_when_it_is_closed() -> None:
    held = projects.enter("calm-otter", "team-a", 12, "pq", since=1000.0)
    waits = projects.enter("x" * 80, "t" * projects.LONGEST, 65_000, "wqk")
    first, second = members()
    assert (first["run"], first["project"], first["gpus"]) == ("calm-otter", "team-a", 12)
    assert (first["preemptible"], first["within"], first["waits"]) == (True, True, False)
    assert first["age"] > 1000 and first["user"]
    assert (second["waits"], second["held"], second["gpus"]) == (True, "quota", 65_000)
    held.close()
    waits.close()
    assert members() == []


@pytest.mark.parametrize(
    "name",
    ["of/team-a/run/0.0.p", "of/team-a/run/zz", "of/../run/1.0.p", "of/team-a/-./x.0.",
     "of/" + "t" * 21 + "/run/1.0.", "of/team-a/run/1.0.p/x", "of/team-a/run/1.-5.p"],
)  # fmt: skip
def test_nonsense_is_no_claim(name: str) -> None:
    with socket_names.bind(name):
        assert members() == []


def test_a_book_says_what_was_written_until_it_is_removed(tmp_path: Path) -> None:
    project_books.write("one", "team-a", 4, True, ["gpu1", "gpu2"])
    project_books.write("one", "team-a", 8, False, ["gpu1"])
    project_books.write("two", "team-b", 1, False, ["gpu3"])
    (folder,) = tmp_path.iterdir()
    assert (folder.stat().st_mode & 0o777, folder.is_dir()) == (0o755, True)
    first, second = project_books.read()
    assert first.pop("user") == second.pop("user") != "?"
    assert first == {
        "project": "team-a", "run": "one", "gpus": 8, "preemptible": False, "hosts": ["gpu1"],
    }  # fmt: skip
    project_books.remove("one")
    assert [one["run"] for one in project_books.read()] == ["two"]


def test_odd_files_in_books_are_passed_over(tmp_path: Path) -> None:
    project_books.write("one", "team-a", 4, True, ["gpu1"])
    (folder,) = tmp_path.iterdir()
    (folder / "link").symlink_to(folder / "one")
    os.link(folder / "one", folder / "twin")
    os.unlink(folder / "one")
    os.mkfifo(folder / "pipe")
    (folder / "large").write_text("[" * (project_books.MOST_BYTES + 1))
    (folder / "deep").write_text("[" * 10_000)
    for number, text in enumerate(['{"project":1}', "[]", "{", '{"project":"a","gpus":true,"hosts":["x"]}',
                                   '{"project":"a","gpus":1,"hosts":[]}']):  # fmt: skip
        (folder / f"bad{number}").write_text(text)
    assert [one["run"] for one in project_books.read()] == ["twin"]
    folder.chmod(0o777)
    assert project_books.read() == [], "others could have moved files into it"
    other = tmp_path / f"{project_books._name()}of-nobody"
    other.symlink_to(folder)
    project_books.write("three", "team-a", 1, False, ["gpu1"])
    assert [one["run"] for one in project_books.read()] == ["three"]


def test_a_book_is_written_only_under_a_lock_that_was_never_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = ProjectRound(), ProjectRound()
    write = {"do": "write", "project": "team-a", "run": "one", "gpus": 2, "hosts": ["gpu1"]}
    with pytest.raises(Refused, match="let go"):
        one.answer(write)
    assert one.answer({"do": "lock", "project": "team-a"})["locked"] is True
    answer = two.answer({"do": "lock", "project": "team-a"})
    assert (answer["locked"], answer["holder"]) == (False, answer["user"])
    assert two.answer({"do": "lock", "project": "team-b"})["locked"] is True
    assert [book["run"] for book in one.answer(write)["books"]] == ["one"]
    one.answer({"do": "unlock"})
    assert two.answer({"do": "lock", "project": "team-a"})["locked"] is True
    monkeypatch.setattr("launcher.agent.host.project_round.time.monotonic", lambda: 1e12)
    two.expire()
    with pytest.raises(Refused, match="let go"):
        two.answer({**write, "run": "two"})
    assert two.answer({"do": "drop", "run": "one"})["books"] == []
    with pytest.raises(Refused, match="not a project"):
        two.answer({"do": "lock", "project": "../x"})


RULES: Any = {"team-a": {"quota": 4, "users": ["ann"]}}


def member(run: str, **more: Any) -> Any:
    return {
        "project": "team-a", "run": run, "user": "ann", "gpus": 2, "age": 0.0, "preemptible": False,
        "within": True, "waits": True, "held": "", **more,
    }  # fmt: skip


def ticket(run: str, **more: Any) -> Any:
    return {"run": run, "user": "ann", "within": True, "aside": False, **more}


def asks(run: str, user: str = "ann") -> Any:
    return {"user": user, "sum": projects.sum_of(run)}


@pytest.mark.parametrize(
    ("asked", "there", "waiting"),
    [
        ([asks("other")], [member("me")], [ticket("me")]),
        ([asks("me", "eve")], [member("me")], [ticket("me")]),
        ([asks("me")], [member("me", user="eve")], [ticket("me")]),
        ([asks("me", "eve")], [member("me", user="eve")], [ticket("me", user="eve")]),
        ([asks("me")], [member("me", project="team-b")], [ticket("me")]),
        ([asks("me")], [member("me", within=False)], [ticket("me")]),
        ([asks("me")], [member("me", waits=False)], [ticket("me")]),
        ([asks("me")], [member("me")], [ticket("me", within=False)]),
        ([asks("me")], [member("me")], [ticket("me", aside=True)]),
        ([asks("me")], [member("me")], []),
        ([asks("me")], [member("me", gpus=5)], [ticket("me")]),
        ([asks("me")], [member("me"), member("has", waits=False, gpus=3)], [ticket("me")]),
    ],
)
def test_nobody_takes_gpus_back_without_a_quota_that_covers_it(
    asked: Any, there: Any, waiting: Any
) -> None:
    assert who_takes(asked, RULES, there, waiting) is None


def test_who_is_within_the_quota_takes_gpus_back() -> None:
    soft = member("soft", waits=False, preemptible=True, gpus=9)
    theirs = member("forged", waits=False, user="eve", gpus=9)
    found = who_takes([asks("me")], RULES, [member("me"), soft, theirs], [ticket("me")])
    assert found is not None and found["run"] == "me"


def test_who_is_within_the_quota_but_at_the_limit_takes_gpus_back_though_it_stands_aside() -> None:
    mine, waits = member("me", held="limit"), ticket("me", aside=True)
    assert who_takes([asks("me")], RULES, [mine], [waits]) == mine


def test_a_run_gives_back_only_what_it_has_had_for_its_time() -> None:
    request: Any = {"project": "team-b", "gpus": 2, "preemptible": 1, "min_runtime": 60.0}
    run = Member("victim", {**request, "rules": {"team-a": {"quota": 2, "users": [_me()]}}}, 0.0)
    kept: list[socket.socket] = [
        projects.ask_back("victim", "me"),
        projects.enter("me", "team-a", 2, "wq"),
        socket_names.bind("wait/me/n.1.1.0.1.1x2.q"),
    ]
    assert run.look(1e6) is None, "nothing runs yet"
    run.begin(1000.0)
    assert run.look(1059.0) is None
    found = run.look(1060.0)
    assert found is not None and found["run"] == "me"
    for one in kept:
        one.close()
    run.close()


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
