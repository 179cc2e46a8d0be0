"""The packages of the Pythons of a run. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..spec.frozen import frozen

#: In the folder of the run.
FILE = "packages.json"


@frozen
class Installed:
    """The packages of some hosts, as ``torch==2.4.0``."""

    hosts: tuple[str, ...]
    packages: tuple[str, ...]


@frozen
class Packages:
    """The contents of ``packages.json``: hosts with equal packages are one entry."""

    installed: tuple[Installed, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """The version of each package; where hosts differ, all of them."""
        found: dict[str, dict[str, None]] = {}
        for one in self.installed:
            for package in one.packages:
                name, _, version = package.partition("==")
                found.setdefault(name, {})[version] = None
        return {name: ", ".join(versions) for name, versions in found.items()}


def folded(on_hosts: Iterable[tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """Return what ``packages.json`` holds for the packages of each host, which may have several
    environments."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for host, packages in on_hosts:
        groups.setdefault(tuple(packages), []).append(host)
    return {"installed": [{"hosts": hosts, "packages": list(one)} for one, hosts in groups.items()]}


#: What is in an environment to install others with: no program's result depends on it.
_TOOLS = frozenset({"pip", "setuptools", "uv", "wheel"})
#: How Python itself is called among packages.
PYTHON = "Python"
#: Packages that are named; the others are counted.
MOST_NAMED = 3


def differing(
    by_host: Mapping[str, Sequence[str]],
    pythons: Mapping[str, str],
    matter: Collection[str] | None = None,
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return what is not the same on all hosts: which hosts have each version, "" where there is none.

    Python and what ``matter`` names come first; without these, all packages matter. Nothing if none of
    them differs.
    """
    versions = {host: _versions(packages) for host, packages in by_host.items()}
    names = {name for found in versions.values() for name in found} - _TOOLS
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in (PYTHON, *sorted(names)):
        of = pythons if name == PYTHON else {h: its.get(name, "") for h, its in versions.items()}
        groups: dict[str, tuple[str, ...]] = {}
        for host, version in of.items():
            groups[version] = (*groups.get(version, ()), host)
        if len(groups) > 1:
            found[name] = groups
    wanted = {PYTHON, *map(_normal, matter or ())}
    first = [name for name in found if _normal(name) in wanted or name == PYTHON]
    if matter is not None and not first:
        return {}
    return {name: found[name] for name in (*first, *(n for n in found if n not in first))}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    split = (package.partition("==") for package in packages)
    return {_normal(name): version for name, _, version in split}


def _normal(name: str) -> str:
    """Return the name of a package, which may be written in several ways."""
    return re.sub(r"[-_.]+", "-", name).lower()
