"""On a kernel and a systemd of their own: limits that are held, and what a logout ends.

An emulated machine, so `make vm` runs these and not `make test`. Users come as real ones do: by sshd
and PAM into a session of logind, which has no groups to give. Seconds are those of a slow machine.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support import vm
from support.command import Launcher, Ran, kill_follower

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

#: Seconds for a whole run on two emulated cores that others want as well.
RUN = 400.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.Machine]:
    """One for all tests here."""
    reason = vm.missing()
    if reason:
        pytest.skip(f"no emulated machine here: {reason}")
    with vm.Machine(tmp_path_factory.mktemp("vm")) as standing:
        yield standing


class Job:
    """What a user of the machine does: one process in a job file, and a command."""

    def __init__(self, machine: vm.Machine, user: str, folder: Path) -> None:
        inventory = folder / "inventory.yaml"
        inventory.write_text(machine.inventory(user))
        work = folder / "work"
        work.mkdir(exist_ok=True)
        self.launcher = Launcher(inventory, work, folder / "home")

    def run(
        self, script: str, *words: str, resources: str = "", command: str = "python3 -u train.py"
    ) -> Ran:
        """The process ``main``, held to these resources."""
        self.launcher.script(script)
        held = f"resources: {{{resources}}}, " if resources else ""
        text = f"framework: env\nroles:\n  main: {{{held}run: {json.dumps(command)}}}\n"
        self.launcher.script(text, "job.yaml")
        return self.launcher.run(*words, "job.yaml", timeout=RUN)

    def detached(self, script: str, resources: str = "") -> Ran:
        """A run of which nobody here knows any longer, once it has said something."""
        ran = self.run(script, "--detach", resources=resources)
        assert ran.code == 0, ran.err
        log = ran.folder / "logs/attempt-0/main-0.out"
        labs.wait_until(lambda: log.exists() and b"\n" in log.read_bytes(), "its first line", 60)
        kill_follower(ran.folder)
        return ran

    def attach(self, ran: Ran) -> dict[str, Any]:
        """The receipt, from another launcher."""
        self.launcher.call("attach", ran.folder.name, timeout=RUN)
        return ran.receipt

    def codes(self) -> dict[str, dict[str, Any]]:
        """What `launcher check` finds, by code."""
        told = self.launcher.call(
            "check", "-i", str(self.launcher.inventory), "--json", timeout=RUN
        )
        return {finding["code"]: finding for finding in json.loads(told.stdout)["findings"]}


@pytest.fixture(autouse=True)
def _nothing_left(machine: vm.Machine) -> Iterator[None]:
    """A test that failed is not the reason why the next one does."""
    yield
    for pattern in ("start.py relay", "python3 -u train.py$", "^sleep 617$"):
        machine.run("pkill", "-9", "-u", "ann", "-f", pattern, check=False)


@pytest.fixture
def job(machine: vm.Machine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Job]:
    """Of the plain user ann, or of the test's parameter, who is logged in besides."""
    user = getattr(request, "param", "ann")
    with machine.login(user):
        yield Job(machine, user, tmp_path)


def _groups(machine: vm.Machine, run: str) -> list[str]:
    """Folders of a run in the whole hierarchy."""
    return machine.run("find", "/sys/fs/cgroup", "-name", f"launcher-{run}-*").split()


def _alive(machine: vm.Machine, pattern: str) -> list[int]:
    found = machine.run("pgrep", "-u", "ann", "-f", pattern, check=False)
    return [int(pid) for pid in found.split()]


EATER = """
import os
print(open("/proc/self/cgroup").read().strip(), flush=True)
hoard = []
while True:
    hoard.append(b"x" * (4 << 20))
    print(4 * len(hoard), flush=True)
"""


@pytest.fixture
def swap(machine: vm.Machine) -> Iterator[None]:
    """Room for what a limit of memory alone would only move to the disk."""
    machine.run("sh", "-c", "fallocate -l 128M /swap && chmod 600 /swap && mkswap -q /swap")
    machine.run("swapon", "/swap")
    yield
    machine.run("sh", "-c", "swapoff /swap && rm /swap")


@pytest.mark.parametrize("job", ["ann", "root"], indirect=True)
def test_who_takes_too_much_memory_is_killed_by_its_group(
    machine: vm.Machine, job: Job, swap: None
) -> None:
    """Also below a shell, which tells it as an exit of its own."""
    machine.run("dmesg", "--clear")
    ran = job.run(
        EATER, resources="memory: 64MiB", command="bash -c 'python3 -u train.py; exit $?'"
    )
    assert (ran.receipt["status"], ran.receipt["reason"]) == ("failed", "out-of-memory"), ran.err
    assert ran.code == 137
    assert "main-0 killed for exceeding its 64 MiB of memory" in ran.err
    assert "Raise resources: memory:" in ran.err
    (host,) = ran.receipt["hosts"]
    assert host["limits"]["main-0"] == "64 MiB (memory.max of its control group)"
    group, *taken = ran.log("main-0.out").decode().split()
    assert 20 < int(taken[-1]) <= 64
    (killed,) = re.findall(r"oom-kill:.*task_memcg=([^,]*)", machine.run("dmesg"))
    assert f"0::{killed}" == group
    assert f"/launcher-{ran.folder.name}-" in killed
    assert not _groups(machine, ran.folder.name)


BURNER = """
import os, time
until = time.monotonic() + 5
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() < until:
            pass
        os._exit(0)
began = time.monotonic()
os.wait(), os.wait()
share = sum(os.times()[2:4]) / (time.monotonic() - began)
folder = "/sys/fs/cgroup" + open("/proc/self/cgroup").read().strip()[3:]
counted = dict(line.split() for line in open(folder + "/cpu.stat"))
print(share, counted["nr_throttled"], len(os.sched_getaffinity(0)))
"""


def test_two_that_burn_get_one_core_of_two(machine: vm.Machine, job: Job) -> None:
    ran = job.run(BURNER, resources="cpus: 1")
    assert ran.code == 0, ran.err
    share, throttled, cores = map(float, ran.log("main-0.out").split())
    assert 0.3 < share < 1.15
    assert throttled > 0
    assert cores == 2, "not by affinity"
    (host,) = ran.receipt["hosts"]
    assert host["limits"]["main-0"] == "cpus 1 (cpu.max of its control group)"


HIDDEN = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        os.execve("/bin/sleep", ["sleep", "617"], {})
    os._exit(0)
os.wait()
print("ready", flush=True)
time.sleep(600)
"""


def test_who_hides_is_found_after_the_supervisor_was_killed(machine: vm.Machine, job: Job) -> None:
    """A plain user's: without parent, without a mark, and in a group that systemd has handed over."""
    lost = job.detached(HIDDEN, resources="memory: 256MiB").folder.name
    (process,) = _alive(machine, "python3 -u train.py$")
    supervisor = machine.run("ps", "-o", "ppid=", "-p", str(process)).strip()
    machine.run("kill", "-9", supervisor)
    labs.wait_until(
        lambda: not _alive(machine, "python3 -u train.py$"), "the marked process to go", 60
    )
    assert _alive(machine, "^sleep 617$")
    assert _groups(machine, lost)
    after = job.launcher.call(
        "run", "-i", str(job.launcher.inventory), "--framework", "env", "true", timeout=RUN
    )
    assert after.returncode == 0, after.stderr
    assert "guest: cleaned up 1 process left by earlier runs" in after.stderr
    assert not _alive(machine, "^sleep 617$")
    assert not _groups(machine, lost)


# -- logouts

WAITER = """
import os, time
print(open("/proc/self/cgroup").read().strip(), flush=True)
while not os.path.exists("/tmp/go"):
    time.sleep(0.1)
print("went", flush=True)
"""


@contextlib.contextmanager
def _logind(machine: vm.Machine, *settings: str) -> Iterator[None]:
    """With these settings of logind.conf(5)."""
    folder = "/etc/systemd/logind.conf.d"
    text = "\n".join(("[Login]", *settings))
    script = f'mkdir -p {folder}; printf "%s\\n" "$1" >{folder}/test.conf; rm -f /tmp/go'
    machine.run("sh", "-c", script, "sh", text)
    machine.run("systemctl", "restart", "systemd-logind")
    try:
        yield
    finally:
        machine.run("sh", "-c", f"rm -f {folder}/test.conf /tmp/go; loginctl disable-linger ann")
        machine.run("systemctl", "restart", "systemd-logind")


def _state(machine: vm.Machine, user: str) -> str:
    return machine.run("loginctl", "show-user", user, "--property=State", "--value", check=False)


def _manager(machine: vm.Machine, user: str) -> str:
    uid = machine.run("id", "-u", user).strip()
    return machine.run("systemctl", "is-active", f"user@{uid}.service", check=False).strip()


def test_a_run_in_the_users_groups_outlives_the_last_logout(
    machine: vm.Machine, tmp_path: Path
) -> None:
    """As most hosts are: nobody lingers, nothing is killed, and a user's manager ends with the last
    session. As soon as that, here; ben shows that it would."""
    job = Job(machine, "ann", tmp_path)
    with _logind(machine, "KillUserProcesses=no", "UserStopDelaySec=0"):
        with machine.login("ann"), machine.login("ben"):
            ran = job.detached(WAITER, resources="memory: 256MiB")
        labs.wait_until(lambda: _manager(machine, "ben") == "inactive", "ben to be gone", 120)
        labs.wait_until(lambda: "closing" in _state(machine, "ann"), "ann's logout", 120)
        assert _manager(machine, "ann") == "active"
        assert len(_alive(machine, "python3 -u train.py$")) == 1
        machine.run("touch", "/tmp/go")
        labs.wait_until(lambda: _manager(machine, "ann") == "inactive", "ann to be gone", 120)
    with machine.login("ann"):
        receipt = job.attach(ran)
    assert receipt["status"] == "succeeded", receipt
    log = ran.log("main-0.out").decode().split()
    assert "/user@" in log[0] and log[1] == "went"
    assert not _groups(machine, ran.folder.name)


def test_a_host_that_kills_at_a_logout_is_told_and_so_is_what_it_killed(
    machine: vm.Machine, job: Job
) -> None:
    with _logind(machine, "KillUserProcesses=yes"):
        finding = job.codes()["LOGOUT-KILLS"]
        assert finding["level"] == "warning"
        assert "systemd-logind kills the processes of ann at logout" in finding["evidence"]
        assert "loginctl enable-linger ann" in finding["fix"]
        ran = job.detached(WAITER)
        labs.wait_until(
            lambda: not _alive(machine, "python3 -u train.py$"), "logind to have killed it", 120
        )
        told = job.launcher.call("attach", ran.folder.name, timeout=RUN)
    assert (ran.receipt["status"], ran.receipt["reason"]) == ("stopped", "login-session-ended")
    assert "KillUserProcesses=yes" in told.stderr


def test_who_lingers_has_runs_that_outlive_a_logout_that_kills(
    machine: vm.Machine, tmp_path: Path
) -> None:
    job = Job(machine, "ann", tmp_path)
    with _logind(machine, "KillUserProcesses=yes"):
        machine.run("loginctl", "enable-linger", "ann")
        with machine.login("ann"):
            assert "LOGOUT-KILLS" not in job.codes()
            ran = job.detached(WAITER)
        labs.wait_until(lambda: "lingering" in _state(machine, "ann"), "ann's logout", 120)
        assert len(_alive(machine, "python3 -u train.py$")) == 1
        machine.run("touch", "/tmp/go")
        receipt = job.attach(ran)
    assert receipt["status"] == "succeeded", receipt
    assert ran.log("main-0.out").decode().split()[1] == "went"
