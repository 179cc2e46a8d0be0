"""Data sets: what they are called, where they come from, and where a run finds them. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from .errors import InputError
from .frozen import frozen

#: The name of a set: part of a folder's name, and of a variable's.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}\Z")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")
_ON_A_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*):([/~].*)\Z", re.S)
#: Of object stores that launcher signs for, and of web servers.
STORES, WEB = ("s3", "gs", "az"), ("https", "http")
#: Of a folder that hosts have already, as on a network file system: nothing of it is read or copied.
SHARED = "file"
#: What people call stores elsewhere.
_CALLED = {"gcs": "gs", "azure": "az", "s3a": "s3", "s3n": "s3"}
#: What each set's path is called in a process's environment, with the name behind it.
VARIABLE = "LAUNCHER_DATA_"
#: Characters of a version that are enough for a person.
SHORT = 12


@frozen
class DataSet:
    """A data set of a job. Without a ``source`` it is one that was added by its name; ``to`` is a path
    in the run's view: relative to its code, or absolute. ``credential`` names what its store is read
    with, "" for what the tools of its store find."""

    name: str
    source: str = ""
    to: str = ""
    credential: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it comes from a folder of this machine."""
        return bool(self.source) and not scheme(self.source) and on_a_host(self.source) is None

    @property
    def is_in_store(self) -> bool:
        """Whether it comes from an object store."""
        return scheme(self.source) in STORES

    @property
    def shared_path(self) -> str:
        """The folder that every host has already, where it is one; "" for what is brought."""
        return shared_path(self.source) if scheme(self.source) == SHARED else ""

    @property
    def variable(self) -> str:
        """The variable that holds its path."""
        return VARIABLE + self.name.upper().replace("-", "_")

    def path(self, run_dir: str) -> str:
        """Return where a run finds it on a host, whose folder of the run this is."""
        if not self.to:
            return posixpath.join(run_dir, "data", self.name)
        return posixpath.join(run_dir, "code", self.to)  # an absolute one stays as it is


@frozen
class Version:
    """One state of a data set: the start of its manifest's sha256, and what is in it."""

    version: str
    files: int
    bytes: int

    @property
    def short(self) -> str:
        """What a person calls it."""
        return self.version[:SHORT]


def scheme(source: str) -> str:
    """Return the scheme of a source's URL; "" for a path."""
    found = _SCHEME.match(source)
    return found[1] if found else ""


def on_a_host(source: str) -> tuple[str, str] | None:
    """Return host and path of a source such as ``gpu3:/scratch/x``; None for others."""
    found = None if scheme(source) else _ON_A_HOST.match(source)
    return (found[1], found[2]) if found else None


def shared_path(source: str) -> str:
    """Return the folder of a source such as ``file:///nfs/x``."""
    from . import web_url  # of use to few runs

    return posixpath.normpath(web_url.unquoted(source.partition("://")[2]))


def in_store(source: str) -> tuple[str, str]:
    """Return bucket and prefix of a source such as ``s3://bucket/path``; the prefix ends with a slash
    unless it is empty."""
    bucket, _, prefix = source.partition("://")[2].partition("/")
    prefix = prefix.strip("/")
    return bucket, f"{prefix}/" if prefix else ""


def shown(text: str) -> str:
    """Return text without what may be a secret in its URLs: names of users, passwords, queries."""
    without = re.sub(r"://.*@", "://...@", text, flags=re.S)
    return re.sub(r"(://[^?]*)\?.*", r"\1?...", without, flags=re.S)


#: What stands for the name of the run in a path of a store.
_RUN = re.compile(r"\{\{\s*run\s*\}\}")


def of_run(to: str, run: str) -> str:
    """Return where outputs of a run go: without ``{{run}}``, its name comes last."""
    return _RUN.sub(run, to) if _RUN.search(to) else f"{to.rstrip('/')}/{run}"


def target(value: str) -> str:
    """Return the store that outputs go to. Raises ValueError."""
    if scheme(value) not in STORES:
        raise ValueError(
            f"{shown(value)!r} is not a store: say s3://BUCKET/PATH, gs://BUCKET/PATH or "
            "az://CONTAINER/PATH, with or without {{run}}"
        )
    rest = source(_RUN.sub("", value))
    if "{{" in rest:
        raise ValueError(f"{value!r}: {{{{run}}}} is the only placeholder here")
    return value


def name(value: str) -> str:
    """Return the name of a data set. Raises ValueError."""
    if not _NAME.match(value):
        raise ValueError(
            f"{value!r} cannot name a data set: start with a letter, then letters, digits, '_' and "
            "'-', 41 characters at most"
        )
    return value


def source(value: str) -> str:
    """Return the source of a data set. Raises ValueError."""
    if not value or "\0" in value or "\n" in value:
        raise ValueError(
            "a data set comes from a folder here, a folder of a host (gpu3:/path), s3://bucket/path, "
            "gs://bucket/path, az://container/path, https://host/file, or file:///path of all hosts"
        )
    kind = scheme(value)
    if kind and kind not in (*STORES, *WEB, SHARED):
        if instead := _CALLED.get(kind):
            raise ValueError(f"{kind}:// is called {instead}:// here")
        raise ValueError(
            f"{kind}:// is not supported: use a folder here, a folder of a host (gpu3:/path), "
            "s3://bucket/path, gs://bucket/path, az://container/path, https://host/file, or "
            "file:///path of all hosts"
        )
    if kind in WEB:
        from . import web_url  # of use to few runs

        web_url.check(value, shown(value))
    elif kind == SHARED:
        path = shared_path(value)
        if not value.startswith("file:///") or path in ("/", "//") or {"\0", "\n"} & set(path):
            raise ValueError(
                f"{value} is no folder that all hosts have: say file:///nfs/x, and HOST:/path for a "
                "folder of one host"
            )
    elif kind:
        bucket, _ = in_store(value)
        if not bucket or "?" in value or "@" in bucket:
            raise ValueError(f"{shown(value)} is not {kind}://BUCKET/PATH")
    return value


def to(value: str) -> str:
    """Return the path at which a run finds a data set. Raises ValueError."""
    if not value or value.startswith("~") or any(mark in value for mark in "\0\n\r"):
        raise ValueError(
            f"to: {value!r} is not a path: use data/corpus (in the code) or /data/corpus"
        )
    cleaned = posixpath.normpath(value)
    if cleaned.startswith("../") or cleaned in (".", "..", "/", "//"):
        raise ValueError(f"to: {value!r} leads out of the code: use data/corpus or /data/corpus")
    return cleaned


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def byte_count(text: str) -> int:
    """Return the bytes that ``500GB``, ``1.5 TB`` or ``20GiB`` means. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if not found or (found[3] and not found[2]):
        raise ValueError(f"not a size: {text!r} (500GB, 1.5TB)")
    power = "kmgt".find(found[2]) + 1
    return int(float(found[1]) * (1024**power if found[3] else _UNITS[found[2]]))


def from_words(text: str) -> DataSet:
    """Return the set of ``NAME``, ``NAME=SOURCE`` or ``NAME=SOURCE:TO``. Raises ValueError.

    A colon belongs to the source in a URL up to its path, and in ``HOST:/path``.
    """
    called, equals, rest = text.partition("=")
    if not equals:
        return DataSet(name(called))
    whole = re.match(r"[a-z][a-z0-9+.-]*://[^/]*|[A-Za-z0-9][A-Za-z0-9_.-]*:(?=[/~])", rest)
    at = whole.end() if whole else 0
    where, colon, place = rest[at:].partition(":")
    found = source(rest[:at] + where)
    return DataSet(name(called), found, to(place) if colon else "")


def check(sets: Iterable[DataSet]) -> None:
    """Raise InputError where sets contradict each other: two of one variable, or at one path."""
    seen: dict[str, DataSet] = {}
    places: dict[str, DataSet] = {}
    for one in sets:
        if one.variable in seen:
            raise InputError(
                f"data: {seen[one.variable].name} and {one.name} would both be {one.variable}",
                "give one of them another name",
            )
        seen[one.variable] = one
        for place, other in places.items():
            if one.to and (one.to + "/").startswith(place + "/") | place.startswith(one.to + "/"):
                raise InputError(
                    f"data: {one.name} at {one.to} and {other.name} at {place} overlap",
                    "give one of them another to:",
                )
        if one.to:
            places[one.to] = one
