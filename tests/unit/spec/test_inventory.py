"""Inventories: what they mean, which hosts a person chooses, and what is said about bad ones."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from launcher.spec import inventory as inventories
from launcher.spec import nodeset
from launcher.spec.errors import DocumentError, InputError
from launcher.spec.inventory_writer import inventory_text
from launcher.spec.model import Host
from launcher.spec.ssh_config import ssh_config
from support import CASE_FILES

CASES = CASE_FILES / "bad"

LAB = """\
defaults:
  user: ada
  env: {HF_HOME: /data/hf, LEVEL: low}
  labels: {site: lab}
hosts:
  gpu[01-04]: {gpus: 8, address: "10.0.0.[1-4]", labels: {rack: a}}
  old: {gpus: 2, user: bob, env: {LEVEL: high}, labels: {rack: b}, python: /opt/py/bin/python}
  behind: {proxy_jump: old, port: 2222, identity_file: "~/.ssh/my key"}
groups:
  a100: gpu[01-04]
  mixed: [gpu04, old]
  most: [a100, "@mixed"]
"""


def hosts_of(text: str) -> dict[str, Host]:
    return {host.name: host for host in inventories.load(text, "lab.yaml").hosts}


def test_hosts_stand_in_the_order_of_the_file() -> None:
    assert list(hosts_of(LAB)) == ["gpu01", "gpu02", "gpu03", "gpu04", "old", "behind"]


def test_each_host_of_a_nodeset_has_its_own_address() -> None:
    hosts = hosts_of(LAB)
    assert [hosts[f"gpu0{n}"].address for n in (1, 2, 3, 4)] == [f"10.0.0.{n}" for n in range(1, 5)]


def test_defaults_give_way_and_mappings_merge() -> None:
    hosts = hosts_of(LAB)
    assert (hosts["gpu01"].user, hosts["old"].user) == ("ada", "bob")
    assert hosts["gpu01"].env == {"HF_HOME": "/data/hf", "LEVEL": "low"}
    assert hosts["old"].env == {"HF_HOME": "/data/hf", "LEVEL": "high"}
    assert hosts["old"].labels == {"site": "lab", "rack": "b"}
    assert (hosts["old"].python, hosts["behind"].python) == ("/opt/py/bin/python", "python3")


def test_scalars_are_the_text_that_stands_there() -> None:
    host = hosts_of("hosts: {a: {env: {YES: yes, N: 010, F: 1.50, E: ''}, labels: {rack: 7}}}")["a"]
    assert host.env == {"YES": "yes", "N": "010", "F": "1.50", "E": ""}
    assert host.labels == {"rack": "7"}


@pytest.mark.parametrize(
    "text", ["hosts: [gpu1, gpu2]", "hosts: ['gpu[1-2]']", "hosts: {gpu1: , gpu2: }"]
)
def test_plain_lists(text: str) -> None:
    assert list(hosts_of(text).values()) == [Host("gpu1"), Host("gpu2")]


def test_the_inventory_itself() -> None:
    loaded = inventories.load("sandbox: true\nssh_config: my.conf\nhosts: [local1]", "x.yaml")
    assert (loaded.sandbox, loaded.ssh_config, loaded.source) == (True, "my.conf", "x.yaml")
    assert loaded.host("local1") == Host("local1")
    with pytest.raises(KeyError):
        loaded.host("local2")


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, "gpu[01-04],old,behind"),
        ("gpu02", "gpu02"),
        ("old,gpu02", "gpu02,old"),
        ("gpu[01,03-04]", "gpu[01,03-04]"),
        ("gpu[01-04]!gpu02", "gpu[01,03-04]"),
        ("a100", "gpu[01-04]"),
        ("@a100", "gpu[01-04]"),
        ("most", "gpu[01-04],old"),
        ("rack=b", "old"),
        ("site=lab", "gpu[01-04],old,behind"),
        ("rack=b,gpu[01-02],@mixed", "gpu[01-02,04],old"),
        (" old , old ", "old"),
    ],
)
def test_selection(wanted: str | None, chosen: str) -> None:
    found = inventories.select(inventories.load(LAB, "lab.yaml"), wanted)
    names = [host.name for host in found]
    assert set(names) == set(nodeset.expand(chosen))
    order = list(hosts_of(LAB))
    assert names == sorted(names, key=order.index)


@pytest.mark.parametrize(
    ("wanted", "error", "hint"),
    [
        ("gpu1", 'no host "gpu1" in lab.yaml', 'did you mean "gpu01"?'),
        ("gpu*", 'no host "gpu*"', ""),
        ("@a10", 'no host "@a10"', 'did you mean "a100"?'),
        ("@zzz", 'no host "@zzz"', "hosts: behind,gpu[01-04],old; groups: a100, mixed, most"),
        ("rack=c", 'no host has the label "rack=c"', "labels: rack=a, rack=b, site=lab"),
        ("gpu0[1", "not a nodeset", "a nodeset looks like"),
        ("", '"" selects no host', "hosts: "),
        ("gpu01&gpu02", "selects no host", "hosts: "),
    ],
)
def test_selection_of_nothing(wanted: str, error: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        inventories.select(inventories.load(LAB, "lab.yaml"), wanted)
    assert error in str(caught.value)
    assert hint in caught.value.hint


def test_ssh_config() -> None:
    hosts = inventories.load(LAB, "lab.yaml").hosts
    assert ssh_config(hosts[0]) == ('Host gpu01\n  HostName "10.0.0.1"\n  User "ada"\n')
    assert ssh_config(hosts[-1]) == (
        'Host behind\n  User "ada"\n  Port "2222"\n  ProxyJump old\n'
        '  IdentityFile "~/.ssh/my key"\n'
    )


def test_ssh_config_is_silent_about_a_host_without_settings() -> None:
    (host,) = inventories.load("hosts: [gpu1]", "lab.yaml").hosts
    assert ssh_config(host) == ""


@pytest.mark.parametrize(
    "case", yaml.safe_load((CASES / "inventories.yaml").read_text()), ids=lambda case: case["name"]
)
def test_bad_inventory(case: dict[str, Any]) -> None:
    with pytest.raises(DocumentError) as caught:
        inventories.load(case["text"], "lab.yaml")
    assert str(caught.value).startswith(f"lab.yaml:{case['line']}: {case['error']}")
    assert case.get("hint", "") in caught.value.hint
    assert "\n" not in str(caught.value)


def test_merge_keys() -> None:
    """`<<` as YAML 1.1 has it: a mapping's own keys win, then the first of a list."""
    found = inventories.load(
        """\
defaults: &base
  user: bob
  env: &e {A: "1", B: "2"}
hosts:
  a:
    <<: *base
    port: 7
    env: {<<: *e, B: "3"}
  b: {<<: [{port: 3}, {port: 4, user: tina}]}
""",
        "i.yaml",
    )
    a, b = found.hosts
    assert (a.user, a.port, dict(a.env)) == ("bob", 7, {"A": "1", "B": "3"})
    assert (b.user, b.port) == ("tina", 3)


def test_a_merge_of_something_else_is_named() -> None:
    with pytest.raises(
        DocumentError, match=r"<< must be a mapping or a list of mappings"
    ) as caught:
        inventories.load("hosts:\n  a:\n    <<: x\n", "i.yaml")
    assert caught.value.line == 3


OFF = """
hosts:
  gpu[1-2]:
  gpu3: {off: "power supply, back 3 Dec"}
  gpu4: {off: true}
  gpu5: {off: false}
groups: {big: "gpu[3-5]", dead: "gpu[3-4]"}
"""


def test_a_host_that_is_off_is_left_out_of_every_choice() -> None:
    inventory = inventories.load(OFF, "lab.yaml")
    assert inventory.off == {"gpu3": "power supply, back 3 Dec", "gpu4": "no reason given"}
    assert [host.name for host in inventories.select(inventory, None)] == ["gpu1", "gpu2", "gpu5"]
    assert [host.name for host in inventories.select(inventory, "big,gpu1")] == ["gpu1", "gpu5"]
    with pytest.raises(InputError) as named:
        inventories.select(inventory, "gpu[1-3]")
    assert str(named.value) == "--hosts: gpu3 is off: power supply, back 3 Dec"
    assert named.value.hint == "to use gpu3 again, remove off: in lab.yaml"
    with pytest.raises(InputError, match="all of these hosts are off"):
        inventories.select(inventory, "dead")
    again = inventories.load(inventory_text(inventory), "")
    assert [host.off for host in again.hosts] == [host.off for host in inventory.hosts]


@pytest.mark.parametrize(
    ("key", "meant"),
    [("host", "address"), ("ansible_user", "user"), ("ssh_key", "identity_file"), ("prot", "port")],
)
def test_keys_as_other_tools_have_them(key: str, meant: str) -> None:
    with pytest.raises(DocumentError) as caught:
        hosts_of(f"hosts:\n  a: {{{key}: x}}\n")
    assert caught.value.hint == f'did you mean "{meant}"?'
    with pytest.raises(DocumentError) as caught:
        hosts_of(f"defaults: {{{key}: x}}\nhosts: {{a: {{}}}}\n")
    assert caught.value.hint == f'did you mean "{meant}"?'


def test_data_sets_of_a_host_have_a_limit() -> None:
    """As of the host, or of all; the file that is written says the same."""
    text = "defaults: {data_limit: 1.5TB}\nhosts:\n  gpu1:\n  gpu2: {data_limit: 500GB}\n"
    found = {name: host.data_limit for name, host in hosts_of(text).items()}
    assert found == {"gpu1": 1_500_000_000_000, "gpu2": 500_000_000_000}
    again = hosts_of(inventory_text(inventories.load(text, "lab.yaml")))
    assert {name: host.data_limit for name, host in again.items()} == found
    with pytest.raises(DocumentError, match=r"lab.yaml:2: not a size: 'much' \(500GB, 1.5TB\)"):
        inventories.load("hosts:\n  gpu1: {data_limit: much}\n", "lab.yaml")
