"""Bundle the agent for a host: its files, their name there, and the command that starts it."""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..spec.environments import CONDA_BASES, conda_name
from ..spec.model import Host
from . import login_shell, program_notes
from .agent_parts import REST

_FOLDER = Path(__file__).parent.parent / "agent"

#: The oldest Python that the agent runs on.
OLDEST_PYTHON = (3, 8)

_CHECK_PYTHON = f"""\
import sys
if sys.version_info < {OLDEST_PYTHON}:
    print("launcher-old-python %d.%d" % sys.version_info[:2])
    sys.exit(0)
"""

_START_FILE = (
    _CHECK_PYTHON
    + """\
import os
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from agent.main import main
main()
"""
)

# Our Python text comes by the environment: a command line is what `ps` shows.
_EXECUTE = 'import os; exec(os.environ.pop("LAUNCHER_START"))'

# $d is the folder, $p the Python, $1 the agent's name, $2 our Python text.
_START = f"""\
printf '\\n{login_shell.MARKER}\\n'
command -v "$p" >/dev/null 2>&1 || {{ echo launcher-no-python; exit 0; }}
LAUNCHER_START=$2 exec "$p" -I -S -c '{_EXECUTE}' "$d/agent/$1/start.py" relay "$d"
"""


@functools.lru_cache(maxsize=1)
def _trust() -> str:
    """Return Python text that sets TRUST to the text of agent/base/trust.py."""
    source = (_FOLDER / "base/trust.py").read_text("ascii")
    return f"{_CHECK_PYTHON}import os\nTRUST = {source!r}\n"


def weakness_program() -> str:
    """Return Python text that prints why other users could change the folder in its argument, or
    nothing."""
    return f"{_trust()}exec(TRUST)\nprint(ascii(weakness(sys.argv[1]) or '')[1:-1])\n"


# $n is the name of a conda environment; sets $p to its Python. conda lists its environments in a file.
_CONDA = (
    CONDA_BASES
    + """\
p= q= l=$HOME/.conda/environments.txt
look() {
  if [ -n "$p" ]; then return; fi
  if [ -x "$1/bin/python" ]; then p=$1/bin/python; elif [ -d "$1/conda-meta" ]; then q=$1; fi
}
if [ -r "$l" ]; then
  while IFS= read -r e; do case $e in */"$n") look "$e";; esac; done <"$l"
fi
b=$(launcher_bases)
while IFS= read -r e; do
  case $n:$e in *:) ;; base:*) look "$e";; *) look "$e/envs/$n";; esac
done <<END
$b
END
if [ -z "$p" ] && [ -n "$q" ]; then echo "launcher-no-conda-python $q"; exit 0; fi
if [ -z "$p" ]; then
  k=$({ cat "$l"; printf '%s\\n' "$b" | while IFS= read -r e; do ls -d "$e"/envs/*; done; } 2>/dev/null |
    sed -n 's|.*/envs/\\([^/ ]*\\)/*$|\\1|p' | sort -u | head -n 20 | tr '\\n' ' ')
  echo "launcher-no-conda $n $k"; exit 0
fi
"""
)

# Before anything of the folder is executed. The relay runs in this same interpreter. A host compiles
# this at every start: what is rarely needed is text in it (TRUST), or comes later (installing.py).
_LOOK_AND_RELAY = """\
target, root = os.path.dirname(sys.argv[1]), sys.argv[3]

def is_plain(place):  # as nearly always: no link on the way, and nobody else may write to any folder
    names = place.split("/")
    if names[0] or not all(names[1:]) or not {".", ".."}.isdisjoint(names):
        return False
    try:
        for end in range(1, len(names) + 1):
            about = os.lstat("/".join(names[:end]) or "/")
            if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o170022 != 0o040000:
                return False
    except OSError:
        return False
    return True

def trust():
    made = {}
    exec(TRUST, made)
    return made

def require_own():
    for place in (root, target, root + "/code", root + "/runs"):
        found = None if is_plain(place) else trust()["weakness"](place)
        if found:
            print("launcher-unsafe-folder " + ascii(found)[1:-1])
            sys.exit(0)

def is_whole(listed):  # what a full disk or a power cut cut off is better found here than by its import
    try:
        with open(target + "/" + listed) as file:
            count, *lines = file.read().splitlines()
        sizes = [line.split(" ", 1) for line in lines]
        is_same = all(os.stat(target + "/" + name).st_size == int(size) for size, name in sizes)
        return is_same and len(lines) == int(count)
    except (OSError, ValueError):
        return False

def taken(size):  # nothing beyond it: the rest of stdin is for the relay
    data = bytearray()
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            sys.exit("the connection was lost")
        data += piece
    return bytes(data)

def block():
    return taken(int(taken(LENGTH)))

def install():
    made = {"__name__": "installing"}
    exec(block(), made)
    sizes, packed = block(), block()
    try:
        trust()["make"](os.path.dirname(target))
        made["install"](target, made["FIRST"], sizes, packed)
    except OSError as error:
        sys.exit(str(error))

require_own()
if not is_whole("files"):
    print("launcher-no-agent", flush=True)
    install()
    require_own()
sys.argv[1:] = sys.argv[2:] + ["whole"] * is_whole("rest")
sys.path.insert(0, target)
from agent.main import main
main()
"""

#: Digits in front of the agent that say how many bytes it has.
_LENGTH = 10


@functools.lru_cache(maxsize=1)
def _files() -> dict[str, bytes]:
    found = {name: entry.path for name, entry in _sources(os.fspath(_FOLDER), "agent/")}
    return {
        "start.py": _START_FILE.encode(),
        **{name: Path(found[name]).read_bytes() for name in sorted(found)},
    }


def _sources(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield prefix + entry.name, entry
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _sources(entry.path, f"{prefix}{entry.name}/")


@functools.lru_cache(maxsize=1)
def agent_name() -> str:
    """Return the name of the agent's folder on a host, by the hash of its content."""
    began = time.time()
    found = dict(_sources(os.fspath(_FOLDER), "agent/"))
    states = {entry.path: program_notes.state_of(entry.path) for entry in found.values()}
    this = hashlib.sha256(f"{sorted(states.items())}{_START_FILE}{REST}".encode()).hexdigest()
    noted = program_notes.read(_NOTES)
    if noted.get("files") == this:
        return str(noted["name"])
    hashed = _named()
    if all(program_notes.has_settled(state, began) for state in states.values()):
        program_notes.write(_NOTES, {"files": this, "name": hashed})
    return hashed


_NOTES = "agent-name.json"


@functools.lru_cache(maxsize=1)
def _named() -> str:
    content = hashlib.sha256(repr(REST).encode())
    for name, data in _files().items():
        content.update(b"%s %d\n%s" % (name.encode(), len(data), data))
    return f"agent-{content.hexdigest()[:16]}"


def has_changed() -> bool:
    """Return whether the files of the agent are others than those that this process began with, as after
    an upgrade: under that name, no host should get them."""
    return _named() != agent_name()


def agent_files() -> Mapping[str, bytes]:
    """Return the files of the agent's folder, by name. From then on, this process gives hosts these,
    whatever becomes of the ones on disk."""
    return _files()


#: What a host says that has no agent.
NO_AGENT = "launcher-no-agent"


@functools.lru_cache(maxsize=1)
def packed() -> bytes:
    """Return the first part of the agent for a host that does not have it yet, as :func:`start_command`
    wants it on stdin: what unpacks it, the sizes of all files, then their content."""
    pieces = (_files()["agent/base/installing.py"], *_packed(is_rest=False))
    return b"".join(b"%0*d%s" % (_LENGTH, len(piece), piece) for piece in pieces)


@functools.lru_cache(maxsize=1)
def packed_rest() -> tuple[str, bytes]:
    """Return the rest of the agent: the sizes of its files, and their content."""
    sizes, content = _packed(is_rest=True)
    return sizes.decode("ascii"), content


def _packed(is_rest: bool) -> tuple[bytes, bytes]:
    import zlib

    files = {name: data for name, data in _files().items() if name.startswith(REST) is is_rest}
    sizes = "".join(f"{len(content)} {name}\n" for name, content in files.items())
    return sizes.encode("ascii"), zlib.compress(b"".join(files.values()))


def start_command(host: Host) -> str:
    """Return a command that starts a relay, or prints ``launcher-`` and why it does not.

    After ``launcher-no-agent`` it takes the agent from its stdin (:func:`packed`), and installs and
    starts it. Its stderr says why it could not.
    """
    return _start_in(_places(host))


@functools.lru_cache(maxsize=16)
def _start_in(places: str) -> str:
    """Return the same for all hosts where a start begins with these lines of sh."""
    program = f"{_trust()}LENGTH = {_LENGTH}\n{_LOOK_AND_RELAY}"
    return login_shell.line(f"{places}{login_shell.words(_START, agent_name(), program)}")


#: What a script prints in front of a Python that it has found: its version, then its path.
FOUND = "launcher-python "


def find_script(python: str) -> str:
    """Return a script of sh whose last line says where a Python is, or ``launcher-`` and why not."""
    found = f'print("{FOUND}%d.%d.%d" % sys.version_info[:3], os.environ["LAUNCHER_PLACE"])'
    program = f"{_CHECK_PYTHON}import os\n{found}\n"
    return (
        f"{_needs(python)}{_python(python)}"
        'command -v "$p" >/dev/null 2>&1 || { echo launcher-no-python; exit 0; }\n'
        f'LAUNCHER_PLACE=$p exec "$p" -I -S -c {shlex.quote(program)}\n'
    )


def _needs(*paths: str) -> str:
    """Return lines of sh that end a script where a variable of a path is not set."""
    names = dict.fromkeys(name for path in paths for name in login_shell.variables(path))
    return "".join(
        f'[ -n "${{{name}-}}" ] || {{ echo launcher-no-variable {name}; exit 0; }}\n'
        for name in names
    )


def _python(python: str) -> str:
    """Return lines of sh that set $p to a Python."""
    name = conda_name(python)
    return f"n={name}\n{_CONDA}" if name else f"p={login_shell.path(python)}\n"


def _places(host: Host) -> str:
    """Return lines of sh that set $d to the inventory's workdir, and $p to its python."""
    return (
        f"{_needs(host.workdir, host.python)}d={login_shell.path(host.workdir)}\n"
        f"{_python(host.python)}"
        'case $d in "~"*) echo "launcher-no-user $d"; exit 0;; /*) ;; *) d=$HOME/$d;; esac\n'
    )
