"""Bundle the agent for a host: its files, their name there, and the commands to install and start it."""

from __future__ import annotations

import functools
import hashlib
import io
import shlex
from pathlib import Path

from ..spec.model import Host

OLDEST_PYTHON = (3, 8)

_CHECK_PYTHON = f"""\
import sys
if sys.version_info < {OLDEST_PYTHON}:
    print("launcher-old-python %d.%d" % sys.version_info[:2])
    sys.exit(0)
"""

# A file that a full disk or a power cut has cut off is better found here than by its import.
_START_FILE = (
    _CHECK_PYTHON
    + """\
import os
here = os.path.dirname(os.path.abspath(__file__))
try:
    whole = all(os.stat(os.path.join(here, name)).st_size == size for name, size in SIZES.items())
except OSError:
    whole = False
if not whole:
    print("launcher-no-agent")
    sys.exit(0)
sys.path.insert(0, here)
from agent.main import main
main()
"""
)

# $1 is the inventory's workdir, $2 its python, $3 the agent's name.
_PLACES = """\
case $1 in "~"*) d=$HOME${1#"~"};; /*) d=$1;; *) d=$HOME/$1;; esac
case $2 in "~"*) p=$HOME${2#"~"};; *) p=$2;; esac
"""

_START = (
    _PLACES
    + """\
command -v "$p" >/dev/null 2>&1 || { echo launcher-no-python; exit 0; }
[ -s "$d/agent/$3/start.py" ] || { echo launcher-no-agent; exit 0; }
exec "$p" -I -S "$d/agent/$3/start.py" relay "$d"
"""
)

_INSTALL = (
    _PLACES
    + """\
umask 077
mkdir -p "$d/agent" && exec "$p" -I -S -c "$4" "$d/agent/$3"
"""
)

# Unpacked, because Python compiles what it imports from a zip again at every start.
_UNPACK = (
    _CHECK_PYTHON
    + """\
import io, os, shutil, zipfile
target = sys.argv[1]
scratch = "%s.%d" % (target, os.getpid())
try:
    archive = zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read()))
    for name in archive.namelist():
        path = os.path.join(scratch, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(archive.read(name))
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave empty files
    try:
        os.rename(scratch, target)
    except OSError:
        sizes = [(os.path.join(target, one.filename), one.file_size) for one in archive.infolist()]
        if all(os.path.exists(path) and os.stat(path).st_size == size for path, size in sizes):
            shutil.rmtree(scratch)  # another launcher was faster
        else:  # what is there is damaged
            os.rename(target, scratch + ".damaged")
            os.rename(scratch, target)
            shutil.rmtree(scratch + ".damaged", ignore_errors=True)
except OSError as error:
    shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(str(error))
"""
)


@functools.lru_cache(maxsize=1)
def _files() -> dict[str, bytes]:
    folder = Path(__file__).parent.parent / "agent"
    files = {f"agent/{file.relative_to(folder).as_posix()}": file for file in folder.rglob("*.py")}
    texts = {name: files[name].read_bytes() for name in sorted(files)}
    sizes = {name: len(text) for name, text in texts.items()}
    return {"start.py": f"SIZES = {sizes}\n{_START_FILE}".encode(), **texts}


@functools.lru_cache(maxsize=1)
def agent_name() -> str:
    """Return the name of the agent's folder on a host, by the hash of its content."""
    content = hashlib.sha256()
    for name, data in _files().items():
        content.update(b"%s %d\n%s" % (name.encode(), len(data), data))
    return f"agent-{content.hexdigest()[:16]}"


def agent_zip() -> bytes:
    """Return the agent as a zip, for a host that does not have it yet."""
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in _files().items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def start_command(host: Host) -> str:
    """Return a command that starts a relay, or prints ``launcher-no-python`` or ``-no-agent``."""
    return _command(_START, host)


def install_command(host: Host) -> str:
    """Return a command that unpacks the zip on its stdin to where :func:`start_command` looks."""
    return _command(_INSTALL, host, _UNPACK)


def _command(script: str, host: Host, *more: str) -> str:
    """Return a command line for any login shell."""
    words = ["/bin/sh", "-c", script, "sh", host.workdir, host.python, agent_name(), *more]
    return "exec " + " ".join(shlex.quote(word) for word in words)
