"""Run scripts on a host over a Fabric connection, as the user or as root.

Passwords are only ever written to sudo's standard input.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterable, Mapping

import fabric
from invoke import exceptions as invoked
from invoke.watchers import FailingResponder, StreamWatcher

from ...spec import errors
from ...spec.errors import HostError
from ...spec.frozen import frozen
from ...spec.model import Host, Secret
from ...transport import login_shell
from ...transport.agent_bundle import weakness_program
from . import plan
from .inspection import Look, look_command, parse_look

#: Seconds for an inspection.
LOOK_TIME = 60
#: Seconds for one change: a mirror may be far away, or an interpreter compiled.
CHANGE_TIME = 3600


#: Characters that a host may print during an inspection, and during a change.
MOST_SEEN, MOST_SAID = 1 << 20, 16 << 20


class _Bound(StreamWatcher):
    """Gives a host up that prints without end."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def submit(self, stream: str) -> Iterable[str]:
        """Answer nothing to what was printed so far."""
        if len(stream) > self._most:
            raise invoked.WatcherError("it prints without end")
        return ()


@frozen
class Outcome:
    """The result of a script. ``refused``: sudo did not accept the password."""

    ok: bool
    message: str = ""
    refused: bool = False
    hint: str = ""


def look_at(host: Host, connection: fabric.Connection, goal: plan.Goal) -> Look:
    """Inspect a host. Raises HostError if its answer makes no sense."""
    weakness = weakness_program() if plan.is_venv_ours(goal) else ""
    command = look_command(goal.python, plan.venv_of(goal), goal.key, weakness)
    try:
        result = connection.run(command, **_QUIET, watchers=[_Bound(MOST_SEEN)], timeout=LOOK_TIME)
    except invoked.CommandTimedOut:
        raise
    except invoked.Failure as error:
        raise errors.BadAnswer(host.name, str(error.reason)) from None
    try:
        return parse_look(result.stdout)
    except ValueError as error:
        last = _last_line(result.stderr or result.stdout)
        raise HostError(
            host.name, f"{error}{f': {last}' if last else ''}", f"try `ssh {host.name} sh -c true`"
        ) from None


#: A hint that a script of ours prints.
_HINT = re.compile(r"^hint: (.+)\n?", re.M)
#: Print nothing, read nothing, and return exit codes instead of raising.
_QUIET: Mapping[str, object] = {"hide": True, "warn": True, "in_stream": False, "encoding": "utf-8"}


def run(
    name: str,
    connection: fabric.Connection,
    script: str,
    seconds: int,
    root: tuple[str, Secret] | None = None,
) -> Outcome:
    """Run a script with sh, as the user or through sudo."""
    command = shlex.join(["/bin/sh", "-c", f"exec </dev/null\n{script}"])
    watchers: list[StreamWatcher] = [_Bound(MOST_SAID)]
    prompt = f"launcher-{secrets.token_hex(8)}:"  # nothing else on the host can fake it
    if root:
        how, password = root
        command = f"env LC_ALL=C {how} -S -p {prompt} -- {command}"
        watchers.append(
            FailingResponder(prompt, f"{password.reveal()}\n", "try again|incorrect password")
        )
    try:
        line = login_shell.line(command)
        result = connection.run(line, **_QUIET, watchers=watchers, timeout=seconds)
    except invoked.CommandTimedOut:
        hint = "it may still be running there; check, then run it again"
        return Outcome(False, f"not done in {seconds} s", hint=hint)
    except invoked.Failure as error:
        if not isinstance(error.reason, invoked.ResponseNotAccepted):
            raise errors.BadAnswer(name, str(error.reason)) from None
        return Outcome(False, "sudo refused the password", refused=True)
    if result.exited == -1:
        raise errors.ConnectionLost(name, "the connection dropped", "safe to run again")
    errors_only = _HINT.sub("", result.stderr.replace(prompt, ""))
    message = _last_line(errors_only) or _last_line(result.stdout) or f"exit {result.exited}"
    return Outcome(result.ok, message, hint=_hint(result.stderr))


#: Messages of apt and dnf.
_NO_MIRROR = (
    "Temporary failure",
    "Could not resolve",
    "Unable to locate",
    "Unable to find a match",
    "Cannot download",
    "Failed to download",
)


def _hint(output: str) -> str:
    if own := _HINT.findall(output):
        return "".join(char for char in own[-1] if char.isprintable())[:300]
    if any(text in output for text in _NO_MIRROR):
        return "can the host reach its package mirror? check its network and package sources"
    if "No space left" in output:
        return "free some space on the host"
    return "safe to run again"


def _last_line(text: str) -> str:
    """Return the last line that starts like an error, and the very last one."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    failed = [line for line in found if line.startswith(("E:", "ERROR", "error", "Error"))]
    lines = dict.fromkeys([*failed[-1:], *found[-1:]])
    lines = {line.removeprefix("error: "): None for line in lines}
    return "".join(char for char in "; ".join(lines) if char.isprintable())[:300]


def upload(connection: fabric.Connection, place: str, text: str) -> str:
    """Write a file that only the user may read; return what is wrong, or ""."""
    try:
        with connection.sftp().open(place, "w") as file:
            file.chmod(0o600)  # the URL of an index may have a token
            file.write(text.encode())
    except OSError as error:
        return f"cannot write {place}: {error.strerror or error}"
    return ""
