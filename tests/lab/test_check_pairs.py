"""`launcher check`, between hosts: faults of a real network are caused, found by code, and gone after
what the fix says; and nothing is found where nothing is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.checked import Checked, check
from support.command import Launcher
from support.hosts import need_lab


def _lab(names: str, place: Path) -> labs.Lab:
    specs = [labs.HostSpec(name, own_name="") for name in names.split()]
    return labs.Lab(specs, place / "lab")


def _launcher(lab: labs.Lab, place: Path) -> Launcher:
    launcher = Launcher(place / "inventory.yaml", place, place / "home")
    text = labs.inventory(lab, "/usr/bin/python3").replace(": {}", ":  # a comment")
    launcher.inventory.write_text(text)
    return launcher


@dataclass
class Story:
    """What was found in a broken network, and in it repaired."""

    broken: Checked
    cabled: Checked
    written: str
    again: Checked
    whole: Checked


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    need_lab()
    place = tmp_path_factory.mktemp("check")
    with _lab("a b narrow slow", place) as lab:
        launcher, hosts = _launcher(lab, place), lab.hosts
        hosts["a"].block_port(26000, from_host="b")
        not_us = f"ip saddr != {hosts['narrow'].launcher_address}"
        hosts["narrow"]._drop("blocked", f"{not_us} iifname eth0 ip length > 1200")
        hosts["slow"].slow(20)
        for host in hosts.values():  # as docker makes one, with the same address, everywhere
            host.run("ip", "link", "add", "docker0", "type", "bridge")
            host.run("ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
            host.run("ip", "link", "set", "docker0", "up")
        names = hosts["b"].read("/etc/hosts")
        wrong = names.decode().replace(f"{hosts['a'].address}\ta\n", "127.0.0.1\ta\n")
        hosts["b"].write("/etc/hosts", wrong.encode())
        e, f = hosts["narrow"], hosts["slow"]
        e._drop("blocked", f"ip saddr {f.address}")
        f._drop("blocked", f"ip saddr {e.address}")
        broken = check(launcher)
        e.join(f, "ib7", "p9")
        cabled = check(launcher, "--hosts", "narrow,slow", "--fix")
        written = launcher.inventory.read_text()
        again = check(launcher, "--hosts", "narrow,slow")
        for name in ("a", "narrow", "slow"):
            hosts[name].unblock()
        hosts["slow"].slow(0)
        hosts["b"].write("/etc/hosts", names)
        _launcher(lab, place)
        whole = check(launcher)
        yield Story(broken, cabled, written, again, whole)


def _one(checked: Checked, code: str) -> dict[str, Any]:
    (found,) = [f for f in checked.told["findings"] if f["code"] == code]
    return dict(found)


#: Code, level, from, to, evidence, fix.
CAUSED = [
    ("NET-PORT-CLOSED", "error", ["b"], ["a"], "TCP 26000: no answer", "20000 to 32000"),
    ("NET-MTU", "error", ["a", "b"], ["narrow"], "up to 1200 bytes", "mtu 1200"),
    ("NET-NAME-WRONG", "warning", ["b"], ["a"], "a resolves to 127.0.0.1", "/etc/hosts"),
]


@pytest.mark.parametrize(("code", "level", "hosts", "there", "evidence", "fix"), CAUSED)
def test_each_fault_is_found(
    story: Story, code: str, level: str, hosts: list[str], there: list[str], evidence: str, fix: str
) -> None:
    found = _one(story.broken, code)
    assert (sorted(found["hosts"]), found["there"]) == (hosts, there)
    assert found["level"] == level
    assert evidence in found["evidence"]
    assert fix in found["fix"]
    assert story.broken.code == 1


def test_a_closed_port_tells_the_rule_that_closes_it(story: Story) -> None:
    assert "its nftables: " in _one(story.broken, "NET-PORT-CLOSED")["evidence"]


def test_a_slow_cable_is_found_both_ways_and_only_there(story: Story) -> None:
    slow = [f for f in story.broken.told["findings"] if f["code"] == "NET-SLOW"]
    ways = {(a, b) for f in slow for a in f["hosts"] for b in f["there"]}
    assert {("slow", "a"), ("a", "slow"), ("slow", "b"), ("b", "slow")} <= ways
    assert all("slow" in way for way in ways)
    assert all("is usual here" in f["evidence"] for f in slow)
    ways = {(p["host"], p["there"]): p["bandwidth"] for p in story.broken.told["pairs"]}
    assert 4 < ways["slow", "a"] * 8 / 1e6 < 24, "20 Mbit/s, less what a busy machine takes away"


def test_an_address_that_leads_to_the_host_itself_is_no_way(story: Story) -> None:
    ways = {(p["host"], p["there"]): p for p in story.whole.told["pairs"]}
    for here, there in (("a", "b"), ("b", "a")):
        way = ways[here, there]
        assert "172.17.0.1" in way["tried"]
        assert way["complete"] == [way["address"]] != ["172.17.0.1"]


def test_two_hosts_without_a_way(story: Story) -> None:
    found = [f for f in story.broken.told["findings"] if f["code"] == "NET-NO-ROUTE"]
    assert sorted((f["hosts"], f["there"]) for f in found) == [
        (["narrow"], ["slow"]),
        (["slow"], ["narrow"]),
    ]
    assert all("no answer" in f["evidence"] and "interface:" in f["fix"] for f in found)


def test_another_network_is_found_and_written(story: Story) -> None:
    """Each host's own interface, and the rest of the file is as it was."""
    assert sorted(story.cabled.told["fixed"]) == [
        line for line in sorted(story.cabled.told["fixed"]) if " interface: " in line
    ]
    lines = story.written.splitlines()
    assert "  narrow: { interface: ib7 }  # a comment" in lines
    assert "  slow: { interface: p9 }  # a comment" in lines
    assert "  a:  # a comment" in lines
    assert story.cabled.code == 0
    assert not [f for f in story.again.told["findings"] if f["code"].startswith("NET-")]


def test_whole_again_after_the_fixes(story: Story) -> None:
    codes = {f["code"] for f in story.whole.told["findings"]}
    assert codes <= {"TORCH-MISSING"}
    assert story.whole.code == 0


@pytest.mark.lab
def test_no_false_alarm_on_eight_healthy_hosts(tmp_path: Path) -> None:
    need_lab()
    names = " ".join(f"gpu{n}" for n in range(1, 9))
    specs = [labs.HostSpec(name, own_name="") for name in names.split()]
    with labs.Lab(specs, tmp_path / "lab", share=[Path(sys.prefix)]) as lab:
        launcher = Launcher(tmp_path / "inventory.yaml", tmp_path, tmp_path / "home")
        launcher.inventory.write_text(labs.inventory(lab, sys.executable))
        done = launcher.call("check", "-i", str(launcher.inventory))
    assert done.returncode == 0
    assert done.stderr == ""
    head, hosts, between, verdict = done.stdout.splitlines()
    assert head.startswith("hosts")
    assert hosts.startswith("gpu[1-8] ")
    assert "MTU 1500" in between
    assert verdict.startswith("8 hosts, 28 pairs: all is well")


def test_everything_is_json(story: Story) -> None:
    assert json.dumps(story.broken.told)
