"""What an index of packages is told of who reads it, as uv would: from URLs, variables and ``~/.netrc``.

A login is for the server that it was given for, and no message has one. Pure but for the netrc.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from ..spec.frozen import frozen

#: Variables of uv that name indexes, several of them with blanks between.
INDEXES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)


#: What may be secret in the URLs of a text: logins and queries.
_SECRET = re.compile(
    r"(?<=://)[^/@\s\"'`]*@|(?<=[^\s\"'`])\?[^\s\"'`#]*[^\s\"'`#),.;:]",
)


@frozen
class Login:
    """What is known of a login: a header, "" for none; the user that it is for, and whether there is a
    password or a token."""

    header: str = ""
    user: str = ""
    is_whole: bool = False


@frozen
class Indexes:
    """What uv is told of indexes: names ("": none) and URLs, which may have logins; what
    ``authenticate`` is for those that have it, by their URLs without a login, and whether ``keyring`` is
    asked."""

    named: Sequence[tuple[str, str]] = ()
    policies: Mapping[str, str] = field(default_factory=dict)
    has_keyring: bool = False

    def policy(self, address: str, index: str) -> str:
        """Return when a file gets a login: ``always``, ``never``, or "" for when that is needed. The
        ``index`` that lists it decides about its own server, and else who has the file in its folder,
        as with uv."""
        if index and server(index) == server(address):
            return self.policies.get(without(index).rstrip("/"), "")
        above = [url for url in self.policies if _is_below(address, url)]
        return self.policies[max(above, key=len)] if above else ""


def login(
    address: str,
    environ: Mapping[str, str],
    indexes: Iterable[tuple[str, str]] = (),
    index: str = "",
) -> Login:
    """Return the login for a file. ``indexes`` are those of files of settings, as names ("": none) and
    URLs, and ``index`` is the one that lists the file, whose login comes first; it may be for another
    server."""
    wanted = server(address)
    known = [("", address), ("", index), *indexes, *named(environ)]
    known = [one for one in known if server(one[1]) == wanted]
    known.sort(key=lambda one: _place(one[1]) != _place(index))  # else as they come
    user = ""
    for name, url in known:
        parts = urllib.parse.urlsplit(url)
        found = _of_name(name, environ) or tuple(
            urllib.parse.unquote(part or "") for part in (parts.username, parts.password)
        )
        if found[1]:
            return Login(basic(*found), found[0], True)
        user = user or found[0]
    host = urllib.parse.urlsplit(address).hostname or ""
    import netrc  # few runs fetch anything

    try:
        login = netrc.netrc(environ.get("NETRC") or None).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        login = None
    if login and user in ("", login[0]):
        return Login(basic(login[0], login[2]), login[0], True)
    return Login(basic(user, "") if user else "", user)


def _of_name(name: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the login that variables have for an index; empty if they have none."""
    variable = re.sub(r"[^A-Z0-9]", "_", name.upper())
    words = (environ.get(f"UV_INDEX_{variable}_{w}", "") for w in ("USERNAME", "PASSWORD"))
    found = tuple(words)
    return found if name and any(found) else ()


def _is_below(address: str, index: str) -> bool:
    """Return whether a file is where an index is: beside its list, which is called ``simple``."""
    root = _place(index).removesuffix("/simple") + "/"
    return server(address) == server(index) and urllib.parse.urlsplit(address).path.startswith(root)


def _place(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts.path.rstrip("/")


def without(address: str) -> str:
    """Return a URL without what may be a secret in it."""
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def without_secrets(said: str) -> str:
    """Return a text without what may be a secret in its URLs."""
    return _SECRET.sub("", said)


def bare(address: str) -> str:
    """Return a URL without its login and its fragment, to be asked for."""
    parts = urllib.parse.urlsplit(address)
    bare_place = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit(parts._replace(netloc=bare_place, fragment=""))


def named(environ: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield the indexes that variables of uv name: their names, "" without one, and URLs."""
    for variable in INDEXES:
        for word in filter(None, re.split(r"[\s,]+", environ.get(variable, ""))):
            name, equals, url = word.partition("=")
            yield (name, url) if equals and re.fullmatch(r"[\w.-]+", name) else ("", word)


def server(url: str) -> tuple[str, str | None, int | None]:
    """Return what a login is for: two URLs with the same are of one server."""
    try:
        parts = urllib.parse.urlsplit(url)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, parts.port or usual
    except ValueError:
        return "", None, None


def basic(user: str, password: str) -> str:
    """Return the header of a user and a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
