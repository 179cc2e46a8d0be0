"""Command lines that every login shell understands, and that are found behind what it prints."""

from __future__ import annotations

import re
import shlex

#: What is its own self within single quotes in sh, csh, fish and all others. In csh no quotes protect
#: `!` and the end of a line; in fish a backslash protects quotes and backslashes.
_PLAIN = re.compile(rb"[^ -~]|['!\\]")
#: A line that comes before a command's own output, so that what a startup file printed can be skipped.
MARKER = "launcher-output-follows"

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)
_TILDE = re.compile(r"~[\w.-]*(?=/|$)", re.ASCII)


def line(script: str) -> str:
    """Return one line that has /bin/sh run a script, whatever the login shell is.

    ``printf %b`` reads ``\\0NNN``; a shell's ``echo`` or ``$'...'`` would not be the same everywhere.
    """
    coded = _PLAIN.sub(
        lambda found: b"\\0%03o" % ord(found[0]), script.encode("utf-8", "surrogateescape")
    )
    return f"exec /bin/sh -c 'eval \"$(printf %b \"$0\")\"' '{coded.decode('ascii')}'"


def marked(command: str) -> str:
    """Return a line for any login shell that prints :data:`MARKER`, and then runs ``command``."""
    return line(f"printf '\\n{MARKER}\\n'; exec {command}")


def words(script: str, *arguments: str) -> str:
    """Return a script with its arguments."""
    return f"set -- {shlex.join(arguments)}\n{script}" if arguments else script


def path(text: str) -> str:
    """Return a word of sh for a path as people write it: ``~``, ``~user``, ``$NAME``, ``${NAME}``.

    A variable that is not set there, or empty, ends the script with ``launcher-no-variable NAME``.
    """
    tilde = _TILDE.match(text)
    rest = text[tilde.end() :] if tilde else text
    found, end = tilde[0] if tilde else "", 0
    if tilde and rest:  # only an unquoted slash ends a name
        found, rest = f"{found}/", rest[1:]
    for variable in _VARIABLE.finditer(rest):
        found += shlex.quote(rest[end : variable.start()]) if variable.start() > end else ""
        found += f'"${{{variable[1] or variable[2]}}}"'
        end = variable.end()
    return found + (shlex.quote(rest[end:]) if rest[end:] else "")


def variables(text: str) -> list[str]:
    """Return the names of the variables in a path."""
    return [found[1] or found[2] for found in _VARIABLE.finditer(text)]
