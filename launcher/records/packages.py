"""The packages of the Pythons of a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def folded(by_host: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what ``packages.json`` holds for the packages of each host."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for host, packages in by_host.items():
        groups.setdefault(tuple(packages), []).append(host)
    return {"installed": [{"hosts": hosts, "packages": list(one)} for one, hosts in groups.items()]}
