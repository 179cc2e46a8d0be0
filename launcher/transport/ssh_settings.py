"""Ask OpenSSH how it would connect to a host: ``ssh -G`` reads ssh_config, launcher never does.

So Match, Include, tokens, canonical names and the system's own file mean what they mean to ssh(1).
What ``ssh -G`` leaves as tokens is filled in here as ssh does: ssh_config(5), TOKENS.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import pwd
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from ..spec import errors
from ..spec.frozen import frozen
from .program_notes import user_home as home
from .ssh_answers import SshAnswers

#: Seconds for ``ssh -G``: it may run a program for ``Match exec``, and resolve names.
PATIENCE = 20.0
#: The port of a server when nothing else is said: ssh(1).
PORT = 22

_INSTALL = "install it: apt-get install openssh-client, or dnf install openssh-clients"
#: A jump host as ssh_config writes it.
_HOP = re.compile(r"(?:ssh://)?(?:(?P<user>.*)@)?(?P<host>\[[^]]*\]|[^:/]*)(?::(?P<port>\d+))?/?")
_TOKEN = re.compile(r"%(.)|\$\{(\w+)\}")

#: What ssh_config may deny; without a command to run, ssh calls that a mistake.
_IN_FRONT = "-oForkAfterAuthentication=no"

_Values = Mapping[str, tuple[str, ...]]


@frozen
class SshSettings:
    """How ssh(1) would connect to ``name``. Paths are expanded; ``named`` has the keywords, in lower
    case, whose values differ from ssh's own defaults.

    ``hops`` are the jump hosts, the first one first; ``proxy_command`` is a line for the user's shell.
    ``known_name`` is the host's name in known_hosts, where ``known_hosts`` are the user's files and
    then the system's. ``agent`` is the socket of an ssh-agent.
    """

    name: str
    host: str
    port: int
    user: str
    hops: tuple[str, ...]
    proxy_command: str | None
    keys: tuple[str, ...]
    certificates: tuple[str, ...]
    agent: str | None
    only_named_keys: bool
    offers_keys: bool
    alias: str | None
    known_hosts: tuple[str, ...]
    known_hosts_command: str | None
    family: int
    bind_address: str | None
    algorithms: Mapping[str, tuple[str, ...]]
    named: frozenset[str]
    beyond_asyncssh: str | None  # a keyword that has to be followed, and that asyncssh knows not

    @property
    def known_name(self) -> str:
        """The host's name in known_hosts, as sshd(8) writes it there."""
        if self.alias:
            return self.alias
        host = self.host.lower()
        return host if self.port == PORT else f"[{host}]:{self.port}"

    @property
    def named_keys(self) -> tuple[str, ...]:
        """The key files that somebody has named, rather than ssh's usual ones."""
        return self.keys if "identityfile" in self.named else ()

    @property
    def proxy_argv(self) -> list[str]:
        """The ProxyCommand as ssh(1) runs it, in the user's shell; empty without one."""
        if not self.proxy_command:
            return []
        return [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {self.proxy_command}"]

    @property
    def where(self) -> str:
        """The address in words."""
        return f"{self.host} port {self.port}"


def resolve(
    destination: str,
    own: Sequence[tuple[str, str]] = (),
    config: str | None = None,
    answers: SshAnswers | None = None,
) -> SshSettings:
    """Return the settings for ``[user@]host[:port]``.

    ``own`` are keywords and values that go before all files. ``config`` is the file to read instead
    of the user's and the system's, as with ``ssh -F``. ``answers`` are those that ssh has given before.
    Blocks. Raises ConnectError.
    """
    hop = _HOP.fullmatch(destination)
    if hop is None or not hop["host"]:
        raise errors.ConnectError(destination, f"{destination!r} is not [user@]host[:port]")
    name = hop["host"].strip("[]")
    given = {"user": hop["user"], "port": hop["port"]}
    options = [f"-o{key} {value}" for key, value in own if not given.get(key.lower())]
    options += [f"-o{key} {value}" for key, value in given.items() if value]
    options = [*(["-F", config] if config else []), *options]
    values = answers and answers.known(options, name)
    if not values:
        values, usual = _ask_ssh(name, options), defaults(answers)
        if answers:
            answers.note(options, name, values, usual)
    return _settings(name, values, defaults(answers))


def host_of(destination: str) -> str:
    """Return the host of ``[user@]host[:port]``, or all of it where it is something else."""
    hop = _HOP.fullmatch(destination)
    return hop["host"].strip("[]") if hop else destination


def _ask_ssh(name: str, options: list[str]) -> dict[str, tuple[str, ...]]:
    """Return all values by keyword. Raises ConnectError."""
    try:
        answer = subprocess.run(
            ["ssh", "-G", "-T", *options, "--", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise errors.ConnectError(name, "there is no ssh on this machine", _INSTALL) from None
    except subprocess.TimeoutExpired:
        raise errors.ConnectError(
            name,
            f"`ssh -G {name}` did not end within {PATIENCE:.0f} s",
            "look at the programs of `Match exec` in ssh_config",
        ) from None
    text = answer.stdout.decode(errors="surrogateescape")
    if answer.returncode:
        complaint = _first_complaint(answer.stderr.decode(errors="replace"))
        if "Cannot fork into background" in complaint and _IN_FRONT not in options:
            return _ask_ssh(name, [*options, _IN_FRONT])
        raise errors.ConnectError(
            name, f"the SSH settings are unusable: {complaint}", f"see `ssh -G {name}`"
        )
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        found[keyword.lower()] = (*found.get(keyword.lower(), ()), value)
    return found


def _first_complaint(text: str) -> str:
    """Return ssh's own complaint; the last line only says that it gave up."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "ssh gave no reason"


def defaults(answers: SshAnswers | None = None) -> _Values:
    """Return the values of ssh without any file: what differs from them was set by somebody.

    Blocks at the first call; other threads wait for its answer. Raises ConnectError.
    """
    if answers and (known := answers.defaults()):
        return known
    with _asking:
        return _defaults()


_asking = threading.Lock()


@cache
def _defaults() -> _Values:
    return _ask_ssh("host", ["-F", "none"])


def _settings(name: str, values: _Values, usual: _Values) -> SshSettings:
    def one(keyword: str) -> str | None:
        value = values.get(keyword, ("none",))[0]
        return None if value.lower() == "none" else value

    named = frozenset(keyword for keyword, value in values.items() if value != usual.get(keyword))
    host, port = one("hostname") or name, int(one("port") or PORT)
    user = one("user") or getpass.getuser()
    jump, alias = one("proxyjump"), one("hostkeyalias")
    fill = _filler(name, host, port, user, jump, alias)
    proxy = one("proxycommand")
    command = one("knownhostscommand")
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(
        one("addressfamily") or "any", socket.AF_UNSPEC
    )
    return SshSettings(
        name=name,
        host=host,
        port=port,
        user=user,
        hops=tuple(_plain(fill(jump)).split(",")) if jump and not proxy else (),
        proxy_command=fill(proxy) if proxy else None,
        keys=tuple(fill(path, True) for path in values.get("identityfile", ()) if path != "none"),
        certificates=tuple(fill(path, True) for path in values.get("certificatefile", ())),
        agent=_agent(one("identityagent"), "identityagent" in named, fill),
        only_named_keys=one("identitiesonly") == "yes",
        offers_keys=one("pubkeyauthentication") not in ("no", "false")
        and "publickey" in (one("preferredauthentications") or "publickey").split(","),
        alias=alias.lower() if alias else None,
        known_hosts=tuple(
            fill(path, True)
            for keyword, paths in _KNOWN_HOSTS.items()
            for path in (_paths(one(keyword) or "") if keyword in named else paths)
        ),
        known_hosts_command=command and fill(command),
        family=family,
        bind_address=one("bindaddress"),
        algorithms={
            keyword: tuple(values[keyword][0].split(",")) for keyword in _ALGORITHMS & named
        },
        named=named,
        beyond_asyncssh=next((word for word in _BEYOND if word in named and one(word)), None),
    )


#: Where hosts' keys are looked up unless somebody says otherwise: ssh_config(5).
_KNOWN_HOSTS = {
    "userknownhostsfile": ("~/.ssh/known_hosts", "~/.ssh/known_hosts2"),
    "globalknownhostsfile": ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"),
}
_ALGORITHMS = frozenset(
    ("ciphers", "kexalgorithms", "macs", "hostkeyalgorithms", "pubkeyacceptedalgorithms")
)

#: What refuses a host or decides how it is reached, and asyncssh has no option for.
_BEYOND = (
    "revokedhostkeys",
    "casignaturealgorithms",
    "requiredrsasize",
    "bindinterface",
    "proxyusefdpass",
)


def _plain(jump: str) -> str:
    """Return jump hosts as the shell reads them: ssh hands it quotes and comments as they are."""
    try:
        return "".join(shlex.split(jump, comments=True)[:1]) or jump
    except ValueError:
        return jump


def _agent(given: str | None, is_named: bool, fill: Callable[..., str]) -> str | None:
    if is_named and given is None:
        return None
    if given is None or given == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    return os.environ.get(given[1:]) if given.startswith("$") else fill(given, True)


def _paths(text: str) -> list[str]:
    """Split paths as ssh prints them: with spaces between, and no quotes around those that hold some.

    So the longest text that is a file counts as one.
    """
    words, found = text.split(" "), []
    while words:
        count = next(
            (n for n in range(len(words), 1, -1) if os.path.exists(" ".join(words[:n]))), 1
        )
        found.append(" ".join(words[:count]))
        words = words[count:]
    return [path for path in found if path]


def _filler(
    name: str, host: str, port: int, user: str, jump: str | None, alias: str | None
) -> Callable[..., str]:
    """Return the function that fills in tokens and, for a path, ``~`` and variables."""
    local = socket.gethostname()
    hop = jump or ""
    digest = hashlib.sha1(f"{local}{host}{port}{user}{hop}".encode(), usedforsecurity=False)
    tokens = {
        "%": "%",
        "C": digest.hexdigest(),
        "d": home(),
        "h": host,
        "i": str(os.getuid()),
        "j": hop,
        "k": alias or name,
        "L": local.partition(".")[0],
        "l": local,
        "n": name,
        "p": str(port),
        "r": user,
        "u": getpass.getuser(),
    }

    def fill(text: str, is_path: bool = False) -> str:
        def value(found: re.Match[str]) -> str:
            token, variable = found.groups()
            if variable:
                return os.environ.get(variable, "") if is_path else found[0]
            return tokens.get(token, found[0])

        filled = _TOKEN.sub(value, text)
        if is_path and filled.startswith("~"):
            user, slash, rest = filled[1:].partition("/")
            filled = (_home_of(user) if user else home()) + slash + rest
        return filled

    return fill


def _home_of(user: str) -> str:
    try:
        return pwd.getpwnam(user).pw_dir
    except KeyError:
        return f"~{user}"
