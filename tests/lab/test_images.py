"""A run in a root folder, by a real bwrap. Those of podman and docker are in tests/frameworks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, end_followers, of_runs
from support.images import write_folder
from support.lab import wait_until
from support.waiting import LONG_SETUP, TAKE

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None,
    reason="needs bubblewrap (sh tests/support/install-system-packages.sh test)",
)
WORDS = ("--hosts", "lab1", "--image", "/srv/root", "--mount", "/usr:ro", "--framework", "env")
LOOP = """\
trap 'echo saved; exit 7' TERM
setsid sh -c 'sleep 3000 & exec sleep 3000' &
echo up in $(cat /etc/inside)
while :; do sleep 0.05; done
"""

#: The same, which takes a process to save what it has.
SAVES = """\
trap "sh -c 'sleep 0.3; echo saved'; exit 7" TERM
setsid sh -c 'sleep 3000 & exec sleep 3000' &
echo up in $(cat /etc/inside 2>&1)
while :; do sleep 0.05; done
"""


@pytest.fixture
def host(own: labs.Lab) -> labs.LabHost:
    """A host with a root folder."""
    write_folder(own.hosts["lab1"], "/srv/root")
    return own.hosts["lab1"]


@pytest.fixture
def launcher(own: labs.Lab, tmp_path: Path) -> Launcher:
    (tmp_path / "inventory.yaml").write_text(labs.inventory(own, "/usr/bin/python3"))
    work = tmp_path / "work"
    work.mkdir()
    return Launcher(tmp_path / "inventory.yaml", work, tmp_path / "home")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "own", [(labs.HostSpec("lab1", namespaces=True),)], indirect=True, ids=["one host"]
)
def test_a_program_in_a_folder_is_the_supervisors(launcher: Launcher, host: labs.LabHost) -> None:
    setup = ("--setup", "echo setup in $(cat /etc/inside)")
    show = 'cat /etc/inside; command -v python; echo x >"$LAUNCHER_OUTPUT_DIR/file"; exit 3'
    ran = launcher.run(*WORDS, *setup, show)
    assert ran.code == 3, ran.err
    assert ran.log("node-0.out").startswith(b"inside\n/root/.launcher/host/runs/")
    assert (ran.folder / "outputs/file").read_text() == "x\n"
    assert "setup in inside" in ran.out
    assert "image /srv/root by bwrap" in ran.err
    visited = launcher.call("exec", "-", "--", "cat", "/etc/inside")
    assert visited.stdout.endswith("inside\n"), visited.stderr
    for victim in (None, "supervisor"):
        began = launcher.run(*WORDS, "--detach", LOOP)
        assert began.code == 0, began.err
        runs = sorted((launcher.home / "runs").iterdir(), key=lambda run: run.stat().st_ctime)
        log = f"/root/.launcher/host/runs/{runs[-1].name}/logs/attempt-0/node-0.out"
        wait_until(
            lambda log=log: b"up in inside" in host.run("cat", log, check=False).stdout, "up"
        )
        if victim is None:
            launcher.call("stop", "-")
            assert host.read(log).endswith(b"saved\n")
        else:
            (bwrap, *_) = [p.pid for p in host.processes() if p.argv[0].endswith("/bwrap")]
            stat = host.read(f"/proc/{bwrap}/stat").decode()
            host.run("kill", "-9", stat.rpartition(")")[2].split()[1])
        wait_until(lambda: not of_runs(host), f"nothing is left after {victim}")
        assert not [p for p in host.processes() if "3000" in p.argv]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "own", [(labs.HostSpec("lab1", namespaces=True),)], indirect=True, ids=["one host"]
)
def test_a_role_in_a_folder_is_beside_one_that_is_in_none(
    launcher: Launcher, host: labs.LabHost
) -> None:
    image = {"image": "/srv/root", "mounts": ["/usr:ro"]}
    roles = {
        "inside": {"environment": image, "setup": "echo setup in $(cat /etc/inside)"},
        "plain": {"setup": "echo setup in none"},
    }
    job = {"framework": "env", "run": SAVES, "roles": roles, "hosts": "lab1"}
    (launcher.work / "job.yaml").write_text(json.dumps(job))
    ran = launcher.run("--detach", "job.yaml")
    assert ran.code == 0, ran.err
    logs = {role: ran.folder / f"logs/attempt-0/{role}-0.out" for role in roles}
    for role, log in logs.items():
        wait_until(lambda log=log: log.exists() and b"up in" in log.read_bytes(), f"{role} is up")
    setups = (ran.folder / "logs/attempt-0/setup-0.out").read_bytes()
    assert sorted(setups.splitlines()) == [b"setup in inside", b"setup in none"]
    for role, code in (("inside", 0), ("plain", 1)):
        visited = launcher.call("exec", "-", "--role", role, "--", "test", "-e", "/etc/inside")
        assert visited.returncode == code, visited.stderr
    launcher.call("stop", "-")
    for log in logs.values():
        assert log.read_bytes().endswith(b"saved\n")
    wait_until(lambda: not of_runs(host), "nothing is left")
    assert not [p for p in host.processes() if "3000" in p.argv]


THREE = tuple(labs.HostSpec(f"lab{number}", namespaces=True) for number in (1, 2, 3))
#: Goes on until its run has begun again.
WAITS = """\
echo "$LAUNCHER_HOST $LAUNCHER_ROLE in $(cat /etc/inside 2>/dev/null || echo none) by $(command -v python)"
while [ "$LAUNCHER_ATTEMPT" = 0 ]; do sleep 0.05; done
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [THREE], indirect=True, ids=["three hosts"])
def test_a_spare_gets_the_image_of_the_role_that_it_takes_over(
    own: labs.Lab, launcher: Launcher
) -> None:
    """The host that stays has never had it."""
    for name in ("lab1", "lab3"):
        write_folder(own.hosts[name], "/srv/root")
    image = {"image": "/srv/root", "mounts": ["/usr:ro"]}
    setup = "echo setup in $(cat /etc/inside 2>/dev/null || echo none)"
    roles = {
        "inside": {"environment": image, "spread": True, "setup": setup},
        "plain": {"spread": True},
    }
    job = {"framework": "env", "run": WAITS, "roles": roles, "num_nodes": 2, "max_restarts": 1}
    (launcher.work / "job.yaml").write_text(json.dumps(job))
    process = launcher.start("--lost-after", "2s", "job.yaml")
    logs = "runs/*/logs/attempt-0/*-0.out"
    try:
        wait_until(
            lambda: sum(b" by " in one.read_bytes() for one in launcher.home.glob(logs)) == 2,
            "both roles",
        )
        own.hosts["lab1"].stop_sshd()
        own.hosts["lab1"].kill_sshd_sessions()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"lab3 replaces lab1" in err
    (folder,) = launcher.home.glob("runs/*")
    inside = (folder / "logs/attempt-1/inside-0.out").read_bytes()
    assert inside.startswith(b"lab3 inside in inside by /root/.launcher/host/runs/")
    assert inside.endswith(b"/bin/image-0/python\n")
    plain = (folder / "logs/attempt-1/plain-0.out").read_bytes()
    assert plain.startswith(b"lab2 plain in none by ")
    setups = [log.read_bytes() for log in folder.glob("logs/attempt-*/setup-*.out")]
    assert setups == [b"setup in inside\n"] * 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "own", [(labs.HostSpec("lab1", namespaces=True),)], indirect=True, ids=["one host"]
)
def test_a_setup_that_fails_in_an_image_ends_the_run(
    launcher: Launcher, host: labs.LabHost
) -> None:
    """Those before it have run, and those behind it have not."""
    image = {"image": "/srv/root", "mounts": ["/usr:ro"]}
    roles = {
        "plain": {"setup": "echo first"},
        "inside": {"environment": image, "setup": "cat /etc/inside; exit 3"},
        "other": {"environment": {**image, "mounts": ["/usr"]}, "setup": "echo last"},
    }
    job = {"framework": "env", "run": "echo ran", "roles": roles, "hosts": "lab1"}
    (launcher.work / "job.yaml").write_text(json.dumps(job))
    ran = launcher.run("job.yaml")
    assert ran.receipt["reason"] == "setup-exit-3"
    assert ran.log("setup-0.out") == b"first\ninside\n"
    assert "ran" not in ran.out
    wait_until(lambda: not of_runs(host), "nothing is left")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "own", [(labs.HostSpec("lab1", gpus=2, namespaces=True),)], indirect=True, ids=["one host"]
)
def test_a_host_starts_roles_in_their_images_when_its_turn_has_come(
    launcher: Launcher, host: labs.LabHost
) -> None:
    """Nobody is in touch then."""
    first = launcher.run("--detach", "--gpus", "2", "--framework", "env", "sleep 600")
    assert first.code == 0, first.err
    share = {"resources": {"gpus": 1}}
    image = {"image": "/srv/root", "mounts": ["/usr:ro"]}
    roles = {"inside": {"environment": image, **share}, "plain": share}
    show = "cat /etc/inside 2>/dev/null || echo none; echo $CUDA_VISIBLE_DEVICES"
    (launcher.work / "job.yaml").write_text(
        json.dumps({"framework": "env", "run": show, "roles": roles, "hosts": "lab1"})
    )
    (held,) = launcher.home.glob("runs/*")
    second = launcher.run("--detach", "--wait", "forever", "job.yaml")
    assert second.code == 0, second.err
    (waits,) = {*launcher.home.glob("runs/*")} - {held}
    end_followers(launcher.home.parent)
    assert launcher.call("stop", held.name).returncode == 0
    journal = f"/root/.launcher/host/runs/{waits.name}/journal.jsonl"
    wait_until(lambda: b"HostEnded" in host.run("cat", journal, check=False).stdout, "it has run")
    ended = launcher.call("attach", waits.name)
    assert ended.returncode == 0, ended.stderr
    said = {r: (waits / f"logs/attempt-0/{r}-0.out").read_text().split() for r in roles}
    assert (said["inside"][0], said["plain"][0]) == ("inside", "none")
    assert {said["inside"][1], said["plain"][1]} == {"0", "1"}
    wait_until(lambda: not of_runs(host), "nothing is left")


PAIR = tuple(labs.HostSpec(name, gpus=2, namespaces=True) for name in ("lab1", "lab2"))


def while_a_gpu_is_taken(own: labs.Lab, launcher: Launcher) -> str:
    """Run the job, and take GPU 0 of lab1 during its setup; return what it printed."""
    text = labs.inventory(own, "/usr/bin/python3")
    launcher.inventory.write_text(text.replace("gpus: 2", ""))
    process = launcher.start("job.yaml")
    host = own.hosts["lab1"]
    try:
        wait_until(lambda: host.exists("/tmp/in-setup"), "its setup", 60)
        host.write("/tmp/take.py", TAKE)
        host.spawn("python3", "/tmp/take.py")
        wait_until(lambda: host.exists("/tmp/taken"), "the lock", 60)
        for one in own.hosts.values():
            one.write("/tmp/setup-go", b"")
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"looking for other GPUs" in err
    return out.decode() + err.decode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [PAIR], indirect=True, ids=["two hosts"])
def test_roles_that_change_places_are_in_their_images(own: labs.Lab, launcher: Launcher) -> None:
    """Each host had only that of the role which it was to run."""
    for host in own.hosts.values():
        for place in ("trainer", "sim"):
            write_folder(host, f"/srv/{place}")
            host.write(f"/srv/{place}/etc/inside", f"{place}\n".encode())
    roles = {
        name: {
            "environment": {"image": f"/srv/{name}", "mounts": ["/usr:ro"]},
            "resources": {"gpus": gpus},
            "spread": True,
            "setup": f"echo setup of {name} in $(cat /etc/inside 2>&1)",
        }
        for name, gpus in (("trainer", 2), ("sim", 1))
    }
    show = "echo $LAUNCHER_HOST in $(cat /etc/inside 2>&1) by $(command -v python)"
    setup = f"{LONG_SETUP}; echo setup of all"
    job = {"framework": "env", "run": show, "roles": roles, "setup": setup, "num_nodes": 2}
    (launcher.work / "job.yaml").write_text(json.dumps(job))
    shown = while_a_gpu_is_taken(own, launcher)
    (folder,) = launcher.home.glob("runs/*")
    for role, host, number in (("trainer", "lab2", 0), ("sim", "lab1", 1)):
        said = (folder / f"logs/attempt-1/{role}-0.out").read_text()
        assert said.startswith(f"{host} in {role} by /root/.launcher/host/runs/"), shown
        assert said.endswith(f"/bin/image-{number}/python\n")
    setups = sorted(
        line
        for log in folder.glob("logs/attempt-1/setup-*.out")
        for line in log.read_text().splitlines()
    )
    assert setups == ["setup of sim in sim", "setup of trainer in trainer"], shown
    record = json.loads((folder / "run.json").read_text())
    assert all(len(node["containers"]) == 2 for node in record["nodes"])
    visited = launcher.call("exec", "-", "--role", "trainer", "--", "cat", "/etc/inside")
    assert "trainer" in visited.stdout, visited.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [PAIR], indirect=True, ids=["two hosts"])
def test_a_host_that_is_taken_instead_gets_the_image(own: labs.Lab, launcher: Launcher) -> None:
    for host in own.hosts.values():
        write_folder(host, "/srv/root")
    image = {"image": "/srv/root", "mounts": ["/usr:ro"]}
    show = "echo $LAUNCHER_HOST in $(cat /etc/inside 2>&1)"
    setup = f"{LONG_SETUP}; echo setup in $(cat /etc/inside 2>&1)"
    job = {"framework": "env", "run": show, "setup": setup, "environment": image}
    (launcher.work / "job.yaml").write_text(json.dumps({**job, "resources": {"gpus": 2}}))
    shown = while_a_gpu_is_taken(own, launcher)
    assert "lab2 in inside" in shown
    (folder,) = launcher.home.glob("runs/*")
    (log,) = folder.glob("logs/attempt-1/setup-*.out")
    assert log.read_text() == "setup in inside\n"
