"""Control groups: where our own is, what may be set in it, and how it ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher.agent.processes import cgroup, limits, ownership
from support import lab as labs


@pytest.mark.parametrize("by_signals", [False, True])
def test_a_group_is_killed_whole_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_signals: bool
) -> None:
    """In this machine's own hierarchy; also as on kernels before 5.14, without cgroup.kill."""
    group = cgroup.make(str(tmp_path), "test", f"here{os.getpid()}", set())
    if group is None:
        pytest.skip("this machine gives no control group")
    if by_signals:
        monkeypatch.setattr(cgroup.Group, "kill", lambda self: False)
    leaf = group.leaf("0-node-0", {})["path"]
    script = "echo $$ > $0/cgroup.procs; sleep 620 & sleep 620"
    process = subprocess.Popen(["sh", "-c", script, leaf])
    try:
        labs.wait_until(lambda: len(group.pids()) == 3, "three processes in the group")
        assert process.pid in cgroup.end(str(tmp_path))
        assert process.wait(10) == -9
        assert not os.path.exists(group.path)
        assert os.listdir(tmp_path) == []
    finally:
        process.kill()
        process.wait()
        cgroup.end(str(tmp_path))


@pytest.mark.parametrize("delegated", [False, True])
def test_a_user_has_a_group_where_one_was_delegated(tmp_path: Path, delegated: bool) -> None:
    """As systemd does it: a group that belongs to the user, with the user's processes in it."""
    chain = next(iter(cgroup.own_groups()), None)
    if chain is None or os.geteuid() or not os.access(chain[0], os.W_OK):
        pytest.skip("this machine gives no control group")
    above = Path(chain[0], f"test-{os.getpid()}")
    above.mkdir()
    for name in (".", "cgroup.procs", "cgroup.subtree_control"):
        os.chown(above / name, 65534 if delegated else 0, -1)
    os.chown(tmp_path, 65534, 65534)
    child = os.fork()
    if child == 0:
        try:
            cgroup.join(str(above))
            os.chdir(tmp_path)  # the folders above are not for everybody
            os.setgid(65534)
            os.setuid(65534)
            group = cgroup.make(".", "test", "here", {"memory"})
            noted = os.path.exists("groups")
            found = [group is not None, noted, group is not None and os.path.isdir(group.path)]
            cgroup.end(".")
            os._exit(0 if found == [delegated] * 3 and not os.listdir(".") else 1)
        finally:
            os._exit(2)
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        above.rmdir()


SYSTEMD = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
CONTAINER = "70 60 0:26 /docker/ab /srv/c\\040g rw - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("mounts", "groups", "found"),
    [
        (
            SYSTEMD,
            "0::/user.slice/session-3.scope\n",
            ["/sys/fs/cgroup/user.slice/session-3.scope", "/sys/fs/cgroup/user.slice"],
        ),
        (HYBRID, "4:memory:/m\n0::/\n", []),
        (CONTAINER, "0::/docker/ab/c\n", ["/srv/c g/c"]),
        (CONTAINER, "0::/docker/other\n", None),
        (SYSTEMD, "0::/../../system.slice\n", None),
        (SYSTEMD, "4:memory:/m\n", None),
        ("", "0::/\n", None),
    ],
)
def test_where_our_own_group_is(mounts: str, groups: str, found: list[str] | None) -> None:
    point = {SYSTEMD: "/sys/fs/cgroup", HYBRID: "/sys/fs/cgroup/unified", CONTAINER: "/srv/c g"}
    chains = cgroup.own_groups(mounts, groups)
    assert chains == ([] if found is None else [[*found, point[mounts]]])


class FakeHierarchy:
    """A folder that looks like a cgroup2 hierarchy, with the rules of a kernel that we depend on."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
        self.root, self._mkdir, self._write = root, os.mkdir, cgroup.write
        root.mkdir()
        self._fill(root, "cpu memory pids")
        (root / "cgroup.procs").write_text("1")
        (root / "cgroup.subtree_control").write_text(given)
        monkeypatch.setattr(os, "mkdir", self._make)
        monkeypatch.setattr(os, "rmdir", lambda path: None)
        monkeypatch.setattr(cgroup, "write", self._control)
        monkeypatch.setattr(cgroup, "_can_join", lambda path: True)

    def _make(self, path: str, mode: int = 0o777) -> None:
        self._mkdir(path, mode)
        if self.root in Path(path).parents:
            self._fill(Path(path), (Path(path).parent / "cgroup.subtree_control").read_text())

    def _fill(self, folder: Path, controllers: str) -> None:
        files = {"cpu": ["cpu.max"], "memory": ["memory.max", "memory.events"]}
        names = ["cgroup.procs", "cgroup.subtree_control"]
        for word in controllers.split():
            names += files.get(word, [])
        for name in names:
            (folder / name).write_text("")
        (folder / "cgroup.controllers").write_text(controllers)

    def _control(self, folder: str, name: str, text: str) -> bool:
        if name != "cgroup.subtree_control":
            return self._write(folder, name, text)
        here = Path(folder)
        offered = (here / "cgroup.controllers").read_text().split()
        if text[1:] not in offered or (here / "cgroup.procs").read_text():
            return False  # EINVAL; EBUSY where processes are
        given = {*(here / name).read_text().split(), text[1:]}
        (here / name).write_text(" ".join(sorted(given)))
        return True


def _held(tmp_path: Path, wish: dict[str, int], chain: list[Path]) -> tuple[str, Path | None]:
    (tmp_path / "run").mkdir(exist_ok=True)
    places = [[str(folder) for folder in chain]]
    wanted = {"cpu" if name == "cpus" else name for name in wish}
    group = cgroup.make(str(tmp_path / "run"), "r", "h", wanted, places)
    assert group is not None
    leaf = group.leaf("0-node-0", wish)
    words = limits.in_words(limits.limit(wish, limits.Cores("r"), leaf) or {})
    return words, Path(leaf["path"])


def test_limits_are_the_groups_where_a_fake_hierarchy_gives_the_controllers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake: this machine's unified hierarchy has neither cpu nor memory."""
    FakeHierarchy(tmp_path / "cg", monkeypatch, given="memory")
    words, leaf = _held(tmp_path, {"memory": 256 << 20}, [tmp_path / "cg"])
    assert words == "256 MiB (memory.max of its control group)"
    assert (leaf / "memory.max").read_text() == str(256 << 20)
    words, leaf = _held(tmp_path, {"cpus": 1, "memory": 1 << 30}, [tmp_path / "cg"])
    assert words.startswith("1024 MiB (memory.max of its control group), cores")
    assert words.endswith("(affinity)")


def test_a_group_above_is_taken_where_only_that_gives_controllers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a host with systemd: a session's own group has processes and can hand down nothing."""
    FakeHierarchy(tmp_path / "cg", monkeypatch, given="cpu memory")
    session = tmp_path / "cg" / "session"
    os.mkdir(session)
    (session / "cgroup.procs").write_text("1")
    words, leaf = _held(tmp_path, {"cpus": 2, "memory": 1 << 30}, [session, tmp_path / "cg"])
    assert words == (
        "cpus 2 (cpu.max of its control group), 1024 MiB (memory.max of its control group)"
    )
    assert (leaf / "cpu.max").read_text() == "200000 100000"
    assert leaf.parent.parent == tmp_path / "cg"


def test_evidence_for_lost_memory_is_the_groups_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake hierarchy: what is killed elsewhere on the host is no evidence where a group counts."""
    FakeHierarchy(tmp_path / "cg", monkeypatch, given="memory")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cgroup, "own_groups", lambda: [[str(tmp_path / "cg")]])
    kills = iter(range(100))
    monkeypatch.setattr(ownership.processes, "out_of_memory_kills", lambda: next(kills))
    mine = ownership.Owned("r", "h")
    assert mine.lost_one_for_memory()
    mine.prepare([{"memory": 1 << 30}])
    (folder,) = (tmp_path / "cg").glob("launcher-r-*")
    (folder / "memory.events").write_text("oom 0\noom_kill 0\n")
    mine.prepare([{"memory": 1 << 30}])
    assert not mine.lost_one_for_memory()
    (folder / "memory.events").write_text("oom 1\noom_kill 1\n")
    assert mine.lost_one_for_memory()
