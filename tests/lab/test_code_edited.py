"""Code that is edited while it is copied: all hosts of a run execute the same."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
from pathlib import Path

from launcher.runner.files.code_patch import MOST_BYTES
from support import lab as labs
from support.command import Launcher

#: rsync, but the second copy begins once the first host has its code, and somebody saves a file.
EDITING = """#!/bin/sh
if ! mkdir {scratch}/first 2>/dev/null && mkdir {scratch}/second 2>/dev/null; then
    for wait in $(seq 1200); do
        grep -q CodeSynced {scratch}/home/runs/*/events.jsonl && break; sleep 0.05
    done
    echo the second one > {work}/version.txt
fi
exec {rsync} "$@"
"""


def test_hosts_that_copied_different_versions_agree(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """The first host had the old version, the second the new one, and the run trained with both."""
    (launcher.work / "version.txt").write_text("the first\n")
    (launcher.work / "large.bin").write_bytes(os.urandom(MOST_BYTES))  # rsync is for what is large
    rsync = tmp_path / "bin" / "rsync"
    rsync.parent.mkdir()
    rsync.write_text(
        EDITING.format(
            scratch=tmp_path,
            work=shlex.quote(str(launcher.work)),
            rsync=shutil.which("rsync"),
        )
    )
    rsync.chmod(0o755)
    launcher.env["PATH"] = f"{rsync.parent}:{os.environ['PATH']}"
    ran = launcher.run("--nodes", "2", "--framework", "env", "--", "cat", "version.txt")
    assert ran.code == 0, ran.err
    assert [ran.log(f"node-{node}.out") for node in (0, 1)] == [b"the second one\n"] * 2
    events = map(json.loads, (ran.folder / "events.jsonl").read_text().splitlines())
    noted = json.loads((ran.folder / "code.json").read_text())["snapshot"]
    synced = [event["version"] for event in events if event["event"] == "CodeSynced"]
    assert synced[-2:] == [noted, noted] != synced[:2]


#: What a tree holds: mode, size, time and content of each file, the target of each link; and which names
#: are one file.
Tree = tuple[dict[bytes, tuple[object, ...]], list[list[bytes]]]


def _tree(root: Path) -> Tree:
    found: dict[bytes, tuple[object, ...]] = {}
    names: dict[int, list[bytes]] = {}
    top = os.fsencode(root)
    for base, folders, files in os.walk(top):
        for name in (*files, *(one for one in folders if os.path.islink(base + b"/" + one))):
            place = os.path.join(base, name)
            path, status = os.path.relpath(place, top), os.lstat(place)
            if stat.S_ISLNK(status.st_mode):
                found[path] = (os.readlink(place),)
                continue
            with open(place, "rb") as file:
                found[path] = status.st_mode, status.st_size, status.st_mtime_ns, file.read()
            names.setdefault(status.st_ino, []).append(path)
    return found, sorted(sorted(one) for one in names.values() if len(one) > 1)


def _begin(code: Path) -> None:
    for name in ("train.py", "old.py", "run.sh", "pkg/model.py", "sub/x"):
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text(name)
    (code / "link").symlink_to("train.py")
    for name in (b"new\nline", b"\xff\xfe", b" #", b"-q\"u'o\\te", b"n" * 255, "\u4e2d".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(code), name))).write_bytes(name)
    os.link(code / "run.sh", code / "same.sh")


def _become_others(code: Path) -> None:
    """A folder for a file, a link for a folder, a file for a link."""
    (code / "old.py").unlink()
    (code / "old.py").mkdir()
    (code / "old.py" / "new").touch()
    shutil.rmtree(code / "pkg")
    (code / "pkg").symlink_to("sub")
    (code / "link").unlink()
    (code / "link").write_text("a file")


def _change_states(code: Path) -> None:
    (code / "same.sh").unlink()
    (code / "same.sh").write_text("another")
    (code / "train.py").chmod(0o640)
    (code / "run.sh").chmod(0o6755)
    os.utime(code / "sub/x", ns=(0, -86_400_000_000_007))
    os.utime(code / "link", ns=(0, 11 * 10**18))


def _edit(code: Path) -> None:
    (code / "train.py").write_text("a line")
    (code / "sub/x").unlink()


def test_small_edits_arrive_as_rsync_would_copy_them(launcher: Launcher, clean: labs.Lab) -> None:
    """Contents, permissions, times, links and names: with a rate, rsync copies everything."""
    for edit in (_begin, _become_others, _change_states, _edit, _begin):
        if edit is _begin:
            shutil.rmtree(launcher.work)
            launcher.work.mkdir()
        edit(launcher.work)
        trees = []
        for host, more in (("lab1", ()), ("lab2", ("--max-rate", "1000MB/s"))):
            shutil.rmtree(launcher.home / "runs", ignore_errors=True)
            ran = launcher.run("--hosts", host, *more, "--framework", "env", "--", "true")
            assert ran.code == 0, ran.err
            there = clean.hosts[host].path("/root/.launcher/host/runs") / ran.folder.name / "code"
            trees.append(_tree(there))
        assert trees[0] == trees[1], edit.__name__
        assert trees[0][0].keys() == _tree(launcher.work)[0].keys(), edit.__name__
