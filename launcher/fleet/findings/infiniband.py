"""Find what is wrong with the InfiniBand and RoCE ports of hosts, and what NCCL should be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import Finding, by_value, found

if TYPE_CHECKING:  # a run imports this package, but not the surveys
    from .survey import IbPort, Survey


def of_ports(surveys: Sequence[Survey]) -> Iterator[Finding]:
    """Return what the hosts have, ports that are down, missing GIDs, and devices that differ."""
    having = [survey for survey in surveys if survey.ib_ports]
    for survey in having:
        yield from _of_host(survey)
    working = {survey.host: _best(survey) for survey in having}
    named = {host: ",".join(map(_name, ports)) for host, ports in working.items() if ports}
    if len(set(named.values())) > 1:
        yield found(
            "IB-HCA",
            named,
            "ports that NCCL can use: "
            + ", ".join(f"{ports} on {hosts}" for ports, hosts in by_value(named)),
            "give each host its own in the inventory: "
            + "; ".join(
                f"{hosts}: env: {{NCCL_IB_HCA: '={ports}'}}" for ports, hosts in by_value(named)
            ),
        )
    rates = {
        host: f"{len(ports)}x {ports[0].rate:g} Gb/s {ports[0].layer}"
        for host, ports in working.items()
        if ports
    }
    if len(set(rates.values())) > 1:
        yield found(
            "IB-RATE",
            rates,
            ", ".join(f"{rate} on {hosts}" for rate, hosts in by_value(rates)),
            "a job is as fast as its slowest link: choose equal hosts with --hosts, or have the cables "
            "and switch ports looked at",
        )


def _of_host(survey: Survey) -> Iterator[Finding]:
    active = [port for port in survey.ib_ports if port.state == "ACTIVE"]
    if not active:
        states = ", ".join(f"{_name(port)} {port.state}" for port in survey.ib_ports)
        yield found(
            "IB-DOWN",
            survey.host,
            f"no InfiniBand or RoCE port is active ({states}): NCCL will use TCP",
            "have the cable, the switch port and, for InfiniBand, the subnet manager looked at "
            "(ibstat); or set NCCL_IB_DISABLE=1 in env: to say that TCP is meant",
        )
        return
    for port in active:
        if port.gid_index < 0 and port.layer == "Ethernet":
            yield found(
                "IB-NO-GID",
                survey.host,
                f"{_name(port)} (RoCE) has no GID of RoCE v2: NCCL cannot use it",
                "give its network interface an IPv4 address, or leave it out with NCCL_IB_HCA in env:",
            )
    yield found("IB-PORTS", survey.host, "; ".join(map(_in_words, active)))


def _best(survey: Survey) -> list[IbPort]:
    """Return the ports that NCCL should use: active, of the fastest rate, all of one kind."""
    usable = [
        port
        for port in survey.ib_ports
        if port.state == "ACTIVE" and (port.gid_index >= 0 or port.layer != "Ethernet")
    ]
    if not usable:
        return []
    first = max(usable, key=lambda port: (port.rate, port.layer == "InfiniBand"))
    return [port for port in usable if (port.rate, port.layer) == (first.rate, first.layer)]


def _name(port: IbPort) -> str:
    return f"{port.device}:{port.port}"


def _in_words(port: IbPort) -> str:
    kind = "RoCE" if port.layer == "Ethernet" else port.layer
    gid = f", GID {port.gid_index} {port.gid}" if port.gid_index >= 0 else ""
    return f"{_name(port)} {kind} {port.rate:g} Gb/s{gid}"
