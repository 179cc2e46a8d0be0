"""What is published: the distribution's metadata and the notes of a release. `make dist` builds it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from launcher.spec.version import DISTRIBUTION
from support import ROOT, docs_scripts


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_hints_name_the_distribution(project: dict[str, Any]) -> None:
    """`launcher` on the package index is a program of somebody else's."""
    assert project["name"] == DISTRIBUTION != "launcher"
    assert project["scripts"] == {"launcher": "launcher.__main__:main"}


def test_all_is_every_extra_for_users(project: dict[str, Any]) -> None:
    """But for tools of their own, which they have, and what jobs and developers need."""
    extras = set(project["optional-dependencies"])
    others = {"hydra", "submitit", "torchx", "docs", "horovod", "test", "torch"}
    ours = sorted(extras - {"all"} - others)
    assert project["optional-dependencies"]["all"] == [f"{DISTRIBUTION}[{','.join(ours)}]"]
    page = (ROOT / "docs" / "start" / "install.md").read_text()
    assert [extra for extra in extras if f"`{extra}`" not in page] == []


def test_notes_are_the_part_of_the_changelog_without_its_line_breaks() -> None:
    script = docs_scripts.load("release_notes")
    changelog = (
        "# Changelog\n\nIntro.\n\n## [Unreleased]\n\n## [1.1.0] - 2026-01-02\n\n### Added\n\n"
        "- One thing\n  over lines.\n- Another.\n\nA word\nmore.\n\n## [1.0.0]\n\n- Old\n"
    )
    assert script.notes(changelog, "1.1.0") == (
        "### Added\n\n- One thing over lines.\n- Another.\n\nA word more.\n"
    )
    with pytest.raises(KeyError):
        script.notes(changelog, "2.0.0")


def test_an_import_of_the_package_imports_no_other_module_of_ours() -> None:
    """Programs that may never start a run pay nothing; a name is imported when it is used."""
    program = (
        "import sys, launcher\n"
        "print(*sorted(n for n in sys.modules if n.split('.')[0] in"
        " ('launcher', 'asyncio', 'asyncssh', 'click', 'cloudpickle', 'yaml')))"
    )
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["launcher", "launcher.spec", "launcher.spec.version"]


def test_the_bill_of_materials_has_what_is_needed_and_nothing_else(tmp_path: Path) -> None:
    def package(name: str, *needs: str, licence: str = "License-Expression: MIT") -> None:
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", licence]
        lines += [f"Requires-Dist: {one}" for one in needs]
        (info / "METADATA").write_text("\n".join(lines) + "\n")

    extras = ('launcher-ssh[web]; extra == "all"', 'Starlette.X>1; extra == "web"')
    package("launcher-ssh", "click>=8", *extras, 'unused; extra == "test"')
    package("click", 'colorama; platform_system == "Windows"', licence="License: BSD\n  text")
    package("starlette-x", "click")
    package("pip")
    script = docs_scripts.load("sbom")
    installed = {script.normal(one.name): one for one in distributions(path=[str(tmp_path)])}
    bill = script.bill(installed)
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/launcher-ssh@1.0"
    assert [(one["name"], one["licenses"]) for one in bill["components"]] == [
        ("click", [{"license": {"name": "BSD"}}]),
        ("starlette-x", [{"expression": "MIT"}]),
    ]
    assert {
        one["ref"][9:]: [ref[9:] for ref in one["dependsOn"]] for one in bill["dependencies"]
    } == {
        "click@1.0": [],
        "launcher-ssh@1.0": ["click@1.0", "starlette-x@1.0"],
        "starlette-x@1.0": ["click@1.0"],
    }


def test_the_lowest_versions_are_those_of_the_distribution(project: dict[str, Any]) -> None:
    """`make test-lowest` tests what the metadata promises."""
    extras = project["optional-dependencies"]
    ours = ("bootstrap", "console", "functions", "notify", "sweep", "wheels")
    needs = [*project["dependencies"], *(one for extra in ours for one in extras[extra])]
    lowest = {}
    for one in map(Requirement, needs):
        (lowest[one.name],) = (part.version for part in one.specifier if part.operator == ">=")
    lines = (ROOT / "requirements" / "lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: Version(version) for name, version in pinned.items()} == {
        name: Version(version) for name, version in lowest.items()
    }
