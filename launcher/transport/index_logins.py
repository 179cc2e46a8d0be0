"""What an index of packages is told of who reads it, as uv would: from URLs, variables and ``~/.netrc``.

A login is for the server that it was given for, and no message has one. Pure but for the netrc.
"""

from __future__ import annotations

import base64
import netrc
import re
import urllib.parse
from collections.abc import Iterable, Mapping

#: Variables of uv that name indexes, several of them with blanks between.
INDEXES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)


def authorization(
    address: str, environ: Mapping[str, str], indexes: Mapping[str, str] = {}, index: str = ""
) -> str:
    """Return the header for a file; "" without a login. ``indexes`` are those of a project, by their
    names, and ``index`` is the one that lists the file, whose login may be for another server."""
    for name, url in indexes.items():
        variable = re.sub(r"[^A-Z0-9]", "_", name.upper())
        user, password = (environ.get(f"UV_INDEX_{variable}_{w}") for w in ("USERNAME", "PASSWORD"))
        if (user or password) and _server(url) == _server(address):
            return _basic(user or "", password or "")
    urls = [address, index, *indexes.values(), *(url for _, url in named(environ))]
    for url in urls:
        parts = urllib.parse.urlsplit(url)
        if _server(url) == _server(address) and (parts.username or parts.password):
            return _basic(
                *(urllib.parse.unquote(p or "") for p in (parts.username, parts.password))
            )
    host = urllib.parse.urlsplit(address).hostname or ""
    try:
        found = netrc.netrc(environ.get("NETRC") or None).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return ""
    return _basic(found[0], found[2]) if found else ""


def without(address: str) -> str:
    """Return a URL without what may be a secret in it."""
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


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


def _server(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
