"""Ctrl-C as modules are imported, or inside a callback, and other settings of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

DROPPED = """
import os, signal, sys, time, weakref
from launcher import cli

class Import: pass

def code():
    lock = Import()
    callback = weakref.ref(lock, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del lock
    time.sleep(30)
    return 0

cli._code = code
cli.main()
"""


def test_ctrl_c_in_a_callback_is_not_forgotten(tmp_path: Path) -> None:
    """Python ends every import with one, and drops an exception in it, KeyboardInterrupt as well."""
    ran = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, timeout=60, cwd=ROOT)
    assert ran.returncode == -signal.SIGINT, ran.stderr
    assert b"Exception ignored" not in ran.stderr


INTERRUPTED = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0 if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else 30)
raise SystemExit(7)
"""


@pytest.mark.parametrize(("ignored", "code"), [("", -signal.SIGINT), ("trap '' INT; ", 7)])
def test_ctrl_c_while_python_imports_prints_no_traceback(
    ignored: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "click.py").write_text(INTERRUPTED)
    ran = subprocess.run(
        ["sh", "-c", f'{ignored}exec "$0" -m launcher ls', sys.executable],
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        cwd=tmp_path,
    )
    assert (ran.returncode, ran.stderr) == (code, b"")


LIMITED = """
import resource, sys
from launcher import cli
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
cli._code = lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 256
cli.main()
"""


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    assert subprocess.run([sys.executable, "-c", LIMITED], timeout=60, cwd=ROOT).returncode == 0
