"""Data sets travel once from their source, and then from host to host."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.object_store import Store

STORE = "/root/.launcher/host/data"
SIZE = 24 << 20


def make_set(folder: Path) -> Path:
    """Return a folder with large files, many small ones, an empty one, a link, and a program."""
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(SIZE // 2))
    (folder / "other").write_bytes(os.urandom(SIZE // 2 - 300_000))
    (folder / "many").mkdir()
    for number in range(300):
        (folder / "many" / f"é {number}").write_bytes(os.urandom(1000))
    (folder / "empty").write_bytes(b"")
    (folder / "link").symlink_to("many/é 7")
    (folder / "tool").write_bytes(b"#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    return folder


def test_a_set_travels_once_and_then_between_hosts(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """Three hosts have all of it; it left this machine once; a change does not bring it all again."""
    source = make_set(tmp_path / "set")
    where = ["-i", str(launcher.inventory)]
    assert launcher.call("data", "add", "mine", str(source)).returncode == 0
    before = clean.sent()
    pushed = launcher.call("data", "push", "mine", *where, "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert clean.sent() - before < 1.2 * SIZE, "it left this machine more than once"
    found = json.loads(pushed.stdout)
    assert set(found["sent"]) == set(clean.hosts), pushed.stdout
    assert all(SIZE <= sent < SIZE * 1.2 for sent in found["sent"].values())
    good = launcher.call("data", "verify", "mine", *where)
    assert good.returncode == 0, good.stdout
    # One host that lost it gets it from the others, which get nothing.
    lost = next(iter(clean.hosts))
    pruned = launcher.call("data", "prune", *where[:2], "--hosts", lost, "--keep", "0")
    assert pruned.returncode == 0, pruned.stderr
    before = clean.sent()
    again = json.loads(launcher.call("data", "push", "mine", *where, "--json").stdout)
    assert clean.sent() - before < 0.2 * SIZE, "it left this machine again"
    assert again["sent"].pop(lost) >= SIZE
    assert set(again["sent"].values()) == {0}


FOUR = (
    labs.HostSpec("far1"),
    labs.HostSpec("far2"),
    labs.HostSpec("full", home_size="90M"),
    labs.HostSpec("walled"),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [FOUR], indirect=True)
@pytest.mark.slow
def test_who_fails_holds_nobody_up(own: labs.Lab, launcher: Launcher, tmp_path: Path) -> None:
    """A host that is lost, one whose disk fills up, and one behind a firewall: the others have all of it,
    and the next push continues."""
    inventory = tmp_path / "own.yaml"
    inventory.write_text(labs.inventory(own, "python3"))
    hosts, where = own.hosts, ["-i", str(inventory)]
    for name in ("far1", "far2", "full"):
        hosts["walled"].drop_packets(name)
        hosts[name].drop_packets("walled")
    for host in hosts.values():
        host.slow(30)
    source = make_set(tmp_path / "set")
    added = launcher.call("data", "add", "mine", str(source), "--json")
    version = json.loads(added.stdout)["version"]["version"]
    pushing = launcher.start_command("data", "push", "mine", *where, "--json")
    noted = f"{STORE}/incoming-{version}/blocks-{1 << 19}-2"
    try:
        for name in ("far2", "full"):
            labs.wait_until(lambda name=name: size_of(hosts[name], noted) >= 16 * 36, name, 90)
        hosts["far2"].unplug()
        hosts["full"].run("sh", "-c", "head -c 90000000 /dev/zero >/root/filler; true")
        out, err = pushing.communicate(timeout=200)
    finally:
        pushing.kill()
    found = json.loads(out)
    assert set(found["sent"]) == {"far1", "walled"}, (found, err)
    assert "No space left" in found["failed"]["full"], found
    assert set(found["failed"]) == {"full", "far2"}
    assert b"walled reaches no other host" in err
    assert not hosts["full"].exists(f"{STORE}/{version}")
    hosts["full"].run("rm", "/root/filler")
    hosts["far2"].plug()
    for host in hosts.values():
        host.slow(0)
    again = launcher.call("data", "push", "mine", *where, "--json")
    assert again.returncode == 0, again.stderr
    sent = json.loads(again.stdout)["sent"]
    assert sent["far1"] == sent["walled"] == 0
    assert all(0 < sent[name] < SIZE for name in ("full", "far2")), sent
    good = launcher.call("data", "verify", "mine", *where)
    assert good.returncode == 0, good.stdout


def size_of(host: labs.LabHost, path: str) -> int:
    """Return the size of a file on a host; 0 if it is missing."""
    return len(host.read(path)) if host.exists(path) else 0


def test_a_bucket_is_read_once(
    launcher: Launcher, clean: labs.Lab, store: Store, tmp_path: Path
) -> None:
    """Each host reads its share, and gets the rest from the others."""
    objects = {f"set/{n}": os.urandom(SIZE // 4) for n in range(4)}
    store.put("shared", objects | {"set/empty": b"", "set/small": b"small"})
    launcher.env |= store.environment
    where = ["-i", str(launcher.inventory)]
    assert launcher.call("data", "add", "bucket", "s3://shared/set").returncode == 0
    before = clean.sent()
    pushed = launcher.call("data", "push", "bucket", *where, "--json")
    assert pushed.returncode == 0, pushed.stderr
    left = clean.sent() - before
    assert left < 1.05 * SIZE + (2 << 20), "connections and the agent need some"
    good = launcher.call("data", "verify", "bucket", *where)
    assert good.returncode == 0, good.stdout
