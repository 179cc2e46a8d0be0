"""Logs in to hosts with Fabric, one blocking connection each; host keys are checked, never skipped.

Answers stay in memory, and are gone with it. For anything but administration there is
:mod:`launcher.transport.ssh`.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
import threading
from collections.abc import Iterable, Mapping

import fabric
import paramiko

from ...spec import errors
from ...spec.frozen import frozen
from ...spec.model import Inventory, Secret
from ...transport.ssh import Dialler, Way
from .hostkeys import Check, NotTrusted, append, changed_key, known_keys, listed

#: Seconds for a TCP connection, for the server's first line, and for a login.
PATIENCE = 10.0
#: Seconds between signs of life; a connection without an answer to 3 of them is lost.
KEEPALIVE = 5


class Question(Exception):
    """A login stands still until a person has decided; ``subject`` is a host or a jump host."""

    def __init__(self, subject: str, way: Way) -> None:
        super().__init__(subject)
        self.subject = subject
        self.way = way


class UnknownKey(Question):
    """known_hosts has no key of that host; this one was offered."""

    def __init__(self, subject: str, way: Way, key: paramiko.PKey) -> None:
        super().__init__(subject, way)
        self.key = key


class NeedsPassword(Question):
    """No key of the user's is accepted. ``refused``: nor is the password that was tried."""

    def __init__(self, subject: str, way: Way, refused: bool) -> None:
        super().__init__(subject, way)
        self.refused = refused


class NeedsSudo(Question):
    """sudo there wants a password. ``refused``: not the one that was tried."""

    def __init__(self, subject: str, way: Way, refused: bool) -> None:
        super().__init__(subject, way)
        self.refused = refused


@frozen
class _Hop:
    name: str
    way: Way


class Logins:
    """Ways to the hosts of one inventory, the answers so far, and every open connection."""

    def __init__(
        self, inventory: Inventory, names: Iterable[str], login_keys: tuple[str, ...] = ()
    ) -> None:
        self._login_keys = login_keys
        self._lock = threading.Lock()
        self._trusted: dict[str, list[paramiko.PKey]] = {}
        self._passwords: dict[str, Secret] = {}
        self._open: dict[str, fabric.Connection] = {}
        self._gates: dict[str, threading.Lock] = {}
        self._is_closed = False
        self._routes: dict[str, tuple[_Hop, ...] | errors.ConnectError] = asyncio.run(
            _routes(inventory, tuple(names))
        )

    def way(self, name: str) -> Way:
        """How a host is reached. Raises ConnectError when its settings cannot be used."""
        return self._route(name)[-1].way

    def connect(self, name: str) -> fabric.Connection:
        """The open connection to a host, made when there is none.

        Raises Question, or ConnectError.
        """
        before: fabric.Connection | None = None
        for hop in self._route(name):
            try:
                with self._gate(hop.name):
                    before = self._reached(hop, before)
            except errors.ConnectError as error:
                if hop.name == name:
                    raise
                message = f"its jump host {hop.name}: {error.message}"
                raise type(error)(name, message, error.hint) from None
        assert before is not None
        return before

    def trust(self, subject: str, way: Way, key: paramiko.PKey, save: bool) -> str:
        """Takes a host's key for right from now on; with ``save`` also in known_hosts.

        Returns the file. Raises ConnectError when it cannot be written.
        """
        file = way.known_hosts[0]
        if save:
            try:
                append(file, f"{listed(way)} {key.get_name()} {key.get_base64()}\n")
            except OSError as error:
                raise errors.ConnectError(
                    subject, f"its key cannot be added to {file}: {error.strerror}"
                ) from None
        self._trusted.setdefault(subject, []).append(key)
        return file

    def answer(self, subject: str, password: Secret) -> None:
        """The password to log in with at a host or jump host."""
        self._passwords[subject] = password

    def password(self, subject: str) -> Secret | None:
        """The password that was given for it."""
        return self._passwords.get(subject)

    def close(self) -> None:
        """Closes every connection; what waits for one ends with an error."""
        with self._lock:
            self._is_closed = True
            opened = list(self._open.values())
            self._open.clear()
        for connection in reversed(opened):
            connection.client.close()

    def _route(self, name: str) -> tuple[_Hop, ...]:
        found = self._routes[name]
        if isinstance(found, errors.ConnectError):
            raise found
        return found

    def _gate(self, name: str) -> threading.Lock:
        with self._lock:
            return self._gates.setdefault(name, threading.Lock())

    def _reached(self, hop: _Hop, before: fabric.Connection | None) -> fabric.Connection:
        known = self._open.get(hop.name)
        if known is not None and known.is_connected:
            return known
        connection = self._connection(hop, before)
        try:
            connection.open()
        except BaseException as error:
            allowed = _allowed(connection, hop.way.user, error)
            connection.client.close()
            raise self._what_went_wrong(hop, error, allowed) from None
        _stay_awake(connection.transport)
        with self._lock:
            self._open[hop.name] = connection
        if self._is_closed:
            self.close()
        return connection

    def _connection(self, hop: _Hop, before: fabric.Connection | None) -> fabric.Connection:
        way = hop.way
        password = self._passwords.get(hop.name)
        keys = [*way.keys, *self._login_keys]
        check = Check((*known_keys(way), *self._trusted.get(hop.name, ())))
        settings: dict[str, object] = {
            "transport_factory": check.transport,
            "timeout": PATIENCE,
            "banner_timeout": PATIENCE,
            "auth_timeout": PATIENCE,
            "channel_timeout": PATIENCE,
        }
        if password is None:
            settings |= {"key_filename": keys} if keys else {}
            settings["look_for_keys"] = not way.keys
        else:  # sshd counts every key as a try (MaxAuthTries)
            settings |= {"allow_agent": False, "look_for_keys": False}
            settings["password"] = password.reveal()
        command = shlex.join(way.proxy_command) if way.proxy_command and not before else None
        connection = fabric.Connection(
            way.host,
            user=way.user,
            port=way.port,
            gateway=before or command or False,
            forward_agent=False,
            connect_kwargs=settings,
            # Not the user's fabric.yaml, nor ssh_config again: the way is known.
            config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),
        )
        connection.client.set_missing_host_key_policy(check)
        return connection

    def _what_went_wrong(
        self, hop: _Hop, error: BaseException, allowed: tuple[str, ...]
    ) -> BaseException:
        if isinstance(error, NotTrusted):
            if error.others_known:
                return changed_key(hop.name, hop.way, error.key)
            return UnknownKey(hop.name, hop.way, error.key)
        if _is_refusal(error):
            if "password" in allowed or "keyboard-interactive" in allowed:
                return NeedsPassword(hop.name, hop.way, hop.name in self._passwords)
            return errors.AuthenticationFailed(
                hop.name,
                f"it does not let {hop.way.user} in, and takes no password",
                "a key that it knows: --login-key FILE, or ssh-add",
            )
        return _broken(hop, error)


def _stay_awake(transport: paramiko.Transport) -> None:
    """A host that has died is noticed within seconds: by itself TCP takes a quarter of an hour."""
    transport.set_keepalive(KEEPALIVE)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # tcp(7): Linux
    if option is not None and isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, option, 3 * KEEPALIVE * 1000)


def _is_refusal(error: BaseException) -> bool:
    # paramiko has a plain SSHException for "there was nothing to try".
    return isinstance(error, paramiko.AuthenticationException) or (
        isinstance(error, paramiko.SSHException) and "No authentication methods" in str(error)
    )


def _allowed(connection: fabric.Connection, user: str, error: BaseException) -> tuple[str, ...]:
    """How the host lets people in, as it says when it is asked: RFC 4252, 5.2."""
    transport = connection.client.get_transport()
    if not _is_refusal(error):
        return ()
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as answer:
        return tuple(answer.allowed_types)
    except (paramiko.SSHException, EOFError, OSError, AttributeError):
        pass  # it has hung up after too many tries: it may take a password next time
    return ("password",)


async def _routes(
    inventory: Inventory, names: tuple[str, ...]
) -> dict[str, tuple[_Hop, ...] | errors.ConnectError]:
    dialler = Dialler(inventory)
    found: dict[str, tuple[_Hop, ...] | errors.ConnectError] = {}
    for name in names:
        try:
            found[name] = await _route(dialler, name, ())
        except errors.ConnectError as error:
            found[name] = error
    return found


async def _route(dialler: Dialler, name: str, on_the_way: tuple[str, ...]) -> tuple[_Hop, ...]:
    way = await dialler.way(name)
    if name in on_the_way:
        raise errors.ConnectError(name, "its jump hosts lead back to itself", "look at ProxyJump")
    hops: tuple[_Hop, ...] = ()
    for index, hop in enumerate(way.hops):
        if index:
            hops = (*hops, _Hop(hop, await dialler.way(hop)))
        else:
            hops = await _route(dialler, hop, (*on_the_way, name))
    return (*hops, _Hop(name, way))


def _broken(hop: _Hop, error: BaseException) -> BaseException:
    where = f"{hop.way.host} port {hop.way.port}"
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        causes: Mapping[object, OSError] = error.errors
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes.values()):
            hint = "is sshd running there, and is the port right?"
            return errors.Refused(hop.name, f"nobody listens on {where}", hint)
        error = next(iter(causes.values()))
    if isinstance(error, TimeoutError):
        return errors.Unreachable(
            hop.name,
            f"no answer from {where} in {PATIENCE:.0f} s",
            "is it on, and is the address right? a firewall that drops packets looks the same",
        )
    if isinstance(error, paramiko.ChannelException):
        return errors.Unreachable(hop.name, f"the jump host cannot reach {where}: {error.text}")
    if isinstance(error, socket.gaierror | OSError):
        text = error.strerror or str(error)
        return errors.Unreachable(hop.name, f"cannot reach {where}: {text}")
    if isinstance(error, paramiko.SSHException | EOFError):
        text = str(error) or "it hung up"
        return errors.ConnectError(
            hop.name, f"the login at {where} broke off: {text}", f"does `ssh {hop.name}` work?"
        )
    return error
