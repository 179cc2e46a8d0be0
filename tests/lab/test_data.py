"""Data sets: there before the run, by content, whole or not at all."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.api import data
from launcher.api.hosts import load_inventory
from launcher.runner.data import listing
from launcher.spec.data import DataSet
from launcher.spec.errors import SourceChanged
from support import lab as labs
from support.command import Launcher

#: Where hosts of the lab keep data sets.
STORE = "/root/.launcher/host/data"

READER = """
import hashlib, os, pathlib, sys
where = pathlib.Path(sys.argv[1])
assert str(where) == os.environ["LAUNCHER_DATA_MY_SET"], os.environ["LAUNCHER_DATA_MY_SET"]
names = sorted(os.fsencode(p.relative_to(where)) for p in where.rglob("*") if p.is_file())
digest = hashlib.sha256()
for name in names:
    digest.update((where / os.fsdecode(name)).read_bytes())
print(len(names), digest.hexdigest())
"""
WAITER = """
import os, pathlib, time
where = pathlib.Path(os.environ["LAUNCHER_DATA_MY_SET"])
print((where / "a.txt").read_text(), flush=True)
while not pathlib.Path("/tmp/data-go").exists():
    time.sleep(0.05)
"""


def make_set(folder: Path) -> Path:
    """Return a folder with the names that go wrong elsewhere."""
    (folder / "deep er" / "é").mkdir(parents=True)
    (folder / "deep er" / "é" / "it's.bin").write_bytes(os.urandom(300_000))
    (folder / "a").write_bytes(b"")
    (folder / "A").write_bytes(b"upper")
    (folder / "..hidden").write_bytes(b"dots")
    (folder / "-n").write_bytes(b"dash")
    (folder / "new\nline").write_bytes(b"line")
    (folder / ("n" * 255)).write_bytes(b"long")
    (folder / "link").symlink_to("deep er/é/it's.bin")
    tool = folder / "tool.sh"
    tool.write_bytes(b"#!/bin/sh\n")
    tool.chmod(0o755)
    with open(os.fsencode(folder) + b"/\xff\xfe", "wb") as file:
        file.write(b"not utf-8")
    return folder


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind of a run."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def version_of(folder: Path) -> str:
    """Return the version that a run had of its only data set."""
    (record,) = json.loads((folder / "data.json").read_text())
    return str(record["version"])


def test_a_run_has_its_data(launcher: Launcher, clean: labs.Lab, tmp_path: Path) -> None:
    """Both hosts have all of it at the path that the job names, and nothing travels twice."""
    source = make_set(tmp_path / "my corpus")
    script = launcher.script(READER)
    words = ["--hosts", "lab[1-2]", "--framework", "torch", "--nproc-per-node", "1"]
    words += ["--data", f"my-set={source}:data/corpus", script, "{{data.my-set}}"]
    ran = launcher.run(*words)
    assert ran.code == 0, ran.err
    first = ran.folder
    assert ran.log("rank-0.out") == ran.log("rank-1.out")
    assert ran.log("rank-0.out").startswith(b"10 ")
    version = version_of(first)
    files = f"{STORE}/{version}/files"
    for name in ("lab1", "lab2"):
        assert len(clean.hosts[name].read(f"{files}/deep er/é/it's.bin")) == 300_000
        modes = clean.hosts[name].run("stat", "-c", "%a", f"{files}/a", f"{files}/tool.sh", files)
        assert modes.stdout.split() == [b"444", b"555", b"555"]
    assert {event["copied"] > 300_000 for event in events(first, "DataGiven")} == {True}
    taken = launcher.call("df", "-i", str(launcher.inventory), "--hosts", "lab1", "--json")
    assert json.loads(taken.stdout)["hosts"]["lab1"]["data"] > 300_000
    shown = launcher.call("show", first.name)
    assert f"my-set {version[:12]}" in shown.stdout, shown.stdout

    (source / "a").write_bytes(b"no longer empty")
    assert launcher.run(*words).code == 0
    (second,) = {*(launcher.home / "runs").iterdir()} - {first}
    assert version_of(second) != version
    given = events(second, "DataGiven")
    assert {event["copied"] < 100_000 for event in given} == {True}, "only the change travels"
    inodes = (
        clean.hosts["lab1"]
        .run("sh", "-c", f"stat -c %i {STORE}/*/files/tool.sh | sort -u | wc -l")
        .stdout
    )
    assert inodes.strip() == b"1"


def test_a_run_goes_where_its_data_is(launcher: Launcher, clean: labs.Lab, tmp_path: Path) -> None:
    """It takes the host that has the set, and not the first one; who needs all hosts keeps their order."""
    make_set(tmp_path / "corpus")
    assert launcher.call("data", "add", "corpus", str(tmp_path / "corpus")).returncode == 0
    where = ["-i", str(launcher.inventory), "--hosts", "lab3"]
    assert launcher.call("data", "push", "corpus", *where).returncode == 0
    words = ["--framework", "env", "--data", "corpus", "hostname"]
    for nodes, hosts in (("1", "lab3 [0]"), ("3", "lab1 [0]  lab2 [1]  lab3 [2]")):
        ran = launcher.run("--nodes", nodes, *words)
        assert ran.code == 0, ran.err
        assert f": {hosts}\n" in ran.err


def test_a_new_version_fits_beside_the_one_that_it_shares_with(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """The disk has no room for two whole versions: one file changes, then all of them do."""
    host, source = clean.hosts["lab1"], tmp_path / "set"
    source.mkdir()
    where = ["-i", str(launcher.inventory), "--hosts", "lab1"]
    host.run("mkdir", "-p", STORE)
    host.run("mount", "-t", "tmpfs", "-o", "size=30m,mode=700", "none", STORE)
    try:
        for change, kept in (("all", 1), ("small", 2), ("all", 1)):
            for name in ("large", "small") if change == "all" else ("small",):
                (source / name).write_bytes(os.urandom(20_000_000 if name == "large" else 10))
            added = launcher.call("data", "add", "mine", str(source), "--json")
            version = json.loads(added.stdout)["version"]["version"]
            pushed = launcher.call("data", "push", "mine", *where)
            assert pushed.returncode == 0, pushed.stderr
            there = [one for one in host.run("ls", STORE).stdout.decode().split() if len(one) == 32]
            assert (version in there, len(there)) == (True, kept)
    finally:
        host.run("umount", "--lazy", STORE)


def test_an_absolute_path_and_one_in_use(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """An absolute path leads to the set; no other version takes it, and nothing is deleted, meanwhile."""
    host, source = clean.hosts["lab1"], tmp_path / "set"
    source.mkdir()
    (source / "a.txt").write_text("one")
    called = launcher.call("data", "add", "my-set", str(source), "--to", "/opt/sets/mine")
    assert called.returncode == 0, called.stderr
    words = ["--hosts", "lab1", "--nproc-per-node", "1", "--framework", "torch", "--data", "my-set"]
    waiter = launcher.script(WAITER)
    where = ["-i", str(launcher.inventory), "--hosts", "lab1"]
    running = launcher.start(*words, waiter)
    try:
        wait_until(lambda: host.exists("/opt/sets/mine/a.txt") and bool(used(launcher, where)))
        kept = launcher.call("data", "prune", *where, "--keep", "0", "--json")
        assert len(json.loads(kept.stdout)["hosts"]["lab1"]["kept"]) == 1, kept.stdout
        (source / "a.txt").write_text("two")
        refused = launcher.run(*words, waiter)
        assert refused.code == 125
        assert "/opt/sets/mine is another version of the data, which" in refused.err
        assert "another to:" in refused.err
    finally:
        host.write("/tmp/data-go", b"")
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert b"one" in out
    assert launcher.run(*words, waiter).code == 0
    assert host.read("/opt/sets/mine/a.txt") == b"two"
    gone = launcher.call("data", "prune", *where, "--keep", "0", "--json")
    assert json.loads(gone.stdout)["hosts"]["lab1"]["kept"] == [], gone.stdout
    assert not host.exists("/opt/sets/mine"), "nothing leads nowhere"
    host.run("rm", "-r", "/tmp/data-go", "/opt/sets")


def used(launcher: Launcher, where: list[str]) -> list[str]:
    """Return the runs that use the set."""
    shown = json.loads(launcher.call("data", "show", "my-set", *where, "--json").stdout)
    return [run for one in shown["hosts"]["lab1"] for run in one["runs"]]


def wait_until(condition: Any) -> None:
    """Wait for a condition, for a minute at most."""
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_damaged_or_interrupted(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """No half set looks whole: sums are compared, and only what differs is brought again."""
    host, source = clean.hosts["lab1"], tmp_path / "set"
    source.mkdir()
    for name in ("large", "other", "third"):
        (source / name).write_bytes(os.urandom(500_000))
    where = ["-i", str(launcher.inventory), "--hosts", "lab1"]
    added = json.loads(launcher.call("data", "add", "mine", str(source), "--json").stdout)
    version = added["version"]["version"]
    # A copy was interrupted: one file is cut off, one is damaged, and one nobody knows.
    incoming = f"{STORE}/incoming-{version}/files"
    host.run("mkdir", "-p", incoming)
    host.write(f"{incoming}/large", (source / "large").read_bytes()[:100_000])
    host.write(f"{incoming}/other", bytes(500_000))
    stamp = f"@{(source / 'other').stat().st_mtime_ns / 1e9:.9f}"
    host.run("touch", "-d", stamp, f"{incoming}/other")
    host.write(f"{incoming}/stranger", b"?")
    pushed = launcher.call("data", "push", "mine", *where)
    assert pushed.returncode == 0, pushed.stderr
    files = f"{STORE}/{version}/files"
    assert host.run("ls", files).stdout.split() == [b"large", b"other", b"third"]
    assert host.read(f"{files}/other") == (source / "other").read_bytes()
    # Something writes into a version that is whole.
    host.write(f"{files}/third", b"damaged")
    bad = launcher.call("data", "verify", "mine", *where)
    assert bad.returncode == 1
    assert "lab1: 1 file differs: third has 7 bytes instead of 500000" in bad.stdout
    assert not host.exists(files)
    again = json.loads(launcher.call("data", "push", "mine", *where, "--json").stdout)
    assert 500_000 < again["sent"]["lab1"] < 600_000, "one file"
    good = launcher.call("data", "verify", "mine", *where)
    assert (good.returncode, good.stdout) == (0, "lab1: whole\n")
    # Pinned sets stay, and rm deletes what hosts have.
    assert launcher.call("data", "pin", "mine", *where).returncode == 0
    launcher.call("data", "prune", *where, "--keep", "0")
    assert host.exists(files)
    assert launcher.call("data", "rm", "mine", *where).returncode == 0
    assert not host.exists(files)
    assert json.loads(launcher.call("data", "ls", "--json").stdout) == []


def test_a_source_that_changes_is_no_version(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was listed is what arrives, or the host has nothing that looks whole."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    source = tmp_path / "set"
    source.mkdir()
    (source / "a").write_bytes(b"before")
    listed = listing.read(source)
    (source / "a").write_bytes(b"after!")
    inventory = load_inventory(launcher.inventory)
    place = data.Place(inventory, [inventory.host("lab1")])

    async def read() -> listing.Listed:
        return listed

    done = asyncio.run(place.push(DataSet("mine", str(source)), read(), lambda event: None))
    error = done["lab1"]
    assert isinstance(error, SourceChanged)
    assert "mine: a has another sum there" in error.message
    assert not clean.hosts["lab1"].exists(f"{STORE}/{listed.version.version}")


def test_an_inventory_limits_what_sets_take(launcher: Launcher, clean: labs.Lab) -> None:
    """The one that was used first makes room, though the disk has plenty."""
    text = launcher.inventory.read_text()
    launcher.inventory.write_text(text.replace("defaults: {", "defaults: {data_limit: 3MB, "))
    where = ["-i", str(launcher.inventory), "--hosts", "lab1"]
    assert launcher.call("data", "prune", *where, "--keep", "0").returncode == 0
    for name in ("first", "second"):
        (launcher.work / name).mkdir()
        (launcher.work / name / "x").write_bytes(os.urandom(2_000_000))
        assert launcher.call("data", "add", name, str(launcher.work / name)).returncode == 0
        pushed = launcher.call("data", "push", name, *where)
        assert pushed.returncode == 0, pushed.stderr
    shown = [
        json.loads(launcher.call("data", "show", name, *where, "--json").stdout)["hosts"]["lab1"]
        for name in ("first", "second")
    ]
    assert [len(sets) for sets in shown] == [0, 1]
