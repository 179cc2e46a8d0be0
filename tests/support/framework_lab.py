"""What tests of frameworks share: two hosts, and the command with a Python that has the framework.

environments.py makes the environments.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import environments
from support import lab as labs
from support.command import Launcher

SPECS = (
    labs.HostSpec("lab1", interface="eth0", own_name="127.0.1.1"),
    labs.HostSpec("lab2", interface="enp3s0", own_name="127.0.0.1"),
)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Two real hosts that share all environments that are made."""
    reason = labs.missing()
    if reason:
        pytest.skip(f"no lab of real hosts here: {reason}")
    folders = [environments.folder(name) for name in environments.PINS]
    share = [folder for folder in folders if folder.exists()] + [Path(sys.prefix)]
    with labs.Lab(SPECS, tmp_path_factory.mktemp("lab"), share=share) as standing:
        yield standing


@pytest.fixture
def of(
    lab: labs.Lab, launcher: Launcher, clean: labs.Lab, request: pytest.FixtureRequest
) -> Launcher:
    """The command, with an inventory whose Python is that of the test's environment."""
    return with_python_of(request.param, lab, launcher)


def with_python_of(name: str, lab: labs.Lab, launcher: Launcher) -> Launcher:
    """Return the command for an environment of environments.py, or for a module of the tests' own Python."""
    if reason := environments.missing(name):
        pytest.skip(reason)
    inventory = launcher.inventory.with_name(f"{name}.yaml")
    inventory.write_text(labs.inventory(lab, str(environments.python_of(name))))
    return replace(launcher, inventory=inventory)
