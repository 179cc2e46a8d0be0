"""Looks which container runtimes this host has, and whether this user may use them. Starts none."""

from __future__ import annotations

import os
import pwd
import socket

from ..base import plain_files
from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Where docker's daemon listens, unless somebody says otherwise.
DOCKER_SOCKET = "/var/run/docker.sock"
#: Seconds for it to take a connection.
PATIENCE = 3.0


def runtimes() -> dict[str, tuple[str, str]]:
    """Return the runtimes on PATH; for each a code of what is in the way and words for it, or empty."""
    checks: dict[str, Callable[[], tuple[str, str]]] = {
        "podman": _podman,
        "docker": _docker,
        "apptainer": lambda: ("", ""),
        "bwrap": lambda: ("", ""),
    }
    return {name: check() for name, check in checks.items() if _has(name)}


def _has(program: str) -> bool:
    try:
        return bool(processes.find_program(program, os.environ.get("PATH", os.defpath), "/"))
    except FileNotFoundError:
        return False


def _podman() -> tuple[str, str]:
    """Look whether podman can make containers for a user without rights."""
    if os.getuid() == 0 or "subid:" in plain_files.text("/etc/nsswitch.conf"):
        return "", ""  # ranges may come from a directory service
    for program in ("newuidmap", "newgidmap"):
        if not _has(program):
            return "no-subuid", "%s is not installed" % program
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = ""
    for path in ("/etc/subuid", "/etc/subgid"):
        owners = {line.partition(":")[0] for line in plain_files.text(path).splitlines()}
        if not owners & {name, str(os.getuid())}:
            return "no-subuid", "%s has no range for %s" % (path, name or os.getuid())
    return "", ""


def _docker() -> tuple[str, str]:
    """Look whether docker's daemon answers this user, where it is in the usual place."""
    config = os.path.join(os.path.expanduser("~"), ".docker", "config.json")
    if os.environ.get("DOCKER_HOST") or "currentContext" in plain_files.text(config):
        return "", ""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(PATIENCE)
        try:
            asker.connect(DOCKER_SOCKET)
        except PermissionError:
            return "denied", "permission denied at %s" % DOCKER_SOCKET
        except OSError as error:
            return "no-daemon", "%s: %s" % (DOCKER_SOCKET, error.strerror or error)
    return "", ""
