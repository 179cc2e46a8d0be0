"""Outputs of any size: memory stays flat while they come."""

from __future__ import annotations

import sys

from lab.test_log_flood import ENOUGH, MEASURE
from support import lab as labs
from support.command import Launcher


def test_memory_stays_flat_however_large_outputs_are(launcher: Launcher, clean: labs.Lab) -> None:
    words = ["--hosts", "lab1", "--framework", "env", "--", "sh", "-c"]
    script = 'head -c 400000000 /dev/urandom >"$LAUNCHER_OUTPUT_DIR/weights"'
    ran = launcher.run(*words, script, within=[sys.executable, "-c", MEASURE])
    assert ran.code == 0, ran.err
    (run,) = (launcher.home / "runs").iterdir()
    assert (run / "outputs" / "weights").stat().st_size == 400_000_000
    assert int(ran.err.split()[-1]) < ENOUGH * 1024
