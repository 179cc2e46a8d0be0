"""Looking at hosts before a run, against Ansible's own facts of them.

`ansible -m setup` knows nothing of GPUs, torch or the network between hosts; `launcher check` does not
list mounts and devices. Ansible forks as many processes as there are hosts here, and keeps each
connection open for the length of its command.
"""

from __future__ import annotations

from .measure import COMPARISON, comparison, race, table
from .place import Place, here_or_skipped, place

SIZES = (2, 8, 32, 64)


def main(rounds: int, sizes: tuple[int, ...] = SIZES) -> str:
    """The table."""
    rows = []
    for size in sizes:
        with place(size) as here:
            contenders = {name: here.timed(argv) for name, argv in _commands(here, size).items()}
            samples = race(contenders, rounds if size < 32 else max(1, rounds - 2))
        rows += [[str(size), *row] for row in comparison(samples)]
    return table(["hosts", "tool", *COMPARISON], rows)


def _commands(here: Place, size: int) -> dict[str, list[str]]:
    ours = here.launcher_command("check", "--hosts", ",".join(here.names(size)))
    found = {"launcher": [*ours, "--no-pairs"], "launcher, with all pairs": ours}
    options = f"-F {here.lab.ssh_config} -o ControlMaster=auto -o ControlPersist=1s"
    settings = [
        f"ANSIBLE_SSH_ARGS={options}",
        f"ANSIBLE_HOME={here.scratch / 'ansible'}",
        "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3",
    ]
    names = ",".join(here.names(size)) + ","
    if here_or_skipped("ansible"):
        found["ansible -m setup"] = [
            "env", *settings, "ansible", "-i", names, "all", "-f", str(size), "-m", "setup",
        ]  # fmt: skip
    return found
