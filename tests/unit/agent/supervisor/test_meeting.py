"""Whether the ranks of a run ever met: a word only where it is sure."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from launcher.agent.supervisor import meeting as meetings
from launcher.agent.supervisor.meeting import Meeting

LIBRARY = "/torch/lib/libtorch"
#: What each rank does before it says that it has begun; HERE and THERE are sockets that are connected.
LOADS = """
import mmap, os, socket, subprocess, sys
file = open(sys.argv[1], "rb")
loaded = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
def joined(address="127.0.0.1", family=socket.AF_INET):
    server = socket.create_server((address, 0), family=family)
    one = socket.create_connection(server.getsockname()[:2])
    return server, one, server.accept()[0]
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "torch" / "lib" / "libtorch_cpu.so"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0" * 4096)
    return path


@contextmanager
def rank(library: Path, text: str = "", *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has done ``text``, until the end of the block."""
    code = f"{LOADS}\n{text}\nprint('begun', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(library), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "begun\n"
        yield process
        process.communicate()


def began(*ranks: int, port: int = 0, library: str = LIBRARY) -> Meeting:
    meeting = Meeting()
    meeting.begin(port or free_port(), library)
    for number, pid in enumerate(ranks):
        meeting.heard("ProcessStarted", {"key": f"rank-{number}", "rank": number, "pid": pid})
    return meeting


def looked(meeting: Meeting, times: int = meetings.ENOUGH) -> Meeting:
    for _ in range(times):
        meeting.look(meeting.next_look)
    return meeting


def free_port() -> int:
    """Return a port below those that the kernel gives to connections, which no connection has: for a
    minute, one that any other program has closed would count."""
    tables = [Path("/proc/net", name) for name in meetings.TABLES]
    shown = "".join(table.read_text() for table in tables if table.exists())
    for port in random.sample(range(5000, 9000), 100):
        with suppress(OSError), socket.create_server(("", port)):
            if f":{port:04X} " not in shown:
                return port
    raise AssertionError("no port is free")


def test_nobody_came(library: Path) -> None:
    with rank(library) as one, rank(library) as two:
        meeting = began(one.pid, two.pid)
        assert not looked(meeting, meetings.ENOUGH - 1).nobody_came, "too early to be sure"
        assert looked(meeting, 1).nobody_came


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "one = socket.create_connection((sys.argv[2], int(sys.argv[3])))", id="client"
        ),
        pytest.param("server = socket.create_server(('', int(sys.argv[4])))", id="at the port"),
        pytest.param(
            "child = subprocess.Popen([sys.executable, '-c', '''import socket, sys\n"
            "one = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
            "print(flush=True)\nsys.stdin.read()''', *sys.argv[2:4]], stdout=subprocess.PIPE)\n"
            "child.stdout.readline()",
            id="below a script",
        ),
    ],
)
def test_one_that_has_met_another(library: Path, text: str) -> None:
    """At the port that all know, or at one of their own: as with a store in a file."""
    own = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = [str(part) for part in other.getsockname()]
        with rank(library, text, *where, str(own)) as one, rank(library) as two:
            meeting = looked(began(two.pid, one.pid, port=own), 1)
            assert meeting.next_look == float("inf"), "one look is enough"
            assert not looked(meeting).nobody_came


def test_what_a_lone_rank_is_connected_to(library: Path) -> None:
    """Parts of its own, as a tracker's, by both versions of IP; and nobody at all."""
    text = "a = joined(); b = joined('::1', socket.AF_INET6) if socket.has_ipv6 else ()"
    with rank(library, text) as one, rank(library) as two:
        assert looked(began(one.pid, two.pid)).nobody_came


def test_a_service_is_nobody(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:
        where = hub.getsockname()
        monkeypatch.setattr(meetings, "SERVICES", where[1] + 1)
        text = "one = socket.create_connection((sys.argv[2], int(sys.argv[3])))"
        with rank(library, text, where[0], str(where[1])) as one, rank(library) as two:
            assert looked(began(one.pid, two.pid)).nobody_came


def test_a_connection_that_is_closed_counts(library: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            one.accept()[0].close()
    with rank(library) as lone:
        assert not looked(began(lone.pid, port=port)).nobody_came


def test_ranks_that_meet_as_they_end(library: Path) -> None:
    """They do not show while they live. That torchrun closes its own connections is no meeting."""
    for meets in (True, False):
        place = "127.0.0.1", free_port()
        with socket.create_server(place) as store, ExitStack() as torchrun:
            where = store.getsockname()
            for _ in range(2):
                torchrun.enter_context(socket.create_connection(where))
                torchrun.enter_context(store.accept()[0])
            with rank(library) as one:
                meeting = looked(began(one.pid, port=where[1]))
            if meets:
                with socket.create_connection(where):
                    store.accept()[0].close()
            torchrun.close()
            meeting.heard("ProcessExited", {"key": "rank-0"})
            assert meeting.nobody_came is not meets


def test_no_word_of_ranks_that_meet_by_other_means(library: Path) -> None:
    with rank(library) as one:
        assert not looked(began(one.pid, library="/jaxlib/")).nobody_came, "without the library"


def test_no_word_of_ranks_that_are_gone(library: Path) -> None:
    with rank(library) as one:
        meeting = looked(began(one.pid), meetings.ENOUGH - 1)
    assert not looked(meeting, 20).nobody_came, "while others go on"


def test_no_word_without_a_port_or_a_sight_of_sockets(
    library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    meeting = Meeting()
    meeting.begin(None, None)
    assert not looked(meeting, 20).nobody_came
    refuse = os.listdir

    def listed(path: str) -> list[str]:
        if path.startswith("/proc/") and path.endswith("/fd"):
            raise PermissionError
        return refuse(path)

    monkeypatch.setattr(os, "listdir", listed)
    with rank(library) as one:
        assert not looked(began(one.pid), 20).nobody_came
