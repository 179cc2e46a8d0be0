"""Where everything is measured: a lab of real sshd hosts, and the commands a user would type.

Not responsible for measuring. launcher is called as a command, never imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .measure import Sample, run

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))
from support import lab as labs  # noqa: E402

#: What a user can say instead of OpenSSH 9's default (sntrup761: 0.15 s of CPU a connection).
FASTER = "-o KexAlgorithms=curve25519-sha256"
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Place:
    """A lab, an empty work folder, and the launcher's home; all under one scratch folder."""

    lab: labs.Lab
    scratch: Path

    def __post_init__(self) -> None:
        self.inventory = self.scratch / "inventory.yaml"
        self.inventory.write_text(labs.inventory(self.lab, sys.executable))
        self.home = self.scratch / "home"
        self.empty = self.scratch / "empty"
        self.empty.mkdir()
        # Compiled once, as what a user has installed is.
        here = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self.env = {**here, "LAUNCHER_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def names(self, count: int) -> list[str]:
        """The first hosts of the lab: those that ``--nodes`` takes."""
        return list(self.lab.hosts)[:count]

    def launcher(self, nodes: int, *words: str, workdir: Path | None = None) -> list[str]:
        """``launcher run`` on the first hosts; words are options, then the command."""
        where = ["-i", str(self.inventory), "--nodes", str(nodes)]
        code = ["--workdir", str(workdir or self.empty)]
        return [sys.executable, "-m", "launcher", "run", *where, *code, *words]

    def launcher_command(self, name: str, *words: str) -> list[str]:
        """``launcher NAME`` with the lab's inventory."""
        return [sys.executable, "-m", "launcher", name, "-i", str(self.inventory), *words]

    def rivals(self, count: int, command: str) -> dict[str, list[str]]:
        """The same command by each fan-out tool that is here: its defaults, then `FASTER`."""
        found = {}
        for name, extra in (("", ""), (", curve25519", FASTER)):
            options = f"-F {self.lab.ssh_config} {extra}".strip()
            comma = ",".join(self.names(count))
            blank = " ".join(self.names(count))
            append = f"PDSH_SSH_ARGS_APPEND={options}"
            found[f"pdsh{name}"] = ["env", append, "pdsh", "-R", "ssh", "-w", comma, command]
            found[f"clush{name}"] = ["clush", "-o", options, "-w", comma, command]
            found[f"parallel-ssh{name}"] = [
                "parallel-ssh", "-x", options, "-t", "0", "-H", blank, command,
            ]  # fmt: skip
        return {name: argv for name, argv in found.items() if here_or_skipped(name.split(",")[0])}

    def timed(self, argv: Sequence[str], **more: Any) -> Callable[[], Sample]:
        """A contender that also counts what its hosts spent."""

        def once() -> Sample:
            before = self.hosts_cpu()
            sample = run(argv, **{"env": self.env, "cwd": self.empty, **more})
            return replace(sample, hosts=self.hosts_cpu() - before)

        return once

    def hosts_cpu(self) -> float:
        """CPU seconds of all that runs or ran on the hosts, sshd included.

        An ended process counts at the one that waited for it, at last the host's pid 1.
        """
        return sum(map(_cpu_of, self.lab.hosts.values()))

    def run_folder(self) -> Path:
        """Of the latest run."""
        return max((self.home / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)

    def receipt(self) -> dict[str, Any]:
        """Of the latest run."""
        found: dict[str, Any] = json.loads((self.run_folder() / "receipt.json").read_text())
        return found

    def ssh(self, extra: str = "") -> str:
        """``ssh`` with the lab's settings, as a shell would read it."""
        return f"ssh -F {shlex.quote(str(self.lab.ssh_config))} {extra}".strip()

    def by_ssh(self, commands: Sequence[str], extra: str = "") -> list[str]:
        """One shell that runs a command on each of the first hosts at once, and fails when one fails."""
        starts = [
            f"{self.ssh(extra)} {name} {shlex.quote(command)} & p{number}=$!"
            for number, (name, command) in enumerate(zip(self.lab.hosts, commands, strict=False))
        ]
        waits = [f"wait $p{number} || exit 1" for number in range(len(commands))]
        return ["bash", "-c", "\n".join([*starts, *waits])]


def _cpu_of(host: labs.LabHost) -> float:
    ticks = 0
    proc = host.path("/proc")
    for pid in filter(str.isdigit, os.listdir(proc)):
        with contextlib.suppress(OSError):
            fields = (proc / pid / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc(5)
    return ticks / _TICK


def here_or_skipped(tool: str) -> bool:
    """Whether a tool is on PATH; says it when not."""
    if shutil.which(tool):
        return True
    print(f"{tool}: not installed here, skipped", file=sys.stderr)
    return False


@contextlib.contextmanager
def place(hosts: int | Sequence[labs.HostSpec], share: Sequence[Path] = ()) -> Iterator[Place]:
    """A lab of so many hosts, or of these, with this environment (and its torch) and others, read-only, at
    the same path."""
    if reason := labs.missing():
        raise SystemExit(f"no lab of real hosts here: {reason}")
    prefix = Path(sys.prefix)
    share = [ROOT, *([] if prefix.is_relative_to(ROOT) else [prefix]), *share]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        if isinstance(hosts, int):
            hosts = [labs.HostSpec(f"lab{number + 1}") for number in range(hosts)]
        with labs.Lab(hosts, scratch / "lab", share=share) as lab:
            yield Place(lab, scratch)
