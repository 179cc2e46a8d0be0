"""The agent's trees, journal, leases and frames on a host; and that Python 3.8 can read it."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import launcher.agent
from launcher.agent.base import journal, protocol
from launcher.agent.host import gpu_locks, probe
from launcher.agent.relay import tree
from launcher.agent.relay.relay import Relay

FEW = settings(max_examples=40)
AGENT = Path(launcher.agent.__file__).parent
MODULES = sorted(AGENT.rglob("*.py"))


# -- what runs on a host


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_agent_parses_as_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_agent_imports_the_standard_library_and_itself(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom):
            depth = len(path.relative_to(AGENT).parts)
            first = str(node.module).split(".")[0]
            assert 1 <= node.level <= depth or (not node.level and first in sys.stdlib_module_names)


# -- trees


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A host's folder of one source, with one sealed version in it."""
    folder = tmp_path / "source"
    incoming(folder, {"train.py": "1", "pkg/deep/a.py": "2"})
    (folder / "incoming-1" / "link").symlink_to("train.py")
    tree.seal(str(folder), "incoming-1")
    return folder


def incoming(folder: Path, files: dict[str, str], name: str = "incoming-1") -> None:
    for path, text in files.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_text(text)


def test_sealed_under_its_fingerprint(sources: Path) -> None:
    version = tree.sealed(str(sources))
    assert [entry.name for entry in sources.iterdir()] == [version]
    assert tree.fingerprint(os.fsencode(sources / version)).hexdigest() == version


def test_sealing_the_same_again_keeps_one(sources: Path) -> None:
    version = str(tree.sealed(str(sources)))
    subprocess.run(["cp", "-a", str(sources / version), str(sources / "incoming-2")], check=True)
    assert tree.seal(str(sources), "incoming-2") == version
    assert [entry.name for entry in sources.iterdir()] == [version]


def test_a_snapshot_is_made_of_hard_links(sources: Path, tmp_path: Path) -> None:
    version = str(tree.sealed(str(sources)))
    code = tmp_path / "run" / "code"
    code.mkdir(parents=True)
    (code / "left over").touch()
    assert tree.snapshot(str(sources), version, str(code))
    assert (code / "train.py").samefile(sources / version / "train.py")
    assert os.readlink(code / "link") == "train.py"
    assert tree.fingerprint(os.fsencode(code)).hexdigest() == version


@pytest.mark.parametrize("how", ["written into", "file added", "file removed", "made executable"])
def test_a_version_that_was_changed_is_refused_and_removed(
    sources: Path, tmp_path: Path, how: str
) -> None:
    version = str(tree.sealed(str(sources)))
    code = tmp_path / "code"
    assert tree.snapshot(str(sources), version, str(code))
    if how == "written into":
        with (code / "train.py").open("a") as file:  # a program that changes its own code
            file.write("x")
    elif how == "file added":
        (sources / version / "new.py").touch()
    elif how == "file removed":
        (sources / version / "train.py").unlink()
    else:
        (code / "train.py").chmod(0o755)
    again = tmp_path / "again"
    assert not tree.snapshot(str(sources), version, str(again))
    assert not again.exists()
    assert list(sources.iterdir()) == []


def test_a_version_that_is_not_there(sources: Path, tmp_path: Path) -> None:
    assert not tree.snapshot(str(sources), "0" * 32, str(tmp_path / "code"))
    assert tree.sealed(str(tmp_path / "nothing")) is None


def test_the_newest_versions_are_kept(sources: Path, tmp_path: Path) -> None:
    versions = [str(tree.sealed(str(sources)))]
    os.utime(sources / versions[0], (1, 1))
    for number in range(2, tree.KEPT + 2):
        incoming(sources, {"train.py": str(number)})
        versions.append(tree.seal(str(sources), "incoming-1"))
        os.utime(sources / versions[-1], (number, number))
    (sources / "incoming-9").mkdir()
    assert {entry.name for entry in sources.iterdir()} == {*versions[1:], "incoming-9"}
    assert tree.sealed(str(sources)) == versions[-1]
    assert tree.snapshot(str(sources), versions[1], str(tmp_path / "code"))
    assert tree.sealed(str(sources)) == versions[1], "what was used last is the newest"


def test_remove_gets_through_closed_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    (tmp_path / "a" / "b").chmod(0o500)
    (tmp_path / "a").chmod(0o500)
    tree.remove(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (None, {"ckpt/1/a.pt", "ckpt/b.pt", "x.log", "ckpt-old/c.pt", "\udcff.bin"}),
        ([], set()),
        (["ckpt"], {"ckpt/1/a.pt", "ckpt/b.pt"}),
        (["ckpt/"], {"ckpt/1/a.pt", "ckpt/b.pt"}),
        (["./ckpt/"], {"ckpt/1/a.pt", "ckpt/b.pt"}),
        (["ckpt/1", "*.log"], {"ckpt/1/a.pt", "x.log"}),
        (["ckpt*"], {"ckpt/1/a.pt", "ckpt/b.pt", "ckpt-old/c.pt"}),
        (["../x.log", "/x.log"], set()),
    ],
)
def test_listing(tmp_path: Path, patterns: list[str] | None, found: set[str]) -> None:
    incoming(
        tmp_path, {"ckpt/1/a.pt": "1", "ckpt/b.pt": "22", "x.log": "", "ckpt-old/c.pt": ""}, "r"
    )
    (tmp_path / "r" / "\udcff.bin").touch()
    (tmp_path / "r" / "link").symlink_to("x.log")
    os.mkfifo(tmp_path / "r" / "pipe")
    listed = tree.listing(str(tmp_path / "r"), patterns)
    assert {path for path, _, _ in listed} == found
    for path, size, mtime in listed:
        status = (tmp_path / "r" / path).stat()
        assert (size, mtime) == (status.st_size, status.st_mtime_ns)


def test_listing_of_nothing(tmp_path: Path) -> None:
    assert tree.listing(str(tmp_path / "nothing")) == []


# -- journal


def test_records_have_numbers_and_come_back(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    first = journal.Journal(path)
    told = [first.append("Started", key="größe\n\r"), first.append("Ended")]
    assert [record["seq"] for record in told] == [0, 1]
    told.append(journal.Journal(path).append("Again"))
    read = journal.read_from(path, 0)
    assert [record for record, _ in read] == told
    assert [record["seq"] for record in told] == [0, 1, 2]
    assert read[-1][1] == os.path.getsize(path)
    for position, (_, end) in enumerate(read, 1):
        assert [record for record, _ in journal.read_from(path, end)] == told[position:]


def test_a_torn_record_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal.Journal(str(path)).append("Whole")
    with path.open("ab") as file:
        file.write(b'{"seq":1,"event":"To' + b"r" * 500)
    assert len(journal.read_from(str(path), 0)) == 1
    record = journal.Journal(str(path)).append("Next")
    assert record["seq"] == 1
    assert path.stat().st_size == journal.read_from(str(path), 0)[-1][1]
    assert [found["event"] for found, _ in journal.read_from(str(path), 0)] == ["Whole", "Next"]


def test_no_journal(tmp_path: Path) -> None:
    assert journal.read_from(str(tmp_path / "nothing"), 0) == []


def test_a_full_disk_keeps_records_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    opened = journal.Journal(str(path))
    room = [10]

    def write(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = data[: room[0]]
        room[0] -= len(taken)
        return real(fd, taken)

    real = os.write
    monkeypatch.setattr(journal.os, "write", write)
    opened.append("First")
    opened.append("Second")
    assert path.stat().st_size == 10
    room[0] = 1000
    opened.flush()
    events = [record["event"] for record, _ in journal.read_from(str(path), 0)]
    assert events == ["First", "Second"]


# -- frames

MESSAGES = st.lists(
    st.tuples(
        st.fixed_dictionaries({"log": st.sampled_from(["", "ä\n", "\udcff"])}),
        st.sampled_from([b"", b"\n", b"{}\n", bytes(range(256))]),
    ),
    max_size=5,
)


@FEW
@given(MESSAGES, st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_messages_survive_any_cutting(
    messages: list[tuple[dict[str, str], bytes]], sizes: list[int]
) -> None:
    data = b"".join(protocol.encode(message, payload) for message, payload in messages)
    decoder = protocol.Decoder()
    found, position, turn = [], 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        found += decoder.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    assert [payload for _, payload in found] == [payload for _, payload in messages]
    assert [message["log"] for message, _ in found] == [message["log"] for message, _ in messages]


@pytest.mark.parametrize(
    "line", [b"hello\n", b"\xff\n", b"5\n", b"[]\n", b'{"size":-5}\n', b'{"size":"x"}\n']
)
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        protocol.Decoder().feed(line)


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_LINE", 100)
    with pytest.raises(ValueError, match="too long"):
        protocol.Decoder().feed(b"x" * 101)
    decoder = protocol.Decoder()
    payload = b"x" * 1000
    assert decoder.feed(protocol.encode({}, payload)) == [({"size": 1000}, payload)]


# -- locks of GPUs


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Names of locks that no other test has, and no locks of 0.1."""
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))
    return str(tmp_path)


HOLDER = "import sys; from launcher.agent.host import gpu_locks; held = gpu_locks.take([1, 2], 'theirs'); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def other(scope: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds GPUs 1 and 2."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=AGENT.parent.parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_gpu_locks_exclude_each_other_all_or_nothing(other: subprocess.Popen[str]) -> None:
    with pytest.raises(gpu_locks.Busy) as caught:
        gpu_locks.take([0, 1], "mine")
    assert (caught.value.index, caught.value.holder["run"]) == (1, "theirs")
    assert set(gpu_locks.held()) == {1, 2}, "0 was let go again"
    mine = gpu_locks.take([0], "mine")
    assert {index: holder["run"] for index, holder in gpu_locks.held().items()} == {
        0: "mine", 1: "theirs", 2: "theirs"
    }  # fmt: skip
    other.kill()
    other.wait()
    assert set(gpu_locks.held()) == {0}, "a crash frees locks"
    mine += gpu_locks.take([1, 2], "mine")
    for lock in mine:
        lock.close()
    assert gpu_locks.held() == {}


LOOKER = "from launcher.agent.host import gpu_locks; print('looking', flush=True)\nwhile True: gpu_locks.held()"


def test_looking_at_gpu_locks_never_makes_one_busy(scope: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOOKER], stdout=subprocess.PIPE, cwd=AGENT.parent.parent
    ) as looker:
        try:
            assert looker.stdout is not None
            looker.stdout.readline()
            for _ in range(1000):
                for lock in gpu_locks.take([0], "mine"):
                    lock.close()
        finally:
            looker.kill()


def test_an_old_kernel_tells_the_holder_through_a_connection(
    scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as nobody fills the queue of lookers, which a supervisor empties."""
    monkeypatch.setattr(gpu_locks, "_uid_by_inode", lambda inode: None)
    locks = gpu_locks.take([0], "mine")
    assert gpu_locks.held()[0]["uid"] == os.getuid()
    for _ in range(gpu_locks.QUEUE):
        gpu_locks.held()
    assert gpu_locks.held() == {0: {}}
    gpu_locks.drain(locks)
    assert gpu_locks.held()[0]["run"] == "mine"
    for lock in locks:
        lock.close()


def test_a_lock_that_is_connected_elsewhere_counts(scope: str) -> None:
    """Whoever has the name has the lock; an index beyond all is none."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as strange:
        server.bind("")
        server.listen()
        strange.bind(gpu_locks._prefix() + b"gpu/4")
        strange.connect(server.getsockname())
        with socket.socket(socket.AF_UNIX) as beyond:
            beyond.bind(gpu_locks._prefix() + b"gpu/99999999999999999999")
            assert {i: h.get("uid") for i, h in gpu_locks.held().items()} == {4: os.getuid()}


def test_locks_of_0_1_count_and_nothing_else_there_does(
    scope: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "leases"
    monkeypatch.setenv("LAUNCHER_LEASE_DIR", str(folder))
    assert gpu_locks.held() == {}
    folder.mkdir()
    (folder / "gpu-1").symlink_to("/etc/passwd")
    os.mkfifo(folder / "gpu-2")
    (folder / "gpu-x").touch()
    (folder / "gpu-7").write_text(json.dumps({"user": "left over"}))
    (folder / "gpu-8").write_text(json.dumps({"user": "x", "run": "calm-owl-1", "since": 1.5}))
    os.link(folder / "gpu-7", folder / "gpu-3")
    with (folder / "gpu-8").open() as eight, (folder / "gpu-3").open() as linked:
        fcntl.flock(eight, fcntl.LOCK_EX)
        fcntl.flock(linked, fcntl.LOCK_EX)
        (holder,) = gpu_locks.held().values()
        assert (holder["uid"], holder["run"]) == (os.getuid(), "calm-owl-1")
        assert holder["user"] != "x"
        with pytest.raises(gpu_locks.Busy):
            gpu_locks.take([8], "mine")
        assert set(gpu_locks.held()) == {8}
    locks = gpu_locks.take([1, 2, 3, 8], "mine")
    with (folder / "gpu-8").open() as eight, pytest.raises(BlockingIOError):
        fcntl.flock(eight, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for lock in locks:
        lock.close()


# -- what is measured


def test_the_version_of_rsync_is_asked_for_again_when_there_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path(str(shutil.which("rsync")))
    mine, note = tmp_path / "bin" / "rsync", tmp_path / "rsync.json"
    mine.parent.mkdir()
    monkeypatch.setenv("PATH", f"{mine.parent}:{os.environ['PATH']}")

    def version() -> str:
        return str(probe.rsync_version(str(tmp_path)))

    shutil.copy(real, mine)
    found = version()
    note.write_text(note.read_text().replace(found, "9.9"))
    assert version() == "9.9", "it was asked although it is the same"
    shutil.copy(real, mine)
    assert version() == found
    mine.write_text(f"#!/bin/sh\ncat '{tmp_path}/another'\n")
    for other in ("2.6.9", "3.1.3"):  # a script is the same, and leads to another one each time
        (tmp_path / "another").write_text(f"rsync version {other}\n")
        assert version() == other
    note.write_text("{")
    mine.unlink()
    assert version() == found


# -- what is asked again


def test_what_was_started_and_is_over_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher whose line broke before it had the answer asks again; other attempts do not count."""
    run = tmp_path / "runs" / "calm-hare"
    run.mkdir(parents=True)
    monkeypatch.chdir(run)
    relay, told = Relay(str(tmp_path)), journal.Journal("journal.jsonl")
    request = {"run": "calm-hare", "stage": "run", "attempt": 1, "processes": [{"key": "rank-0"}]}
    told.append("ProcessStarted", key="rank-0", attempt=0)
    with pytest.raises(OSError, match="No such file"):
        relay.do_start(request)
    told.append("ProcessStarted", key="rank-0", attempt=1)
    assert relay.do_start(request) == {}
