"""The agent is executed by the oldest Python that a host may have, and by the newest ones."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from launcher.transport.agent_bundle import OLDEST_PYTHON, agent_files
from support import ROOT, pythons

#: From the oldest one to the newest.
VERSIONS = [f"3.{minor}" for minor in range(OLDEST_PYTHON[1], 15)]


@pytest.mark.thorough
@pytest.mark.parametrize("version", VERSIONS)
def test_the_agent_is_executed(tmp_path: Path, version: str) -> None:
    """Every module is imported, and runs are started, followed, stopped and removed by a relay."""
    python = pythons.find(version)
    for name, content in agent_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    program = ROOT / "tests" / "support" / "agent_program.py"
    ran = subprocess.run(
        [python, "-I", "-S", "-X", "dev", "-W", "error::SyntaxWarning", program, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "LAUNCHER_LOCK_SCOPE": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"python": version}
