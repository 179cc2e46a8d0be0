"""Hosts that share folders, over TLS on loopback: one that is away, that conflicts, that lies."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.mesh import sharing
from launcher.agent.mesh.shared_tree import SharedTree
from launcher.agent.mesh.sharing import Hub, Line, Member, Spoke
from launcher.spec.model import Job
from launcher.transport import certificates

HOSTS = ("a", "b", "c")


class Shared:
    """Three hosts in folders of their own; ``a`` is the hub."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.members: dict[str, Member] = {}
        self.troubles: list[tuple[str, str]] = []

    def __getitem__(self, host: str) -> Path:
        return self.root / host / "code" / "ckpt"

    def line(self, host: str, other: str) -> Line:
        return self.members[host].lines[other]

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(3000):
            if holds():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it never holds")

    async def same(self) -> None:
        """Wait until all hosts have the same."""
        await self.until(lambda: self.content("a") == self.content("b") == self.content("c"))

    def content(self, host: str) -> dict[str, bytes]:
        files = [path for path in self[host].rglob("*") if path.is_file()]
        return {str(path.relative_to(self[host])): path.read_bytes() for path in files}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shared]:
    """Return a function that has a play of three hosts to its end."""
    monkeypatch.setattr(sharing, "PAUSE", 0.05)
    monkeypatch.setattr(sharing, "AGAIN", 0.2)

    def run(scene: Callable[[Shared], Coroutine[Any, Any, None]]) -> Shared:
        shared = Shared(tmp_path)

        async def all_of_it() -> None:
            listener = socket.create_server(("127.0.0.1", 0))
            line = {"hub": "a", "address": "127.0.0.1", "port": listener.getsockname()[1]}
            known = certificates.introduce(HOSTS, Job(run=("x",)))
            parts = []
            for host in HOSTS:
                (tmp_path / host).mkdir(exist_ok=True)
                spec: Any = {**known[host], **line, "folders": ["code/ckpt"]}
                member = (Hub if host == "a" else Spoke)(spec, str(tmp_path / host))
                monkeypatch.setattr(
                    member, "trouble", lambda code, path, *_: shared.troubles.append((code, path))
                )
                shared.members[host] = member
                parts.append(member.serve(listener) if isinstance(member, Hub) else member.serve())
            tasks = [asyncio.ensure_future(part) for part in parts]
            await shared.until(lambda: all(shared.line("a", h).is_connected for h in "bc"))
            await scene(shared)
            for member in shared.members.values():
                member.end()
            async with asyncio.timeout(60):
                await asyncio.gather(*tasks)

        asyncio.run(all_of_it())
        return shared

    return run


def test_what_was_there_before_is_compared_once(
    play: Callable[..., Shared], tmp_path: Path
) -> None:
    """As after a restart, or with outputs that all hosts were given: the newer version counts."""
    for host, old in (("a", "new"), ("b", "old"), ("c", "old")):
        path = tmp_path / host / "code/ckpt/both.pt"
        write(path, old)
        os.utime(path, (2, 2) if old == "new" else (1, 1))
        write(tmp_path / host / f"code/ckpt/of-{host}/x", host)

    async def scene(shared: Shared) -> None:
        await shared.same()

    shared = play(scene)
    assert set(shared.content("c")) == {"both.pt", "of-a/x", "of-b/x", "of-c/x"}
    assert shared.content("c")["both.pt"] == b"new"
    assert shared.troubles == []


def test_a_lost_connection_loses_nothing(play: Callable[..., Shared]) -> None:
    async def scene(shared: Shared) -> None:
        write(shared["b"] / "gone", "x")
        await shared.same()
        writer = shared.line("b", "a")._writer
        assert writer
        writer.transport.abort()
        (shared["b"] / "gone").unlink()
        for number in range(100):
            write(shared["b"] / f"b-{number}", "b")
            write(shared["c"] / f"c-{number}", "c" * 100_000)
        await shared.until(lambda: len(shared.content("a")) == 200)
        await shared.same()

    assert "gone" not in play(scene).content("c")


@pytest.mark.thorough
def test_one_file_that_two_hosts_write_at_once(play: Callable[..., Shared]) -> None:
    """All have one and the same in the end, and the conflict is told; equal contents are none."""

    async def scene(shared: Shared) -> None:
        for round_ in range(5):
            for host in HOSTS:
                write(
                    shared[host] / "same.txt",
                    f"{host} wrote it, round {round_}, " * (ord(host) - 96),
                )
                write(shared[host] / "equal.txt", f"round {round_}")
                os.utime(shared[host] / "equal.txt", (round_ + 1, round_ + 1))
            await asyncio.sleep(0.3)
        await shared.until(
            lambda: not any(x.outbox for m in shared.members.values() for x in m.lines.values())
        )
        await shared.same()

    shared = play(scene)
    assert ("conflict", "code/ckpt/same.txt") in shared.troubles
    assert ("conflict", "code/ckpt/equal.txt") not in shared.troubles


def test_a_full_disk_gets_the_file_when_there_is_room(
    play: Callable[..., Shared], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(shared: Shared) -> None:
        full = shared.members["c"].tree

        def refuse() -> tuple[str, int]:
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patched:
            patched.setattr(full, "incoming", refuse)
            write(shared["b"] / "big", "x" * 1_000_000)
            await shared.until(lambda: bool(shared.troubles))
            assert (shared["a"] / "big").exists()
            assert not (shared["c"] / "big").exists()
        await shared.same()

    assert play(scene).troubles[0] == ("no-room", "code/ckpt/big")


def test_a_change_from_elsewhere_never_lands_in_an_open_file(play: Callable[..., Shared]) -> None:
    """A rank that is writing keeps its file; what it has written counts."""

    async def scene(shared: Shared) -> None:
        write(shared["a"] / "log", "first")
        await shared.same()
        with (shared["b"] / "log").open("a") as file:
            write(shared["a"] / "log", "of a")
            await asyncio.sleep(0.5)
            file.write(" of b")
        await shared.same()

    assert play(scene).content("c")["log"] == b"first of b"


@pytest.mark.parametrize(
    "path",
    ["code/ckpt", "code/ckpt/", "code/ckpt/../x", "code/other", "/etc/x", "code/ckpt/./x", "", 1, None,
     "code/ckpt/a\0b", "code/ckpt/" + "x" * 5000, "../code/ckpt/x"],
)  # fmt: skip
def test_paths_outside_are_refused(tmp_path: Path, path: object) -> None:
    assert not SharedTree(str(tmp_path), ["code/ckpt"], "in").accepts(path)


@pytest.mark.parametrize(
    "state",
    [1, [], ["file"], ["file", -1, 1, 1], ["file", "1", 1, 1], ["link"], ["x"], ["folder", 1]],
)
def test_states_that_are_none_are_refused(state: object) -> None:
    assert not sharing._is_state(state)


def test_no_change_goes_through_a_link(tmp_path: Path) -> None:
    """Neither by a folder that is one, nor by one that leads out."""
    tree = SharedTree(str(tmp_path / "run"), ["code/ckpt"], "in")
    (tmp_path / "else").mkdir()
    (tmp_path / "run/code/ckpt/way").symlink_to(tmp_path / "else")
    with pytest.raises(OSError, match="link"):
        tree.put("code/ckpt/way/x", ["folder"])
    for target in ("/etc", "../../x", "../ckpt"):
        with pytest.raises(OSError, match="leads out"):
            tree.put("code/ckpt/link", ["link", target])
    assert not list((tmp_path / "else").iterdir())
    assert tree.changes() == [], "and none is told"


def test_what_was_written_last_arrives(play: Callable[..., Shared]) -> None:
    """A process writes and ends: nobody looks a second time."""

    async def scene(shared: Shared) -> None:
        write(shared["b"] / "last", "of b")
        write(shared["a"] / "last-too", "of a")
        shared.members["b"].end()
        shared.members["a"].end()
        await shared.until(lambda: len(shared.content("c")) == 2)

    assert play(scene).content("c") == {"last": b"of b", "last-too": b"of a"}


def test_a_host_that_is_away_while_the_first_one_ends(
    play: Callable[..., Shared], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back for what was written, and gets it."""
    monkeypatch.setattr(sharing, "FIRST_PAUSE", 0.5)

    async def scene(shared: Shared) -> None:
        writer = shared.line("c", "a")._writer
        assert writer
        writer.transport.abort()
        write(shared["b"] / "late", "of b")
        shared.members["b"].end()
        shared.members["a"].end()
        await shared.until(lambda: len(shared.content("c")) == 1)

    play(scene)
