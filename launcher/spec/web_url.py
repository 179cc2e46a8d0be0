"""URLs of files of web servers, which data sets come from. Pure."""

from __future__ import annotations

import re
import urllib.parse

#: Parameters of URLs that are secrets, in small letters and without marks.
_SECRET = re.compile(
    r"(xamz|xgoog)?(signature|credential|securitytoken)|sig|(access|auth)?token|apikey|password|secret"
)
_SUM = re.compile(r"sha256=([0-9a-f]{64})\Z", re.I)


def known_sum(source: str) -> str:
    """Return the sha256 that a URL says its file has, behind ``#sha256=``; "" if it says nothing."""
    found = _SUM.match(source.partition("#")[2])
    return found[1].lower() if found else ""


def address(source: str) -> str:
    """Return the URL that a web server is asked for, whose characters are those of a URL."""
    parts = urllib.parse.urlsplit(source.partition("#")[0])
    host = parts.hostname or ""
    place = f"[{host}]" if ":" in host else host.encode("idna").decode()
    place += f":{parts.port}" if parts.port else ""
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~", errors="surrogateescape")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?", errors="surrogateescape")
    return urllib.parse.urlunsplit((parts.scheme, place, path, query, ""))


def file_name(source: str) -> bytes:
    """Return what the file of a URL is called: the last part of its path."""
    path = urllib.parse.urlsplit(source.partition("#")[0]).path
    return urllib.parse.unquote_to_bytes(path.rpartition("/")[2].encode(errors="surrogateescape"))


def check(value: str, shown: str) -> None:
    """Raise ValueError for a URL that names no file, or has a secret; ``shown``: without that."""
    try:
        parts = urllib.parse.urlsplit(value)
        usable = bool(parts.hostname) and parts.port != 0 and address(value)
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable:
        raise ValueError("this is not https://HOST/PATH/FILE")
    secret = "@" in parts.netloc or any(
        _SECRET.fullmatch(re.sub(r"[^a-z]", "", name.lower()))
        for name, _ in urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    )
    if secret:
        raise ValueError(
            f"{shown} has a password, a token or a signature, and sources of data sets are kept "
            "in records: download the file and use its folder, or name the store: s3://bucket/path"
        )
    if parts.fragment and not known_sum(value):
        raise ValueError(f"{shown}: behind # there can only be sha256= and 64 hex digits")
    called = file_name(value)
    if called in (b"", b".", b"..") or b"/" in called or b"\0" in called or len(called) > 255:
        raise ValueError(
            f"{shown} names no file: the last part of its path becomes the file's name"
        )


def unquoted(path: str) -> str:
    """Return a path of a URL as it is on a disk."""
    return urllib.parse.unquote(path, errors="surrogateescape")
