"""Disk space that runs take, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from ...api.housekeeping import Freed, Here, HostError, HostPlan, PrunePlan, There
from ...spec import nodeset
from ...spec.sizes import size
from .tables import counted, table

#: Hosts that are listed one by one; of more, the ones that take most.
LISTED = 16
#: Names in one line.
NAMES = 6


def usage_text(here: Here, there: There) -> str:
    """Return what launcher's files take here and on each host, the largest first."""
    outputs = sum(run.outputs for run in here.runs)
    of_runs = sum(run.bytes for run in here.runs)
    rows = [
        (
            "here",
            size(here.bytes),
            size(here.free),
            _part(len(here.runs), of_runs),
            *("-",) * 4,
            _part(len(here.caches), sum(one.bytes for one in here.caches)),
        )
    ]
    known = {host: one for host, one in there.items() if not isinstance(one, HostError)}
    sums = {
        host: [
            sum(run.bytes for run in one.runs),
            sum(version.bytes for version in one.code),
            sum(agent.bytes for agent in one.agents),
            one.data,
            sum(env.bytes for env in one.envs),
            sum(image.bytes for image in one.images),
        ]
        for host, one in known.items()
    }
    order = sorted(known, key=lambda host: -sum(sums[host]))
    for host in order[:LISTED]:
        one, (runs, code, agents, data, envs, images) = known[host], sums[host]
        projects = len({version.source for version in one.code})
        rows.append(
            (
                host,
                size(sum(sums[host])),
                size(one.free),
                _part(len(one.runs), runs),
                _part(projects, code, "project"),
                _part(len(one.agents), agents),
                size(data) if data else "-",
                _part(len(one.envs), envs),
                _part(len(one.images), images),
            )
        )
    names = ["place", "total", "free", "runs", "code", "agents", "data", "environments", "images"]
    hidden = set()
    if not any(one.envs for one in known.values()):
        hidden.add("environments")
    if not here.caches and not any(one.images for one in known.values()):
        hidden.add("images")
    shown = [number for number, name in enumerate(names) if name not in hidden]
    text = table([names[n] for n in shown], [[row[n] for n in shown] for row in rows])
    text += f"\n{size(outputs)} of the runs here are outputs"
    if here.notes:
        text += f"; {size(here.noted)} is what is kept of data sets, builds and wheels"
    rest = order[LISTED:]
    if rest:
        total = sum(sum(sums[host]) for host in rest)
        text += f"\nand {len(rest)} more, {size(total)} together: {nodeset.fold(rest)}"
    return text


def _part(count: int, space: int, thing: str = "") -> str:
    """Return how many of a kind there are and what they take; ``-`` for none."""
    if not count:
        return "-"
    return f"{counted(count, thing) if thing else count}: {size(space)}"


def plan_text(plan: PrunePlan) -> str:
    """Return what would be deleted, hosts with equal plans folded, and what stays and why."""
    lines = []
    if plan.here or plan.caches or plan.notes:
        parts = [f"{counted(len(plan.here), 'run')}"] if plan.here else []
        if plan.caches:
            parts.append(f"{counted(len(plan.caches), 'image')} that stayed on its way")
        if plan.notes:
            parts.append(f"{counted(len(plan.notes), 'file')} of data sets, builds and wheels")
        named = f": {_some(plan.here)}" if plan.here else ""
        lines.append(f"here: {', '.join(parts)}, {size(plan.bytes)}{named}")
    lines += [f"{hosts}: {what}" for what, hosts in _folded(plan.hosts).items()]
    if lines:
        lines.append(f"{size(plan.total)} in all")
    else:
        lines.append("nothing to delete")
    if plan.kept:
        lines.append(
            f"stays: {_some(plan.kept)}: hosts have files that were never brought back "
            "(launcher pull, or launcher rm -y)"
        )
    if plan.unreached:
        lines.append(
            f"stays: {_some(plan.unreached)}: not all of their hosts were asked (-i, --hosts)"
        )
    if plan.unknown:
        lines.append(
            f"stays: {counted(plan.unknown, 'run folder')} on hosts that this machine has no "
            "record of (--unknown)"
        )
    return "\n".join(lines)


def _folded(plans: Mapping[str, HostPlan]) -> dict[str, str]:
    """Return what is deleted, and on which hosts."""
    by_text: dict[str, list[str]] = {}
    for host, plan in plans.items():
        parts = []
        if plan.runs:
            parts.append(f"{counted(len(plan.runs), 'run')}")
        if plan.code:
            parts.append(f"{counted(len(plan.code), 'version')} of code")
        if plan.envs:
            parts.append(f"{counted(len(plan.envs), 'environment')}")
        if plan.images:
            parts.append(f"{counted(len(plan.images), 'image')}")
        if plan.agents:
            parts.append(f"{counted(len(plan.agents), 'old agent')}")
        if plan.stubs:
            parts.append("lock files of an earlier version")
        by_text.setdefault(f"{', '.join(parts)}, {size(plan.bytes)}", []).append(host)
    return {text: nodeset.fold(hosts) for text, hosts in by_text.items()}


def freed_text(freed: Freed, plan: PrunePlan) -> str:
    """Return what was deleted."""
    there = counted(len(plan.hosts) - len(freed.failed), "host")
    kept = f"; in use, and kept: {_some(freed.kept)}" if freed.kept else ""
    return f"freed {size(freed.bytes)}: {counted(freed.runs, 'run')} here, and on {there}{kept}"


def _some(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:NAMES])
    return shown if len(names) <= NAMES else f"{shown} and {len(names) - NAMES} more"
