"""Large files, from one host and from four at once, and to them.

Outputs by ``launcher pull`` of a run that has ended, and a folder by ``launcher push``, against ``rsync -a -e
ssh`` of all hosts at once: with OpenSSH's own choice of a cipher, and with the one that launcher takes.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .measure import COMPARISON, Sample, comparison, race, run, spread, table
from .place import Place, place

SIZES = (1, 4)
#: Checkpoints of each host, and MB of each.
FILES, MEGABYTES = 4, 125
#: What launcher takes where both machines have AES in hardware.
GCM = "-c aes128-gcm@openssh.com"
#: Each file twice: where launcher finds it, and where rsync does.
_WRITE = """
mkdir -p /root/plain
for n in $(seq {files}); do
    head -c {megabytes}000000 /dev/urandom | tee "$LAUNCHER_OUTPUT_DIR/$LAUNCHER_HOST-$n.pt" >/root/plain/$n.pt
done
"""


def main(rounds: int) -> str:
    """A table each: outputs that are new, the same again, a folder that goes out; and the launcher's memory."""
    new, same, out, memory = [], [], [], []
    with place(max(SIZES)) as here:
        folder = here.scratch / "folder"
        _fill(folder)
        for size in SIZES:
            ways = _from_hosts(here, size)
            found = race({name: _anew(here, argv) for name, argv in ways.items()}, rounds)
            new += _rows(found, size)
            memory.append([str(size), "from", _peak(found)])
            found = race({name: here.timed(argv) for name, argv in ways.items()}, rounds)
            same += _rows(found, size)
            ways = _to_hosts(here, size, folder)
            found = race({name: _anew(here, argv) for name, argv in ways.items()}, rounds)
            out += _rows(found, size)
            memory.append([str(size), "to", _peak(found)])
    head = ["hosts", "way", *COMPARISON, "MB/s"]
    return "\n\n".join(
        [
            f"{FILES} files of {MEGABYTES} MB from each host:",
            table(head, new),
            "The same again, unchanged:",
            table(head[:-1], [row[:-1] for row in same]),
            "As much from here to each host:",
            table(head, out),
            table(["hosts", "", "launcher, peak RSS, MiB"], memory),
        ]
    )


def _fill(folder: Path) -> None:
    folder.mkdir()
    noise = random.Random(0)
    for number in range(FILES):
        with (folder / f"{number}.pt").open("wb") as file:
            for _ in range(MEGABYTES):
                file.write(noise.randbytes(1_000_000))


def _from_hosts(here: Place, size: int) -> dict[str, list[str]]:
    """The same files by each way. A run writes them first, and leaves them on its hosts."""
    script = _WRITE.format(files=FILES, megabytes=MEGABYTES)
    words = ("--keep-on-host", "*", "--framework", "env", "--", "sh", "-c", script)
    run(here.launcher(size, *words), env=here.env, cwd=here.empty)
    to = here.scratch / "pulled"
    pull = [sys.executable, "-m", "launcher", "pull", here.run_folder().name, f"{to}/launcher"]
    return {
        "launcher": [*pull, "--only", "*"],
        "rsync": _at_once(here, size, "{name}:/root/plain/ " + f"{to}/rsync/{{name}}/"),
        "rsync, aes128-gcm": _at_once(
            here, size, "{name}:/root/plain/ " + f"{to}/gcm/{{name}}/", GCM
        ),
    }


def _to_hosts(here: Place, size: int, folder: Path) -> dict[str, list[str]]:
    hosts = ("--hosts", ",".join(here.names(size)))
    return {
        "launcher": here.launcher_command("push", str(folder), *hosts, "--to", "/root/pushed/here"),
        "rsync": _at_once(here, size, f"{folder}/ {{name}}:/root/pushed/"),
        "rsync, aes128-gcm": _at_once(here, size, f"{folder}/ {{name}}:/root/pushed/", GCM),
    }


def _at_once(here: Place, size: int, words: str, extra: str = "") -> list[str]:
    """One rsync for each host, with ``{name}`` in its words."""
    starts = [
        f"rsync -a --mkpath -e '{here.ssh(extra)}' {words.format(name=name)} & p{number}=$!"
        for number, name in enumerate(here.names(size))
    ]
    waits = [f"wait $p{number} || exit 1" for number in range(size)]
    return ["bash", "-c", "\n".join([*starts, *waits])]


def _anew(here: Place, argv: Sequence[str]) -> Callable[[], Sample]:
    """A contender that finds nothing of its files where they go."""
    timed = here.timed(argv)

    def once() -> Sample:
        shutil.rmtree(here.scratch / "pulled", ignore_errors=True)
        for host in here.lab.hosts.values():
            host.run("rm", "-rf", "/root/pushed")
        return timed()

    return once


def _rows(samples: dict[str, list[Sample]], size: int) -> list[list[str]]:
    total = size * FILES * MEGABYTES
    return [
        [str(size), *row, spread([total / one.wall for one in samples[row[0]]], ".0f")]
        for row in comparison(samples)
    ]


def _peak(samples: dict[str, list[Sample]]) -> str:
    return spread([one.rss for one in samples["launcher"]], ".0f")
