"""Inspect a bare host with a shell script, and parse its answer.

Unlike the agent's probe, this needs no Python: the host may lack it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...spec.frozen import frozen
from ...transport import login_shell


@frozen
class Interpreter:
    """A Python on a host. ``venv``: whether it can create environments."""

    path: str
    version: tuple[int, ...]
    venv: bool


@frozen
class Look:
    """The result of an inspection. Paths are absolute; "" means missing.

    ``horovod`` lists its controllers, as in "gloo mpi", unless it was built for another torch;
    ``tools`` lists which of g++, cmake, make, mpicxx and Python.h exist to build it.
    """

    system: str
    like: tuple[str, ...]
    title: str
    manager: str
    user: str
    is_root: bool
    home: str
    hostname: str
    address: str
    own_address: str
    rsync: str
    python: Interpreter | None
    base: Interpreter | None
    venv: bool
    weakness: str
    requirements: str
    horovod: str
    uv: str
    mpirun: str
    tools: tuple[str, ...]
    key: bool
    driverless_gpu: bool


#: Where packages of the Red Hat family install Open MPI: not on PATH, but behind a module.
RED_HAT_MPI = "/usr/lib64/openmpi/bin"

_LOOK = r"""
exec </dev/null
trust=$6
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$HOME/.local/bin:$5
home() { case $1 in "~/"*) echo "$HOME${1#"~"}";; *) echo "$1";; esac; }
say() { printf '%s=%s\n' "$1" "$(printf %s "$2" | tr -d '\n')"; }
python() {
    path=$(command -v "$2") || return
    version=$("$path" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || return
    say "$1" "$path"; say "$1-version" "$version"
    "$path" -c 'import ensurepip, venv' 2>/dev/null && say "$1-venv" yes
}
echo launcher-look
if [ -r /etc/os-release ]; then
    (. /etc/os-release; say system "$ID"; say like "$ID_LIKE"; say title "$PRETTY_NAME")
fi
for m in apt-get dnf yum; do
    command -v $m >/dev/null && { say manager $m; break; }
done
say user "$(id -un)"; say uid "$(id -u)"; say home "$HOME"; say hostname "$(uname -n)"
set -- "$(home "$1")" "$(home "$2")" "$3" "$4" ${SSH_CONNECTION:-}
say address "${7:-}"
say own-address "$(getent hosts "$(uname -n)" | head -n 1 | cut -d ' ' -f 1)"
say rsync "$(rsync --version 2>/dev/null | sed -n '1s/.*version \([^ ]*\).*/\1/p')"
python python "$1"; python base python3
if [ -n "$trust" ]; then
    weakness=$(python3 -I -S -c "$trust" "$2" 2>/dev/null)
    # Nothing is executed there, or read.
    [ -z "$weakness" ] || { say weakness "$weakness"; set -- "$1" /dev/null "$3" "$4"; }
fi
[ -x "$2/bin/python" ] && say venv yes
say requirements "$(cat "$2/.launcher-requirements" 2>/dev/null)"
[ -x "$2/bin/python" ] && say horovod "$("$2/bin/python" -c "$4" 2>/dev/null)"
[ -x "$2/bin/python" ] && python="$2/bin/python" || python=$(command -v "$1" || echo python3)
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])' 2>/dev/null)
say tools "$(for t in g++ cmake make mpicxx; do command -v $t >/dev/null && printf '%s ' $t; done)$(
    [ -f "$headers/Python.h" ] && echo Python.h)"
say uv "$(command -v uv)"; say mpirun "$(command -v mpirun)"
[ -n "$3" ] && grep -qsF -- "$3" "$HOME/.ssh/authorized_keys" && say key yes
for d in /sys/bus/pci/devices/*; do  # a display controller of NVIDIA's
    case $(cat "$d/vendor" "$d/class" 2>/dev/null | tr '\n' ' ') in
    "0x10de 0x03"*) command -v nvidia-smi >/dev/null || { say driverless-gpu yes; break; };;
    esac
done
echo launcher-looked
"""

# Importing horovod takes seconds, with its torch. build-horovod.sh writes `built-as`; for another
# build, the library that the extension is linked with shows whether it has MPI.
_HOROVOD = r"""
import pathlib, horovod
from importlib.metadata import version
folder = pathlib.Path(horovod.__file__).parent
file = folder / "built-as"
built = file.read_text() if file.exists() else ""
mpi = any(b"\0libmpi" in file.read_bytes() for file in folder.glob("*/mpi_lib*.so"))
if not built or "-torch-%s-" % version("torch") in built:
    print("gloo" + " mpi" * mpi)
"""


def look_command(python: str, venv: str, key: str | None, weakness: str = "") -> str:
    """Return a command that prints what :func:`parse_look` reads, and changes nothing.

    ``python`` and ``venv`` are paths or names on the host; ``key`` is a line of authorized_keys.
    ``weakness`` is a program that prints why other users could change ``venv``, if we made it.
    """
    blob = key.split()[1] if key else ""
    words = [python, venv, blob, _HOROVOD, RED_HAT_MPI, weakness]
    return login_shell.line(login_shell.words(_LOOK, *words))


def parse_look(text: str) -> Look:
    """Parse a host's answer, which is untrusted. Raises ValueError."""
    _, begin, rest = text.partition("launcher-look\n")
    body, end, _ = rest.partition("launcher-looked")
    if not begin or not end:
        raise ValueError("the host did not run a shell script to its end")
    fields = dict(line.split("=", 1) for line in body.splitlines() if "=" in line)
    return Look(
        system=fields.get("system", ""),
        like=tuple(fields.get("like", "").split()),
        title=fields.get("title", ""),
        manager=fields.get("manager", ""),
        user=fields.get("user", ""),
        is_root=fields.get("uid") == "0",
        home=fields.get("home", ""),
        hostname=fields.get("hostname", ""),
        address=fields.get("address", ""),
        own_address=fields.get("own-address", ""),
        rsync=fields.get("rsync", ""),
        python=_interpreter(fields, "python"),
        base=_interpreter(fields, "base"),
        venv="venv" in fields,
        weakness=fields.get("weakness", ""),
        requirements=fields.get("requirements", ""),
        horovod=fields.get("horovod", ""),
        uv=fields.get("uv", ""),
        mpirun=fields.get("mpirun", ""),
        tools=tuple(fields.get("tools", "").split()),
        key="key" in fields,
        driverless_gpu="driverless-gpu" in fields,
    )


def _interpreter(fields: Mapping[str, str], name: str) -> Interpreter | None:
    version = fields.get(f"{name}-version", "")
    if not re.fullmatch(r"\d+(\.\d+)+", version):
        return None
    return Interpreter(fields[name], tuple(map(int, version.split("."))), f"{name}-venv" in fields)
