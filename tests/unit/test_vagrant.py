"""The Vagrantfile and its inventory match."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.fleet import inventory_file
from support import ROOT
from support.vagrant import machines


def test_the_inventory_has_these_machines() -> None:
    """Names, addresses and users; interface names, users and Pythons all differ."""
    hosts = {
        host.name: host
        for host in inventory_file.load_inventory(ROOT / "inventory/vagrant.yaml").hosts
    }
    found = machines()
    assert list(found) == list(hosts)
    for name, machine in found.items():
        assert machine["private_network"]["ip"] == hosts[name].address
        assert machine["account"]["args"] == [hosts[name].user]
        assert machine["network"]["args"][1] == hosts[name].address
        assert machine["triggers"] == [[["up", "provision"]]]
    assert len({machine["network"]["args"][0] for machine in found.values()}) == 3
    assert len({host.user for host in hosts.values()}) == 3
    assert len({host.python for host in hosts.values()}) == 3


def test_its_scripts_are_shell() -> None:
    for machine in machines().values():
        for name in ("account", "network"):
            text = machine[name]["inline"]
            subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_vagrant_itself_takes_it(tmp_path: Path) -> None:
    if shutil.which("vagrant") is None:
        pytest.skip("vagrant is not installed here")
    told = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_DOTFILE_PATH": str(tmp_path),
        },
    )
    assert told.returncode == 0, told.stdout + told.stderr
