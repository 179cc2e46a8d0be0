"""The findings that a run stops at before anything is copied."""

from __future__ import annotations

from dataclasses import replace

from launcher.fleet.findings.preflight import of_facts
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
