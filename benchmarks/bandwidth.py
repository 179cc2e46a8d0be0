"""The bandwidth that `launcher check` tells of a pair, against iperf3 on the same two hosts.

iperf3 runs for a second before and after each check, and the mean of both counts: a link without a
limit is as fast as the processors copy, which other work on the machine changes from second to second.
How much is in the last column: what iperf3 says after each check by what it said before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .measure import spread, table
from .place import Place, here_or_skipped, labs, place

#: The links: a name, and Mbit/s of a limit on both hosts (0 for none).
LINKS = (("without a limit", 0), ("1 Gbit/s", 1000), ("100 Mbit/s", 100))


def main(rounds: int) -> str:
    """The table."""
    if not here_or_skipped("iperf3"):
        return "no iperf3 here"
    rows = []
    with place(2) as here:
        one, two = (here.lab.hosts[name] for name in here.names(2))
        with _server(two):
            for name, limit in LINKS:
                one.slow(limit)
                two.slow(limit)
                ours, before, after = zip(
                    *(_round(here, one, two) for _ in range(rounds)), strict=True
                )
                theirs = [(a + b) / 2 for a, b in zip(before, after, strict=True)]
                columns = (ours, theirs, _ratios(ours, theirs), _ratios(after, before))
                rows.append([name, *map(spread, columns)])
    told = ["launcher check, Gbit/s", "iperf3", "launcher / iperf3", "iperf3 / iperf3"]
    return table(["link", *told], rows)


def _ratios(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(some, others, strict=True)]


def _inside(host: labs.LabHost, *words: str) -> list[str]:
    return ["nsenter", f"--target={host.pid}", "--net", "--", *words]


@contextmanager
def _server(host: labs.LabHost) -> Iterator[None]:
    command = _inside(host, "iperf3", "--server", "--forceflush")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        for line in server.stdout:
            if "listening" in line:
                break
        yield
        server.kill()


def _round(here: Place, one: labs.LabHost, two: labs.LabHost) -> tuple[float, float, float]:
    before = _iperf3(one, two)
    return _check(here), before, _iperf3(one, two)


def _iperf3(one: labs.LabHost, two: labs.LabHost) -> float:
    command = _inside(one, "iperf3", "--client", two.address, "--time", "1", "--json")
    said = subprocess.run(command, check=True, capture_output=True).stdout
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9


def _check(here: Place) -> float:
    names = here.names(2)
    command = here.launcher_command("check", "--hosts", ",".join(names), "--json")
    done = subprocess.run(command, env=here.env, cwd=here.empty, capture_output=True, check=False)
    ways = {(p["host"], p["there"]): p["bandwidth"] for p in json.loads(done.stdout)["pairs"]}
    if ways[names[0], names[1]] is None:
        print("check: no bandwidth", file=sys.stderr)
        return 0.0
    return float(ways[names[0], names[1]]) * 8 / 1e9
