"""Log in to hosts with Fabric, one blocking connection each, and always check host keys.

Passwords stay in memory. Everything but bootstrap uses :mod:`launcher.transport.ssh`.
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
from ...transport.ssh import Dialler
from ...transport.ssh_settings import SshSettings
from .hostkeys import Check, NotTrusted, append, changed_key, known_keys

#: Seconds for a TCP connection, for the server's first line, and for a login.
PATIENCE = 10.0
#: Seconds between keep-alives; a connection that misses 3 of them is lost.
KEEPALIVE = 5


class Question(Exception):
    """A login that waits for a person's decision; ``subject`` is a host or a jump host."""

    def __init__(self, subject: str, endpoint: SshSettings) -> None:
        super().__init__(subject)
        self.subject = subject
        self.endpoint = endpoint


class UnknownKey(Question):
    """known_hosts has no key of the host, which offered this one."""

    def __init__(self, subject: str, endpoint: SshSettings, key: paramiko.PKey) -> None:
        super().__init__(subject, endpoint)
        self.key = key


class NeedsPassword(Question):
    """The host accepts none of the user's keys; ``refused``: nor the password that was tried."""

    def __init__(self, subject: str, endpoint: SshSettings, refused: bool) -> None:
        super().__init__(subject, endpoint)
        self.refused = refused


class NeedsSudo(Question):
    """sudo asks for a password; ``refused``: it did not accept the one that was tried."""

    def __init__(self, subject: str, endpoint: SshSettings, refused: bool) -> None:
        super().__init__(subject, endpoint)
        self.refused = refused


@frozen
class _Hop:
    name: str
    endpoint: SshSettings


class Logins:
    """Routes to the hosts of an inventory, answers to questions so far, and open connections."""

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

    def endpoint(self, name: str) -> SshSettings:
        """Return how a host is reached. Raises ConnectError if its settings are unusable."""
        return self._route(name)[-1].endpoint

    def connect(self, name: str) -> fabric.Connection:
        """Return the open connection to a host; open one if needed.

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
                message = f"jump host {hop.name}: {error.message}"
                raise type(error)(name, message, error.hint) from None
        assert before is not None
        return before

    def trust(self, subject: str, endpoint: SshSettings, key: paramiko.PKey, save: bool) -> str:
        """Trust a host's key from now on; with ``save``, add it to known_hosts.

        Return the path of known_hosts. Raises ConnectError if it cannot be written.
        """
        file = endpoint.known_hosts[0]
        if save:
            try:
                append(file, f"{endpoint.known_name} {key.get_name()} {key.get_base64()}\n")
            except OSError as error:
                raise errors.ConnectError(
                    subject, f"cannot add the host key to {file}: {error.strerror}"
                ) from None
        self._trusted.setdefault(subject, []).append(key)
        return file

    def answer(self, subject: str, password: Secret) -> None:
        """Set the password for logging in to a host or jump host."""
        self._passwords[subject] = password

    def password(self, subject: str) -> Secret | None:
        """Return the password given for a host or jump host."""
        return self._passwords.get(subject)

    def close(self) -> None:
        """Close every connection; a pending login fails."""
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
            allowed = _allowed(connection, hop.endpoint.user, error)
            connection.client.close()
            raise self._what_went_wrong(hop, error, allowed) from None
        _stay_awake(connection.transport)
        with self._lock:
            self._open[hop.name] = connection
        if self._is_closed:
            self.close()
        return connection

    def _connection(self, hop: _Hop, before: fabric.Connection | None) -> fabric.Connection:
        endpoint = hop.endpoint
        password = self._passwords.get(hop.name)
        keys = [*endpoint.named_keys, *self._login_keys]
        check = Check((*known_keys(endpoint), *self._trusted.get(hop.name, ())))
        settings: dict[str, object] = {
            "transport_factory": check.transport,
            "timeout": PATIENCE,
            "banner_timeout": PATIENCE,
            "auth_timeout": PATIENCE,
            "channel_timeout": PATIENCE,
        }
        if password is None:
            settings |= {"key_filename": keys} if keys else {}
            settings["look_for_keys"] = not endpoint.named_keys
        else:  # sshd counts every key as an attempt (MaxAuthTries)
            settings |= {"allow_agent": False, "look_for_keys": False}
            settings["password"] = password.reveal()
        command = shlex.join(endpoint.proxy_argv) if endpoint.proxy_argv and not before else None
        connection = fabric.Connection(
            endpoint.host,
            user=endpoint.user,
            port=endpoint.port,
            gateway=before or command or False,
            forward_agent=False,
            connect_kwargs=settings,
            # The route is known: read neither fabric.yaml nor ssh_config again.
            config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),
        )
        connection.client.set_missing_host_key_policy(check)
        return connection

    def _what_went_wrong(
        self, hop: _Hop, error: BaseException, allowed: tuple[str, ...]
    ) -> BaseException:
        if isinstance(error, NotTrusted):
            if error.others_known:
                return changed_key(hop.name, hop.endpoint, error.key)
            return UnknownKey(hop.name, hop.endpoint, error.key)
        if _is_refusal(error):
            if "password" in allowed or "keyboard-interactive" in allowed:
                return NeedsPassword(hop.name, hop.endpoint, hop.name in self._passwords)
            return errors.AuthenticationFailed(
                hop.name,
                f"login as {hop.endpoint.user}@{hop.endpoint.host} refused; the host accepts keys only",
                "use a key that it accepts: --login-key FILE, or ssh-add",
            )
        return _broken(hop, error)


def _stay_awake(transport: paramiko.Transport) -> None:
    """Notice a dead host within seconds; plain TCP takes a quarter of an hour."""
    transport.set_keepalive(KEEPALIVE)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # tcp(7): Linux
    if option is not None and isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, option, 3 * KEEPALIVE * 1000)


def _is_refusal(error: BaseException) -> bool:
    # paramiko raises a plain SSHException if there was nothing to try.
    return isinstance(error, paramiko.AuthenticationException) or (
        isinstance(error, paramiko.SSHException) and "No authentication methods" in str(error)
    )


def _allowed(connection: fabric.Connection, user: str, error: BaseException) -> tuple[str, ...]:
    """Ask the host for the login methods that it allows: RFC 4252, 5.2."""
    transport = connection.client.get_transport()
    if not _is_refusal(error):
        return ()
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as answer:
        return tuple(answer.allowed_types)
    except (paramiko.SSHException, EOFError, OSError, AttributeError):
        pass  # it hung up after too many attempts, but may accept a password next time
    return ("password",)


async def _routes(
    inventory: Inventory, names: tuple[str, ...]
) -> dict[str, tuple[_Hop, ...] | errors.ConnectError]:
    dialler = Dialler(inventory)
    found: dict[str, tuple[_Hop, ...] | errors.ConnectError] = {}
    for name in names:
        try:
            found[name] = tuple(_Hop(hop.name, hop) for hop in await dialler.route(name))
        except errors.ConnectError as error:
            found[name] = error
    return found


def _broken(hop: _Hop, error: BaseException) -> BaseException:
    where = f"{hop.endpoint.host} port {hop.endpoint.port}"
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        causes: Mapping[object, OSError] = error.errors
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes.values()):
            hint = "is sshd running there, and is the port right?"
            return errors.Refused(hop.name, f"nothing listens on {where}", hint)
        error = next(iter(causes.values()))
    if isinstance(error, TimeoutError):
        return errors.Unreachable(
            hop.name,
            f"no answer from {where} in {PATIENCE:.0f} s",
            "is the host on, and is the address right? or does a firewall drop packets?",
        )
    if isinstance(error, paramiko.ChannelException):
        return errors.Unreachable(hop.name, f"the jump host cannot reach {where}: {error.text}")
    if isinstance(error, socket.gaierror | OSError):
        text = error.strerror or str(error)
        return errors.Unreachable(hop.name, f"cannot reach {where}: {text}")
    if isinstance(error, paramiko.SSHException | EOFError):
        text = str(error) or "the host hung up"
        return errors.ConnectError(
            hop.name, f"the login at {where} failed: {text}", f"does `ssh {hop.name}` work?"
        )
    return error
