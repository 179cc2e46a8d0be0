"""What uv goes by on this machine: files of settings, variables, folders of wheels, requirements.

It decides, beside the text of requirements, which wheels a run gets.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...transport import index_logins

#: Settings that decide which wheels there are; below ``pip``, too.
_DECIDING = frozenset(
    (
        *("index", "index-url", "extra-index-url", "no-index", "index-strategy", "find-links"),
        *("resolution", "prerelease", "fork-strategy", "exclude-newer", "exclude-newer-package"),
        *("constraint-dependencies", "override-dependencies", "exclude-dependencies"),
        *("dependency-metadata", "sources", "no-sources", "torch-backend"),
        *("extra", "all-extras", "no-deps"),
    )
)
#: Variables that do, beside those that name indexes; and those of them that name files.
_VARIABLES = (
    "UV_CONSTRAINT",
    "UV_OVERRIDE",
    "UV_EXCLUDE",
    "UV_NO_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_RESOLUTION",
    "UV_PRERELEASE",
    "UV_FORK_STRATEGY",
    "UV_EXCLUDE_NEWER",
    "UV_NO_SOURCES",
    "UV_TORCH_BACKEND",
)
_OF_FILES = _VARIABLES[:3]
#: Lines of requirements: one that includes another file, one that names an index or a folder, and one
#: that names a file.
_INCLUDES = re.compile(
    r"(?:-r|--requirement|-c|--constraint)[\s=]*(?:\"([^\"]+)\"|'([^']+)'|(\S.*))"
)
_NAMES = re.compile(r"(?:-f|--find-links|-i|--index-url|--extra-index-url)[\s=]*(\S+)")
_FILE = re.compile(
    r"(?:\S+\s*@\s*)?((?:file:|\.{0,2}/)\S+|\S+\.(?:whl|zip|tar\.\w+|tgz))(?:\s|;|$)"
)
#: In a lock: a package that comes from a folder or file of this machine.
_LOCAL = re.compile(r'^source = \{ (?:path|registry) = "(?![a-z+]+://)|"file:', re.M)
#: What may be secret in a URL, and changes with no other packages behind it.
_SECRET = re.compile(r"(?<=://)[^/@\s\"]*@|\?[^\s\"#]*")
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".html")
#: Most files that are looked at, and most bytes of one that is read.
MOST_FILES, MOST = 100_000, 1 << 24


def indexes(
    folder: Path, files: Iterable[Path], environ: Mapping[str, str]
) -> index_logins.Indexes:
    """Return what uv is told of indexes in a folder, for requirements in ``files``. Blocks."""
    found, policies = list(index_logins.named(environ)), dict[str, str]()
    provider = environ.get("UV_KEYRING_PROVIDER", "")
    for _, table in _tables(folder, environ):
        found += _of_table(table)
        for url, policy in _policies(table):
            policies.setdefault(index_logins.without(url).rstrip("/"), policy)
        for one in _with_pip(table):
            provider = provider or str(one.get("keyring-provider", ""))
    for path in files:
        found += [("", value) for value in _NAMES.findall(_text(path))]
    return index_logins.Indexes(found, policies, provider == "subprocess")


def origin(folder: Path, environ: Mapping[str, str]) -> str:
    """Return what tells wheels from others of the same text: settings, and what is in local folders; ""
    where the text alone decides. ``folder`` has a lock or requirements, or is requirements. Blocks."""
    place, told, local = folder, [], []
    if folder.is_dir():
        lock = folder / "uv.lock"
        if lock.exists():
            return _sum([], _unsure(lock))
        place = folder / "requirements.txt"
    for name in (*index_logins.INDEXES, *_VARIABLES):
        if value := environ.get(name):
            told.append(f"{name}={_SECRET.sub('', value)}")
    base = place.parent
    for where, table in _tables(base, environ):
        kept = {name: value for name, value in table.items() if name in _DECIDING}
        pip = table.get("pip")
        if isinstance(pip, dict):
            kept |= {f"pip.{n}": value for n, value in pip.items() if n in _DECIDING}
        if kept:
            told.append(_SECRET.sub("", json.dumps(kept, sort_keys=True, default=str)))
        local += [one for _, url in _of_table(table) for one in _local(url, where, base)]
    named = [url for _, url in index_logins.named(environ)]
    named += [word for name in _OF_FILES for word in environ.get(name, "").split()]
    local += [one for word in named for one in _local(word, base)]
    for path, line in _lines(place, set()):
        if found := _NAMES.match(line) or _FILE.match(line):
            local += _local(found[1], path.parent, base)
    return _sum(told, local)


def _sum(told: Iterable[str], local: Iterable[Path]) -> str:
    lines = [*told, *(line for path in dict.fromkeys(local) for line in _about(path))]
    return hashlib.sha256("\0".join(lines).encode()).hexdigest()[:32] if lines else ""


def _about(path: Path) -> Iterator[str]:
    """Yield what changes with a file, or with the archives below a folder."""
    files = [path] if path.is_file() else []
    for inside, folders, names in os.walk(path):
        folders.sort()
        files += [Path(inside, name) for name in sorted(names) if name.endswith(_ARCHIVES)]
        if len(files) > MOST_FILES:
            break
    for file in files:
        try:
            about = file.stat()
        except OSError:  # gone since
            continue
        name = file.relative_to(path) if file != path else file.name
        yield f"{name} {about.st_size} {about.st_mtime_ns}"


def _local(named: str, *bases: Path) -> list[Path]:
    """Return what a word of settings names on this machine: relative to one of ``bases``."""
    parts = urllib.parse.urlsplit(named)
    if parts.scheme and parts.scheme != "file":
        return []
    path = urllib.parse.unquote(parts.path) if parts.scheme else named
    found = (Path(base, os.path.expanduser(path)) for base in bases)
    return [one for one in dict.fromkeys(found) if path and one.exists()]


def _lines(place: Path, seen: set[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the lines of requirements, and of those that they include."""
    seen.add(place)
    for line in _text(place).splitlines():
        words = re.sub(r"(^|\s)#.*", "", line).strip()
        included = _INCLUDES.match(words)
        if not included:
            yield place, words
            continue
        inner = place.parent / included[included.lastindex or 0]
        if inner not in seen and len(seen) < 100:
            yield from _lines(inner, seen)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _unsure(lock: Path) -> list[Path]:
    """Return what a lock takes from folders and files of this machine without a sum."""
    found: list[Path] = []
    if not _LOCAL.search(_text(lock)):  # a large lock takes longer to read than the rest of a start
        return found
    for package in _table(lock).get("package", ()):
        source, wheels = package.get("source", {}), package.get("wheels", ())
        named = source.get("path") or source.get("registry") or ""
        if named and any("hash" not in one for one in wheels):
            found += _local(str(named), lock.parent)
    return found


# -- files of settings


def _tables(folder: Path, environ: Mapping[str, str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the settings that hold in a folder, with the folders that they are in."""
    if named := environ.get("UV_CONFIG_FILE"):
        yield Path(named).parent, _table(Path(named))
        return
    if environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return
    folder = folder.absolute()
    for one in (folder, *folder.parents):
        if (one / "uv.toml").exists():
            yield one, _table(one / "uv.toml")
            break
        tool = _table(one / "pyproject.toml").get("tool")
        if isinstance(tool, dict) and isinstance(tool.get("uv"), dict):
            yield one, tool["uv"]
            break
    own = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    system = [one for one in environ.get("XDG_CONFIG_DIRS", "").split(":") if one]
    for paths in ([own], [*system, "/etc/xdg", "/etc"]):
        files = [Path(one, "uv", "uv.toml") for one in paths]
        if there := next((file for file in files if file.exists()), None):
            yield there.parent, _table(there)


def _table(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
        import tomllib  # most folders have none

        return tomllib.loads(text)
    except (OSError, ValueError):  # none, or uv says what is wrong with it
        return {}


def _of_table(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the indexes and folders that settings name, with their names."""
    for one in _with_pip(table):
        for index in _indexes_of(one):
            yield str(index.get("name", "")), str(index["url"])
        for name in ("index-url", "extra-index-url", "find-links"):
            values = one.get(name, ())
            for value in [values] if isinstance(values, str) else values:
                yield "", str(value)


def _policies(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the indexes of settings that say when they get a login, with that."""
    for one in _with_pip(table):
        for index in _indexes_of(one):
            if policy := index.get("authenticate"):
                yield str(index["url"]), str(policy)


def _with_pip(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what is set for ``uv pip``, and then the rest."""
    pip = table.get("pip")
    if isinstance(pip, dict):
        yield pip
    yield table


def _indexes_of(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    listed = table.get("index", ())
    for index in listed if isinstance(listed, list) else ():
        if isinstance(index, dict) and "url" in index:
            yield index
