"""Data sets whose source is a folder of a host: that host keeps the only copy that is not sealed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher

STORE = "/root/.launcher/host/data"
READER = """
import hashlib, os, pathlib, sys
where = pathlib.Path(sys.argv[1])
assert str(where) == os.environ["LAUNCHER_DATA_MINE"], os.environ["LAUNCHER_DATA_MINE"]
names = sorted(os.fsencode(p.relative_to(where)) for p in where.rglob("*") if p.is_file())
digest = hashlib.sha256()
for name in names:
    digest.update((where / os.fsdecode(name)).read_bytes())
print(len(names), digest.hexdigest())
"""
#: Three small files, one of them empty, and a link.
SOURCE = "/scratch/my corpus"
SMALL = f"""set -e; rm -rf '{SOURCE}'; mkdir -p '{SOURCE}/deep é'; cd '{SOURCE}'
printf one >a; : >empty; head -c 300000 /dev/urandom >"deep é/it's.bin"; ln -s 'deep é' link"""
LARGE = f"{SMALL}; head -c 20000000 /dev/urandom >large"


def made(host: labs.LabHost, script: str = SMALL) -> None:
    """Make the source on a host."""
    done = host.run("sh", "-c", script)
    assert done.returncode == 0, done.stderr


def versions(host: labs.LabHost) -> list[str]:
    """Return the versions that a host has a copy of."""
    names: str = host.run("sh", "-c", f"ls {STORE} 2>/dev/null; true").stdout.decode()
    return [name for name in names.split() if re.fullmatch("[0-9a-f]{32}", name)]


def test_hosts_get_what_one_of_them_has(launcher: Launcher, clean: labs.Lab) -> None:
    """The host of the source uses it where it is, at the same path as the others; nothing of it goes
    through this machine, and a change is a version."""
    first, second = clean.hosts["lab1"], clean.hosts["lab2"]
    where = ["-i", str(launcher.inventory)]
    assert launcher.call("data", "prune", *where, "--keep", "0").returncode == 0
    made(first, LARGE)
    words = ["--hosts", "lab[1-2]", "--framework", "torch", "--nproc-per-node", "1"]
    words += ["--data", f"mine=lab1:{SOURCE}:{SOURCE}"]
    before = clean.sent()
    ran = launcher.run(*words, launcher.script(READER), "{{data.mine}}")
    assert ran.code == 0, ran.err
    assert ran.log("rank-0.out") == ran.log("rank-1.out")
    assert ran.log("rank-0.out").startswith(b"4 ")
    assert clean.sent() - before < 2_000_000, "it went through this machine"
    assert versions(first) == [], "its host made a copy"
    (version,) = versions(second)
    assert second.run("readlink", SOURCE).stdout.decode().strip() == f"{STORE}/{version}/files"

    said, before_change = ran.log("rank-0.out"), ran.folder
    first.write(f"{SOURCE}/a", b"two")
    again = launcher.run(*words, launcher.script(READER), "{{data.mine}}")
    assert again.code == 0, again.err
    (newest,) = {*(launcher.home / "runs").iterdir()} - {before_change}
    logs = [(newest / f"logs/attempt-0/rank-{rank}.out").read_bytes() for rank in (0, 1)]
    assert logs[0] == logs[1] != said
    assert len(versions(second)) == 2
    shown = launcher.call("show", "-")
    assert f"lab1:{SOURCE}" in shown.stdout, shown.stdout
    assert launcher.call("data", "prune", *where, "--keep", "0").returncode == 0
    assert versions(second) == []
    assert first.read(f"{SOURCE}/a") == b"two", "prune has deleted a source"


def test_a_host_beside_the_run_gives_it(launcher: Launcher, clean: labs.Lab) -> None:
    """The host of the source need not take part; a set by name knows it, and push skips its host."""
    source = clean.hosts["lab3"]
    made(source, SMALL.replace(SOURCE, "/root/my corpus"))
    where = ["-i", str(launcher.inventory)]
    added = launcher.call("data", "add", "mine", "lab3:~/my corpus", *where, "--json")
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["version"]["files"] == 4
    ran = launcher.run(
        *("--hosts", "lab[1-2]", "--framework", "torch", "--nproc-per-node", "1"),
        *("--data", "mine", launcher.script(READER), "{{data.mine}}"),
    )
    assert ran.code == 0, ran.err
    assert ran.log("rank-0.out") == ran.log("rank-1.out")
    pushed = launcher.call("data", "push", "mine", *where, "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)["sent"] == {"lab1": 0, "lab2": 0, "lab3": 0}
    shown = launcher.call("data", "show", "mine", *where)
    assert "the source" in shown.stdout, shown.stdout


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"rm -rf '{SOURCE}'", f"lab1:{SOURCE} does not exist"),
        (f"rm -rf '{SOURCE}'; mkdir -p /scratch; : >'{SOURCE}'", f"lab1:{SOURCE} is not a folder"),
        (f"{SMALL}; mkfifo 'deep é/pipe'", f"lab1:{SOURCE}/deep é/pipe is a pipe, a socket or"),
        (
            f"{SMALL}; ln -s /etc/passwd out",
            "out is a link to /etc/passwd: a data set has relative",
        ),
    ],
)
def test_what_no_set_can_be(launcher: Launcher, clean: labs.Lab, script: str, words: str) -> None:
    """A source that cannot be one is named with its host, before anything starts."""
    made(clean.hosts["lab1"], script)
    where = ["-i", str(launcher.inventory)]
    added = launcher.call("data", "add", "mine", f"lab1:{SOURCE}", *where)
    assert added.returncode == 2, added.stderr
    assert words in added.stderr


def test_a_host_that_is_not_known(launcher: Launcher, clean: labs.Lab) -> None:
    """A source on a host that the inventory lacks is refused before anything is copied."""
    ran = launcher.run("--hosts", "lab1", "--data", "mine=lab9:/x", launcher.script("print(1)"))
    assert ran.code == 2, ran.err
    assert "no host of the inventory is called lab9" in ran.err
    assert 'did you mean "lab' in ran.err


WALLED = (labs.HostSpec("source"), labs.HostSpec("walled"), labs.HostSpec("open"))


@pytest.mark.slow
@pytest.mark.parametrize("own", [WALLED], indirect=True)
def test_a_host_that_does_not_reach_the_source(
    own: labs.Lab, launcher: Launcher, tmp_path: Path
) -> None:
    """A host that reaches another one gets it from there; one that reaches nobody is named."""
    inventory = tmp_path / "own.yaml"
    inventory.write_text(labs.inventory(own, "python3"))
    made(own.hosts["source"], LARGE)
    own.hosts["source"].drop_packets("walled")
    own.hosts["walled"].drop_packets("source")
    where = ["-i", str(inventory)]
    assert launcher.call("data", "add", "mine", f"source:{SOURCE}", *where).returncode == 0
    pushed = launcher.call("data", "push", "mine", *where, "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert set(json.loads(pushed.stdout)["sent"]) == {"source", "walled", "open"}
    assert launcher.call("data", "prune", *where, "--keep", "0").returncode == 0
    alone = launcher.call("data", "push", "mine", *where, "--hosts", "walled")
    assert alone.returncode == 1, alone.stderr
    assert "it gets nothing of mine from source" in alone.stderr
    assert "at ports 20000 to 32000" in alone.stderr


@pytest.mark.slow
def test_a_source_that_changes_while_it_is_given(launcher: Launcher, clean: labs.Lab) -> None:
    """What was changed in the middle of a copy is no version anywhere; the run has the new one."""
    source, other = clean.hosts["lab1"], clean.hosts["lab2"]
    made(source, LARGE)
    source.slow(10)
    words = ["--hosts", "lab2", "--framework", "torch", "--nproc-per-node", "1"]
    words += ["--data", f"mine=lab1:{SOURCE}"]
    where = ["-i", str(launcher.inventory)]
    assert launcher.call("data", "prune", *where, "--keep", "0").returncode == 0
    running = launcher.start(*words, launcher.script(READER), "{{data.mine}}")
    try:
        arriving = f"cat {STORE}/incoming-*/blocks-* 2>/dev/null | wc -c"
        labs.wait_until(
            lambda: int(other.run("sh", "-c", arriving).stdout) > 0, "no block has come"
        )
        # Blocks come in any order, and some may have been read by now.
        source.run("truncate", "-s", "1000000", f"{SOURCE}/large")
        source.slow(0)
        _, err = running.communicate(timeout=120)
    finally:
        running.kill()
        source.slow(0)
    assert running.returncode == 0, err
    (version,) = versions(other)
    large = f"{STORE}/{version}/files/large"
    assert other.run("stat", "-c", "%s", large).stdout.strip() == b"1000000"


def test_a_folder_that_all_hosts_have(launcher: Launcher, clean: labs.Lab) -> None:
    """As on a network file system: nothing is read or copied, and runs find it where they would find
    another set. A host without it is named, and so with --no-check."""
    hosts = [clean.hosts[name] for name in ("lab1", "lab2")]
    assert (
        launcher.call("data", "prune", "-i", str(launcher.inventory), "--keep", "0").returncode == 0
    )
    for host in hosts:
        host.run("sh", "-c", "mkdir -p '/tmp/nfs/my sets'; uname -n >'/tmp/nfs/my sets/x'")
    words = [
        "--hosts",
        "lab[1-2]",
        "--framework",
        "env",
        "--data",
        "d=file:///tmp/nfs/my%20sets:data/d",
    ]
    read = 'cat data/d/x "$LAUNCHER_DATA_D/x"; readlink -f data/d'
    ran = launcher.run(*words, read)
    assert ran.code == 0, ran.err
    for number, host in enumerate(hosts):
        name = f"{host.name}\n".encode()
        assert ran.log(f"node-{number}.out") == 2 * name + b"/tmp/nfs/my sets\n"
        assert versions(host) == []
    assert (
        "file:///tmp/nfs/my%20sets, as hosts have it"
        in launcher.call("show", ran.folder.name).stdout
    )

    hosts[1].run("rm", "-r", "/tmp/nfs")
    refused = launcher.run(*words, read)
    assert "data: /tmp/nfs/my sets is on lab1 only, and not on lab2" in refused.err
    assert "--hosts lab1, or mount it on the others" in refused.err
    unchecked = launcher.run(*words, "--no-check", read)
    assert "lab2: /tmp/nfs/my sets is no folder there" in unchecked.err
    assert (refused.code, unchecked.code) == (125, 125)
    named = launcher.call("data", "add", "d", "file:///tmp/nfs/x")
    assert (named.returncode, "launcher run --data d=file:///tmp/nfs/x" in named.stderr) == (
        2,
        True,
    )
