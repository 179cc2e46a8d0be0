"""On a kernel and a systemd of their own: limits that are held, and what a logout ends.

An emulated machine, so `make vm` runs these and not `make test`. Users come as real ones do: by sshd
and PAM into a session of logind, which has no groups to give.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lab as labs
import pytest
import vm
from conftest import Launcher, Ran

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

#: Seconds for a whole run on two emulated cores that others want as well.
RUN = 300.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.Machine]:
    """One for all tests here."""
    reason = vm.missing()
    if reason:
        pytest.skip(f"no emulated machine here: {reason}")
    with vm.Machine(tmp_path_factory.mktemp("vm")) as standing:
        yield standing


class Job:
    """What a user of the machine does: roles in a file, and one command."""

    def __init__(self, machine: vm.Machine, user: str, folder: Path) -> None:
        inventory = folder / "inventory.yaml"
        inventory.write_text(machine.inventory(user))
        work = folder / "work"
        work.mkdir(exist_ok=True)
        self.launcher = Launcher(inventory, work, folder / "home")

    def run(self, script: str, *words: str, resources: str = "") -> Ran:
        """One process ``main`` with these resources."""
        self.launcher.script(script)
        held = f"resources: {{{resources}}}, " if resources else ""
        self.launcher.script(
            f"name: vm\nframework: env\nroles:\n  main: {{{held}run: python3 -u train.py}}\n",
            "job.yaml",
        )
        return self.launcher.run(*words, "job.yaml", timeout=RUN)


@pytest.fixture
def job(machine: vm.Machine, tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    """Of the plain user ann, or of the test's parameter."""
    return Job(machine, getattr(request, "param", "ann"), tmp_path)


EATER = """
import subprocess, sys
print(open("/proc/self/cgroup").read(), flush=True)
hoard = []
while True:
    hoard.append(bytearray(b"x" * (4 << 20)))
"""


@pytest.mark.parametrize("job", ["ann", "root"], indirect=True)
def test_who_eats_too_much_memory_is_killed_by_the_group(machine: vm.Machine, job: Job) -> None:
    ran = job.run(EATER, resources="memory: 96MiB")
    assert (ran.receipt["status"], ran.receipt["reason"]) == ("failed", "out-of-memory"), ran.err
    assert ran.code == 137
    (host,) = ran.receipt["hosts"]
    assert host["limits"]["main-0"] == "96 MiB (memory.max of its control group)"
    assert "limits   main-0: 96 MiB (memory.max" in ran.err
    group = ran.log("main-0.out").decode().strip().removeprefix("0::")
    (killed,) = re.findall(r"oom-kill:.*task_memcg=([^,]*)", machine.run("dmesg", "-c"))
    assert killed == group
    assert f"launcher-{ran.folder.name}-" in group
    assert not [line for line in _groups(machine) if ran.folder.name in line]


def _groups(machine: vm.Machine) -> list[str]:
    """Folders of runs in the whole hierarchy."""
    return machine.run("find", "/sys/fs/cgroup", "-name", "launcher-*").split()
