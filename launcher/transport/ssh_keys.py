"""The keys to offer a host, in ssh's order, so that a server counts the same tries.

ssh(1) offers, and so do we: certificates, keys of the agent that are named in ssh_config, its other
keys unless ``IdentitiesOnly``, and then key files that the agent does not have.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence

import asyncssh

from .ssh_settings import SshSettings

#: Seconds for an ssh-agent to list its keys.
PATIENCE = 8.0

_UNREADABLE = (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, OSError, ValueError)


class OfferedKeys:
    """The keys for one login. Close it when the login is over: the agent signs until then."""

    def __init__(self) -> None:
        self.pairs: list[asyncssh.SSHKeyPair] = []
        self.from_agent = 0
        self.unlocked = False  # whether keys that have a passphrase are among them
        self._agent: asyncssh.SSHAgentClient | None = None

    @classmethod
    async def gather(
        cls, settings: SshSettings, unlocked: Sequence[asyncssh.SSHKey]
    ) -> OfferedKeys:
        """Return all that can be offered now; ``unlocked`` are keys whose passphrase was given."""
        offered = cls()
        offered.unlocked = bool(unlocked)
        if not settings.offers_keys:
            return offered
        held = await offered._of_agent(settings.agent)
        public = [_public(path) for path in settings.keys]
        named = [pair for data in public for pair in held if pair.public_data == data]
        others = [] if settings.only_named_keys else [p for p in held if p not in named]
        in_agent = {pair.public_data for pair in held}
        files = [
            path
            for path, data in zip(settings.keys, public, strict=True)
            if data is None or data not in in_agent
        ]
        certificates = _certificates(settings.certificates)
        loaded = [pair for path in files if is_private(path) for pair in _load(path, certificates)]
        loaded += asyncssh.load_keypairs(list(unlocked)) if unlocked else []
        certified = [pair for pair in (*held, *loaded) if pair.has_cert]
        rest = [pair for pair in (*named, *others, *loaded) if not pair.has_cert]
        offered.pairs = [*certified, *rest]
        offered.from_agent = len(held if not settings.only_named_keys else named)
        return offered

    def close(self) -> None:
        """Let go of the agent."""
        if self._agent:
            self._agent.close()

    async def _of_agent(self, path: str | None) -> Sequence[asyncssh.SSHKeyPair]:
        if not path:
            return ()
        try:
            async with asyncio.timeout(PATIENCE):
                self._agent = await asyncssh.connect_agent(path)
                return tuple(await self._agent.get_keys())
        except (TimeoutError, OSError, ValueError, asyncssh.Error):
            return ()  # ssh(1) goes on without an agent that does not answer


def locked(settings: SshSettings) -> list[str]:
    """Return the key files that need a passphrase."""
    found = []
    for file in settings.keys:
        try:
            asyncssh.read_private_key(file)
        except _UNREADABLE as error:
            if "assphrase" in str(error):
                found.append(file)
    return found


def _public(path: str) -> bytes | None:
    """Return the public half of a key file: from the file beside it, or out of the file itself."""
    for file in (f"{path}.pub", path):
        try:
            return asyncssh.read_public_key(file).public_data
        except _UNREADABLE:
            continue
    try:
        return asyncssh.read_private_key(path).public_data
    except _UNREADABLE:
        return None


def is_private(path: str) -> bool:
    """Return whether only its owner may read a key: ssh(1) ignores others, as unprotected."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return status.st_uid != os.getuid() or not status.st_mode & 0o077


def _certificates(paths: Iterable[str]) -> list[asyncssh.SSHCertificate]:
    found = []
    for path in paths:
        try:
            found += list(asyncssh.load_certificates([path]))
        except _UNREADABLE:
            continue
    return found


def _load(path: str, certificates: list[asyncssh.SSHCertificate]) -> Sequence[asyncssh.SSHKeyPair]:
    try:
        return tuple(asyncssh.load_keypairs([path], certlist=certificates))
    except _UNREADABLE:
        return ()
