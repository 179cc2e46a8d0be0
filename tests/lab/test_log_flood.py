"""More output than anybody can read, of every kind: all of it arrives, and memory stays flat."""

from __future__ import annotations

import sys

import pytest

from support import lab as labs
from support.command import Launcher

EIGHT = tuple(labs.HostSpec(f"h{number}") for number in range(1, 9))

SCRIPT = """
import os, sys
rank = int(os.environ["RANK"])
out = sys.stdout.buffer
if rank < 5:
    line = b"x" * 80
    for start in range(0, 200_000, 1000):
        out.write(b"".join(b"%d %d %s\\n" % (rank, n, line) for n in range(start, start + 1000)))
elif rank == 5:
    for number in range(24):
        out.write(bytes([97 + number]) * 1_000_000 + b"\\n")
elif rank == 6:
    for number in range(16):
        out.write(os.urandom(1_000_000))
else:
    for number in range(200):
        out.write(b"never a newline " * 5000)
sys.stderr.write("end")
"""

#: Runs a command and prints its peak RSS. A small process of its own, because a child's peak is
#: never less than the size of the process that forked it.
MEASURE = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
#: MiB that the launcher may use. It takes 46 for `true` on 8 hosts (benchmarks/README.md).
ENOUGH = 90


@pytest.mark.parametrize("own", [EIGHT], indirect=True)
def test_eight_hosts_at_full_speed(own: labs.Lab, launcher: Launcher) -> None:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    name = launcher.script(SCRIPT)
    words = ["--nodes", "8", "--framework", "torch", name]
    ran = launcher.run(*words, within=[sys.executable, "-c", MEASURE])
    peak = int(ran.err.split()[-1])
    assert ran.code == 0, ran.err
    (run,) = (launcher.home / "runs").iterdir()
    for rank, host in enumerate(own.hosts.values()):
        for stream in ("out", "err"):
            place = f"logs/attempt-0/rank-{rank}.{stream}"
            there = host.read(f"/root/.launcher/host/runs/{run.name}/{place}")
            assert there == (run / place).read_bytes(), (host, stream)
            assert len(there) > (10_000_000 if stream == "out" else 2)
    assert peak < ENOUGH * 1024
