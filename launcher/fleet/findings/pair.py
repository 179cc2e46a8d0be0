"""Find what is wrong between two hosts, from their trials; fold equal findings of several pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...spec import nodeset
from ...spec.model import Host
from . import ERROR, WARNING, Finding, found, median
from .survey import Survey, Trial

#: A pair with less than this part of the usual bandwidth is slow.
SLOW = 0.25
#: An interface is suggested if it is this many times as fast.
FASTER = 2.0
#: The agent's word for a port that connects but stays silent: a busy host's, not a firewall's.
SILENT = "connects, but nothing answers"
_BUSY = "the host may be busy: check again when it is idle"


def of_pairs(
    trials: Sequence[Trial],
    surveys: Mapping[str, Survey],
    hosts: Mapping[str, Host],
    port_range: tuple[int, int],
) -> list[Finding]:
    """Return everything that is wrong between hosts."""
    findings: list[Finding] = []
    for trial in trials:
        findings += _ports(trial, surveys[trial.there], port_range)
        findings += _packets(trial)
        if surveys[trial.host].facts.hostname != surveys[trial.there].facts.hostname:
            findings += _names(trial, surveys[trial.there])  # else one machine twice: a sandbox
    findings += _speed(trials)
    return [*_folded(findings), *_interfaces(trials, surveys, hosts)]


def _ports(trial: Trial, there: Survey, port_range: tuple[int, int]) -> Iterator[Finding]:
    if trial.error:
        yield _between("NET-UNTESTED", trial, trial.error, "fix the other findings first")
    elif trial.closed and set(trial.closed.values()) == {SILENT}:
        yield _between("NET-UNTESTED", trial, _closed(trial), _BUSY)
    elif trial.address is None:
        reasons = ", ".join(sorted(set(trial.closed.values())))
        yield _between(
            "NET-NO-ROUTE",
            trial,
            f"none of its addresses answers on any port ({reasons}){_rules(there)}",
            "open TCP between the hosts, or set interface: in the inventory to a network that "
            "they share",
        )
    elif trial.closed:
        low, high = port_range
        fix = f"open TCP ports {low} to {high} there, or set --master-port to an open range"
        if trial.high in trial.closed:
            fix = (
                "open all TCP ports between the hosts: besides the master port, NCCL and gloo use "
                "ports that the kernel chooses (ip_local_port_range)"
            )
        yield _between("NET-PORT-CLOSED", trial, _closed(trial) + _rules(there), fix)


def _closed(trial: Trial) -> str:
    by_reason: dict[str, list[str]] = {}
    for port, why in sorted(trial.closed.items()):
        name = "one from the kernel's range" if port == trial.high else str(port)
        by_reason.setdefault(why, []).append(name)
    return "TCP " + "; ".join(f"{', '.join(ports)}: {why}" for why, ports in by_reason.items())


def _rules(there: Survey) -> str:
    if there.firewall is None:
        return ""
    kind, rules = there.firewall
    return f"; its {kind}: {' | '.join(rule[:70] for rule in rules[:2])}"


def _packets(trial: Trial) -> Iterator[Finding]:
    stuck = trial.large is False
    small = trial.mtu is not None and trial.mtu_expected is not None
    if small and (trial.mtu or 0) < (trial.mtu_expected or 0):
        yield _between(
            "NET-MTU",
            trial,
            f"packets up to {trial.mtu} bytes arrive, but the interfaces have MTU "
            f"{trial.mtu_expected}" + ("; large TCP transfers hang" if stuck else ""),
            f"ip link set {trial.interface or 'DEV'} mtu {trial.mtu} on both hosts, or configure "
            f"the switch or tunnel between them to pass {trial.mtu_expected}",
            level=ERROR if stuck else WARNING,
        )
    elif stuck:
        yield _between(
            "NET-MTU",
            trial,
            "small packets arrive, large ones do not: every transfer hangs",
            f"lower the MTU of {trial.interface or 'the interface'} on both hosts, or let ICMP "
            '"fragmentation needed" through',
        )


def _names(trial: Trial, there: Survey) -> Iterator[Finding]:
    own = {ip for _, ip in there.facts.addresses if not ip.startswith("127.")}
    name = there.facts.hostname
    if trial.names is None:
        yield _between(
            "NET-NAME-SLOW",
            trial,
            "the other host's name takes more than 3 s to resolve",
            "add it to /etc/hosts, or name a DNS server that answers in /etc/resolv.conf",
        )
    elif not trial.names:
        yield _between("NET-NAME-PRIVATE", trial, "the other host's name does not resolve", "")
    elif own and not own & set(trial.names):
        yield _between(
            "NET-NAME-WRONG",
            trial,
            f"the name {name} resolves to {trial.names[0]}, which is not that host",
            f"correct the line of {name} in /etc/hosts, or DNS",
        )


def usual_bandwidth(trials: Sequence[Trial]) -> float:
    """Return the median of each host's best bandwidth, in bytes per second; 0.0 without any.

    The median of all pairs would mislead: of three hosts with one slow cable, most pairs are slow.
    """
    best: dict[str, float] = {}
    for trial in trials:
        for name in (trial.host, trial.there):
            best[name] = max(best.get(name, 0.0), trial.bandwidth or 0.0)
    return median(list(best.values())) if best else 0.0


def _speed(trials: Sequence[Trial]) -> Iterator[Finding]:
    usual = usual_bandwidth(trials)
    slow = [t for t in trials if t.confirmed and 0 < (t.bandwidth or 0.0) < SLOW * usual]
    rates = sorted(trial.bandwidth or 0.0 for trial in slow)
    for trial in slow:
        yield _between(
            "NET-SLOW",
            trial,
            f"{_span(rates)}; {rate_text(usual)} is usual here",
            "check cable and port: ethtool (speed, duplex), ip -s link (errors); or leave the "
            "host out",
        )


def rate_text(bandwidth: float) -> str:
    """Return bytes per second in network units: ``9.4 Gbit/s``."""
    bits = bandwidth * 8
    return f"{bits / 1e9:.1f} Gbit/s" if bits >= 1e9 else f"{bits / 1e6:.0f} Mbit/s"


def _span(rates: Sequence[float]) -> str:
    texts = list(dict.fromkeys((rate_text(rates[0]), rate_text(rates[-1]))))
    return " to ".join(texts)


def _between(code: str, trial: Trial, evidence: str, fix: str, level: str = "") -> Finding:
    return found(code, trial.host, evidence, fix, level, there=(trial.there,))


#: Some hosts and those they should reach.
_Routes = tuple[tuple[str, ...], tuple[str, ...]]


def _folded(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Fold equal findings with the same far host, then those with the same near hosts."""
    near: dict[tuple[str, ...], list[str]] = {}
    for one in findings:
        key = (one.code, one.level, one.evidence, one.fix, one.there[0])
        near.setdefault(key, []).append(one.hosts[0])
    far: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (*what, there), hosts in near.items():
        far.setdefault((tuple(what), tuple(hosts)), []).append(there)
    by_text: dict[tuple[str, ...], list[_Routes]] = {}
    for (text, several), others in far.items():
        by_text.setdefault(text, []).append((several, tuple(others)))
    for (code, level, evidence, fix), routes in by_text.items():
        if _is_complete(routes):
            names = tuple(dict.fromkeys(name for hosts, _ in routes for name in hosts))
            routes = [(names, names)]
        for hosts_of_route, others_of_route in routes:
            yield Finding(code, level, hosts_of_route, evidence, fix, others_of_route)


def _is_complete(routes: Sequence[_Routes]) -> bool:
    """Return whether these are all routes among some hosts."""
    pairs = {(a, b) for near, far in routes for a in near for b in far}
    names = {name for pair in pairs for name in pair}
    return len(routes) > 1 and len(pairs) == len(names) * (len(names) - 1)


def _interfaces(
    trials: Sequence[Trial], surveys: Mapping[str, Survey], hosts: Mapping[str, Host]
) -> Iterator[Finding]:
    """Suggest an interface that is better than the one a run would try first."""
    for name, survey in surveys.items():
        towards = [trial for trial in trials if trial.there == name and trial.address]
        if not towards:
            continue
        first = towards[0].tried[0]
        common = [ip for ip in towards[0].tried if all(ip in t.complete for t in towards)]
        by_address = {interface.address: interface for interface in survey.interfaces}
        if not common:
            continue
        best = max(common, key=lambda ip: (by_address[ip].speed or 0) if ip in by_address else 0)
        if first not in common:
            choice = common[0]
            others = nodeset.fold(trial.host for trial in towards)
            evidence = (
                f"{first}, the address used from here, does not answer {others}; runs lose 4 s "
                f"trying it. {by_address[choice].name} ({choice}) answers"
            )
        elif (by_address[best].speed or 0) >= FASTER * (by_address[first].speed or 1 << 40):
            choice = best
            evidence = (
                f"{by_address[best].name} ({by_address[best].speed} Mbit/s) reaches the others, but "
                f"runs use {by_address[first].name} ({by_address[first].speed} Mbit/s)"
            )
        else:
            continue
        interface = by_address[choice].name
        if hosts[name].interface != interface:
            yield found(
                "NET-INTERFACE",
                name,
                evidence,
                f"set interface: {interface} in the inventory (launcher check --fix does)",
                value=interface,
            )
