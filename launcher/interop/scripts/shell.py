"""Shell words: quoted whatever they hold, with the script's variables where they have holes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from ...spec.errors import InputError
from ...spec.model import Job

_HOLE = re.compile("\0([A-Za-z_][A-Za-z_0-9]*)\0")


def hole(variable: str) -> str:
    """A place in a word where the value of a shell variable will stand; no file can hold such text."""
    return f"\0{variable}\0"


def quote(word: str) -> str:
    """A word that sh reads back as it is; ``~/`` of its own is the home there. Raises InputError."""
    home, word = ('"$HOME"/', word[2:]) if word.startswith("~/") else ("", word)
    parts = _HOLE.split(word)
    shown = [f'"${{{p}}}"' if n % 2 else shlex.quote(p) for n, p in enumerate(parts) if p]
    if any("\0" in part for part in parts):
        raise InputError("a NUL character cannot stand in a command")
    return home + "".join(shown) or "''"


def join(words: Iterable[str]) -> str:
    """Words as a command; none of them means the home."""
    return " ".join(quote(word) if word[:2] != "~/" else shlex.quote(word) for word in words)


def exports(env: Mapping[str, str], margin: str = "") -> list[str]:
    """A line for each variable."""
    return [f"{margin}export {name}={plain(value)}" for name, value in sorted(env.items())]


def plain(value: str) -> str:
    """The same as :func:`quote`, but ``~/`` stays what it is."""
    return quote(value) if value[:2] != "~/" else shlex.quote(value)


def remark(text: str) -> str:
    """A comment that stays one."""
    return ("# " + "".join(c if c.isprintable() else "?" for c in text)).rstrip()


def wanted(job: Job) -> list[str]:
    """Lines that end a script where a secret is not in its environment; values are written nowhere."""
    lines = []
    for name in job.secrets:
        lines += [
            f': "${{{name}:?must be set in the environment; this file does not hold its value}}"'
        ]
        lines += [f"export {name}"]
    return lines


#: What only a run of launcher does.
_OURS = {
    "max_restarts": "nothing is restarted after a failure (max_restarts)",
    "min_nodes": "a lost host ends the run (min_nodes)",
    "outputs": "outputs stay on the hosts",
    "needs": "the paths of needs: are not checked",
}


def left_out(job: Job) -> list[str]:
    """What of a job a plain script does not do."""
    notes = [text for name, text in _OURS.items() if getattr(job, name)]
    if any(role.on_exit for role in job.roles):
        notes.append("exit codes have no special meaning (on_exit is left out)")
    shares = [role.at(i).resources for role in job.roles for i in range(role.replicas)]
    if any(share.cpus or share.memory for share in shares):
        notes.append("cpus and memory are not enforced")
    return notes
