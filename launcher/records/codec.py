"""What the folder of a run says about it besides its events: request, plan and code, as JSON values.

No secret's value is ever among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..spec.model import (
    Host,
    Inventory,
    Job,
    Layout,
    Node,
    Override,
    Plan,
    Request,
    Resources,
    Role,
    Share,
    Task,
)
from ..spec.version import __version__
from . import compat

VERSION = 1
#: How a request says that a job is to be treated.
_TREATMENT = (
    *(
        "pull_every",
        "lost_after",
        "orphan_timeout",
        "stall_timeout",
        "stop_stalled",
        "max_restarts",
    ),
    "min_nodes",
)


def describe_job(job: Job) -> dict[str, Any]:
    """A job; of its secrets only the names."""
    values = {
        name: value for name, value in vars(job).items() if name not in ("secrets", "sources")
    }
    return {
        **values,
        "run": list(job.run),
        "resources": asdict(job.resources),
        "roles": [asdict(role) for role in job.roles],
        "envs": dict(job.envs),
        "outputs": list(job.outputs),
        "needs": list(job.needs),
        "master_port": list(job.master_port),
        "secrets": sorted(job.secrets),
        "sources": dict(job.sources),
    }


def describe_host(host: Host) -> dict[str, Any]:
    """A host; what was not said is left out."""
    values = {**vars(host), "env": dict(host.env), "labels": dict(host.labels)}
    return {name: value for name, value in values.items() if value not in (None, {})}


def describe_run(request: Request, layout: Layout, started: float) -> dict[str, Any]:
    """``run.json``: all that another launcher needs to go on with a run. Nodes are there as soon as
    it is known who does what."""
    inventory = request.inventory
    return {
        "version": VERSION,
        "launcher": __version__,
        "run": layout.run_id,
        "started": started,
        "command_line": list(request.command_line),
        "job": describe_job(request.job),
        **{name: getattr(request, name) for name in _TREATMENT},
        "inventory": {
            "source": inventory.source,
            "ssh_config": inventory.ssh_config,
            "sandbox": inventory.sandbox,
            "hosts": [describe_host(host) for host in inventory.hosts],
        },
        "hosts": [host.name for host in request.hosts],
        "nodes": [_describe_node(node) for node in layout.nodes],
    }


def read_run(value: Mapping[str, Any]) -> tuple[Request, Layout]:
    """What :func:`describe_run` has written. Secrets have no values then."""
    value = compat.run(value)
    known = value["inventory"]
    inventory = Inventory(
        hosts=tuple(Host(**host) for host in known["hosts"]),
        ssh_config=known["ssh_config"],
        sandbox=known["sandbox"],
        source=known["source"],
    )
    request = Request(
        job=_read_job(value["job"]),
        inventory=inventory,
        hosts=tuple(inventory.host(name) for name in value["hosts"]),
        **{name: value[name] for name in _TREATMENT if name in value},
        command_line=tuple(value["command_line"]),
    )
    nodes = (_read_node(node, inventory) for node in value["nodes"])
    return request, Layout(value["run"], tuple(nodes))


def _read_job(value: Mapping[str, Any]) -> Job:
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    known |= {"resources": Resources(**value["resources"]), "secrets": {}}
    known["roles"] = tuple(_read_role(role) for role in value.get("roles", ()))
    return Job(**known)


def _read_role(value: Mapping[str, Any]) -> Role:
    overrides = {
        int(index): Override(**{**other, "run": tuple(other["run"])})
        for index, other in value["overrides"].items()
    }
    on_exit = {
        action: tuple((first, last) for first, last in codes)
        for action, codes in value["on_exit"].items()
    }
    known = {"resources": Share(**value["resources"]), "run": tuple(value["run"])}
    return Role(**{**value, **known, "overrides": overrides, "on_exit": on_exit})


def _describe_node(node: Node) -> dict[str, Any]:
    tasks = [asdict(task) for task in node.tasks]
    return {**vars(node), "host": node.host.name, "gpus": list(node.gpus), "tasks": tasks}


def _read_node(value: Mapping[str, Any], inventory: Inventory) -> Node:
    tasks = tuple(Task(**{**t, "gpus": tuple(t["gpus"])}) for t in value.get("tasks", ()))
    known = {"host": inventory.host(value["host"]), "gpus": tuple(value["gpus"]), "tasks": tasks}
    return Node(**{**value, **known})


def describe_plan(plan: Plan) -> dict[str, Any]:
    """``plan.json``, and what ``--dry-run --json`` prints."""
    return {
        "version": VERSION,
        "framework": plan.framework,
        "world_size": plan.layout.world_size,
        "num_nodes": plan.layout.num_nodes,
        "master_addr": plan.meeting.master_addr,
        "master_port": plan.meeting.master_port,
        "nodes": [
            {
                "host": entry.node.host.name,
                "node_rank": entry.node.node_rank,
                "local_world_size": entry.node.local_world_size,
                "ranks": list(entry.node.ranks),
                "gpus": list(entry.node.gpus),
                "processes": [
                    {
                        "key": process.key,
                        "rank": process.rank,
                        **({"role": t.role, "index": t.index} if (t := process.task) else {}),
                        "argv": list(process.argv),
                        "env": dict(process.env),
                    }
                    for process in entry.processes
                ],
            }
            for entry in plan.nodes
        ],
    }
