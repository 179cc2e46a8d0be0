"""`own_hosts: true` on hosts whose own name leads to loopback, for root and for a plain user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, of_runs, wait_for
from support.hosts import need_lab

PYTHON = "/usr/bin/python3"  # one that every user of a host may execute
USERS = ("root", "bob")

#: Each rank tells the address that its own name leads to, as JAX, Gloo and MPI do, and calls the
#: next one there.
RING = """
import os, pathlib, socket, sys, time
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
own, out = socket.gethostname(), pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
server = socket.create_server((socket.gethostbyname(own), 29711))
print("own", server.getsockname()[0], socket.getfqdn(own), flush=True)
there = socket.gethostbyname("b" if own == "a" else "a")
deadline = time.time() + float(sys.argv[1])
while True:
    try:
        socket.create_connection((there, 29711), timeout=5).close()
        break
    except OSError:
        assert time.time() < deadline, there
        time.sleep(0.05)
server.accept()
print("there", there, "localhost", socket.gethostbyname("localhost"))
print("user", os.getuid(), pathlib.Path("/srv/group").read_text())
out.joinpath(own).write_text("made")
"""
WAITS = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("up", flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Two hosts whose names lead to 127.0.1.1, with root and bob, who is in another group as well."""
    need_lab()
    specs = [labs.HostSpec(name, namespaces=True, passwords=True) for name in "ab"]
    with labs.Lab(specs, tmp_path_factory.mktemp("own-hosts")) as standing:
        key = standing.identity_file.with_suffix(".pub").read_bytes()
        for host in standing.hosts.values():
            host.add_user("bob", "not needed")
            host.run("groupadd", "render-too")
            host.run("usermod", "-aG", "render-too", "bob")
            host.write("/srv/group", b"for the group")
            host.run("chgrp", "render-too", "/srv/group")
            host.run("chmod", "640", "/srv/group")
            for user in ("root", "bob"):
                host.let_in(user, key)
        yield standing


@pytest.fixture
def launcher(hosts: labs.Lab, tmp_path: Path) -> Iterator[Launcher]:
    """The command, with an inventory that has own_hosts."""
    (tmp_path / "work").mkdir()
    yield Launcher(tmp_path / "inventory.yaml", tmp_path / "work", tmp_path / "home")
    left = [process for host in hosts.hosts.values() for process in of_runs(host)]
    assert not left


def use(launcher: Launcher, hosts: labs.Lab, user: str = "root", own_hosts: str = "true") -> None:
    launcher.inventory.write_text(
        f"ssh_config: {hosts.ssh_config}\n"
        f"defaults: {{user: {user}, python: {PYTHON}, gpus: 0, own_hosts: {own_hosts}}}\n"
        "hosts: [a, b]\n"
    )


def ring(launcher: Launcher, seconds: str = "180") -> tuple[int, str, list[list[str]]]:
    name = launcher.script(RING)
    ran = launcher.run("--nodes", "2", "--framework", "torch", name, seconds)
    newest = max((launcher.home / "runs").iterdir())
    logs = [newest / "logs/attempt-0" / f"rank-{rank}.out" for rank in range(2)]
    return ran.code, ran.err, [log.read_text().splitlines() if log.exists() else [] for log in logs]


@pytest.mark.parametrize("user", USERS)
def test_own_names_lead_to_real_addresses(hosts: labs.Lab, launcher: Launcher, user: str) -> None:
    use(launcher, hosts, user)
    code, err, said = ring(launcher)
    assert code == 0, err
    addresses = [host.address for host in hosts.hosts.values()]
    uid = hosts.hosts["a"].run("id", "-u", user).stdout.decode().strip()
    for lines, name, own, there in zip(said, "ab", addresses, addresses[::-1], strict=True):
        assert lines == [
            f"own {own} {name}",
            f"there {there} localhost 127.0.0.1",
            f"user {uid} for the group",
        ]
    for host in hosts.hosts.values():
        assert "127.0.1.1" in host.run("getent", "hosts", host.name).stdout.decode()
    (run,) = (launcher.home / "runs").iterdir()
    assert {file.name for file in (run / "outputs").iterdir()} == {"a", "b"}


def test_without_it_they_do_not(hosts: labs.Lab, launcher: Launcher) -> None:
    use(launcher, hosts, "bob", "false")
    code, _, said = ring(launcher, "1")
    assert code != 0
    # The other rank may have been stopped before it said anything.
    first = {lines[0] for lines in said if lines}
    assert first and first <= {"own 127.0.1.1 a", "own 127.0.1.1 b"}


@pytest.mark.parametrize("user", USERS)
def test_the_supervisor_still_owns_everything(
    hosts: labs.Lab, launcher: Launcher, user: str
) -> None:
    """It sees that the ranks stall, gets their stacks, and stops them and what they started."""
    use(launcher, hosts, user)
    name = launcher.script(WAITS)
    words = ("--stall-timeout", "6s", "--on-stall", "stop")
    ran = launcher.run("--nodes", "2", "--framework", "torch", *words, name)
    assert ran.receipt["reason"] == "stalled", ran.err
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, 0]
    for stacks in ("a-rank-0", "b-rank-1"):
        (file,) = ran.folder.glob(f"outputs/stalls/*{stacks}.txt")
        assert 'train.py", line 5' in file.read_text()


@pytest.mark.parametrize("user", USERS)
def test_what_a_killed_supervisor_leaves_is_found(
    hosts: labs.Lab, launcher: Launcher, user: str
) -> None:
    use(launcher, hosts, user)
    process = launcher.start("--framework", "torch", "--nodes", "1", launcher.script(WAITS))
    labs.wait_until(lambda: any(launcher.home.glob("runs/*/logs/*/rank-0.out")), "a log", 40)
    (log,) = launcher.home.glob("runs/*/logs/*/rank-0.out")
    wait_for(log, b"up", process)
    host = hosts.hosts["a"]
    (rank,) = [
        one.pid for one in of_runs(host) if "RANK" in one.environ and "sleep" not in one.argv
    ]
    supervisor = host.read(f"/proc/{rank}/stat").decode().rpartition(")")[2].split()[1]
    host.run("kill", "-9", supervisor)
    _, err = process.communicate(timeout=60)
    receipt = json.loads((log.parents[2] / "receipt.json").read_text())
    assert (receipt["reason"], process.returncode) == ("supervisor-died", 125), err.decode()
    assert receipt["hosts"][0]["left"] == 0


def test_where_it_is_not_possible_nothing_starts(hosts: labs.Lab, launcher: Launcher) -> None:
    use(launcher, hosts, "bob")
    host = hosts.hosts["b"]
    host.run("cp", "-p", "/etc/nsswitch.conf", "/etc/nsswitch.before")
    host.run("sed", "-i", "s/^hosts:.*/hosts: elsewhere/", "/etc/nsswitch.conf")
    try:
        code, err, said = ring(launcher)
        assert code == 125
        assert said == [[], []]
        assert "b: own_hosts is not possible: names are looked up elsewhere" in err
        assert "launcher bootstrap --with own-name" in err
        shown = launcher.call("check", "-i", str(launcher.inventory), "--no-pairs").stdout
        assert "NET-OWN-HOSTS  b" in shown
        assert "NET-LOOPBACK-NAME" not in shown
    finally:
        host.run("mv", "/etc/nsswitch.before", "/etc/nsswitch.conf")


def test_check_names_it_where_it_would_work(hosts: labs.Lab, launcher: Launcher) -> None:
    use(launcher, hosts, "bob", "false")
    shown = launcher.call("check", "-i", str(launcher.inventory), "--no-pairs").stdout
    assert "NET-LOOPBACK-NAME" in shown
    assert "own_hosts: true" in " ".join(shown.split())


@pytest.mark.parametrize("user", USERS)
def test_what_is_kept_for_the_next_run_has_the_hosts_of_that(
    launcher: Launcher, hosts: labs.Lab, user: str
) -> None:
    """With --keep-warm, the next run is in the namespace that the last one has entered."""
    use(launcher, hosts, user)
    launcher.script(
        "import sys\nBEFORE = 'colorsys' in sys.modules\n" + RING + "print('before', BEFORE)\n"
    )
    words = ("--nodes", "2", "--framework", "torch", "--preload", "colorsys", "--keep-warm", "1m")
    for _ in range(2):
        ran = launcher.run(*words, "train.py", "20")
        assert ran.code == 0 and "before True" in ran.out, ran.out + ran.err
    shown = launcher.call("show", "-").stdout
    assert "left by an earlier run on a,b" in " ".join(shown.split()), shown
    assert "ended 2 Pythons" in launcher.call("warm", "-i", str(launcher.inventory), "--end").stdout
