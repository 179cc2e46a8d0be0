"""The findings that a run stops at before anything is copied."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.fleet.findings.preflight import of_facts, require_machines
from launcher.spec.errors import CheckFailed
from launcher.spec.model import Facts, Host

FACTS = Facts("a", "a", "/r", "python3", "3.11.7", 8, (("eth0", "10.0.0.1"),), disk_free=10**12)


def test_only_what_makes_a_run_pointless() -> None:
    """A clock that is off, a small disk, and NCCL's own notation are no reasons."""
    host = Host("a")
    assert of_facts([host], {"a": FACTS}) == ()
    fine = replace(FACTS, clock_offset=600.0, disk_free=5_000_000)
    for notation in ("eth", "^docker", "=eth0", "ib0,eth0"):
        assert of_facts([replace(host, interface=notation)], {"a": fine}) == ()
    (disk,) = of_facts([host], {"a": replace(FACTS, disk_free=1000)})
    assert disk.code == "DISK-FULL"


@pytest.mark.parametrize(
    ("shares", "roots", "words"),
    [
        ((False, False), ("/r", "/r"), "to one folder there, /r"),
        ((True, True), ("/r", "/r"), "to one folder there, /r"),
        ((True, False), ("/r", "/r2"), "these names lead to one machine, m (SET-ONE-MACHINE)"),
        ((True, True), ("/r", "/r2"), None),
    ],
    ids=["by accident", "one folder", "one of two knows", "on purpose"],
)
def test_one_machine_under_two_names(
    shares: tuple[bool, bool], roots: tuple[str, str], words: str | None
) -> None:
    hosts = [
        Host(name, shares_machine=is_meant) for name, is_meant in zip("ab", shares, strict=True)
    ]
    hosts.append(Host("c"))
    facts = {
        name: replace(FACTS, host=name, hostname="m", root=root, machine=machine)
        for name, root, machine in zip("abc", (*roots, "/r"), ("1", "1", "2"), strict=True)
    }
    if words is None:
        require_machines(hosts, facts)
        return
    with pytest.raises(CheckFailed) as caught:
        require_machines(hosts, facts)
    assert caught.value.message.startswith("a, b: ")
    assert words in caught.value.message
    assert "shares_machine: true" in caught.value.hint
    old = {name: replace(one, machine="") for name, one in facts.items()}
    require_machines(hosts, old)  # agents of 0.1 do not say
