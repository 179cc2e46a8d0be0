"""Write what a wheel brings along as CycloneDX: ``python docs/sbom.py SITE-PACKAGES``.

It reads the metadata of what is installed there: launcher with all extras, and what that needs. There is
no time in it, so that the same packages give the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from typing import Any

from packaging.requirements import Requirement

from launcher.spec.version import DISTRIBUTION


def bill(installed: Mapping[str, Distribution]) -> dict[str, Any]:
    """Return the bill of what launcher with all its extras needs, by what is ``installed``."""
    needs: dict[str, list[str]] = {}
    waiting = [(DISTRIBUTION, frozenset({"all"}))]
    seen = set()
    while waiting:
        name, extras = one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        inner = list(_needed(installed[name], extras))
        known = {*needs.get(name, ()), *(other for other, _ in inner)} - {name}
        needs[name] = sorted(known)
        waiting += inner
    components = {name: _component(installed[name]) for name in sorted(needs)}
    root = components.pop(DISTRIBUTION)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**root, "type": "application"}},
        "components": list(components.values()),
        "dependencies": [
            {
                "ref": _ref(installed[name]),
                "dependsOn": [_ref(installed[one]) for one in needs[name]],
            }
            for name in sorted(needs)
        ],
    }


def normal(name: str) -> str:
    """Return the name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needed(
    distribution: Distribution, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    for line in distribution.requires or ():
        one = Requirement(line)
        if one.marker is None or any(
            one.marker.evaluate({"extra": extra}) for extra in {*extras, ""}
        ):
            yield normal(one.name), frozenset(one.extras)


def _ref(distribution: Distribution) -> str:
    return f"pkg:pypi/{normal(distribution.name)}@{distribution.version}"


def _component(distribution: Distribution) -> dict[str, Any]:
    found = {
        "type": "library",
        "bom-ref": _ref(distribution),
        "name": distribution.name,
        "version": distribution.version,
        "purl": _ref(distribution),
    }
    return {**found, "licenses": licences} if (licences := _licences(distribution)) else found


def _licences(distribution: Distribution) -> list[dict[str, Any]]:
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return [{"expression": expression}]
    named = (about.get("License") or "").strip().splitlines()
    classified = [
        one.rpartition(" :: ")[2]
        for one in about.get_all("Classifier") or ()
        if one.startswith("License :: ") and one.count(" :: ") > 1
    ]
    return [{"license": {"name": name}} for name in classified or named[:1]]


def main(folder: str) -> None:
    """Print the bill of the packages in a folder."""
    installed = {normal(one.name): one for one in distributions(path=[folder])}
    json.dump(bill(installed), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
