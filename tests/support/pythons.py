"""The Pythons of this machine, by version: those of hosts are older or newer than ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def find(version: str) -> str:
    """Return a Python of this version, from PATH, pyenv, uv or
    `install-python.sh`. Skip the test if there is none."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python3"))
    candidates = [str(path) for path in pyenv]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    unpacked = cache / "launcher" / f"python{version}/usr/bin/python{version}"
    if unpacked.exists():
        candidates.append(str(unpacked))
    on_path = shutil.which(f"python{version}")
    if on_path:
        candidates.append(on_path)
    if not candidates and (uv := shutil.which("uv")):
        told = subprocess.run(
            [uv, "python", "find", "--no-python-downloads", version],
            capture_output=True,
            text=True,
            check=False,
        )
        candidates += told.stdout.split("\n")[:1] if told.returncode == 0 else []
    for python in candidates:
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        told = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:
            return python
    pytest.skip(f"no Python {version} on PATH, under ~/.pyenv/versions, by uv or ~/.cache/launcher")
