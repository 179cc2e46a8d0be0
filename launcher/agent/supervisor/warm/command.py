"""The command of a Python that imports ahead of ranks, and what bash makes of its environment."""

from __future__ import annotations

import os
import select
import sys
import time

from ...base.lean import signal
from ...processes import processes
from . import rules
from .asked import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .asked import Asked

#: The folder of sitecustomize.py, and the variable by which it knows that it is to preload.
INSIDE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "inside"))
VARIABLE = "LAUNCHER_PRELOAD"
#: Bytes for variables of a rank, where others see them.
ROOM = 2048
#: The helper's end of the line: the descriptor behind the standard streams.
LINE = 3
#: Seconds for bash to make an environment.
PREPARES = 10.0
#: Starts Python only if it gets as far as our sitecustomize: else it would execute the script. It sets
#: what makes a Python preload: one that bash runs before, as conda is, must not. No shell does it, which
#: would change variables; this Python may have changed one, too (LC_CTYPE). The variable that makes a
#: Python preload is the last of all, with room for those of a rank: see inside/preload.py.
_TRY = """\
import os, sys
asked, inside, program = map(os.fsencode, sys.argv[1:4])
with open("/proc/self/environ", "rb") as file:
    env = dict(one.split(b"=", 1) for one in file.read().split(b"\\0") if b"=" in one)
if asked.startswith(b"plain "):
    behind = [env.pop(b"PYTHONPATH")] if b"PYTHONPATH" in env else []
    env[b"PYTHONPATH"] = b":".join([inside] + behind)
env[b"%s"] = b"try"
trial = [program, b"-c", b"raise SystemExit(1)"]
pid = os.posix_spawnp(program, trial, env)
if os.waitpid(pid, 0)[1]:
    sys.exit("%%s does not run sitecustomize" %% sys.argv[3])
env[b"%s"] = asked.ljust(%d)
os.execvpe(program, sys.argv[3:], env)
""" % (VARIABLE, VARIABLE, ROOM)
#: Shows the environment with which it was started.
_SHOW = """\
import sys
with open("/proc/self/environ", "rb") as file:
    sys.stdout.buffer.write(file.read())
"""


def command(asked: Asked, is_kept: bool) -> list[str]:
    """Return the command of a helper, which is that of a rank but for what makes it one."""
    known = rules.command(asked.argv)
    assert known is not None
    prepared, python, arguments = known
    if is_kept:
        arguments = [note("has imported %s" % ", ".join(asked.modules))]
    task = ("stacks" if asked.stacks else "plain", LINE, ",".join(asked.modules))
    words = "%s %d %s" % task + (" kept" if is_kept else "")
    own = [sys.executable, "-I", "-S", "-c", _TRY, words, INSIDE]
    return [*prepared, *own, *python, *arguments]


def prepared(python: list[str], env: dict[str, str], cwd: str) -> dict[str, str]:
    """Return what a Python has of ``env`` that bash prepares. Raises OSError where it takes too long."""
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        argv = [*python, "-I", "-S", "-c", _SHOW]
        pid = processes.start_with(processes.Launch(argv, env, cwd), [null, writer, null])
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
        os.close(null)
    text, deadline = b"", time.monotonic() + PREPARES
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            data = pipe.read(1 << 16)
            if not data:
                break
            text += data
        else:
            text = b""
    processes.send([pid, *processes.descendants(pid)], signal.SIGKILL)
    os.waitpid(pid, 0)
    if not text:
        raise OSError(0, "it shows no environment")
    return variables(text)


def variables(text: bytes) -> dict[str, str]:
    """Return the variables of a text as in /proc/PID/environ."""
    pairs = (os.fsdecode(one).partition("=") for one in text.split(b"\0"))
    return {name: value for name, equals, value in pairs if equals}
