"""More processes and logs on a host than descriptors or a socket's buffer hold."""

from __future__ import annotations

import pytest

from support import lab as labs
from support.command import Launcher

#: Runs a command with so few descriptors, which it cannot raise.
FEW = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
SCRIPT = """
import os, resource, sys
print("out", os.environ["RANK"])
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print("err", os.environ["RANK"], file=sys.stderr)
"""
ONE = (labs.HostSpec("lab1"),)


@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_eighty_logs_with_sixty_four_descriptors(own: labs.Lab, launcher: Launcher) -> None:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    name = launcher.script(SCRIPT)
    own.hosts["lab1"].write("/root/.bashrc", b"ulimit -n 64\n")
    ran = launcher.run("--nproc-per-node", "40", "--framework", "torch", name, within=FEW)
    assert ran.code == 0, ran.err
    assert "connection dropped" not in ran.err
    logs = sorted((ran.folder / "logs" / "attempt-0").iterdir())
    assert len(logs) == 80
    assert ran.log("rank-7.out") == b"out 7\n64\n", "ranks keep the limit of their host"
    assert ran.log("rank-39.err") == b"err 39\n"
    assert ran.receipt["hosts"][0]["logs_complete"]


@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_more_processes_than_a_relay_is_woken_for_at_once(
    own: labs.Lab, launcher: Launcher
) -> None:
    """The relay waits for all of them to start, and reads no wake-up meanwhile."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    name = launcher.script("import os\nprint(os.environ['RANK'])\n")
    ran = launcher.run("--nproc-per-node", "320", "--framework", "torch", name)
    assert ran.code == 0, ran.err
    assert ran.log("rank-319.out") == b"319\n"
    assert ran.receipt["hosts"][0]["left"] == 0
