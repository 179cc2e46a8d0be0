"""``launcher follow --all`` as a service of this user: a unit of systemd, or an agent of launchd."""

from __future__ import annotations

import getpass
import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..records.record_files import write
from ..spec.errors import InputError, LauncherError
from ..spec.frozen import frozen

UNIT = "launcher-follow.service"
LABEL = "launcher.follow"
#: Variables of the shell that installs it, which the service needs as well.
KEPT = ("PATH", "LAUNCHER_HOME")
#: Where no service can be installed.
OTHERWISE = "keep it running another way, such as by cron: @reboot launcher follow --all"


@frozen
class Service:
    """An installed service: its file, and whether it goes on after a logout (None: it is not known)."""

    file: Path
    lingers: bool | None = None


def unit(argv: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return the text of the unit for systemd."""
    lines = [
        "[Unit]",
        "Description=launcher: follow the runs of this machine",
        "",
        "[Service]",
        f"ExecStart={' '.join(map(_quoted, argv)).replace('$', '$$')}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in variables.items()),
        "Restart=on-failure",
        "RestartSec=10",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a word for systemd, which expands ``%`` within quotes, too."""
    for sign, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%")):
        text = text.replace(sign, escaped)
    return f'"{text}"'


def plist(argv: Sequence[str], variables: Mapping[str, str], log: Path) -> bytes:
    """Return the file of the agent for launchd."""
    value = {
        "Label": LABEL,
        "ProgramArguments": list(argv),
        "EnvironmentVariables": dict(variables),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "StandardErrorPath": str(log),
    }
    return plistlib.dumps(value)


def install() -> Service:
    """Install the service and start it; it starts with every login from now on.

    Raises InputError where this machine runs no services of users, LauncherError.
    """
    argv = [sys.executable, "-P", "-m", "launcher", "follow", "--all"]
    variables = {name: os.environ[name] for name in KEPT if os.environ.get(name)}
    if sys.platform == "darwin":
        file = _plist_file()
        log = Path.home() / "Library" / "Logs" / "launcher-follow.log"
        _write(file, plist(argv, variables, log))
        _run(["launchctl", "bootout", f"{_domain()}/{LABEL}"], check=False)
        _run(["launchctl", "bootstrap", _domain(), str(file)])
        return Service(file)
    _require_systemd()
    file = _unit_file()
    _write(file, unit(argv, variables).encode())
    _run(["systemctl", "--user", "daemon-reload"])
    _run(["systemctl", "--user", "enable", UNIT])
    _run(["systemctl", "--user", "restart", UNIT])
    return Service(file, _lingers())


def uninstall() -> Path | None:
    """Stop the service, which lets go of its runs, and remove it; return its file if there was one.

    Raises InputError, LauncherError.
    """
    file = _plist_file() if sys.platform == "darwin" else _unit_file()
    if not file.exists():
        return None
    if sys.platform == "darwin":
        _run(["launchctl", "bootout", f"{_domain()}/{LABEL}"], check=False)
    else:
        _require_systemd()
        _run(["systemctl", "--user", "disable", "--now", UNIT])
    try:
        file.unlink()
    except OSError as error:
        raise LauncherError(f"cannot delete {file}: {error.strerror}") from None
    if sys.platform != "darwin":
        _run(["systemctl", "--user", "daemon-reload"])
    return file


def _unit_file() -> Path:
    settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings) / "systemd" / "user" / UNIT


def _plist_file() -> Path:
    return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _require_systemd() -> None:
    if shutil.which("systemctl") is None:
        raise InputError("this machine has no systemd, which would run the service", OTHERWISE)
    if _run(["systemctl", "--user", "show-environment"], check=False).returncode:
        who = getpass.getuser()
        raise InputError(
            f"systemd runs no services for {who} here", f"log in by ssh as {who}; or {OTHERWISE}"
        )


def _lingers() -> bool | None:
    if shutil.which("loginctl") is None:
        return None
    argv = ["loginctl", "show-user", getpass.getuser(), "--property=Linger", "--value"]
    answer = _run(argv, check=False)
    return {"yes": True, "no": False}.get(answer.stdout.strip()) if not answer.returncode else None


def _write(file: Path, data: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, data)
    except OSError as error:
        raise LauncherError(f"cannot write {file}: {error.strerror}") from None


def _run(argv: Sequence[str], check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LauncherError(f"{argv[0]}: {error}") from None
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LauncherError(f"{' '.join(argv)}: {said[-1] if said else f'exit {done.returncode}'}")
    return done
