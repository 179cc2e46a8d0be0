"""What ``launcher queue`` costs: with many hosts, and with many runs that wait for all of them.

The tickets are real ones, held by a process of each user on each host, without runs behind them. Beside
it is the least that looking at the same hosts takes: one command on each, by the tools that people use.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from .measure import COMPARISON, comparison, race, table
from .place import ROOT, Place, labs, place

#: Hosts, and the tickets of all of them, which four users have.
SIZES = ((8, 0), (8, 500), (64, 0), (64, 500))
USERS = (1001, 1002, 1003, 1004)
HOLDER = """
import os, signal, sys
from launcher.agent.host import tickets
uid, count, hosts = map(int, sys.argv[1:])
os.setuid(uid)
held = [
    tickets.enter("run-%d-%d" % (uid, n), {
        "number": n + 1, "waited": 60.0 * n, "seconds": 3600, "hosts": hosts, "shares": [1] * hosts,
    })
    for n in range(count)
]
open("/tmp/held-%d" % uid, "w").close()
signal.pause()
"""


def main(rounds: int) -> str:
    """The table."""
    rows = []
    for hosts, count in SIZES:
        with place(hosts) as here:
            queue = here.launcher_command("queue", "--json")
            if count:
                _hold_tickets(here, count // len(USERS))
            _require(here, queue, count)
            commands = {"launcher": queue, **here.rivals(hosts, "cat /proc/net/unix")}
            contenders = {name: here.timed(argv) for name, argv in commands.items()}
            samples = race(contenders, rounds if hosts < 64 else max(3, rounds - 2))
        rows += [[str(hosts), str(count), *row] for row in comparison(samples)]
    return table(["hosts", "runs that wait", "tool", *COMPARISON], rows)


def _require(here: Place, queue: Sequence[str], count: int) -> None:
    """Exit unless ``launcher queue`` shows so many runs."""
    said = subprocess.run(queue, env=here.env, cwd=here.empty, stdout=subprocess.PIPE, check=True)
    waiting = len(json.loads(said.stdout)["waiting"])
    if waiting != count:
        raise SystemExit(f"{waiting} runs wait, and not {count}")


def _hold_tickets(here: Place, each: int) -> None:
    """Have each user hold as many tickets on all hosts, until the lab is over."""
    hosts = here.lab.hosts.values()
    for host in hosts:
        for uid in USERS:
            words = [sys.executable, "-c", HOLDER, str(uid), str(each), str(len(hosts))]
            host.spawn("env", f"PYTHONPATH={ROOT}", *words)
    for host in hosts:
        for uid in USERS:
            labs.wait_until(
                lambda host=host, uid=uid: host.exists(f"/tmp/held-{uid}"),
                f"tickets of {host.name}",
            )
