"""Another user of a host, against root and against bob: real users, and what the kernel lets them do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import lab as labs
from support import releases
from support.command import Launcher, of_runs, wait_for
from support.several_users import PYTHON, host_of, launcher_of

SCRIPT = "import os, sys\nprint('gpus', os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"
WAITS = (
    SCRIPT + "import pathlib, time\nwhile not pathlib.Path('/tmp/end').exists(): time.sleep(.02)\n"
)
OLD_PLACE = "/var/tmp/launcher-leases"
#: A plain program of mallory's that holds something and says so in a file.
HOLDS = """
import fcntl, os, socket, sys, time
kept = []
for word in sys.argv[2:]:
    if word.startswith("/"):
        kept.append(open(word, "a+"))
        fcntl.flock(kept[-1], fcntl.LOCK_EX)
    else:
        kept.append(socket.socket(socket.AF_UNIX))
        kept[-1].bind("\\0" + word)
open(sys.argv[1], "w").close()
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A host of three: root, bob and mallory."""
    with host_of(tmp_path_factory.mktemp("shared"), ["root", "bob"], ["mallory"], gpus=2) as found:
        yield found


@pytest.fixture
def host(shared: labs.Lab) -> Iterator[labs.LabHost]:
    """The host, tidied up afterwards: mallory's processes and what lies in shared places."""
    (host,) = shared.hosts.values()
    yield host
    host.run("pkill", "-9", "-u", "mallory", check=False)
    host.run("pkill", "-9", "sleep|start.py", check=False)
    host.run("sh", "-c", f"rm -rf {OLD_PLACE} /tmp/end /tmp/[a-z]* /scratch /srv/team")


def of(shared: labs.Lab, tmp_path: Path, user: str, workdir: str = "~/.launcher/host") -> Launcher:
    """The launcher of somebody who logs in as ``user``."""
    return launcher_of(shared, tmp_path, user, workdir=workdir)


@pytest.fixture
def root(shared: labs.Lab, tmp_path: Path) -> Launcher:
    return of(shared, tmp_path, "root")


@pytest.fixture
def bob(shared: labs.Lab, tmp_path: Path) -> Launcher:
    return of(shared, tmp_path, "bob")


def mallory(host: labs.LabHost, script: str) -> None:
    """What mallory does in a shell."""
    host.run("setpriv", "--reuid", "mallory", "--regid", "mallory", "--clear-groups",
             "env", "HOME=/home/mallory", "sh", "-ec", script)  # fmt: skip


def holds(host: labs.LabHost, *what: str, user: str = "mallory") -> None:
    """A process of mallory's holds names of sockets, and files by flock."""
    host.write("/tmp/holds.py", HOLDS.encode())
    host.spawn("setpriv", "--reuid", user, "--regid", user, "--clear-groups",
               PYTHON, "/tmp/holds.py", f"/tmp/held-by-{user}", *what)  # fmt: skip
    labs.wait_until(lambda: host.exists(f"/tmp/held-by-{user}"), "mallory holds it", 20)


def python(by: Launcher, text: str) -> str:
    """The command that runs this script by the Python that all have."""
    return f"{PYTHON} {by.script(text)}"


def _is_running(host: labs.LabHost) -> bool:
    return any("train.py" in process.argv[-1] for process in of_runs(host))


def succeeds(by: Launcher, *words: str) -> str:
    """A run on two GPUs; what its ranks saw."""
    ran = by.run("--framework", "env", *words, python(by, SCRIPT), timeout=120)
    assert ran.code == 0, ran.err
    return ran.err + ran.out


TWO_GPUS = ("--nproc-per-node", "2")


def test_root_follows_no_link_of_another_user(host: labs.LabHost, root: Launcher) -> None:
    before = host.run("find", "/etc/apt", "-newermt", "2000-01-01").stdout
    mallory(host, f"ln -s /etc/apt/apt.conf.d {OLD_PLACE}")
    succeeds(root, *TWO_GPUS)
    assert host.run("find", "/etc/apt", "-newermt", "2000-01-01").stdout == before


@pytest.mark.parametrize("maker", ["mallory", "root"])
def test_nothing_in_the_old_place_hangs_or_ends_a_run(
    host: labs.LabHost, root: Launcher, bob: Launcher, maker: str
) -> None:
    """FIFOs, links, folders, hostile JSON under no lock, and a folder that only mallory may write to."""
    host.write("/tmp/victim", b"mine\n", 0o600)
    host.run("sysctl", "-qw", "fs.protected_hardlinks=0", check=False)
    if maker == "root":  # as 0.1 made it
        host.run("mkdir", "-m", "777", OLD_PLACE)
    else:
        mallory(host, f"mkdir -m 755 {OLD_PLACE}")
    mallory(
        host,
        f"cd {OLD_PLACE}; mkfifo gpu-5; mkfifo run-x; ln -s /tmp/victim gpu-0; mkdir gpu-1; "
        "mkfifo gpu-2; ln /tmp/victim gpu-3 || true",
    )
    mode = host.run("stat", "-c", "%a %s %u", "/tmp/victim").stdout
    for by in (root, bob):
        succeeds(by, *TWO_GPUS)
        listed = by.call("ls", "--all-users", "-i", str(by.inventory), timeout=30)
        assert listed.returncode == 0, listed.stderr
        checked = by.call("check", "-i", str(by.inventory), timeout=60)
        assert "did not answer" not in checked.stdout + checked.stderr
    assert host.run("stat", "-c", "%a %s %u", "/tmp/victim").stdout == mode


def test_what_is_written_in_a_lock_of_0_1_is_typed(host: labs.LabHost, bob: Launcher) -> None:
    """The user beside it is the one that the kernel knows. tests/unit has what else may be written."""
    lie = b'{"user":"root","run":"calm-owl-1","since":1e300}'
    mallory(host, f"mkdir -m 777 {OLD_PLACE}")
    for name, text in {"gpu-1": lie, "run-zzz": b'{"since":"yesterday","run":7,"user":[]}'}.items():
        host.write(f"/tmp/{name}", text)
        mallory(host, f"cat /tmp/{name} > {OLD_PLACE}/{name}")
    holds(host, f"{OLD_PLACE}/gpu-1", f"{OLD_PLACE}/run-zzz")
    assert "gpus 0" in succeeds(bob)
    full = bob.run("--framework", "env", *TWO_GPUS, python(bob, SCRIPT))
    assert full.code != 0
    assert "in use by mallory" in full.err
    assert "by root" not in full.err
    for words in (("ls", "--all-users"), ("ls", "--all-users", "--json")):
        listed = bob.call(*words, "-i", str(bob.inventory))
        assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize("listens", [False, True])
def test_a_gpu_that_somebody_holds_is_shown_with_the_uid(
    host: labs.LabHost, bob: Launcher, listens: bool
) -> None:
    """Whatever mallory claims: mallory is not root, and holds no run of root's."""
    names = ["launcher/gpu/0", "launcher/gpu/0/calm-owl-1/5", "launcher/run/calm-owl-1/5",
             "launcher/run/x\x1b]0;evil\x07/5", "launcher/gpu/\n/1/2", "launcher/run/a b/nan"]  # fmt: skip
    if listens:
        host.write(
            "/tmp/holds.py",
            HOLDS.replace("open(sys", "[k.listen() for k in kept]; open(sys").encode(),
        )
        host.spawn("setpriv", "--reuid", "mallory", "--regid", "mallory", "--clear-groups",
                   PYTHON, "/tmp/holds.py", "/tmp/held-by-mallory", *names)  # fmt: skip
        labs.wait_until(lambda: host.exists("/tmp/held-by-mallory"), "mallory holds it", 20)
    else:
        holds(host, *names)
    assert "gpus 1" in succeeds(bob)
    full = bob.run("--framework", "env", *TWO_GPUS, python(bob, SCRIPT))
    assert full.code != 0
    assert "in use by mallory (calm-owl-1)" in full.err
    listed = bob.call("ls", "--all-users", "--json", "-i", str(bob.inventory))
    assert [(run["user"], run["run"]) for run in json.loads(listed.stdout)] == [
        ("mallory", "calm-owl-1")
    ]
    plain = bob.call("ls", "--all-users", "-i", str(bob.inventory))
    assert "evil" not in plain.stdout


def test_nobody_takes_a_gpu_from_a_run(host: labs.LabHost, root: Launcher, bob: Launcher) -> None:
    """Files are removed, and 2,000 lookers call: a second run is refused all the same."""
    running = root.start("--framework", "env", *TWO_GPUS, python(root, WAITS))
    try:
        labs.wait_until(lambda: _is_running(host), "its ranks run", 40)
        mallory(host, f"rm -f {OLD_PLACE}/*; rm -rf {OLD_PLACE} || true; mkdir -p {OLD_PLACE}")
        calls = (
            "import socket\nfor n in range(2000):\n  for gpu in '01':\n"
            "    s = socket.socket(socket.AF_UNIX); s.setblocking(False)\n"
            "    try: s.connect('\\0launcher/gpu/' + gpu); s.send(b'x')\n"
            "    except OSError: pass\n    if n % 3: s.close()\n"
        )
        host.write("/tmp/calls.py", calls.encode())
        mallory(host, f"{PYTHON} /tmp/calls.py")
        second = bob.run("--framework", "env", *TWO_GPUS, python(bob, SCRIPT))
        assert second.code != 0
        assert re.search(r"in use by root \([a-z]+-[a-z]+-[0-9a-f]+\)", second.err), second.err
        listed = json.loads(
            bob.call("ls", "--all-users", "--json", "-i", str(bob.inventory)).stdout
        )
        assert [(run["user"], run["gpus"]) for run in listed] == [("root", [0, 1])]
    finally:
        host.write("/tmp/end", b"")
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err.decode()
    assert "gpus 0" in succeeds(bob, *TWO_GPUS), "they are free again"


def test_thousands_of_claims_hide_nobodys_run(
    host: labs.LabHost, root: Launcher, bob: Launcher
) -> None:
    running = root.start("--framework", "env", *TWO_GPUS, python(root, WAITS))
    try:
        labs.wait_until(lambda: _is_running(host), "its ranks run", 40)
        holds(host, *(f"launcher/{kind}/a-{n}/1" for n in range(2000) for kind in ("run", "gpu/0")))
        listed = bob.call("ls", "--all-users", "--json", "-i", str(bob.inventory), timeout=20)
        runs = json.loads(listed.stdout)
        assert [run["gpus"] for run in runs if run["user"] == "root"] == [[0, 1]]
        assert len(runs) == 201
    finally:
        host.write("/tmp/end", b"")
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err.decode()


def test_runs_leave_no_names_behind(host: labs.LabHost, root: Launcher) -> None:
    before = host.run("find", "/var/tmp", "/tmp", "/dev/shm").stdout
    for _ in range(2):
        succeeds(root, *TWO_GPUS)
    assert host.run("find", "/var/tmp", "/tmp", "/dev/shm").stdout == before
    # Its supervisor exits a moment after it has told the end.
    labs.wait_until(lambda: b"@launcher" not in host.read("/proc/net/unix"), "no names", 20)


def test_a_lock_of_0_1_is_respected_and_ours_is_seen_by_it(
    host: labs.LabHost, bob: Launcher, root: Launcher, tmp_path: Path
) -> None:
    if trouble := releases.unpack("0.1", tmp_path / "old"):
        pytest.skip(trouble)
    old = replace(root, env={"PYTHONPATH": str(tmp_path / "old")}, home=tmp_path / "old home")
    for first, second in ((old, bob), (root, replace(old, home=tmp_path / "again"))):
        running = first.start("--framework", "env", *TWO_GPUS, python(first, WAITS))
        try:
            labs.wait_until(lambda: _is_running(host), "its ranks run", 40)
            refused = second.run("--framework", "env", *TWO_GPUS, python(second, SCRIPT))
            assert refused.code != 0
            assert "root" in refused.err
        finally:
            host.write("/tmp/end", b"")
            _, err = running.communicate(timeout=60)
        assert running.returncode == 0, err.decode()
        host.run("rm", "/tmp/end")


def test_the_environment_of_another_users_process_leads_root_nowhere(
    host: labs.LabHost, root: Launcher
) -> None:
    """Neither to a FIFO, nor to taking mallory's processes for its own."""
    succeeds(root)
    mallory(host, "mkdir -p /tmp/evil; mkfifo /tmp/evil/supervisor.lock")
    below = "/root/.launcher/host/runs"
    for place in (f"{below}/../../../../tmp/evil", f"{below}/..", f"{below}/calm-owl-1"):
        host.spawn("setpriv", "--reuid", "mallory", "--clear-groups", "env",
                   f"LAUNCHER_RUN_DIR={place}", "LAUNCHER_RUN_ID=calm-owl-1", "sleep", "1000")  # fmt: skip
    host.spawn("env", f"LAUNCHER_RUN_DIR={below}/../../../../tmp/evil", "sleep", "1001")
    succeeds(root)
    sleeping = [p.argv[-1] for p in host.processes() if "sleep" in p.argv]
    assert sorted(sleeping) == ["1000"] * 3 + ["1001"]


# -- folders that others may write to

#: What mallory's start.py does for the user who executes it.
EVIL = "import os\nopen('/tmp/PWNED-%d' % os.getuid(), 'w').close()\n"


def agent_of(host: labs.LabHost, by: Launcher) -> str:
    """The name of the agent's folder, from a run in a folder that is all right."""
    succeeds(by)
    (name,) = host.run("sh", "-c", "ls /home/bob/.launcher/host/agent").stdout.decode().split()
    return name


def test_another_users_agent_is_not_executed(
    host: labs.LabHost, shared: labs.Lab, bob: Launcher, tmp_path: Path
) -> None:
    name = agent_of(host, bob)
    host.run("mkdir", "-m", "1777", "/scratch")
    mallory(host, f"mkdir -p /scratch/launcher/agent/{name}/agent")
    host.write("/tmp/evil.py", EVIL.encode())
    for file in ("start.py", "agent/main.py", "agent/__init__.py"):
        mallory(host, f"cp /tmp/evil.py /scratch/launcher/agent/{name}/{file}")
    refused = of(shared, tmp_path, "bob", "/scratch/launcher")
    ran = refused.run("--framework", "env", python(refused, SCRIPT))
    assert ran.code == 125
    assert "one: launcher's folder there could be changed by other users" in ran.err
    assert "/scratch/launcher belongs to mallory" in ran.err
    assert "workdir:" in ran.err
    checked = refused.call("check", "-i", str(refused.inventory))
    assert checked.returncode == 1
    assert "/scratch/launcher belongs to mallory" in " ".join(checked.stdout.split())
    assert not host.run("sh", "-c", "ls /tmp | grep PWNED || true").stdout


CASES = {  # what was prepared as root, as mallory; workdir; what the message has, or None
    "others may write to it": ("mkdir -p -m 777 /scratch/l", "", "/scratch/l", "/scratch/l may be written to by everybody"),
    "its group may": ("mkdir -p /scratch/l; chown bob:mallory /scratch/l; chmod 775 /scratch/l", "", "/scratch/l", "/scratch/l may be written to by its group"),
    "one above it": ("mkdir -p /scratch/a/b; chmod 777 /scratch/a; chown -R bob: /scratch/a/b", "", "/scratch/a/b/c", "/scratch/a may be written to by everybody"),
    "sticky itself": ("mkdir -p /scratch; chmod 1777 /scratch", "", "/scratch", "/scratch may be written to by everybody"),
    "a link of mallory's": ("mkdir -p /scratch; chmod 1777 /scratch", "ln -s /home/bob /scratch/l", "/scratch/l", "/scratch/l belongs to mallory"),
    "behind a link of bob's": ("mkdir -p /scratch; chmod 1777 /scratch; ln -s /scratch/m/x /scratch/l; chown -h bob /scratch/l", "mkdir -p /scratch/m/x", "/scratch/l", "/scratch/m belongs to mallory"),
    "only its code": ("mkdir -p /scratch/l/code; chown bob: /scratch/l; chmod 777 /scratch/l/code; chown mallory /scratch/l/code", "", "/scratch/l", "/scratch/l/code belongs to mallory"),
    "sticky above it": ("mkdir -p /scratch; chmod 1777 /scratch", "", "/scratch/l/m", None),
    "bob's behind bob's link": ("mkdir -p /scratch/b; chown -R bob: /scratch; ln -s ../scratch/b /scratch/l; chown -h bob: /scratch/l", "", "/scratch/l/m", None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_which_folders_are_ours(
    host: labs.LabHost, shared: labs.Lab, tmp_path: Path, case: str
) -> None:
    by_root, by_mallory, workdir, message = CASES[case]
    host.run("sh", "-ec", f"umask 022; {by_root}")
    mallory(host, by_mallory or ":")
    bob = of(shared, tmp_path, "bob", workdir)
    ran = bob.run("--framework", "env", python(bob, SCRIPT))
    assert ran.code == (125 if message else 0), ran.err
    assert (message or "") in ran.err
    assert not host.exists("/home/bob/agent")


def test_root_makes_nothing_through_another_users_link(
    host: labs.LabHost, shared: labs.Lab, tmp_path: Path
) -> None:
    host.run("mkdir", "-m", "1777", "/scratch")
    mallory(host, "ln -s /etc /scratch/launcher")
    root = of(shared, tmp_path, "root", "/scratch/launcher")
    ran = root.run("--framework", "env", python(root, SCRIPT))
    assert ran.code == 125
    assert "/scratch/launcher belongs to mallory" in ran.err
    assert not host.exists("/etc/agent")
    assert not host.exists("/etc/runs")


def test_what_root_leaves_among_outputs_costs_itself_alone(
    host: labs.LabHost, bob: Launcher
) -> None:
    """As a container that bob's script starts: a folder and a file that he may not read."""
    script = (
        "import os, pathlib\nos.chdir(os.environ['LAUNCHER_OUTPUT_DIR'])\n"
        "for name in ('a', 'z'): pathlib.Path(name).write_text(name)\n" + WAITS
    )
    process = bob.start("--framework", "env", python(bob, script))
    labs.wait_until(lambda: any(bob.home.glob("runs/*/logs/*/node-0.out")), "a log", 40)
    (log,) = bob.home.glob("runs/*/logs/*/node-0.out")
    wait_for(log, b"gpus", process)
    outputs = f"/home/bob/.launcher/host/runs/{log.parents[2].name}/outputs"
    by_root = (
        f"cd {outputs}; mkdir db; touch db/in file; chmod 700 db; chmod 600 file; touch /tmp/end"
    )
    host.run("sh", "-ec", by_root)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 74, err.decode()
    brought = {file.name for file in (log.parents[2] / "outputs").iterdir() if file.is_file()}
    assert brought == {"a", "z"}
    assert "db cannot be read there: Permission denied" in err.decode()
    assert "file cannot be read there: Permission denied" in err.decode()
