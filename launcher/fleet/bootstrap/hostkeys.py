"""Check host keys with paramiko, against known_hosts as runs read it.

A changed key is an error, and nothing here repairs it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable

import paramiko

from ...spec import errors
from ...transport import known_hosts
from ...transport.ssh_settings import SshSettings


class NotTrusted(Exception):
    """A host offered an untrusted key; ``others_known``: another key of it is trusted."""

    def __init__(self, key: paramiko.PKey, others_known: bool) -> None:
        super().__init__("host key")
        self.key = key
        self.others_known = others_known


class Check(paramiko.RejectPolicy):  # type: ignore[misc] # paramiko has no types
    """Accept only trusted keys; raise NotTrusted with any other.

    Every key is checked here: paramiko's own table knows no patterns and aliases, and only one key
    of each kind.
    """

    def __init__(self, trusted: tuple[paramiko.PKey, ...]) -> None:
        self.trusted = trusted

    def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:
        if key not in self.trusted:
            raise NotTrusted(key, bool(self.trusted))

    def transport(self, sock: object, **options: object) -> paramiko.Transport:
        """Return a transport that prefers kinds of keys that are known, as ssh(1) does."""
        transport = paramiko.Transport(sock, **options)
        kinds = {kind for key in self.trusted for kind in _signatures(key)}
        security = transport.get_security_options()
        security.key_types = sorted(security.key_types, key=lambda kind: kind not in kinds)
        return transport


def _signatures(key: paramiko.PKey) -> tuple[str, ...]:
    """Return the signature algorithms of a key: RFC 8332 for RSA."""
    name = str(key.get_name())
    return ("rsa-sha2-512", "rsa-sha2-256") if name == "ssh-rsa" else (name,)


def known_keys(endpoint: SshSettings) -> Iterable[paramiko.PKey]:
    """Yield a host's keys in known_hosts, read as runs do: with patterns, hashes and aliases."""
    known = known_hosts.lookup(known_hosts.read(endpoint.known_hosts), endpoint.known_name)
    revoked_data = {key.public_data for key in known.revoked}
    for key in known.trusted:
        if key.public_data not in revoked_data:
            try:
                yield paramiko.PKey.from_type_string(key.algorithm.decode(), key.public_data)
            except (paramiko.SSHException, paramiko.UnknownKeyType):
                continue  # a kind that paramiko does not support


def append(file: str, line: str) -> None:
    """Add a line to known_hosts, and create the file if needed. Raises OSError."""
    os.makedirs(os.path.dirname(file) or ".", mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    with os.fdopen(os.open(file, flags, 0o600), "rb+") as known:
        before = known.read()
        known.write((b"" if before.endswith(b"\n") or not before else b"\n") + line.encode())


def changed_key(name: str, endpoint: SshSettings, key: paramiko.PKey) -> errors.HostKeyMismatch:
    """Return the error for a changed key."""
    return errors.HostKeyMismatch(
        name,
        f"the host key changed to {key.fingerprint} (the host was reinstalled, or somebody "
        "intercepts the connection); nothing was sent",
        "ask the admin for the fingerprint; if it is right, run "
        f"ssh-keygen -f {endpoint.known_hosts[0]} -R {shlex.quote(endpoint.known_name)} and try again",
    )
