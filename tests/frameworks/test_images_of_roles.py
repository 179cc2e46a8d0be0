"""Roles in images of their own, by real podman on hosts without a registry: side by side on one host, and
beside roles that are in none."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.command import Launcher, Ran, of_runs
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
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not all(map(shutil.which, ("podman", "crun"))),
        reason="needs podman and crun (sh tests/support/install-system-packages.sh frameworks)",
    ),
]

A, B = ({"image": f"{name}.tar", "mounts": bound()} for name in ("a", "b"))
#: Says where it is; asked to stop, it saves what it has, which takes a process. Its child has left it.
LOOP = """\
import os, pathlib, signal, subprocess, sys, time
def stop(*_):
    time.sleep(0.3)
    subprocess.run(["sh", "-c", "echo saved"], check=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
env = {"PATH": os.environ["PATH"]}
subprocess.Popen(["setsid", "sh", "-c", "sleep 3000 & exec sleep 3000"], env=env)
place = pathlib.Path("/etc/inside")
print("up in", place.read_text().strip() if place.exists() else "none", flush=True)
while True:
    time.sleep(0.05)
"""
WHERE = "cat /etc/inside 2>/dev/null || echo none"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    need_lab()
    with podman_hosts(tmp_path_factory.mktemp("lab"), shared()) as standing:
        yield standing


@pytest.fixture
def launcher(hosts: labs.Lab, tmp_path: Path) -> Iterator[Launcher]:
    """The command, and two images beside the script: ``a.tar`` and ``b.tar``."""
    with command_for(hosts, tmp_path) as made:
        for name in ("a", "b"):
            write_image(made.work / f"{name}.tar", f"roles-{name}:1", word=f"image {name}")
        yield made


def run(launcher: Launcher, *flags: str, roles: Mapping[str, Any], **job: Any) -> Ran:
    """Run a job with these roles; JSON is YAML."""
    text = json.dumps({"framework": "env", "run": WHERE, "roles": roles, **job})
    (launcher.work / "job.yaml").write_text(text)
    return launcher.run(*flags, "job.yaml", timeout=200)


def left(host: labs.LabHost) -> list[str]:
    """Return what runs on a host of a run or a container, and containers themselves."""
    found = [" ".join(process.argv) for process in host.processes()]
    known = ("sleep 3000", "podman run", "conmon", "loop.py")
    return [one for one in found if any(word in one for word in known)] + [
        line for line in containers_on(host).splitlines() if line
    ]


def images_on(host: labs.LabHost) -> str:
    return host.run("podman", "images", "--format", "{{.Names}}").stdout.decode()


def begun(launcher: Launcher, *names: str) -> Path:
    """Start LOOP in the background as some roles on lab1; return the folder of their logs, once each says
    where it is."""
    launcher.script(LOOP, "loop.py")
    places = {"a": A, "b": B, "plain": "none"}
    roles = {
        name: {"run": "python loop.py", **({"environment": places[name]} if name != "own" else {})}
        for name in names
    }
    before = set(launcher.home.glob("runs/*"))
    ran = run(launcher, "--detach", roles=roles, hosts="lab1")
    assert ran.code == 0, ran.err
    (folder,) = {*launcher.home.glob("runs/*")} - before
    logs = folder / "logs/attempt-0"
    for name in names:
        log = logs / f"{name}-0.out"
        wait_until(lambda log=log: log.exists() and b"up in" in log.read_bytes(), f"{name} is up")
    return logs


def test_each_role_has_its_image_where_it_runs(launcher: Launcher, hosts: labs.Lab) -> None:
    """Nobody is brought what it does not run; the setup of a role is in its image."""
    places = "echo $(cat /etc/inside 2>/dev/null || echo none) $(command -v python)"
    roles = {
        "head": {"environment": A, "host": "lab1", "setup": f"echo setup of head: $({WHERE})"},
        "worker": {"environment": B, "host": "lab2", "setup": f"echo setup of worker: $({WHERE})"},
        "plain": {"host": "lab2", "setup": f"echo setup of plain: $({WHERE})"},
    }
    ran = run(launcher, roles=roles, run=places, setup=f"echo setup of all: $({WHERE})")
    assert ran.code == 0, ran.err
    assert ran.log("head-0.out").startswith(b"image a /root/.launcher/host/runs/")
    assert ran.log("worker-0.out").startswith(b"image b /root/.launcher/host/runs/")
    assert ran.log("plain-0.out").startswith(b"none /")
    for who, where in (
        ("all", "none"),
        ("plain", "none"),
        ("head", "image a"),
        ("worker", "image b"),
    ):
        assert f"setup of {who}: {where}" in ran.out
    assert "roles-a:1" in images_on(hosts.hosts["lab1"])
    assert "roles-b:1" not in images_on(hosts.hosts["lab1"])
    assert "roles-a:1" not in images_on(hosts.hosts["lab2"])
    assert "a.tar" in ran.err
    assert "of head by podman, brought to 1 host" in ran.err
    assert "of worker by podman, brought to 1 host" in ran.err
    record = json.loads((ran.folder / "run.json").read_text())
    ids = {
        node["host"]: [one["id"] for one in node["containers"].values()] for node in record["nodes"]
    }
    assert {len(its) for its in ids.values()} == {1}
    assert ids["lab1"] != ids["lab2"]
    shown = launcher.call("show", "-").stdout
    assert f"a.tar, {ids['lab1'][0][:12]} on lab1" in shown
    assert f"b.tar, {ids['lab2'][0][:12]} on lab2" in shown
    for node, where in ((0, "image a"), (1, "image b")):
        visited = launcher.call("exec", "-", "--node", str(node), "--", "cat", "/etc/inside")
        assert where in visited.stdout, visited.stderr
    assert not left(hosts.hosts["lab1"]) + left(hosts.hosts["lab2"])

    # the names may mean something else by then: what is run again is what was run
    for name in ("a", "b"):
        write_image(launcher.work / f"{name}.tar", f"roles-{name}:1", word=f"newer {name}")
    again = launcher.call("rerun", "-")
    assert again.returncode == 0, again.stderr
    assert "image a" in again.stdout
    assert "newer" not in again.stdout


def test_images_and_none_are_side_by_side_on_one_host(launcher: Launcher, hosts: labs.Lab) -> None:
    host = hosts.hosts["lab1"]
    logs = begun(launcher, "a", "b", "plain", "own")
    up = {name: (logs / f"{name}-0.out").read_bytes() for name in ("a", "b", "plain", "own")}
    assert [text.strip() for text in up.values()] == [
        b"up in image a",
        b"up in image b",
        b"up in none",
        b"up in none",
    ]
    for role, where in (("a", "image a"), ("b", "image b"), ("plain", "none")):
        visited = launcher.call("exec", "-", "--role", role, "--", "sh", "-c", WHERE)
        assert visited.stdout.strip().endswith(where), visited.stderr
    stopped = launcher.call("stop", "-")
    assert "SIGKILL" not in stopped.stdout + stopped.stderr
    for name in up:
        assert (logs / f"{name}-0.out").read_bytes().endswith(b"saved\n"), name
    assert not left(host)


@pytest.mark.parametrize("victim", ["podman run", "conmon", "supervisor", "loop.py"])
def test_nothing_is_left_of_any_role_whoever_is_killed(
    launcher: Launcher, hosts: labs.Lab, victim: str
) -> None:
    host = hosts.hosts["lab1"]
    logs = begun(launcher, "a", "b", "plain")
    found = {p.pid: p.argv for p in host.processes()}
    if victim == "loop.py":  # of the role that is in no image
        inside = [pid for pid, argv in found.items() if argv[1:] == ["loop.py"]]
        pids = [pid for pid in inside if _depth(host, pid) == 1]
        assert len(pids) == 1
    else:
        kind = "conmon" if victim == "conmon" else "podman run"
        pids = [pid for pid, argv in found.items() if kind in " ".join(argv[:2])][:1]
    if victim == "supervisor":
        stat = host.read(f"/proc/{pids[0]}/stat").decode()
        pids = [int(stat.rpartition(")")[2].split()[1])]
    host.run("kill", "-9", str(pids[0]))
    if victim == "conmon":  # the program itself goes on
        launcher.call("stop", "-")
        for name in ("a", "b", "plain"):
            assert (logs / f"{name}-0.out").read_bytes().endswith(b"saved\n"), name
    wait_until(lambda: not of_runs(host), "no process is left")
    launcher.call("wait", "-")
    launcher.call("image", "ls", "--hosts", "lab1")  # the next contact
    wait_until(lambda: not left(host), f"nothing is left: {left(host)}")


def _depth(host: labs.LabHost, pid: int) -> int:
    """Return how many namespaces of processes a process is in, from the host's on."""
    depths = [
        len(line.split()) - 1
        for number in (1, pid)
        for line in host.read(f"/proc/{number}/status").decode().splitlines()
        if line.startswith("NSpid:")
    ]
    return depths[1] - depths[0] + 1


def test_exit_codes_of_roles_are_their_own(launcher: Launcher, hosts: labs.Lab) -> None:
    roles = {
        "a": {"environment": A, "run": "exit 3", "on_exit": {"complete": 3}},
        "b": {"environment": B, "run": "exit 4", "on_exit": {"complete": 4}},
        "plain": {"run": "exit 0"},
    }
    ran = run(launcher, roles=roles, hosts="lab1")
    assert ran.code == 0, ran.err
    (host,) = ran.receipt["hosts"]
    assert host["exit_codes"] == {"a-0": 3, "b-0": 4, "plain-0": 0}
    roles["b"]["on_exit"] = {}
    ran = run(launcher, roles=roles, hosts="lab1")
    assert ran.code == 4
    assert not left(hosts.hosts["lab1"])


def test_a_container_that_is_only_being_made_is_asked_to_stop(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    launcher.script(LOOP, "loop.py")
    inside = {"environment": A, "run": "python loop.py"}
    ran = run(launcher, roles={"a": inside, "plain": {"run": "exit 5"}}, hosts="lab1", grace=20)
    assert ran.code == 5, ran.err
    (there,) = ran.receipt["hosts"]
    assert there["exit_codes"]["a-0"] != -9
    assert there["left"] == 0
    assert not left(hosts.hosts["lab1"])


def test_a_role_may_leave_the_image_of_its_job(launcher: Launcher, hosts: labs.Lab) -> None:
    roles = {"in": {}, "out": {"environment": "none"}, "other": {"environment": B}}
    ran = run(launcher, roles=roles, hosts="lab1", environment=A)
    assert ran.code == 0, ran.err
    assert ran.log("in-0.out") == b"image a\n"
    assert ran.log("out-0.out") == b"none\n"
    assert ran.log("other-0.out") == b"image b\n"


def test_a_role_whose_image_is_missing_is_named(launcher: Launcher, hosts: labs.Lab) -> None:
    roles: dict[str, Any] = {
        "head": {"environment": A, "host": "lab1"},
        "worker": {"environment": {"image": "localhost/none:1"}, "host": "lab2"},
    }
    ran = run(launcher, roles=roles)
    assert ran.receipt["reason"] == "no-environment"
    assert "lab2: role worker: there is no image localhost/none:1" in ran.err
    assert "started" not in ran.out
    checked = launcher.call("check", "--job", "job.yaml", "--no-pairs")
    said = checked.stdout + checked.stderr
    assert "role head: podman has" in said
    assert "role worker: localhost/none:1 is not there" in said
    # no runtime for one role, where the other needs none
    hosts.hosts["lab2"].run("chmod", "a-x", "/usr/bin/podman")
    try:
        roles["worker"]["environment"] = {**B, "runtime": "podman"}
        roles["head"]["environment"] = "none"
        ran = run(launcher, roles=roles)
        assert "lab2: role worker: " in ran.err
        assert "there is no container runtime" in ran.err, ran.err
        checked = launcher.call("check", "--job", "job.yaml", "--no-pairs")
        assert checked.returncode != 0
        assert "role worker: " in checked.stdout + checked.stderr
    finally:
        hosts.hosts["lab2"].run("chmod", "a+x", "/usr/bin/podman")


#: Fails once as the worker, when all have said what they are and where.
AGAIN = """\
import os, pathlib, sys, time
role, attempt = os.environ["LAUNCHER_ROLE"], os.environ["LAUNCHER_ATTEMPT"]
place = pathlib.Path("/etc/inside")
where = place.read_text().strip() if place.exists() else "none"
print("attempt", attempt, role, where, os.popen("command -v python").read().strip(), flush=True)
outputs = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
(outputs / ("here-" + role)).touch()
while attempt == "0":
    if role == "worker" and len([*outputs.glob("here-*")]) == 4:
        sys.exit(5)
    time.sleep(0.05)
"""


def test_a_restart_is_in_the_same_images(launcher: Launcher, hosts: labs.Lab) -> None:
    """Under torch, whose processes launcher starts by their Python."""
    launcher.script(AGAIN, "again.py")
    roles = {
        "head": {"environment": A},
        "worker": {"environment": B},
        "plain": {},
        "inside": {"environment": {**A, "runtime": "podman"}},
    }
    job = {"framework": "torch", "run": "again.py", "max_restarts": 1, "hosts": "lab1"}
    ran = run(launcher, roles=roles, **job)
    assert ran.code == 0, ran.err
    for role, where in (("head", "image a"), ("worker", "image b"), ("inside", "image a")):
        for attempt in (0, 1):
            said = ran.log(f"{role}-0.out", attempt)
            assert said.startswith(f"attempt {attempt} {role} {where} /root/.launcher/".encode())
            assert b"/bin/image-" in said
    assert ran.log("plain-0.out", 1).startswith(b"attempt 1 plain none ")
    assert not left(hosts.hosts["lab1"])


def test_what_ignores_to_be_asked_is_killed_in_each_image(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    host = hosts.hosts["lab1"]
    deaf = "trap '' TERM; echo up in $(cat /etc/inside || echo none); while :; do sleep 0.1; done"
    roles = {"a": {"environment": A}, "b": {"environment": B}, "plain": {}}
    ran = run(launcher, "--detach", roles=roles, run=deaf, grace=2, hosts="lab1")
    assert ran.code == 0, ran.err
    logs = ran.folder / "logs/attempt-0"
    for role in roles:
        log = logs / f"{role}-0.out"
        wait_until(lambda log=log: log.exists() and b"up in" in log.read_bytes(), f"{role} is up")
    launcher.call("stop", "-")
    wait_until(lambda: not of_runs(host), "no process is left")
    launcher.call("wait", "-")
    (there,) = ran.receipt["hosts"]
    assert there["left"] == 0
    assert set(there["exit_codes"].values()) <= {-9, 137}
    assert not left(host)


@pytest.mark.skipif(shutil.which("dockerd") is None, reason="needs docker.io")
def test_runtimes_are_side_by_side(launcher: Launcher, hosts: labs.Lab) -> None:
    host = hosts.hosts["lab1"]
    dockerd = ("dockerd", "--bridge=none", "--iptables=false", "--storage-driver=vfs")
    daemon = host.spawn(*dockerd, "--data-root=/var/lib/containers/docker", "--exec-root=/run/dock")
    answers = ("docker", "version")
    wait_until(lambda: host.run(*answers, check=False).returncode == 0, "docker answers")
    try:
        launcher.script(LOOP, "loop.py")
        of_docker = {"environment": {**B, "runtime": "docker"}}
        roles = {"a": {"environment": A}, "b": of_docker, "plain": {}}
        ran = run(launcher, "--detach", roles=roles, run="python loop.py", hosts="lab1")
        assert ran.code == 0, ran.err
        logs = [ran.folder / f"logs/attempt-0/{role}-0.out" for role in roles]
        for log in logs:
            wait_until(lambda log=log: log.exists() and b"up in" in log.read_bytes(), f"{log}")
        stopped = launcher.call("stop", "-")
        assert "SIGKILL" not in stopped.stdout + stopped.stderr
        for log in logs:
            assert log.read_bytes().endswith(b"saved\n"), log
        wait_until(lambda: not of_runs(host), "no process is left")
        wait_until(lambda: not host.run("docker", "ps", "-aq").stdout, "no container is left")
    finally:
        host.run("kill", str(daemon))


def test_a_stall_shows_where_each_role_is(launcher: Launcher, hosts: labs.Lab) -> None:
    launcher.script(
        "import time\ndef waits_here():\n    time.sleep(600)\nwaits_here()\n", "wait.py"
    )
    roles = {"a": {"environment": A}, "b": {"environment": B}, "plain": {}}
    words = ("--stall-timeout", "2s", "--on-stall", "stop")
    ran = run(launcher, *words, roles=roles, run="python wait.py", grace=1, hosts="lab1")
    assert ran.receipt["reason"] == "stalled", ran.err
    stacks = list((ran.folder / "outputs" / "stalls").glob("*-lab1-*.txt"))
    assert {one.name.split("-lab1-")[1] for one in stacks} == {"a-0.txt", "b-0.txt", "plain-0.txt"}
    for one in stacks:
        assert "waits_here" in one.read_text(), one.read_text()
    assert not left(hosts.hosts["lab1"])


def test_a_shell_is_in_the_image_of_a_role(launcher: Launcher, hosts: labs.Lab) -> None:
    host = hosts.hosts["lab1"]
    run_name = begun(launcher, "a", "b", "plain").parents[1].name
    for role, where in (("b", "image b"), ("plain", "none")):
        terminal = Terminal(
            [sys.executable, "-m", "launcher", "shell", run_name, "--role", role],
            Path(launcher.work),
            {**launcher.environment(), "TERM": "xterm"},
        )
        with terminal:
            terminal.type(f"echo in $({WHERE}), so")
            terminal.expect(f"in {where}, so")
            terminal.type("exit 4")
            assert terminal.end() == 4
    launcher.call("stop", run_name)
    assert not left(host)


@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="needs uidmap")
def test_a_user_without_rights_has_roles_in_images_and_in_none(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    host = hosts.hosts["lab2"]
    host.run("useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", "bea")
    with_user(host, "bea")
    text = launcher.inventory.read_text().replace("user: root", "user: bea")
    launcher.inventory.write_text(text)
    saves = (
        "trap \"sh -c 'sleep 0.3; echo saved'; exit 7\" TERM; echo $(id -un) in "
        f"$({WHERE}); while :; do sleep 0.05; done"
    )
    image = {"image": "a.tar", "mounts": ["/usr:ro"]}
    roles = {"a": {"environment": image}, "plain": {}}
    ran = run(launcher, "--detach", roles=roles, run=saves, hosts="lab2")
    assert ran.code == 0, ran.err
    logs = {role: ran.folder / f"logs/attempt-0/{role}-0.out" for role in roles}
    for role, where in (("a", "image a"), ("plain", "none")):
        log, said = logs[role], f"bea in {where}\n".encode()
        wait_until(lambda log=log, said=said: log.exists() and said in log.read_bytes(), role)
    stopped = launcher.call("stop", "-")
    assert "SIGKILL" not in stopped.stdout + stopped.stderr
    for log in logs.values():
        assert log.read_bytes().endswith(b"saved\n")
    wait_until(lambda: not of_runs(host), "no process is left")
    assert not containers_on(
        host, "setpriv", "--reuid", "bea", "--init-groups", "env", "HOME=/home/bea"
    )
