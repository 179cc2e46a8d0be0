"""Runs in images, by real podman, docker and bwrap on hosts without a registry; and what is left of them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, of_runs
from support.hosts import need_lab
from support.images import (
    bound,
    command_for,
    containers_on,
    podman_hosts,
    shared,
    with_user,
    write_image,
)
from support.lab import wait_until
from support.terminal import Terminal

pytestmark = [
    pytest.mark.timeout(400),  # up to four runs, each with a pull that podman tries again
    pytest.mark.skipif(
        not all(map(shutil.which, ("podman", "crun", "newuidmap"))),
        reason="needs podman, crun and uidmap (sh tests/support/install-system-packages.sh frameworks)",
    ),
]

MOUNTS = [word for path in bound() for word in ("--mount", path)]
#: Says where it is, and waits; asked to stop, it saves what it has. Its child has left everything.
LOOP = """
import os, signal, subprocess, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
env = {"PATH": os.environ["PATH"]}
subprocess.Popen(["setsid", "sh", "-c", "sleep 3000 & exec sleep 3000"], env=env)
print("up in", open("/etc/inside").read(), flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    need_lab()
    with podman_hosts(tmp_path_factory.mktemp("lab"), shared()) as standing:
        yield standing


@pytest.fixture
def launcher(hosts: labs.Lab, tmp_path: Path) -> Iterator[Launcher]:
    """The command, and an image beside the script: ``tiny.tar``."""
    with command_for(hosts, tmp_path) as made:
        write_image(made.work / "tiny.tar", "tiny:1")
        yield made


def words(*more: str, image: str = "tiny.tar", hosts: str = "lab1") -> tuple[str, ...]:
    return ("--hosts", hosts, "--image", image, *MOUNTS, *more)


def begun(launcher: Launcher) -> Path:
    """Start LOOP in the background; return its log on lab1, once it says where it is."""
    launcher.script(LOOP, "loop.py")
    ran = launcher.run(*words("--framework", "env", "--detach", "python", "loop.py"))
    assert ran.code == 0, ran.err
    log = ran.folder / "logs/attempt-0/node-0.out"
    until_up(log)
    return log


def until_up(log: Path) -> None:
    wait_until(lambda: log.exists() and b"up in inside" in log.read_bytes(), "the loop runs")


def left(host: labs.LabHost) -> list[str]:
    """Return what runs on a host of a run or a container, and containers themselves."""
    found = [" ".join(process.argv) for process in host.processes()]
    known = ("sleep 3000", "podman run", "conmon", "loop.py")
    return [one for one in found if any(word in one for word in known)] + [
        line for line in containers_on(host).splitlines() if line
    ]


def pid_of(host: labs.LabHost, what: str) -> int:
    (found, *_) = [p.pid for p in host.processes() if what in " ".join(p.argv[:2])]
    return found


def test_torchrun_runs_in_an_image_that_hosts_got_from_here(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    launcher.script(
        "import os, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "one = torch.ones(1) * dist.get_rank()\n"
        "dist.all_reduce(one)\n"
        "name = os.environ['LAUNCHER_HOST']\n"
        "print('sum', one.item(), name, open('/etc/inside').read(), os.getuid())\n"
        "open(os.environ['LAUNCHER_OUTPUT_DIR'] + '/x%d' % dist.get_rank(), 'w').write(name)\n"
        "dist.destroy_process_group()\n"
    )
    more = ("--nproc-per-node", "2", "--setup", "echo setup $(cat /etc/inside)", "train.py")
    ran = launcher.run(*words(*more, hosts="lab[1-2]"), timeout=300)
    assert ran.code == 0, ran.err
    assert "brought to 2 hosts" in ran.err
    for rank in range(4):
        assert ran.log(f"rank-{rank}.out").startswith(b"sum 6.0 lab")
        assert b"inside" in ran.log(f"rank-{rank}.out")
        assert (ran.folder / f"outputs/x{rank}").exists()
    assert ran.out.count("setup inside") >= 1
    assert ran.err.count("nothing left running") == 1
    visited = launcher.call("exec", "-", "--", "sh", "-c", "cat /etc/inside; pwd")
    assert "inside" in visited.stdout, visited.stderr
    assert f"/runs/{ran.folder.name}/code" in visited.stdout
    assert not left(hosts.hosts["lab1"]) + left(hosts.hosts["lab2"])


def test_exit_codes_and_ssh_come_through(launcher: Launcher, hosts: labs.Lab) -> None:
    ran = launcher.run(*words("--framework", "env", "echo bad >&2; exit 3"))
    assert ran.code == 3
    assert ran.log("node-0.err") == b"bad\n"
    far = "for h in $HOSTS; do ssh $h 'echo there $(cat /etc/inside) $LAUNCHER_HOST'; done"
    ran = launcher.run(*words("--framework", "ssh", far, hosts="lab[1-2]"), timeout=120)
    assert ran.code == 0, ran.err
    for name in ("lab1", "lab2"):
        assert f"there inside {name}" in ran.out


def test_a_program_in_an_image_is_asked_before_it_is_killed(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    log = begun(launcher)
    stopped = launcher.call("stop", "-")
    assert "SIGKILL" not in stopped.stdout + stopped.stderr
    assert log.read_bytes().endswith(b"saved\n")
    assert not left(hosts.hosts["lab1"])


@pytest.mark.parametrize("victim", ["podman run", "conmon", "supervisor"])
def test_nothing_is_left_whoever_is_killed(
    launcher: Launcher, hosts: labs.Lab, victim: str
) -> None:
    host = hosts.hosts["lab1"]
    log = begun(launcher)
    pid = pid_of(host, "conmon" if victim == "conmon" else "podman run")
    if victim == "supervisor":
        stat = host.read(f"/proc/{pid}/stat").decode()
        pid = int(stat.rpartition(")")[2].split()[1])
    host.run("kill", "-9", str(pid))
    if victim == "conmon":  # the program itself goes on
        launcher.call("stop", "-")
        assert log.read_bytes().endswith(b"saved\n")
    wait_until(lambda: not left(host), f"nothing is left: {left(host)}")
    launcher.call("wait", "-")
    assert not left(host)


def visiting(host: labs.LabHost) -> list[str]:
    """Return the containers of no run on a host, and what is noted of them."""
    noted = host.run("ls", "/root/.launcher/host/visitors", check=False).stdout.decode().split()
    there = [one for one in containers_on(host).splitlines() if "launcher-visitor" in one]
    return there + [one for one in noted if not one.endswith((".fifo", ".new"))]


def test_a_first_start_leaves_no_container_whoever_is_killed(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    """The Python of this image never answers."""
    host = hosts.hosts["lab1"]
    write_image(launcher.work / "slow.tar", "slow:1", python="#!/bin/sh\nexec sleep 3000\n")
    show = words("--framework", "env", "true", image="slow.tar")
    for victim in ("launcher", "relay and conmon"):
        began = launcher.start(*show)
        wait_until(lambda: asleep(host, "3000"), "it hangs")
        assert len(visiting(host)) == 2
        if victim == "launcher":
            began.kill()
        else:
            pids = [p.pid for p in host.processes() if "relay" in p.argv]
            pids += [p.pid for p in host.processes() if p.argv[0].endswith("conmon")]
            host.run("kill", "-9", *map(str, pids), check=False)
        wait_until(lambda: not asleep(host, "3000"), "it has ended")
        began.kill()
        began.communicate()
        launcher.call("image", "load", "--hosts", "lab1", "./tiny.tar")  # the next contact
        assert not visiting(host), f"left after {victim}"
    assert not left(host)


def test_a_visitor_leaves_no_container(launcher: Launcher, hosts: labs.Lab) -> None:
    host = hosts.hosts["lab1"]
    run = begun(launcher).parents[2].name
    failed = launcher.call("exec", run, "--", "sh", "-c", "exit 3")
    assert failed.returncode == 3
    assert not visiting(host)

    terminal = Terminal(
        [sys.executable, "-m", "launcher", "shell", run],
        Path(launcher.work),
        {**launcher.environment(), "TERM": "xterm"},
    )
    with terminal:
        terminal.type("exec sleep 3001")
        wait_until(lambda: asleep(host, "3001"), "the shell sleeps")
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.end()
    wait_until(lambda: not asleep(host, "3001"), "what ran in the shell has ended")
    visitor = launcher.start_command("exec", run, "--", "sleep", "3002")
    wait_until(lambda: asleep(host, "3002"), "it sleeps")
    (client,) = [
        p.pid for p in host.processes() if {"run", "3002"} <= set(" ".join(p.argv).split())
    ]
    host.run("kill", "-9", str(client))
    visitor.communicate(timeout=60)
    wait_until(lambda: not asleep(host, "3002"), "it has ended with its client")
    launcher.run(*words("--framework", "env", "true"))  # the next contact
    assert not visiting(host)
    launcher.call("stop", run)
    assert not left(host)


def asleep(host: labs.LabHost, seconds: str) -> bool:
    """Return whether a sleep of so many seconds goes on."""
    return any(process.argv == ["sleep", seconds] for process in host.processes())


def test_what_is_in_the_way_is_named_before_anything_starts(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    write_image(launcher.work / "arm.tar", "arm:1", machine="arm64")
    ran = launcher.run(*words("--framework", "env", "true", image="arm.tar"))
    assert "the image is for aarch64, and this host is x86_64" in ran.err
    ran = launcher.run(
        *words("--framework", "env", "true", image="localhost/none:1", hosts="lab[1-2]")
    )
    assert ran.receipts[-1]["reason"] == "no-environment"
    assert "there is no image localhost/none:1; nor on lab2, and it cannot be pulled: " in ran.err
    ran = launcher.run(*words("--framework", "env", "--mount", "/nothing", "true"))
    assert "/nothing cannot be mounted" in ran.err
    for host in hosts.hosts.values():
        write_image(launcher.work / "x.tar", "same:1", word=host.name)
        host.write("/tmp/x.tar", (launcher.work / "x.tar").read_bytes())
        host.run("podman", "load", "-i", "/tmp/x.tar")
    ran = launcher.run(*words("--framework", "env", "true", image="same:1", hosts="lab[1-2]"))
    assert "hosts have different images called same:1: " in ran.err
    assert "started" not in ran.out


def test_an_image_that_one_host_lacks_comes_from_the_other(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    write_image(launcher.work / "one.tar", "one:1", word="of one")
    hosts.hosts["lab1"].write("/tmp/one.tar", (launcher.work / "one.tar").read_bytes())
    hosts.hosts["lab1"].run("podman", "load", "-i", "/tmp/one.tar")
    show = words("--framework", "env", "cat", "/etc/inside", image="one:1", hosts="lab[1-2]")
    ran = launcher.run(*show)
    assert ran.code == 0, ran.err
    assert ran.log("node-1.out") == b"of one\n"
    assert "brought to 1 host" in ran.err
    again = launcher.run(*show)
    assert "brought" not in again.err


def test_a_full_disk_while_an_image_is_loaded(launcher: Launcher, hosts: labs.Lab) -> None:
    """The other host keeps what it has, and the next run has all."""
    script = "#!/bin/sh\n" + "#" * (30 << 20) + '\nexec /usr/bin/python3 "$@"\n'
    write_image(launcher.work / "large.tar", "large:1", python=script)
    show = words("--framework", "env", "cat", "/etc/inside", image="large.tar", hosts="lab1,lab2")
    host = hosts.hosts["lab1"]
    size = ("mount", "-o", "remount,size=%s", "/var/lib/containers")
    try:
        host.run(*size[:2], size[2] % "16m", size[3])
        ran = launcher.run(*show)
    finally:
        host.run(*size[:2], size[2] % "50%", size[3])
    assert (ran.code, ran.receipt["reason"]) == (125, "disk-full"), ran.err
    assert "there is no room for the image: While applying layer: " in ran.err
    assert "podman system prune there" in ran.err
    assert "Traceback" not in ran.err
    assert not left(host)
    again = launcher.run(*show)
    assert again.code == 0, again.err
    assert "inside" in again.out


@pytest.mark.parametrize("victim", ["podman", "agent", "launcher", "cable"])
def test_whoever_is_killed_while_an_image_is_loaded(
    launcher: Launcher, hosts: labs.Lab, victim: str
) -> None:
    host, name = hosts.hosts["lab1"], f"killed-{victim}"
    script = "#!/bin/sh\n" + "#" * (100 << 20) + '\nexec /usr/bin/python3 "$@"\n'
    write_image(launcher.work / "large.tar", f"{name}:1", word=name, python=script)
    show = words("--framework", "env", "cat", "/etc/inside", image="large.tar")
    began = launcher.start(*show)
    wait_until(lambda: bool(loading(host)), "podman loads")
    if victim == "launcher":
        began.kill()
    elif victim == "cable":
        host.unplug()
    else:
        agents = [p.pid for p in host.processes() if "relay" in p.argv]
        host.run("kill", "-9", *map(str, loading(host) if victim == "podman" else agents))
    _, err = began.communicate(timeout=120)
    host.plug()
    assert b"Traceback" not in err
    if victim == "podman":
        assert b"large.tar: the runtime was killed by signal 9" in err
    wait_until(lambda: not loading(host), "nothing loads")
    again = launcher.run(*show)
    assert again.code == 0, again.err
    assert name in again.out
    assert not left(host)


def loading(host: labs.LabHost) -> list[int]:
    """Return the processes of podman that load an image."""
    return [p.pid for p in host.processes() if p.argv[0].endswith("podman") and "load" in p.argv]


def test_two_runs_bring_the_same_image_once(launcher: Launcher, hosts: labs.Lab) -> None:
    write_image(launcher.work / "two.tar", "two:1", word="two")
    both = [
        launcher.start(*words("--framework", "env", "cat", "/etc/inside", image="two.tar"))
        for _ in range(2)
    ]
    for one in both:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
        assert b"two" in out


@pytest.mark.skipif(shutil.which("dockerd") is None, reason="needs docker.io")
def test_docker_runs_the_same(launcher: Launcher, hosts: labs.Lab) -> None:
    host = hosts.hosts["lab1"]
    dockerd = ("dockerd", "--bridge=none", "--iptables=false", "--storage-driver=vfs")
    daemon = host.spawn(*dockerd, "--data-root=/var/lib/containers/docker", "--exec-root=/run/dock")
    answers = ("docker", "version")
    wait_until(lambda: host.run(*answers, check=False).returncode == 0, "docker answers")
    launcher.script(LOOP, "loop.py")
    started = words("--runtime", "docker", "--framework", "env", "--detach", "python", "loop.py")
    for victim in (None, "docker run"):
        before = set(launcher.home.glob("runs/*"))
        ran = launcher.run(*started)
        assert ran.code == 0, ran.err
        (folder,) = {*launcher.home.glob("runs/*")} - before
        until_up(folder / "logs/attempt-0/node-0.out")
        if victim is None:
            stopped = launcher.call("stop", "-")
            assert "SIGKILL" not in stopped.stdout + stopped.stderr
        else:
            host.run("kill", "-9", str(pid_of(host, "docker run")))
        wait_until(lambda: not of_runs(host), f"nothing is left after {victim}")
        wait_until(lambda: not host.run("docker", "ps", "-aq").stdout, "no container is left")
    host.run("kill", str(daemon))


def test_a_user_without_rights_owns_what_the_program_writes(
    launcher: Launcher, hosts: labs.Lab, tmp_path: Path
) -> None:
    host = hosts.hosts["lab1"]
    host.run("useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", "ann")
    with_user(host, "ann")
    text = launcher.inventory.read_text().replace("user: root", "user: ann")
    launcher.inventory.write_text(text)
    script = "id -un; echo x >$LAUNCHER_OUTPUT_DIR/file; stat -c %U $LAUNCHER_OUTPUT_DIR/file"
    his = ("--hosts", "lab1", "--image", "tiny.tar", "--mount", "/usr:ro", "--framework", "env")
    ran = launcher.run(*his, script)
    assert ran.code == 0, ran.err
    assert ran.log("node-0.out") == b"ann\nann\n"
    assert not containers_on(
        host, "setpriv", "--reuid", "ann", "--init-groups", "env", "HOME=/home/ann"
    )
    host.run("sed", "-i", "/^ann/d", "/etc/subuid", "/etc/subgid")
    host.run(
        "setpriv", "--reuid", "ann", "--init-groups", "pkill", "-u", "ann", "podman", check=False
    )
    ran = launcher.run(*his, "true")
    assert "podman has no user IDs for this user in its containers" in ran.err, ran.err
    assert not of_runs(host)
