"""What a run looks at by itself: only what connecting to its hosts has told already. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...spec.errors import CheckFailed
from ...spec.model import Facts, Host
from . import ERROR, Finding, fold
from .host import disk_room, interface

#: Bytes without which not even the code of a small run arrives.
LEAST_DISK = 1_000_000


def of_facts(hosts: Sequence[Host], facts: Mapping[str, Facts]) -> tuple[Finding, ...]:
    """Findings that make a run pointless: errors only. A wrong clock does not: a run measures it,
    and puts everything in order by what it measured."""
    findings: list[Finding] = []
    for host in hosts:
        known = facts[host.name]
        findings += interface(host, [name for name, _ in known.addresses if name != "lo"])
        if known.disk_free < LEAST_DISK:
            findings += disk_room(host.name, known.disk_free, known.root)
    return fold(finding for finding in findings if finding.level == ERROR)


def require(hosts: Sequence[Host], facts: Mapping[str, Facts]) -> None:
    """Raises CheckFailed when something is wrong."""
    findings = of_facts(hosts, facts)
    if findings:
        told = "; ".join(f"{', '.join(f.hosts)}: {f.evidence} ({f.code})" for f in findings)
        fixes = "; ".join(dict.fromkeys(finding.fix for finding in findings))
        raise CheckFailed(told, f"{fixes}. launcher check tells more; --no-check runs it anyway")
