"""Find what is wrong between two hosts, from their tests; fold equal findings of several pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...jobs import planner
from ...spec import nodeset
from ...spec.model import Host
from . import ERROR, WARNING, Finding, found, median
from .survey import PairTest, Survey

#: A pair with less than this part of the usual bandwidth is slow.
SLOW = 0.25
#: An interface is suggested if it is this many times as fast.
FASTER = 2.0
#: The agent's word for a port that connects but stays silent: a busy host's, not a firewall's.
SILENT = "connects, but nothing answers"
_BUSY = "the host may be busy: check again when it is idle"


def of_pairs(
    tests: Sequence[PairTest],
    surveys: Mapping[str, Survey],
    hosts: Mapping[str, Host],
    port_range: tuple[int, int],
) -> list[Finding]:
    """Return everything that is wrong between hosts."""
    findings: list[Finding] = []
    for test in tests:
        pair = (surveys[test.host].facts, surveys[test.there].facts)
        if not planner.ip_versions(pair[0]) & planner.ip_versions(pair[1]):
            continue  # NET-IP-VERSION says so
        findings += _ports(test, surveys[test.there], port_range)
        findings += _packets(test)
        if surveys[test.host].facts.hostname != surveys[test.there].facts.hostname:
            findings += _names(test, surveys[test.there])  # else one machine twice: a sandbox
    findings += _speed(tests)
    return [*_folded(findings), *_interfaces(tests, surveys, hosts)]


def _ports(test: PairTest, there: Survey, port_range: tuple[int, int]) -> Iterator[Finding]:
    if test.error:
        yield _between("NET-UNTESTED", test, test.error, "fix the other findings first")
    elif test.closed and set(test.closed.values()) == {SILENT}:
        yield _between("NET-UNTESTED", test, _closed(test), _BUSY)
    elif test.address is None:
        reasons = ", ".join(sorted(set(test.closed.values())))
        yield _between(
            "NET-NO-ROUTE",
            test,
            f"none of its addresses answers on any port ({reasons}){_rules(there)}",
            "open TCP between the hosts, or set interface: in the inventory to a network that "
            "they share",
        )
    elif test.closed:
        low, high = port_range
        fix = f"open TCP ports {low} to {high} there, or set --master-port to an open range"
        if test.high in test.closed:
            fix = (
                "open all TCP ports between the hosts: besides the master port, NCCL and gloo use "
                "ports that the kernel chooses (ip_local_port_range)"
            )
        yield _between("NET-PORT-CLOSED", test, _closed(test) + _rules(there), fix)


def _closed(test: PairTest) -> str:
    by_reason: dict[str, list[str]] = {}
    for port, why in sorted(test.closed.items()):
        name = "one from the kernel's range" if port == test.high else str(port)
        by_reason.setdefault(why, []).append(name)
    return "TCP " + "; ".join(f"{', '.join(ports)}: {why}" for why, ports in by_reason.items())


def _rules(there: Survey) -> str:
    if there.firewall is None:
        return ""
    kind, rules = there.firewall
    return f"; its {kind}: {' | '.join(rule[:70] for rule in rules[:2])}"


def _packets(test: PairTest) -> Iterator[Finding]:
    stuck = test.large is False
    small = test.mtu is not None and test.mtu_expected is not None
    if small and (test.mtu or 0) < (test.mtu_expected or 0):
        yield _between(
            "NET-MTU",
            test,
            f"packets up to {test.mtu} bytes arrive, but the interfaces have MTU "
            f"{test.mtu_expected}" + ("; large TCP transfers hang" if stuck else ""),
            f"ip link set {test.interface or 'DEV'} mtu {test.mtu} on both hosts, or configure "
            f"the switch or tunnel between them to pass {test.mtu_expected}",
            level=ERROR if stuck else WARNING,
        )
    elif stuck:
        yield _between(
            "NET-MTU",
            test,
            "small packets arrive, large ones do not: every transfer hangs",
            f"lower the MTU of {test.interface or 'the interface'} on both hosts, or let ICMP "
            '"fragmentation needed" through',
        )


def _names(test: PairTest, there: Survey) -> Iterator[Finding]:
    own = {ip for _, ip in there.facts.addresses if not ip.startswith("127.")}
    name = there.facts.hostname
    if test.names is None:
        yield _between(
            "NET-NAME-SLOW",
            test,
            "the other host's name takes more than 3 s to resolve",
            "add it to /etc/hosts, or name a DNS server that answers in /etc/resolv.conf",
        )
    elif not test.names:
        yield _between("NET-NAME-PRIVATE", test, "the other host's name does not resolve", "")
    elif own and not own & set(test.names):
        yield _between(
            "NET-NAME-WRONG",
            test,
            f"the name {name} resolves to {test.names[0]}, which is not that host",
            f"correct the line of {name} in /etc/hosts, or DNS",
        )


def usual_bandwidth(tests: Sequence[PairTest]) -> float:
    """Return the median of each host's best bandwidth, in bytes per second; 0.0 without any.

    The median of all pairs would mislead: of three hosts with one slow cable, most pairs are slow.
    """
    best: dict[str, float] = {}
    for test in tests:
        for name in (test.host, test.there):
            best[name] = max(best.get(name, 0.0), test.bandwidth or 0.0)
    return median(list(best.values())) if best else 0.0


def _speed(tests: Sequence[PairTest]) -> Iterator[Finding]:
    usual = usual_bandwidth(tests)
    slow = [t for t in tests if t.confirmed and 0 < (t.bandwidth or 0.0) < SLOW * usual]
    rates = sorted(test.bandwidth or 0.0 for test in slow)
    for test in slow:
        yield _between(
            "NET-SLOW",
            test,
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


def _between(code: str, test: PairTest, evidence: str, fix: str, level: str = "") -> Finding:
    return found(code, test.host, evidence, fix, level, there=(test.there,))


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
    tests: Sequence[PairTest], surveys: Mapping[str, Survey], hosts: Mapping[str, Host]
) -> Iterator[Finding]:
    """Suggest an interface that is better than the one a run would try first."""
    for name, survey in surveys.items():
        towards = [test for test in tests if test.there == name and test.address]
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
            others = nodeset.fold(test.host for test in towards)
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
