"""Find what differs among hosts that should be alike, from their surveys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...jobs import planner
from ...spec import errors, nodeset
from ...spec.model import Facts, Host
from . import ERROR, WARNING, Finding, by_value, found, median
from .infiniband import of_ports

if TYPE_CHECKING:  # a run imports this file, but not the surveys
    from .survey import Survey

#: The name of this machine where that of a host is expected.
HERE = "this machine"
#: Seconds that clocks may differ.
CLOCK_WARNING = 1.0
#: Seconds from which on certificates and file times go wrong.
CLOCK_ERROR = 60.0


def of_group(surveys: Sequence[Survey]) -> list[Finding]:
    """Return what differs among the hosts, folded by nodeset, and wrong clocks."""
    findings = list(clocks({s.host: (s.facts.clock_offset, s.latency) for s in surveys}))
    findings += of_ports(surveys)
    findings += ip_versions({s.host: planner.ip_versions(s.facts) for s in surveys})
    for code, what, value, fix in ALIKE:
        values = {s.host: value(s) for s in surveys}
        known = {host: text for host, text in values.items() if text}
        if len(set(known.values())) > 1:
            parts = [f"{what} {text} on {hosts}" for text, hosts in by_value(known)]
            findings.append(found(code, known, ", ".join(parts), fix))
    return findings


def one_machine(hosts: Sequence[Host], facts: Mapping[str, Facts]) -> list[Finding]:
    """Return the hosts that are one machine: by accident, or on purpose with one folder."""
    machines: dict[str, list[Host]] = {}
    for host in hosts:
        if (known := facts.get(host.name)) and known.machine:
            machines.setdefault(known.machine, []).append(host)
    findings = []
    for several in machines.values():
        names = [host.name for host in several]
        first, roots = facts[names[0]], {facts[name].root for name in names}
        if len(several) < 2 or (
            all(h.shares_machine for h in several) and len(roots) == len(names)
        ):
            continue
        evidence = f"these names lead to one machine, {first.hostname}"
        if len(roots) < len(names):
            evidence += f", and to one folder there, {first.root}"
        findings.append(
            found(
                "SET-ONE-MACHINE",
                names,
                evidence,
                "leave out all but one; or, if it is on purpose, give each shares_machine: true and a "
                "workdir: of its own in the inventory",
            )
        )
    return findings


def ip_versions(versions: Mapping[str, frozenset[int]]) -> list[Finding]:
    """Return what is wrong with the versions of IP, 4 and 6, that the hosts have."""
    sides = {
        number: [host for host, has in versions.items() if has == {number}] for number in (4, 6)
    }
    both = [host for host, has in versions.items() if len(has) == 2]
    only = {number: nodeset.fold(hosts) for number, hosts in sides.items()}
    if sides[4] and sides[6]:
        return [
            found(
                "NET-IP-VERSION",
                versions,
                f"IPv4 alone on {only[4]}, IPv6 alone on {only[6]}: they cannot reach each other",
                "choose hosts of one kind with --hosts, or give them addresses of both",
            )
        ]
    if sides[6] and both:
        return [
            found(
                "NET-IP-VERSION",
                both,
                f"IPv6 alone on {only[6]}: runs meet by IPv6, as NCCL then does, but gloo uses the "
                "IPv4 address of an interface that has both, and fails",
                f"give {only[6]} IPv4 addresses, or keep the two kinds apart with --hosts",
                level=WARNING,
            )
        ]
    return []


def rsync_here(version: str, error: errors.LauncherError | None, is_safe: bool) -> list[Finding]:
    """Return what is wrong with this machine's rsync."""
    if error:
        return [found("RSYNC-MISSING", HERE, error.message, error.hint)]
    if is_safe:
        return []
    return [
        found(
            "RSYNC-UNSAFE",
            HERE,
            f"rsync {version} accepts files that it did not ask for (CVE-2022-29154): a hostile host "
            "can write into the folder that its outputs are copied to",
            "install rsync 3.2.5 or newer, or your distribution's update",
        )
    ]


def clocks(offsets: Mapping[str, tuple[float, float]]) -> list[Finding]:
    """Return clocks that differ from the median of all, this machine's among them.

    ``offsets`` has by host ``(its clock minus this machine's, round trip)``; the offset is uncertain
    by half a round trip. If the hosts agree with each other, the finding is about this machine.
    """
    if not offsets:
        return []
    middle = median([0.0, *(offset for offset, _ in offsets.values())])
    if len(offsets) == 1:
        middle = 0.0
    findings = []
    wrong = {
        host: offset - middle
        for host, (offset, trip) in offsets.items()
        if abs(offset - middle) > CLOCK_WARNING + trip / 2
    }
    for host, distance in wrong.items():
        findings.append(_clock(host, distance))
    longest = max(trip for _, trip in offsets.values())
    if not wrong and abs(middle) > CLOCK_WARNING + longest / 2:
        findings.append(_clock(HERE, -middle))
    return findings


def _clock(host: str, distance: float) -> Finding:
    side = "ahead of" if distance > 0 else "behind"
    return found(
        "CLOCK-OFFSET",
        host,
        f"the clock is {abs(distance):.1f} s {side} the others'",
        "run timedatectl set-ntp true there (or chrony); launcher corrects times in logs, but not "
        "certificates and file times",
        level=ERROR if abs(distance) > CLOCK_ERROR else "",
    )


def gpus_text(survey: Survey) -> str:
    """Return ``8x H100 80 GB``; several kinds with a plus."""
    kinds: dict[str, int] = {}
    for gpu in survey.facts.gpus:
        name = gpu.name.removeprefix("NVIDIA ")
        text = name if "GB" in name else f"{name} {round(gpu.memory / 1024)} GB"
        kinds[text] = kinds.get(text, 0) + 1
    return " + ".join(f"{count}x {text}" for text, count in kinds.items())


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


_SAME = "install the same version everywhere: launcher bootstrap, or pip with a pinned version"

#: Code, subject, the value of a host ("" is not compared), and the fix.
ALIKE: tuple[tuple[str, str, Callable[[Survey], str], str], ...] = (
    ("SET-PYTHON", "Python", lambda s: _minor(s.facts.python_version), _SAME),
    ("SET-TORCH", "torch", lambda s: s.software.torch or "", _SAME),
    ("SET-CUDA", "CUDA", lambda s: s.software.cuda or "", _SAME),
    ("SET-NCCL", "NCCL", lambda s: s.software.nccl or "", _SAME),
    ("SET-HOROVOD", "horovod", lambda s: s.software.horovod or "", _SAME),
    (
        "SET-DRIVER",
        "driver",
        lambda s: (s.devices.driver or "").partition(".")[0],
        "fine if torch runs on each; else ask the admin to install the same driver",
    ),
    (
        "SET-GPUS",
        "GPUs:",
        gpus_text,
        "a job is as fast as its slowest GPU: choose equal hosts with --hosts, or make groups: in "
        "the inventory",
    ),
)
