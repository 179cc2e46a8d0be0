"""Open one SSH connection to each host with asyncssh, and always check host keys.

Every failure to connect becomes an error with the host's name, its cause and what to do next.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh

from ..spec import errors
from ..spec.frozen import frozen
from ..spec.inventory import ssh_config
from ..spec.model import Inventory
from .ssh_config import HostFiles, SshConfig

#: Seconds in one stage (TCP, banner, key exchange, login) after which a host is given up: a healthy
#: sshd answers at once, but not on a machine that swaps, and a false alarm costs a run.
PATIENCE = 8.0
#: Seconds between looks at the stage, so that a pause of ours counts as one look against the host.
LOOK = 0.25
#: Seconds between keep-alives, and how many may go unanswered. Few, because a lost connection costs
#: nothing: it is opened again, and logs continue at the same byte.
KEEPALIVE, KEEPALIVES = 2.5, 3
#: The most hosts to connect to at once: key exchange is work, and sshd drops a flood (MaxStartups).
AT_ONCE = 16

#: Hardware does AES, so it is twice as fast as chacha20; the rest follows asyncssh's own order.
_CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
]

#: Key files when ssh_config names none: ssh(1), IdentityFile.
_USUAL_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
#: How often a passphrase may be wrong.
PASSPHRASE_TRIES = 3

Connection = asyncssh.SSHClientConnection
AskPassphrase = Callable[[str], Awaitable[str | None]]


@frozen
class Endpoint:
    """How a host is reached, resolved from the inventory and ssh_config for another SSH library.

    ``name`` is its name in known_hosts; ``hops`` are its jump hosts, the first one first.
    """

    host: str
    port: int
    user: str
    name: str
    keys: tuple[str, ...]
    hops: tuple[str, ...]
    proxy_command: tuple[str, ...]
    known_hosts: tuple[str, ...]


class _Client(asyncssh.SSHClient):
    """Watches one login, so that its failure can be explained."""

    def __init__(self, known_hosts: list[str]) -> None:
        self.known_hosts = known_hosts
        self._stage = "dialling"
        self._connection: Connection | None = None
        self.fingerprint = ""
        self.known_other = False

    @property
    def stage(self) -> str:
        """The stage that the login has reached."""
        if self._stage != "greeting" or not self._connection:
            return self._stage
        return "key exchange" if self._connection.get_extra_info("server_version") else "greeting"

    def connection_made(self, conn: Connection) -> None:
        self._stage, self._connection = "greeting", conn

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Reject a key that is not in known_hosts, and keep its fingerprint for the error."""
        self.fingerprint = key.get_fingerprint()
        known = asyncssh.match_known_hosts(_existing(self.known_hosts), host, addr, port)
        self.known_other = bool(known[0])
        return False

    def begin_auth(self, username: str) -> None:
        self._stage = "logging in"

    def auth_completed(self) -> None:
        self._stage = "in"


def _is_dead(jump: asyncio.Task[Connection]) -> bool:
    if not jump.done():
        return False
    return jump.cancelled() or jump.exception() is not None or jump.result().is_closed()


def _locked_keys(options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    """Return the key files that need a passphrase: those in ssh_config, or the usual ones."""
    named = options.config.get("IdentityFile", ())
    files = [
        os.path.expanduser(str(f)) for f in (named if isinstance(named, list) else _USUAL_KEYS)
    ]
    locked = []
    for file in _existing(files):
        try:
            asyncssh.read_private_key(file)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, OSError) as error:
            if "assphrase" in str(error):
                locked.append(file)
    return locked


def _existing(files: list[str]) -> list[str]:
    return [file for file in files if os.access(os.path.expanduser(file), os.R_OK)]


def _endpoint(options: asyncssh.SSHClientConnectionOptions, user: str, port: str) -> Endpoint:
    named = options.config.get("IdentityFile", ())
    files = named if isinstance(named, list) else ()
    return Endpoint(
        host=str(options.host),
        port=int(port or options.port),
        user=user or str(options.username),
        name=str(options.host_key_alias or options.host),
        keys=tuple(os.path.expanduser(str(file)) for file in files),
        hops=tuple(str(options.tunnel).split(",")) if options.tunnel else (),
        proxy_command=tuple(options.proxy_command or ()),
        known_hosts=tuple(os.path.expanduser(file) for file in _known_hosts(options)),
    )


class Dialler:
    """Opens connections to the hosts of one inventory; jump hosts are connected to once."""

    def __init__(self, inventory: Inventory, ask_passphrase: AskPassphrase | None = None) -> None:
        self._own = {host.name: ssh_config(host) for host in inventory.hosts}
        self._ask = ask_passphrase
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._jumps: dict[str, asyncio.Task[Connection]] = {}
        self._keys: dict[str, asyncio.Task[asyncssh.SSHKey | None]] = {}
        self._asking = asyncio.Lock()
        theirs = inventory.ssh_config or "~/.ssh/config"
        self._theirs = [SshConfig(Path(file)) for file in _existing([os.path.expanduser(theirs)])]

    async def connect(self, name: str) -> Connection:
        """Connect to a host of the inventory, or to any that ssh_config knows.

        Raises ConnectError.
        """
        options = self._options(name)
        tunnel = await self._tunnel(name, options)
        async with self._limit:
            return await self._open(name, options, tunnel)

    def settings(self, name: str) -> dict[str, str]:
        """Return the settings from the inventory, ssh_config and ssh's defaults, by inventory key.

        Needs a running event loop. Raises ConnectError if they cannot be read.
        """
        options = self._options(name, client_keys=None)  # a missing key is not an error yet
        keys = options.config.get("IdentityFile", ())
        found = {
            "address": options.host,
            "user": options.username,
            "port": options.port,
            "proxy_jump": options.tunnel,
            "identity_file": keys[0] if isinstance(keys, list) and keys else None,
        }
        return {key: str(value) for key, value in found.items() if value}

    async def endpoint(self, hop: str) -> Endpoint:
        """Return how to reach a host of the inventory or ``[user@]host[:port]``.

        Raises ConnectError.
        """
        user, _, place = hop.rpartition("@")
        name, _, port = place.partition(":")
        options = self._options(name)
        return _endpoint(options, user, port)

    async def close(self) -> None:
        """Close the connections to jump hosts."""
        for jump in self._jumps.values():
            jump.cancel()
            if jump.done() and not jump.cancelled() and not jump.exception():
                jump.result().close()

    def _options(self, name: str, **changes: object) -> asyncssh.SSHClientConnectionOptions:
        """Return the settings of a host, from the inventory first and then ssh_config.

        Raises ConnectError if they cannot be read.
        """
        with HostFiles(name) as files:
            try:
                own = files.write(self._own.get(name, ""))
                theirs = map(files.copy, self._theirs)
                return asyncssh.SSHClientConnectionOptions(
                    host=name,
                    config=[own, *theirs],
                    encryption_algs=_CIPHERS,
                    keepalive_interval=KEEPALIVE,
                    keepalive_count_max=KEEPALIVES,
                    agent_forwarding=False,
                    loop=asyncio.get_running_loop(),
                    **changes,
                )
            except (
                asyncssh.KeyImportError,
                asyncssh.ConfigParseError,
                OSError,
                ValueError,
            ) as error:
                if isinstance(error, FileNotFoundError):
                    raise errors.ConnectError(
                        name,
                        f"{error.filename} does not exist",
                        "correct identity_file in the inventory, or IdentityFile in ssh_config",
                    ) from None
                raise errors.ConnectError(
                    name,
                    f"the SSH settings are unusable: {files.explained(error)}",
                    f"see `ssh -G {name}`",
                ) from None

    async def _unlocked(
        self, options: asyncssh.SSHClientConnectionOptions
    ) -> list[asyncssh.SSHKey]:
        """Return the keys that need a passphrase; ask for each passphrase once for all hosts."""
        found = []
        for file in _locked_keys(options) if self._ask else []:
            if file not in self._keys:
                self._keys[file] = asyncio.ensure_future(self._unlock(file))
            key = await asyncio.shield(self._keys[file])
            found += [key] if key else []
        return found

    async def _unlock(self, file: str) -> asyncssh.SSHKey | None:
        assert self._ask
        async with self._asking:
            for _ in range(PASSPHRASE_TRIES):
                passphrase = await self._ask(file)
                if not passphrase:
                    return None
                try:
                    return await asyncio.to_thread(asyncssh.read_private_key, file, passphrase)
                except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
                    continue
        return None

    async def _tunnel(
        self, name: str, options: asyncssh.SSHClientConnectionOptions
    ) -> Connection | None:
        """Return the connection to the last jump host before ``name``."""
        if not options.tunnel:
            return None
        before: Connection | None = None
        for hop in str(options.tunnel).split(","):
            if hop not in self._jumps or _is_dead(self._jumps[hop]):
                self._jumps[hop] = asyncio.ensure_future(self._jump(hop, before))
            try:
                before = await asyncio.shield(self._jumps[hop])
            except errors.ConnectError as error:
                raise type(error)(
                    name, f"jump host {error.host}: {error.message}", error.hint
                ) from None
        return before

    async def _jump(self, hop: str, before: Connection | None) -> Connection:
        user, _, place = hop.rpartition("@")
        host, _, port = place.partition(":")
        if not user and not port:
            options = self._options(host)
            tunnel = before or await self._tunnel(host, options)
            return await self._open(host, options, tunnel)
        options = self._options(host)
        changes: dict[str, object] = {}
        if user:
            changes["username"] = user
        if port:
            changes["port"] = int(port)
        return await self._open(host, options, before, **changes)

    async def _open(
        self,
        name: str,
        options: asyncssh.SSHClientConnectionOptions,
        tunnel: Connection | None,
        **changes: object,
    ) -> Connection:
        known_hosts = _known_hosts(options)
        client = _Client(known_hosts)
        where = f"{options.host} port {options.port}"
        dialling = asyncio.ensure_future(
            asyncssh.connect(
                name,
                port=changes.get("port", options.port),
                options=options,
                tunnel=tunnel,
                known_hosts=_existing(known_hosts),
                client_factory=lambda: client,
                **{key: value for key, value in changes.items() if key != "port"},
            )
        )
        try:
            return await _while_it_moves(dialling, client)
        except TimeoutError:
            raise _timed_out(name, where, client) from None
        except asyncssh.HostKeyNotVerifiable:
            raise _bad_host_key(name, options, client) from None
        except asyncssh.PermissionDenied:
            if "client_keys" not in changes and (keys := await self._unlocked(options)):
                return await self._open(name, options, tunnel, **changes, client_keys=keys)
            raise _denied(name, options, changes.get("username", options.username)) from None
        except asyncssh.ChannelOpenError as error:
            raise errors.Unreachable(
                name, f"the jump host cannot reach {where}: {error.reason}", f"try `ssh {name}`"
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise _broken(name, where, client, error) from None


async def _while_it_moves(dialling: asyncio.Future[Connection], client: _Client) -> Connection:
    """Return the connection; raise TimeoutError after ``PATIENCE`` seconds in the same stage."""
    stage, looks = client.stage, 0
    try:
        while not (await asyncio.wait({dialling}, timeout=LOOK))[0]:
            looks = looks + 1 if client.stage == stage else 0
            stage = client.stage
            if looks * LOOK >= PATIENCE:
                raise TimeoutError
        return dialling.result()
    finally:
        dialling.cancel()


def _known_hosts(options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    """Return the files to check host keys against, even if ssh_config says "none"."""
    files = options.known_hosts
    if isinstance(files, list) and files:
        return [str(file) for file in files]
    return ["~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts"]


def _timed_out(name: str, where: str, client: _Client) -> errors.ConnectError:
    if client.stage == "dialling":
        return errors.Unreachable(
            name,
            f"no answer from {where} in {PATIENCE:.0f} s",
            "is the host on, and is the address right? or does a firewall drop packets?",
        )
    return errors.NoBanner(
        name,
        f"{where} accepts connections, but its SSH server does not answer ({client.stage})",
        "sshd or the whole machine is frozen or overloaded: look at its console",
    )


def _bad_host_key(
    name: str, options: asyncssh.SSHClientConnectionOptions, client: _Client
) -> errors.ConnectError:
    if client.known_other or not client.fingerprint:
        to = f" to {client.fingerprint}" if client.fingerprint else ""
        return errors.HostKeyMismatch(
            name,
            f"the host key changed{to} (the host was reinstalled, or somebody intercepts the "
            "connection)",
            "ask the admin for the fingerprint; if it is right, run "
            f"ssh-keygen -R {options.host}, then ssh {name}",
        )
    return errors.UnknownHostKey(
        name,
        f"the host key {client.fingerprint} is not in known_hosts",
        f"ask the admin for the fingerprint and compare; then accept it once with ssh {name}",
    )


def _denied(
    name: str, options: asyncssh.SSHClientConnectionOptions, user: object
) -> errors.ConnectError:
    named = options.config.get("IdentityFile", ())
    files = _existing([str(f) for f in (named if isinstance(named, list) else _USUAL_KEYS)])
    tried = f" (tried {', '.join(os.path.basename(file) for file in files)})" if files else ""
    return errors.AuthenticationFailed(
        name,
        f"login as {user}@{options.host} refused{tried}",
        f"run ssh-copy-id {name}, or ssh-add if the key has a passphrase; does `ssh {name}` work?",
    )


def _broken(
    name: str, where: str, client: _Client, error: OSError | asyncssh.Error
) -> errors.ConnectError:
    if isinstance(error, ConnectionRefusedError):
        return errors.Refused(
            name, f"nothing listens on {where}", "is sshd running there, and is the port right?"
        )
    if isinstance(error, asyncssh.KeyExchangeFailed) and "host key" in str(error).lower():
        return _bad_host_key_kind(name, error)
    if client.stage == "dialling":
        text = getattr(error, "strerror", None) or str(error)
        return errors.Unreachable(
            name, f"cannot reach {where}: {text}", f"does `ssh {name}` work from this machine?"
        )
    return errors.ConnectError(
        name, f"the login at {where} failed: {error}", f"does `ssh {name}` work?"
    )


def _bad_host_key_kind(name: str, error: Exception) -> errors.ConnectError:
    return errors.HostKeyMismatch(
        name,
        f"the host has no key of a kind that is in known_hosts: {error}",
        f"run ssh-keyscan {name}, compare the fingerprints, then update known_hosts",
    )
