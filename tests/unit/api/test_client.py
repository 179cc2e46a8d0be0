"""Errors of ``Client`` say what to do, before any host is reached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import ROOT


def test_a_dry_run_and_a_list_import_no_ssh(tmp_path: Path) -> None:
    """asyncssh takes a third of a second; only what goes to hosts pays for it."""
    (tmp_path / "lab.yaml").write_text("hosts: {a: {}}\n")
    for words in (["run", "-i", "lab.yaml", "--dry-run", "true"], ["ls"], ["show", "x"]):
        program = (
            "import sys\nfrom launcher.cli import main\n"
            f"sys.argv[1:] = {words!r}\n"
            "try: main()\nexcept SystemExit: pass\n"
            "assert 'asyncssh' not in sys.modules and 'cryptography' not in sys.modules\n"
        )
        env = {**os.environ, "LAUNCHER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-c", program]
        ran = subprocess.run(
            argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, (words, ran.stderr)
