"""Earlier releases of launcher, taken from git, to be tested with this one."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from support import ROOT

#: The last commit of each version before this one.
RELEASES = {"0.1": "a1e93a33c297e602d77bb8dded86a28387f5a48d"}


def unpack(version: str, folder: Path) -> str | None:
    """Put a release into ``folder``, to be run with PYTHONPATH; return why it cannot be done."""
    commit = RELEASES[version]
    asked = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, "launcher"], capture_output=True, check=False
    )
    if asked.returncode:
        return f"git knows no {commit[:7]} here: a clone with the whole history does"
    with tarfile.open(fileobj=io.BytesIO(asked.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return None
