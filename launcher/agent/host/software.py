"""Reports the packages of the Python that the inventory names.

The agent runs without site-packages, so it asks another interpreter, which imports the standard
library only: torch alone takes seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time

from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds for an interpreter to answer: a network file system may be slow.
PATIENCE = 15.0
MARK = "launcher-software "

# Runs in the host's Python, with its site-packages. argv[1:] are modules to look for.
_ASK = r"""
import importlib.util, json, os, runpy, sys
sys.path = [p for p in sys.path if p not in ("", os.getcwd())]
def spec(name):
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
def version(*names):
    from importlib import metadata
    for name in names:
        try:
            return metadata.version(name)
        except Exception:
            pass
found = {"executable": sys.executable, "missing": [m for m in sys.argv[1:] if spec(m) is None]}
torch = spec("torch")
if torch is not None and torch.origin:
    try:
        file = runpy.run_path(os.path.join(os.path.dirname(torch.origin), "version.py"))
        found.update(torch=str(file["__version__"]), cuda=file.get("cuda"), hip=file.get("hip"))
    except Exception:
        found["torch"] = version("torch") or "broken"
    nccl = ["nvidia-nccl-cu%d" % n for n in (13, 12, 11)]
    found["nccl"] = version(*nccl)
if spec("horovod") is not None:
    found["horovod"] = version("horovod") or "unknown"
print(MARK + json.dumps(found))
""".replace("MARK", repr(MARK))


def packages(modules: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Return ``{"executable", "missing", "torch", "cuda", "hip", "nccl", "horovod"}``, where installed.

    ``missing`` are those of ``modules`` (top-level names) that it cannot find with the variables
    ``env``. ``{"error": text, "late"}`` when the interpreter did not answer; ``late`` if it still ran.
    """
    argv = [sys.executable, "-c", _ASK] + list(modules)
    started = time.monotonic()
    output = processes.output_of(argv, PATIENCE, dict(os.environ, **env))
    for line in (output or "").splitlines():
        if line.startswith(MARK):
            found: dict[str, Any] = json.loads(line[len(MARK) :])
            return found
    late = output is None and time.monotonic() - started >= PATIENCE
    how = "did not answer within %.0f s" % PATIENCE if late else "failed without an answer"
    return {"error": "%s %s" % (sys.executable, how), "late": late}
