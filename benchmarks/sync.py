"""3,000 files that have not changed, to 8 hosts: what it costs to know that.

rsync is measured alone, and followed by the command that one wants to run.
"""

from __future__ import annotations

import random
import statistics
from pathlib import Path

from .measure import COMPARISON, Sample, comparison, race, spread, table
from .place import FASTER, Place, place

HOSTS, FILES, FOLDERS = 8, 3_000, 60


def _fill(code: Path) -> None:
    noise = random.Random(0)
    for number in range(FILES):
        folder = code / f"package{number % FOLDERS}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module_{number}.py").write_bytes(noise.randbytes(noise.randrange(500, 6_000)))


def _rsync(here: Place, code: Path, extra: str = "", then: str = "") -> list[str]:
    ssh = here.ssh(extra)
    lines = [
        f"(rsync -a -e '{ssh}' {code}/ {name}:synced/{then.format(ssh=ssh, name=name)}) & p+=($!)"
        for name in here.names(HOSTS)
    ]
    every = " ".join(f"&& wait ${{p[{number}]}}" for number in range(HOSTS))
    return ["bash", "-c", "\n".join(lines) + f"\ntrue {every}"]


def main(rounds: int) -> str:
    """The table, and the stage of the receipt."""
    stage: list[float] = []
    with place(HOSTS) as here:
        code = here.scratch / "code"
        _fill(code)
        words = ("--framework", "env", "--", "true")
        ours = here.timed(here.launcher(HOSTS, *words, workdir=code))
        empty = here.timed(here.launcher(HOSTS, *words))

        def launcher() -> Sample:
            sample = ours()
            stage.append(here.receipt()["stages"]["sync"])
            return sample

        then = " && {ssh} {name} true"
        samples = race(
            {
                "launcher": launcher,
                "launcher, empty folder": empty,
                "8 rsync": here.timed(_rsync(here, code)),
                "8 rsync, curve25519": here.timed(_rsync(here, code, FASTER)),
                "8 rsync, then ssh true": here.timed(_rsync(here, code, "", then)),
                "8 rsync, then ssh true, curve25519": here.timed(_rsync(here, code, FASTER, then)),
            },
            rounds,
        )
    pairs = zip(samples["launcher"], samples["launcher, empty folder"], strict=True)
    extra = [full.wall - empty.wall for full, empty in pairs]
    rsync = statistics.median(s.wall for s in samples["8 rsync"])
    return "\n".join(
        [
            table(["way", *COMPARISON], comparison(samples)),
            "",
            f"- launcher's sync stage by its receipt: {spread(stage[1:])} s",
            f"- launcher with the files less launcher without: {spread(extra)} s, "
            f"of the 8 rsync: {statistics.median(extra) / rsync:.2f}",
        ]
    )
