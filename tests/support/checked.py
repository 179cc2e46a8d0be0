"""Call `launcher check` as a program does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from support.command import Launcher


@dataclass
class Checked:
    """The report of one `launcher check`."""

    code: int
    told: dict[str, Any]
    text: str = ""

    def of(self, host: str) -> dict[str, dict[str, Any]]:
        """Return the findings of a host, by code."""
        return {f["code"]: f for f in self.told["findings"] if host in f["hosts"]}


#: As a user calls it, but with more patience: many hosts share two cores, and none may seem frozen.
_PATIENT = (
    "import launcher.transport.ssh as s; s.PATIENCE = 15.0; from launcher.cli import main; main()"
)
#: And on a machine that is two minutes behind: a FAKE clock.
BEHIND = "import time; real = time.time; time.time = lambda: real() - 120; " + _PATIENT


def check(launcher: Launcher, *words: str, program: str = _PATIENT) -> Checked:
    """Return the report of `launcher check` for programs."""
    done = subprocess.run(
        [sys.executable, "-c", program, "check", "-i", launcher.inventory, "--json", *words],
        cwd=launcher.work,
        env=launcher.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    return Checked(done.returncode, json.loads(done.stdout))
