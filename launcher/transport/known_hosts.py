"""Look a host up in known_hosts by ssh's rules: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.

A line that cannot be read is passed over, as ssh does, and so is a file that is missing.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import asyncssh

from ..spec.frozen import frozen

#: Seconds for a ``KnownHostsCommand``.
PATIENCE = 10.0


@frozen
class KnownKeys:
    """The keys known for a host, the authorities that may sign its key, and keys never to accept."""

    trusted: tuple[asyncssh.SSHKey, ...] = ()
    authorities: tuple[asyncssh.SSHKey, ...] = ()
    revoked: tuple[asyncssh.SSHKey, ...] = ()

    def as_lists(self) -> tuple[list[asyncssh.SSHKey], ...]:
        """Return what asyncssh takes as known hosts."""
        return list(self.trusted), list(self.authorities), list(self.revoked)


def read(files: Iterable[str]) -> list[str]:
    """Return the lines of those files that can be read."""
    lines: list[str] = []
    for file in files:
        with suppress(OSError):
            lines += Path(file).read_bytes().decode(errors="replace").splitlines()
    return lines


def ask(command: str, name: str) -> list[str]:
    """Return the lines that a ``KnownHostsCommand`` prints for a host; none where it fails."""
    tokens = {"H": name, "I": "HOSTNAME", "K": "NONE", "t": "NONE"}
    filled = re.sub("%([HIKt])", lambda found: tokens[found[1]], command)
    try:
        answer = subprocess.run(
            shlex.split(filled), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
            check=True,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    return answer.stdout.decode(errors="replace").splitlines()


def lookup(lines: Sequence[str], name: str) -> KnownKeys:
    """Return the keys of a host by its name there, such as ``gpu1`` or ``[gpu1]:2222``.

    Where a port is part of the name and nothing is known of it, the host alone counts: ssh(1) accepts
    the same key on any port.
    """
    found: dict[str, list[asyncssh.SSHKey]] = {"": [], "@cert-authority": [], "@revoked": []}
    for line in lines:
        marker, patterns, key = _split(line)
        if marker in found and _matches(patterns, name):
            found[marker] += _key(key)
    known = KnownKeys(*(tuple(keys) for keys in found.values()))
    with_port = re.fullmatch(r"\[(.*)\]:\d+", name)
    if with_port is None or known.trusted or known.authorities:
        return known
    bare = lookup(lines, with_port[1])
    return replace(bare, revoked=bare.revoked + known.revoked)


def _split(line: str) -> tuple[str, str, str]:
    """Return marker, patterns and key; no patterns for a line that names no host."""
    words = line.split(None, 1)
    if not words or words[0].startswith("#"):
        return "", "", ""
    marker = ""
    if words[0].startswith("@"):
        marker, line = words[0], words[1] if len(words) > 1 else ""
        words = line.split(None, 1)
    return (marker, words[0], words[1]) if len(words) == 2 else (marker, "", "")


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|"):
        return _is_hash_of(patterns, name)
    is_named = False
    for pattern in patterns.lower().split(","):
        wanted = pattern.removeprefix("!")
        if fnmatch.fnmatchcase(name.lower(), wanted.replace("[", "[[]")):
            if pattern != wanted:
                return False
            is_named = True
    return is_named


def _is_hash_of(text: str, name: str) -> bool:
    try:
        _, kind, salt, digest = text.split("|")
        key, wanted = base64.b64decode(salt), base64.b64decode(digest)
    except (ValueError, binascii.Error):
        return False
    made = hmac.new(key, name.lower().encode(), hashlib.sha1).digest()
    return kind == "1" and hmac.compare_digest(made, wanted)


def _key(text: str) -> list[asyncssh.SSHKey]:
    """Return the key of a line; none where it cannot be read, or is of a kind unknown here."""
    try:
        return [asyncssh.import_public_key(" ".join(text.split()[:2]))]
    except (asyncssh.KeyImportError, ValueError):
        return []
