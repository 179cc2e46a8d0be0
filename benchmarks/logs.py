"""8 hosts print 200,000 lines of 100 bytes each, as fast as they can: who is done when, and is all
of it there?
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections import defaultdict
from pathlib import Path

from .measure import COMPARISON, CommandError, Sample, comparison, race, table
from .place import Place, place

HOSTS, LINES, WIDTH = 8, 200_000, 100
FILE = "/var/tmp/lines"


def text_of(host: str) -> bytes:
    """The same lines every time, other ones on every host."""
    noise = random.Random(host)
    fill = base64.b64encode(noise.randbytes(WIDTH)).decode()
    lines = []
    for number in range(LINES):
        start = f"{host} line {number:06d} {noise.random():.12f} "
        lines.append(start + fill[: WIDTH - 1 - len(start)])
    return ("\n".join(lines) + "\n").encode()


def _digest(data: bytes) -> tuple[int, str]:
    return data.count(b"\n"), hashlib.sha256(data).hexdigest()


def _by_prefix(file: Path) -> dict[str, tuple[int, str]]:
    """What pdsh and clush wrote, host by host without "host: "."""
    parts: dict[str, list[bytes]] = defaultdict(list)
    with file.open("rb") as stream:
        for line in stream:
            host, _, rest = line.partition(b": ")
            parts[host.decode(errors="replace")].append(rest)
    return {host: _digest(b"".join(lines)) for host, lines in parts.items()}


def _run_logs(here: Place) -> dict[str, tuple[int, str]]:
    folder = here.run_folder() / "logs" / "attempt-0"
    names = here.names(HOSTS)
    return {
        name: _digest((folder / f"node-{rank}.out").read_bytes()) for rank, name in enumerate(names)
    }


def main(rounds: int) -> str:
    """Two tables: the output thrown away, and into a file."""
    with place(HOSTS) as here:
        true = {}
        for name, host in here.lab.hosts.items():
            text = text_of(name)
            host.write(FILE, text)
            true[name] = _digest(text)
        ours = here.launcher(HOSTS, "--framework", "env", "--", "cat", FILE)
        rivals = here.rivals(HOSTS, f"cat {FILE}")
        commands = {"launcher": ours, **rivals}
        # parallel-ssh has no stream of marked lines; the key exchange is nothing beside 160 MB.
        commands = {n: a for n, a in commands.items() if n in ("launcher", "pdsh", "clush")}
        wrong: dict[str, int] = dict.fromkeys(commands, 0)
        checked: dict[str, int] = dict.fromkeys(commands, 0)

        def to_file(name: str) -> Sample:
            output = here.scratch / "output"
            with output.open("wb") as file:
                sample = here.timed(commands[name], out=file)()
            found = _run_logs(here) if name == "launcher" else _by_prefix(output)
            checked[name] += HOSTS
            wrong[name] += sum(found.get(host) != true[host] for host in true)
            lines = output.read_bytes().count(b"\n")
            if name == "launcher" and lines < HOSTS * LINES:
                raise CommandError(f"only {lines} lines on the screen")
            return sample

        away = race({name: here.timed(argv) for name, argv in commands.items()}, rounds)
        kept = race({n: (lambda n=n: to_file(n)) for n in commands}, rounds)
    complete = [
        f"- {name}: {checked[name] - wrong[name]} of {checked[name]} logs arrived complete "
        "(lines and SHA-256)"
        for name in commands
        if checked[name]
    ]
    return "\n".join(
        [
            "Output to /dev/null (launcher still writes every log under its run folder):\n",
            table(["tool", *COMPARISON], comparison(away)),
            "\nOutput to a file:\n",
            table(["tool", *COMPARISON], comparison(kept)),
            "",
            *complete,
        ]
    )
