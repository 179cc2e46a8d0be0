"""Quote words for sh, whatever they contain; a hole becomes a variable of the script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from ...spec.errors import InputError
from ...spec.model import Job

_HOLE = re.compile("\0([A-Za-z_][A-Za-z_0-9]*)\0")


def hole(variable: str) -> str:
    """Return a hole for a shell variable's value in a word; no file can contain such text."""
    return f"\0{variable}\0"


def quote(word: str) -> str:
    """Quote a word for sh; a leading ``~/`` is the home directory there. Raises InputError."""
    home, word = ('"$HOME"/', word[2:]) if word.startswith("~/") else ("", word)
    parts = _HOLE.split(word)
    shown = [f'"${{{p}}}"' if n % 2 else shlex.quote(p) for n, p in enumerate(parts) if p]
    if any("\0" in part for part in parts):
        raise InputError("a NUL character cannot stand in a command")
    return home + "".join(shown) or "''"


def join(words: Iterable[str]) -> str:
    """Join words to a command; a leading ``~/`` stays as it is. Raises InputError."""
    return " ".join(quote(word) if word[:2] != "~/" else shlex.quote(word) for word in words)


def exports(env: Mapping[str, str], margin: str = "") -> list[str]:
    """Return an ``export`` line for each variable."""
    return [f"{margin}export {name}={plain(value)}" for name, value in sorted(env.items())]


def plain(value: str) -> str:
    """Quote a word as :func:`quote` does, but keep a leading ``~/`` as it is."""
    return quote(value) if value[:2] != "~/" else shlex.quote(value)


def require_secrets(job: Job) -> list[str]:
    """Return lines that end the script unless its environment has every secret of the job."""
    lines = []
    for name in job.secrets:
        lines += [
            f': "${{{name}:?must be set in the environment; this file does not hold its value}}"'
        ]
        lines += [f"export {name}"]
    return lines


#: Notes on keys of a job that only launcher itself honours.
_OURS = {
    "max_restarts": "nothing is restarted after a failure (max_restarts)",
    "min_nodes": "a lost host ends the run (min_nodes)",
    "outputs": "outputs stay on the hosts",
    "share": "folders are not shared between hosts (share)",
    "data": "data sets are not brought, and LAUNCHER_DATA_* are not set (data)",
    "output_to": "outputs are not stored (output_to)",
    "needs": "the paths of needs: are not checked",
}


def left_out(job: Job) -> list[str]:
    """Return notes on what an exported script does not do for a job."""
    notes = [text for name, text in _OURS.items() if getattr(job, name)]
    if any(role.on_exit for role in job.roles):
        notes.append("exit codes have no special meaning (on_exit is left out)")
    shares = [role.at(i).resources for role in job.roles for i in range(role.replicas)]
    if any(share.cpus or share.memory for share in shares):
        notes.append("cpus and memory are not enforced")
    return notes
