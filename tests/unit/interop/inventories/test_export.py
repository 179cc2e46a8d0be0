"""Inventories in other tools' formats, and back: what the format can hold stays the same."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.interop import inventories as imports
from launcher.interop.inventories import export
from launcher.spec import inventory as inventories
from launcher.spec.environments import Environment
from launcher.spec.errors import InputError
from launcher.spec.inventory_writer import inventory_text
from launcher.spec.model import Host, Inventory
from support import ROOT

EXAMPLE = (ROOT / "inventory" / "example.yaml").read_text()

ODD = ("null", "yes", "no", "1", "010", "0x1f", "1e3", "1.50", "all", "hosts", "_", "on.", "a--b")
NAMES = st.one_of(
    st.sampled_from(ODD), st.from_regex(r"[a-z][a-z0-9.-]{0,3}[0-9]{0,2}", fullmatch=True)
)
WORDS = st.text(
    st.characters(categories=("L", "N", "P", "S"), exclude_characters='"\0'), min_size=1, max_size=8
)
ENVIRONMENTS = (
    Environment(conda="null"),
    Environment(conda="~/envs/my x", name="train"),
    Environment(venv="$SCRATCH/v"),
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


@st.composite
def inventories_of_all_kinds(draw: st.DrawFn) -> Inventory:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))

    def host(name: str) -> Host:
        jumps = [other for other in names if other != name] + ["ann@gate:22"]
        return Host(
            name=name,
            address=draw(st.none() | st.sampled_from(["10.0.0.1", "10.0.0.2", "fe80::1", "a.b"])),
            user=draw(st.none() | st.sampled_from(["ann", "b o b", "null", "o'neill"])),
            port=draw(st.none() | st.integers(1, 65535)),
            proxy_jump=draw(st.none() | st.sampled_from(jumps)),
            identity_file=draw(
                st.none() | st.sampled_from(["~/.ssh/id", "~/my key's", "a: b", "~"])
            ),
            gpus=draw(st.none() | st.integers(0, 64)),
            python=draw(st.sampled_from(["python3", "/opt/py/bin/python"])),
            workdir=draw(st.sampled_from(["~/.launcher/host", "/scratch/x"])),
            interface=draw(st.none() | st.sampled_from(["ib0", "0"])),
            env=draw(st.dictionaries(st.sampled_from(["A", "HF_HOME", "null"]), TEXTS, max_size=2)),
            labels=draw(st.dictionaries(WORDS, TEXTS, max_size=2)),
            environment=draw(st.none() | st.sampled_from(ENVIRONMENTS)),
            modules=draw(st.sampled_from([(), ("cuda/12.4",), ("gcc/12", "openmpi")])),
        )

    groups = draw(
        st.dictionaries(
            st.sampled_from(["g1", "g2", "all", "no", "g-3"]).filter(
                lambda name: name not in names
            ),
            st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple),
            max_size=3,
        )
    )
    return Inventory(tuple(map(host, names)), groups)


def there_and_back(inventory: Inventory, form: str) -> Inventory:
    text, _ = export.export(inventory, form)
    known = {"ansible": "ansible-yaml"}.get(form, form)
    assert imports.recognise(imports.Text(text, "x")) == known
    return imports.read(text, "x")[1].inventory()


@settings(max_examples=25)
@given(inventories_of_all_kinds())
def test_ssh_config_keeps_what_a_connection_needs(inventory: Inventory) -> None:
    bare: dict[str, Any] = {
        "gpus": None,
        "python": "python3",
        "workdir": Host.workdir,
        "interface": None,
    }
    bare |= {"environment": None, "modules": ()}
    expected = [replace(host, **bare, env={}, labels={}) for host in inventory.hosts]
    assert list(there_and_back(inventory, "ssh_config").hosts) == expected


@pytest.mark.thorough
@settings(max_examples=25)
@given(inventories_of_all_kinds())
def test_ansible_keeps_everything(inventory: Inventory) -> None:
    again = there_and_back(inventory, "ansible")
    assert again.hosts == inventory.hosts
    kept = {
        name: set(members)
        for name, members in inventory.groups.items()
        if name != "all" and members != (name,)
    }
    assert {name: set(members) for name, members in again.groups.items()} == kept


@pytest.mark.thorough
@settings(max_examples=25)
@given(inventories_of_all_kinds())
def test_a_hostfile_keeps_names_and_slots(inventory: Inventory) -> None:
    found = [(host.name, host.gpus) for host in there_and_back(inventory, "hostfile").hosts]
    assert found == [(host.name, host.gpus) for host in inventory.hosts]


@pytest.mark.thorough
@settings(max_examples=25)
@given(inventories_of_all_kinds())
def test_our_own_keeps_everything(inventory: Inventory) -> None:
    again = inventories.load(inventory_text(inventory), "x")
    assert (again.hosts, again.groups) == (inventory.hosts, dict(inventory.groups))


def test_what_a_format_cannot_hold_is_said() -> None:
    inventory = inventories.load(EXAMPLE, "example.yaml")
    _, notes = export.export(inventory, "hostfile")
    assert "port of 1 host is not carried over" in notes
    assert "env of 6 hosts is not carried over" in notes
    assert "groups are not carried over: fast, all" in notes
    assert "hosts without gpus have no slots=, which DeepSpeed needs on every line" in notes
    _, notes = export.export(inventory, "ansible")
    assert notes == ["group all is not carried over: Ansible defines its own"]
    with pytest.raises(InputError, match="unknown format") as caught:
        export.export(inventory, "hostfle")
    assert caught.value.hint == 'did you mean "hostfile"?'


def test_a_hostfile_is_one_to_deepspeed() -> None:
    text, _ = export.export(inventories.load("hosts: {'g[1-2]': {gpus: 8}}", "x"), "hostfile")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.match(r"^(\S+)\s+slots=(\d+)", line) for line in lines)  # its own pattern


def test_ansible_reaches_a_host_through_one_of_the_inventory() -> None:
    inventory = inventories.load(
        "hosts: {gate: {address: 10.0.0.1, user: ann, port: 2222}, far: {proxy_jump: gate}}", "x"
    )
    hosts = yaml.safe_load(export.export(inventory, "ansible")[0])["all"]["hosts"]
    assert hosts["far"]["ansible_ssh_common_args"] == "-o ProxyJump=ann@10.0.0.1:2222"


def test_ssh_itself_understands_what_is_written(tmp_path: Path) -> None:
    text, _ = export.export(inventories.load(EXAMPLE, "example.yaml"), "ssh_config")
    file = tmp_path / "config"
    file.write_text(text)
    said = subprocess.run(
        ["ssh", "-G", "-F", str(file), "attic"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for line in ("hostname attic.example.org", "user alice", "port 2222", "proxyjump gpu01"):
        assert line in said
