"""The checks of every run: they use only what connecting to its hosts measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...spec.errors import CheckFailed
from ...spec.model import Facts, Host
from . import ERROR, Finding, fold
from .group import one_machine
from .host import disk_room, interface
from .own_hosts import own_hosts

#: Free bytes below which not even the code of a small run fits.
LEAST_DISK = 1_000_000


def of_facts(hosts: Sequence[Host], facts: Mapping[str, Facts]) -> tuple[Finding, ...]:
    """Return findings with which a run would fail.

    A wrong clock is not one: a run measures clocks and corrects times by them.
    """
    findings: list[Finding] = []
    for host in hosts:
        known = facts[host.name]
        findings += interface(host, [name for name, _ in known.addresses if name != "lo"])
        findings += own_hosts(host, known.own_hosts)
        if known.disk_free < LEAST_DISK:
            findings += disk_room(host.name, known.disk_free, known.root)
    return fold(finding for finding in findings if finding.level == ERROR)


def require_machines(hosts: Sequence[Host], facts: Mapping[str, Facts]) -> None:
    """Raise CheckFailed if two of these hosts are one machine by accident.

    Nobody can insist on that: their ranks would share GPUs, and maybe one folder.
    """
    findings = one_machine(hosts, facts)
    if findings:
        raise CheckFailed(_message(findings), findings[0].fix)


def _message(findings: Iterable[Finding]) -> str:
    return "; ".join(f"{', '.join(f.hosts)}: {f.evidence} ({f.code})" for f in findings)


def require(hosts: Sequence[Host], facts: Mapping[str, Facts]) -> None:
    """Raise CheckFailed if a run on these hosts would fail."""
    findings = of_facts(hosts, facts)
    if findings:
        fixes = "; ".join(dict.fromkeys(finding.fix for finding in findings))
        raise CheckFailed(
            _message(findings), f"{fixes}. launcher check shows more; --no-check runs it anyway"
        )
