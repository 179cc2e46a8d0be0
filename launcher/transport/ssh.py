"""Open one SSH connection to each host with asyncssh, and always check host keys.

Every failure to connect becomes an error with the host's name, its cause and what to do next.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shlex
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import asyncssh
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_public_key_algs

from ..spec import errors
from ..spec.model import Inventory
from ..spec.ssh_config import ASYNCSSH, OPENSSH, ssh_config
from . import known_hosts, ssh_keys
from .asyncssh_connection import KEEPALIVE, KEEPALIVES, AsyncsshConnection
from .connection import FROZEN, Connection
from .known_hosts import KnownKeys
from .ssh_keys import OfferedKeys
from .ssh_lookup import SshLookup
from .ssh_settings import SshSettings

if TYPE_CHECKING:
    from .openssh_connection import OpensshConnection
    from .proxy_command import ProxyCommand

#: Seconds in one stage (TCP, banner, key exchange, login) after which a host is given up: a healthy
#: sshd answers at once, but not on a machine that swaps, and a false alarm costs a run.
PATIENCE = 8.0
#: Seconds between looks at the stage, so that a pause of ours counts as one look against the host.
LOOK = 0.25
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

#: How often a passphrase may be wrong.
PASSPHRASE_TRIES = 3

_Login = asyncssh.SSHClientConnection
AskPassphrase = Callable[[str], Awaitable[str | None]]
#: The keys for which each has given the passphrase: who visits hosts again is not asked again.
_unlocked_keys: WeakKeyDictionary[AskPassphrase, dict[str, asyncssh.SSHKey]] = WeakKeyDictionary()

#: The keywords of ssh_config whose values asyncssh takes, and what asyncssh knows of each.
_ALGORITHMS: Mapping[str, tuple[str, Callable[[], Sequence[bytes]]]] = {
    "ciphers": ("encryption_algs", get_encryption_algs),
    "kexalgorithms": ("kex_algs", get_kex_algs),
    "macs": ("mac_algs", get_mac_algs),
    "hostkeyalgorithms": ("server_host_key_algs", get_public_key_algs),
    "pubkeyacceptedalgorithms": ("signature_algs", get_public_key_algs),
}


class _Client(asyncssh.SSHClient):
    """Watches one login, so that its failure can be explained."""

    def __init__(self, known: KnownKeys) -> None:
        self._known = known
        self._stage = "dialling"
        self._connection: _Login | None = None
        self.fingerprint = ""
        self.known_other = False
        self.proxy: ProxyCommand | None = None

    @property
    def stage(self) -> str:
        """The stage that the login has reached."""
        if self._stage != "greeting" or not self._connection:
            return self._stage
        return "key exchange" if self._connection.get_extra_info("server_version") else "greeting"

    def connection_made(self, conn: _Login) -> None:
        self._stage, self._connection = "greeting", conn

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Reject a key that is not in known_hosts, and keep its fingerprint for the error."""
        self.fingerprint = key.get_fingerprint()
        self.known_other = bool(self._known.trusted)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.proxy:
            self.proxy.end()

    def begin_auth(self, username: str) -> None:
        self._stage = "logging in"

    def auth_completed(self) -> None:
        self._stage = "in"


class TransportNote(UserWarning):
    """ssh(1) connects to a host instead of asyncssh."""

    def __init__(self, host: str, keyword: str | None = None) -> None:
        why = f"{host} denies asyncssh and lets `ssh {host}` in"
        if keyword:
            why = f"{host}: asyncssh cannot follow {keyword} in ssh_config"
        super().__init__(
            f"{why}: connected by OpenSSH. transport: openssh in the inventory does so at once"
        )


def _unlocked_by(ask: AskPassphrase) -> dict[str, asyncssh.SSHKey]:
    try:
        return _unlocked_keys.setdefault(ask, {})
    except TypeError:  # it has no hash, or nothing can refer to it weakly: it is asked again
        return {}


class Dialler:
    """Opens connections to the hosts of one inventory; jump hosts are connected to once.

    All settings are ssh(1)'s own: see :mod:`launcher.transport.ssh_settings`. ``lookup`` may have
    been asked for them ahead.
    """

    def __init__(
        self,
        inventory: Inventory,
        ask_passphrase: AskPassphrase | None = None,
        lookup: SshLookup | None = None,
    ) -> None:
        self.lookup = lookup or SshLookup(inventory)
        self._own_blocks = "".join(map(ssh_config, inventory.hosts))
        self._transports = {host.name: host.transport for host in inventory.hosts}
        self._ask = ask_passphrase
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._jumps: dict[tuple[str, ...], asyncio.Task[_Login]] = {}
        self._proxies: list[ProxyCommand] = []
        self._by_openssh: list[OpensshConnection] = []
        self._keys: dict[str, asyncio.Task[asyncssh.SSHKey | None]] = {}
        self._asking = asyncio.Lock()

    async def connect(self, name: str) -> Connection:
        """Connect to a host of the inventory, or to any that ssh(1) knows.

        By what the inventory's ``transport`` names; without one by asyncssh, and by ssh(1) where
        asyncssh cannot follow ssh_config, or is denied and ssh gets in. Raises ConnectError.
        """
        if self._transports.get(name) == OPENSSH:
            return await self._open_by_openssh(name)
        *jumps, settings = route = await self.route(name)
        if beyond := next(filter(None, (each.beyond_asyncssh for each in route)), None):
            return await self._open_beyond(name, beyond)
        tunnel = await self._tunnel(name, jumps)
        async with self._limit:
            try:
                return AsyncsshConnection(
                    name, await self._open(settings, tunnel), partial(self._open, settings, tunnel)
                )
            except errors.AuthenticationFailed as denied:
                if self._transports.get(name) == ASYNCSSH:
                    raise
                with suppress(errors.ConnectError):
                    connection = await self._log_in_by_openssh(name)
                    self._transports[name] = OPENSSH
                    warnings.warn(TransportNote(name), stacklevel=2)
                    return connection
                raise denied

    async def route(self, name: str) -> tuple[SshSettings, ...]:
        """Return the jump hosts to a host in their order, and then the host itself.

        The first jump host is reached as its own settings say, each other one through the one before
        it: ssh(1), -J. Raises ConnectError.
        """
        return await self._route(name, ())

    async def _open_beyond(self, name: str, keyword: str) -> Connection:
        if self._transports.get(name) == ASYNCSSH:
            raise errors.ConnectError(
                name, f"asyncssh cannot follow {keyword} in ssh_config",
                "leave out transport: asyncssh, or that line",
            )  # fmt: skip
        connection = await self._open_by_openssh(name)
        self._transports[name] = OPENSSH
        warnings.warn(TransportNote(name, keyword), stacklevel=2)
        return connection

    async def _open_by_openssh(self, name: str) -> Connection:
        async with self._limit:
            return await self._log_in_by_openssh(name)

    async def _log_in_by_openssh(self, name: str) -> Connection:
        from .openssh_connection import OpensshConnection  # few hosts need it

        connection = await OpensshConnection.open(name, self._config_for_openssh())
        self._by_openssh = [one for one in self._by_openssh if not one.is_over] + [connection]
        return connection

    def _config_for_openssh(self) -> str:
        """Return the settings of all hosts, also of those that others jump through."""
        usual = ("~/.ssh/config", "/etc/ssh/ssh_config")
        files = (self.lookup.config,) if self.lookup.config else usual
        includes = "".join(f'Include "{file}"\n' for file in files)
        return f"{self._own_blocks}Match all\n{includes}"

    async def close(self) -> None:
        """Close the connections to jump hosts, and end all programs of this machine."""
        for task in self._jumps.values():
            task.cancel()
        for jump in self._jumps.values():
            if jump.done() and not jump.cancelled() and not jump.exception():
                jump.result().close()
        for proxy in self._proxies:
            proxy.end()
        await asyncio.gather(*(asyncio.to_thread(proxy.wait) for proxy in self._proxies))
        await asyncio.gather(*(one.wait_closed() for one in self._by_openssh if one.is_closed))
        await self.lookup.close()

    async def _route(self, name: str, passed: tuple[str, ...]) -> tuple[SshSettings, ...]:
        if name in passed:
            raise errors.ConnectError(
                passed[0], f"its jump hosts form a loop: {' -> '.join((*passed, name))}",
                "correct ProxyJump in ssh_config, or proxy_jump in the inventory",
            )  # fmt: skip
        settings = await self.lookup.settings(name)
        before: tuple[SshSettings, ...] = ()
        for index, hop in enumerate(settings.hops):
            more = (
                (await self.lookup.settings(hop),)
                if index
                else await self._route(hop, (*passed, name))
            )
            before = (*before, *more)
        return (*before, settings)

    async def _unlocked(self, settings: SshSettings) -> list[asyncssh.SSHKey]:
        """Return the keys that need a passphrase; ask for each passphrase once for all hosts."""
        found = []
        for file in ssh_keys.locked(settings) if self._ask else []:
            if file not in self._keys:
                self._keys[file] = asyncio.ensure_future(self._unlock(file))
            key = await asyncio.shield(self._keys[file])
            found += [key] if key else []
        return found

    async def _unlock(self, file: str) -> asyncssh.SSHKey | None:
        assert self._ask
        async with self._asking:
            unlocked = _unlocked_by(self._ask)
            if file in unlocked:
                return unlocked[file]
            for _ in range(PASSPHRASE_TRIES):
                passphrase = await self._ask(file)
                if not passphrase:
                    return None
                try:
                    key = await asyncio.to_thread(asyncssh.read_private_key, file, passphrase)
                    unlocked[file] = key
                    return key
                except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
                    continue
        return None

    async def _tunnel(self, name: str, jumps: Sequence[SshSettings]) -> _Login | None:
        """Return the connection to the last jump host before ``name``."""
        before: _Login | None = None
        for index, settings in enumerate(jumps, 1):
            key = tuple(f"{jump.user}@{jump.host}:{jump.port}" for jump in jumps[:index])
            if key not in self._jumps or _is_dead(self._jumps[key]):
                self._jumps[key] = asyncio.ensure_future(self._open(settings, before))
            try:
                before = await asyncio.shield(self._jumps[key])
            except errors.ConnectError as error:
                raise type(error)(
                    name, f"jump host {error.host}: {error.message}", error.hint
                ) from None
        return before

    async def _open(
        self,
        settings: SshSettings,
        tunnel: _Login | None,
        unlocked: Sequence[asyncssh.SSHKey] = (),
    ) -> _Login:
        known = await asyncio.to_thread(_known_keys, settings)
        offered = await OfferedKeys.gather(settings, unlocked)
        client = _Client(known)
        try:
            if settings.proxy_argv and tunnel is None:
                from .proxy_command import ProxyCommand  # few hosts are behind one

                client.proxy = ProxyCommand(settings.proxy_argv)
                self._proxies.append(client.proxy)
            dialling = asyncio.ensure_future(
                asyncssh.connect(
                    settings.host,
                    settings.port,
                    tunnel=tunnel,
                    client_factory=lambda: client,
                    known_hosts=known.as_lists(),
                    client_keys=offered.pairs or None,
                    **_options(settings, tunnel, client.proxy),
                )
            )
            return await _while_it_moves(dialling, client)
        except BaseException as error:
            if client.proxy:
                client.proxy.end()
            is_denied = isinstance(error, asyncssh.PermissionDenied)
            if is_denied and not unlocked and (keys := await self._unlocked(settings)):
                return await self._open(settings, tunnel, keys)
            raise _explained(settings, client, offered, error) from None
        finally:
            offered.close()


def _explained(
    settings: SshSettings, client: _Client, offered: OfferedKeys, error: BaseException
) -> BaseException:
    """Return the ConnectError for a failed login; any other error as it is."""
    if isinstance(error, TimeoutError):
        return _timed_out(settings, client)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _bad_host_key(settings, client)
    if isinstance(error, asyncssh.PermissionDenied):
        return _denied(settings, offered)
    if isinstance(error, asyncssh.ChannelOpenError):
        return _no_forwarding(settings, error)
    if isinstance(error, OSError | asyncssh.Error):
        return _broken(settings, client, error)
    return error


def _known_keys(settings: SshSettings) -> KnownKeys:
    lines = known_hosts.read(settings.known_hosts)
    if settings.known_hosts_command:
        lines += known_hosts.ask(settings.known_hosts_command, settings.known_name)
    return known_hosts.lookup(lines, settings.known_name)


def _options(
    settings: SshSettings, tunnel: _Login | None, proxy: ProxyCommand | None
) -> dict[str, object]:
    """Return the arguments of asyncssh.connect that do not depend on keys."""
    options: dict[str, object] = {
        "config": None,
        "agent_path": None,  # its keys are among ours, in ssh's order
        "agent_forwarding": False,
        "username": settings.user,
        "host_key_alias": settings.alias or (),
        "encryption_algs": _CIPHERS,
        "keepalive_interval": KEEPALIVE,
        "keepalive_count_max": KEEPALIVES,
    }
    if proxy:
        options["sock"] = proxy.socket
    elif tunnel is None:
        options["family"] = settings.family
        if settings.bind_address:
            options["local_addr"] = (settings.bind_address, 0)
    for keyword, names in settings.algorithms.items():
        argument, known = _ALGORITHMS[keyword]
        usable = [name for name in names if name.encode() in known()]
        if usable:
            options[argument] = usable
    return options


async def _while_it_moves(dialling: asyncio.Future[_Login], client: _Client) -> _Login:
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


def _timed_out(settings: SshSettings, client: _Client) -> errors.ConnectError:
    if client.stage == "dialling":
        return errors.Unreachable(
            settings.name,
            f"no answer from {settings.where} in {PATIENCE:.0f} s",
            "is the host on, and is the address right? or does a firewall drop packets?",
        )
    return errors.NoBanner(
        settings.name,
        f"{settings.where} accepts connections, but its SSH server does not answer "
        f"({client.stage})",
        FROZEN,
    )


def _bad_host_key(settings: SshSettings, client: _Client) -> errors.ConnectError:
    name = settings.name
    if client.known_other or not client.fingerprint:
        to = f" to {client.fingerprint}" if client.fingerprint else ""
        return errors.HostKeyMismatch(
            name,
            f"the host key changed{to} (the host was reinstalled, or somebody intercepts the "
            "connection)",
            "ask the admin for the fingerprint; if it is right, run "
            f"ssh-keygen -R {shlex.quote(settings.known_name)}, then ssh {name}",
        )
    return errors.UnknownHostKey(
        name,
        f"the host key {client.fingerprint} is not in known_hosts",
        f"ask the admin for the fingerprint and compare; then accept it once with ssh {name}",
    )


def _denied(settings: SshSettings, offered: OfferedKeys) -> errors.ConnectError:
    """Return the error of a login that was refused: which keys were offered, and which could not be."""
    locked = [] if offered.unlocked else ssh_keys.locked(settings)
    files = [file for file in settings.keys if os.access(file, os.R_OK)]
    exposed = [file for file in files if not ssh_keys.is_private(file)]
    missing = [file for file in settings.named_keys if not os.path.exists(file)]
    tried = [os.path.basename(file) for file in files if file not in (*locked, *exposed)]
    tried += [f"{offered.from_agent} of the agent"] if offered.from_agent else []
    told = [f"tried {', '.join(tried)}"] if tried else []
    told += [f"{file} has a passphrase" for file in locked]
    told += [f"{file} may be read by others, so ssh ignores it" for file in exposed]
    told += [f"{file} does not exist" for file in missing]
    note = f" ({'; '.join(told)})" if told else ""
    name = settings.name
    hint = f"run ssh-copy-id {name}"
    if locked:
        hint = f"run ssh-add {shlex.quote(locked[0])}"
    elif exposed:
        hint = f"run chmod 600 {shlex.quote(exposed[0])}"
    return errors.AuthenticationFailed(
        name,
        f"login as {settings.user}@{settings.host} refused{note}",
        f"{hint}; does `ssh {name}` work?",
    )


def _no_forwarding(settings: SshSettings, error: asyncssh.ChannelOpenError) -> errors.ConnectError:
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return errors.Unreachable(
            settings.name,
            f"the jump host does not forward connections to {settings.where}: it prohibits that",
            "its sshd_config needs AllowTcpForwarding and PermitOpen for it",
        )
    return errors.Unreachable(
        settings.name,
        f"the jump host cannot reach {settings.where}: {error.reason}",
        f"try `ssh {settings.name}`",
    )


def _broken(
    settings: SshSettings, client: _Client, error: OSError | asyncssh.Error
) -> errors.ConnectError:
    name, where = settings.name, settings.where
    # One for each address of the host: asyncio puts them into one text, without their own words.
    numbers = list(dict.fromkeys(int(one) for one in re.findall(r"\[Errno (\d+)\]", str(error))))
    if isinstance(error, ConnectionRefusedError) or numbers == [errno.ECONNREFUSED]:
        return errors.Refused(
            name, f"nothing listens on {where}", "is sshd running there, and is the port right?"
        )
    if isinstance(error, asyncssh.KeyExchangeFailed) and "host key" in str(error).lower():
        return _bad_host_key_kind(name, error)
    if client.proxy and client.stage in ("dialling", "greeting"):
        return errors.Unreachable(
            name,
            f"the ProxyCommand failed: {client.proxy.complaint() or error}",
            f"does it work by hand? {settings.proxy_command}",
        )
    if client.stage == "dialling":
        text = "; ".join(map(os.strerror, numbers)) or getattr(error, "strerror", "") or str(error)
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


def _is_dead(jump: asyncio.Task[_Login]) -> bool:
    if not jump.done():
        return False
    return jump.cancelled() or jump.exception() is not None or jump.result().is_closed()
