"""A whole training job on 2 hosts with 2 processes each, against the same typed into two terminals.

By hand the code is on the hosts already, the right interface is known, and nothing comes back.
"""

from __future__ import annotations

import itertools
import sys

from .measure import COMPARISON, comparison, race, ratios, run, spread, table
from .place import FASTER, ROOT, Place, place

NODES, PROCESSES = 2, 2
CODE = ROOT / "examples" / "ddp_digits"
_ports = itertools.count(23456)


def by_hand(here: Place, extra: str = "") -> list[str]:
    """One shell that runs both commands at once, and fails when one fails."""
    address = here.lab.hosts["lab1"].address
    torchrun = (
        f"{sys.executable} -m torch.distributed.run --nnodes {NODES} --nproc-per-node {PROCESSES}"
        f" --master-addr {address} --master-port {next(_ports)}"
    )
    return here.by_ssh(
        [
            "cd code && GLOO_SOCKET_IFNAME=eth0 LAUNCHER_OUTPUT_DIR=$(mktemp -d) "
            f"{torchrun} --node-rank {rank} train.py --epochs 1"
            for rank in range(NODES)
        ],
        extra,
    )


def main(rounds: int) -> str:
    """The table."""
    with place(NODES) as here:
        for host in here.lab.hosts.values():
            host.write("/root/code/train.py", (CODE / "train.py").read_bytes())

        def ours(framework: str) -> list[str]:
            options = ["--nproc-per-node", str(PROCESSES), "--framework", framework]
            script = ["train.py", "--epochs", "1"]
            return here.launcher(NODES, *options, *script, workdir=CODE)

        samples = race(
            {
                "launcher --framework torchrun": here.timed(ours("torchrun")),
                "launcher --framework torch": here.timed(ours("torch")),
                "by hand: ssh, torchrun": lambda: here.timed(by_hand(here))(),
                "by hand, curve25519": lambda: here.timed(by_hand(here, FASTER))(),
            },
            rounds,
        )
        run(ours("torchrun"), env=here.env, cwd=here.empty)
        stages = here.receipt()["stages"]
    hand = samples["by hand: ssh, torchrun"]
    rows = comparison(samples, "launcher --framework torchrun")
    goals = [
        f"`{name}` takes {spread(ratios(samples[name], hand))} of the time by hand (goal: {goal})"
        for name, goal in (
            ("launcher --framework torchrun", "at most 1.10"),
            ("launcher --framework torch", "at most 0.95"),
        )
        if name in samples
    ]
    notes = [*goals, f"stages of one more with torchrun: {stages}"]
    return "\n".join([table(["way", *COMPARISON], rows), "", *(f"- {note}" for note in notes)])
