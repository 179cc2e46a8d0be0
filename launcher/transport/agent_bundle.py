"""Bundle the agent for a host: its files, their name there, and the commands to install and start it."""

from __future__ import annotations

import functools
import hashlib
import io
import shlex
from pathlib import Path

from ..spec.environments import CONDA_BASES, conda_name
from ..spec.model import Host
from . import login_shell

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

_INSTALL = f"""\
umask 077
LAUNCHER_START=$2 exec "$p" -I -S -c '{_EXECUTE}' "$d/agent/$1"
"""


def _trust() -> str:
    """Return Python text that defines ``trust``, with what agent/base/trust.py has in it."""
    source = (Path(__file__).parent.parent / "agent/base/trust.py").read_text("ascii")
    return f"{_CHECK_PYTHON}import os\ntrust = {{}}\nexec({source!r}, trust)\n"


def weakness_program() -> str:
    """Return Python text that prints why other users could change the folder in its argument, or
    nothing."""
    return f"{_trust()}print(ascii(trust['weakness'](sys.argv[1]) or '')[1:-1])\n"


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

# Before anything of the folder is executed. The relay runs in this same interpreter.
_LOOK_AND_RELAY = """\
folder, root = os.path.dirname(sys.argv[1]), sys.argv[3]
for place in (root, folder, root + "/code", root + "/runs"):
    found = trust["weakness"](place)
    if found:
        print("launcher-unsafe-folder " + ascii(found)[1:-1])
        sys.exit(0)
try:  # what a full disk or a power cut has cut off is better found here than by its import
    whole = all(os.stat(folder + "/" + name).st_size == size for name, size in SIZES.items())
except OSError:
    whole = False
if not whole:
    print("launcher-no-agent")
    sys.exit(0)
del sys.argv[0]
sys.path.insert(0, folder)
from agent.main import main
main()
"""

# Unpacked, because Python compiles what it imports from a zip again at every start.
_UNPACK = """\
import io, shutil, zipfile
target = sys.argv[1]
scratch = "%s.%d" % (target, os.getpid())
try:
    trust["make"](os.path.dirname(target))
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


@functools.lru_cache(maxsize=1)
def _files() -> dict[str, bytes]:
    folder = Path(__file__).parent.parent / "agent"
    files = {f"agent/{file.relative_to(folder).as_posix()}": file for file in folder.rglob("*.py")}
    return {
        "start.py": _START_FILE.encode(),
        **{name: files[name].read_bytes() for name in sorted(files)},
    }


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
    """Return a command that starts a relay, or prints ``launcher-`` and why it does not."""
    sizes = {name: len(data) for name, data in _files().items()}
    return _command(_START, host, f"{_trust()}SIZES = {sizes}\n{_LOOK_AND_RELAY}")


def install_command(host: Host) -> str:
    """Return a command that unpacks the zip on its stdin to where :func:`start_command` looks."""
    return _command(_INSTALL, host, _trust() + _UNPACK)


def _command(script: str, host: Host, program: str) -> str:
    """Return a command line for any login shell."""
    return login_shell.line(f"{_places(host)}{login_shell.words(script, agent_name(), program)}")


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
