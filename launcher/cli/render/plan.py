"""Format a plan: every host's ranks, env and argv, and where the job's values come from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from ...api.jobs import behind, command_of, pythons_of
from ...spec import nodeset
from ...spec.model import Job, NodePlan, Plan
from .tables import counted, fold_tasks, table


def plan_text(
    plan: Plan, job: Job, spares: Sequence[str] = (), bounds: Mapping[str, str] | None = None
) -> str:
    """Return what a run would start.

    ``spares`` can replace a lost host; ``bounds`` are the variables that limit the GPUs of hosts.
    """
    layout, meeting = plan.layout, plan.meeting
    head = (
        f"{counted(layout.num_nodes, 'host')}, {counted(layout.world_size, 'rank')}, "
        f"framework {plan.framework}\n"
        f"master  {meeting.master_addr} port {meeting.master_port}"
        + ("" if job.master_addr else "  (both are tested at the start)")
        + (f"\nspares  {nodeset.fold(spares)}" if spares else "")
        + "".join(f"\ngpus    {host}: {bound}" for host, bound in (bounds or {}).items())
    )
    pythons = pythons_of(plan, job)
    rows = [
        (
            entry.node.host.name,
            str(entry.node.node_rank),
            nodeset.fold_ranks(entry.node.ranks),
            *([fold_tasks(task.key for task in entry.node.tasks)] if job.roles else []),
            ",".join(entry.node.gpu_labels) or "-",
            pythons[entry.node.host.name],
        )
        for entry in plan.nodes
    ]
    roles = ("roles",) if job.roles else ()
    hosts = table(("host", "node_rank", "ranks", *roles, "gpus", "python"), rows)
    return "\n\n".join([head, hosts, *(_node(entry, job) for entry in plan.nodes), _values(job)])


def _values(job: Job) -> str:
    """Return where each value is from; those at their default are only counted."""
    given = {name: origin for name, origin in sorted(job.sources.items()) if origin != "default"}
    shown = table(
        ("value", "from", "is"),
        [(name, origin, _shown(job, name)) for name, origin in given.items()],
    )
    others = counted(len(job.sources) - len(given), "other value")
    return f"{shown}\n{others} at the default: --json shows all"


def _node(entry: NodePlan, job: Job) -> str:
    common = dict(entry.processes[0].env) if entry.processes else {}
    for process in entry.processes:
        common = {k: v for k, v in common.items() if process.env.get(k) == v}
    lines = [entry.node.host.name]
    lines += [f"  env  {name}={shlex.quote(value)}" for name, value in sorted(common.items())]
    roles = dict.fromkeys(task.role for task in entry.node.tasks)
    in_front = {role: behind(job, entry.node.host, role) for role in roles or {"": None}}
    if len({*in_front.values()}) == 1:
        in_front = {"": next(iter(in_front.values()))}
    for role, parts in in_front.items():
        lines += [f"  behind  {f'{role}: ' * bool(role)}{'; '.join(parts)}"] if parts else []
    for process in entry.processes:
        own = {k: v for k, v in process.env.items() if k not in common}
        words = [f"{k}={shlex.quote(v)}" for k, v in sorted(own.items())]
        lines.append(f"  {process.key}  {' '.join([*words, shlex.join(command_of(process))])}")
    return "\n".join(lines)


def _shown(job: Job, name: str) -> str:
    value = getattr(job, name)
    if name == "data":
        return " ".join(f"{one.name}={one.source}" + f":{one.to}" * bool(one.to) for one in value)
    if name == "secrets":
        return ", ".join(value) or "-"
    if name == "run":
        return value[0] if job.shell else shlex.join(value)
    if name == "roles":
        return (
            ", ".join(f"{r.replicas} {r.name}" + (" (primary)" if r.primary else "") for r in value)
            or "-"
        )
    if name == "resources":
        given = {k: v for k, v in vars(value).items() if v not in (None, ())}
        if model := given.pop("gpu_model", None):
            given["gpus"] = f"{model}:{given['gpus']}"
        return ", ".join(f"{k} {v}" for k, v in given.items()) or "-"
    if name == "master_port" and isinstance(value, tuple):
        return "-".join(str(port) for port in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, (), {}, "") else str(value)
