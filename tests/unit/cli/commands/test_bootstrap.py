"""`launcher bootstrap` where Fabric is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import ROOT


def test_without_fabric_it_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "fabric.py").write_text("raise ImportError('no fabric')\n")
    (tmp_path / "inventory.yaml").write_text("hosts: [gpu1]\n")
    ran = subprocess.run(
        [sys.executable, "-m", "launcher", "bootstrap", "-i", str(tmp_path / "inventory.yaml")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "LAUNCHER_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 2
    assert "pip install 'launcher-ssh[bootstrap]'" in ran.stderr
