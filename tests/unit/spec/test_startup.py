"""What our own processes leave out of asyncssh is there again where something needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """\
import sys
from launcher.spec import startup
startup.quicken()
import asyncssh
print(asyncssh.SSHClientConnection.__name__, *(name for name in sys.modules if name in sys.argv[1:]))
print(getattr(asyncssh, "told", ""), startup.quicken.__name__)
import ctypes.util
print(ctypes.util.find_library("c") is not None)
import asyncssh.sftp
print(asyncssh.sftp.SFTPClient.__module__)
"""
HEAVY = ("asyncssh.sftp", "asyncssh.scp", "asyncssh.crypto.x509", "argparse", "cryptography.x509")
#: Another asyncssh, which makes use of SFTP as it is imported.
OTHER = {
    "__init__.py": "from .sftp import SFTPClient\ntold = SFTPClient.told\nclass SSHClientConnection: pass\n",
    "sftp.py": "class SFTPClient:\n    told = 'the real one'\n",
}


def run(path: Path | None = None) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(path)!r})\n{PROGRAM}" if path else PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_asyncssh_comes_without_what_nobody_uses() -> None:
    assert run() == ["SSHClientConnection", " quicken", "True", "asyncssh.sftp"]


def test_an_asyncssh_that_needs_it_gets_it(tmp_path: Path) -> None:
    (tmp_path / "asyncssh").mkdir()
    for name, text in OTHER.items():
        (tmp_path / "asyncssh" / name).write_text(text)
    found = run(tmp_path)
    assert found[1:] == ["the real one quicken", "True", "asyncssh.sftp"]
