"""Request, layout and plan of a run as JSON values, for its folder. Secret values never appear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ..spec.errors import UnreadableRecord
from ..spec.frozen import frozen
from ..spec.gpus import NVIDIA
from ..spec.model import Host, Inventory, Job, Layout, Node, Plan, Request
from ..spec.typed_json import Mismatch, from_json, to_json
from . import compat, formats

#: Fields of a request that ``run.json`` holds in another form, or not at all.
_SPECIAL = ("job", "inventory", "hosts", "code_copy", "ask_passphrase")


#: Fields of jobs, their resources and nodes that 0.1 does not know, and so refuses.
_SINCE_0_1 = frozenset(
    (
        "bring",
        "data",
        "gpu_ids",
        "gpu_model",
        "gpu_names",
        "include",
        "keep_on_host",
        "launcher_options",
        "modules",
        "output_to",
        "prepare",
        "python",
        "share",
        "vendor",
    )
)


#: What says nothing in these fields.
_SAYS_NOTHING = {"vendor": NVIDIA, "output_to": ""}
#: Fields of requests that are new, and left out where they say nothing.
_SINCE_0_2 = frozenset(("ignore_foreign", "not_before", "resume_paths"))


def _for_earlier(value: Any) -> Any:
    """Leave out what an earlier release does not know, where it says nothing."""
    if isinstance(value, list):
        return [_for_earlier(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: one
        for name, one in value.items()
        if name not in _SINCE_0_1 or one not in (None, {}, [], _SAYS_NOTHING.get(name))
    }


def describe_job(job: Job) -> dict[str, Any]:
    """Return a job as JSON values; of its secrets only the names."""
    values = _for_earlier(to_json(replace(job, secrets={})))
    values["resources"] = _for_earlier(values["resources"])
    return {**values, "secrets": sorted(job.secrets)}


def describe_host(host: Host) -> dict[str, Any]:
    """Return a host as JSON values, without fields that are not set: earlier releases read the rest."""
    return {
        name: value
        for name, value in to_json(host).items()
        if value is not False and value not in (None, {}, [])
    }


def describe_run(request: Request, layout: Layout, started: float) -> dict[str, Any]:
    """Return ``run.json``: all that another launcher needs to continue or repeat a run.

    ``started`` is in seconds since the epoch. Nodes are empty until the layout is decided.
    """
    values = {
        one.name: value
        for one in fields(request)
        if (value := getattr(request, one.name)) != one.default or one.name not in _SINCE_0_2
    }
    return {
        **formats.stamp(),
        "run": layout.run_id,
        "started": started,
        **{name: to_json(value) for name, value in values.items() if name not in _SPECIAL},
        "job": describe_job(request.job),
        "inventory": {
            **to_json(replace(request.inventory, hosts=())),
            "hosts": [describe_host(host) for host in request.inventory.hosts],
        },
        "hosts": [host.name for host in request.hosts],
        "nodes": [{**_for_earlier(to_json(node)), "host": node.host.name} for node in layout.nodes],
    }


@frozen
class _Run:
    """The fields of ``run.json`` that are not a request's own."""

    run: str
    job: Mapping[str, Any]
    inventory: Inventory
    started: float
    hosts: tuple[str, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()


@frozen
class _Secrets:
    secrets: tuple[str, ...] = ()


def read_run(value: object, file: object = "run.json") -> tuple[Request, Layout]:
    """Return the request and layout that :func:`describe_run` described, without secret values.

    Raises NewerRecord, or UnreadableRecord naming file and field.
    """
    record = compat.run(formats.check_version(value, file))
    try:
        return _read_run(record)
    except Mismatch as error:
        raise UnreadableRecord(str(file), str(error)) from None


def _read_run(record: Mapping[str, Any]) -> tuple[Request, Layout]:
    run = from_json(_Run, record)
    try:
        from_json(_Secrets, run.job)
        job = from_json(Job, {**run.job, "secrets": {}})
    except Mismatch as error:
        raise error.inside("job") from None
    hosts = {host.name: host for host in run.inventory.hosts}
    request = from_json(
        Request,
        {
            **{name: one for name, one in record.items() if name not in _SPECIAL},
            "job": job,
            "inventory": run.inventory,
            "hosts": [
                _host(hosts, name, f"hosts[{index}]") for index, name in enumerate(run.hosts)
            ],
        },
    )
    nodes = []
    for index, node in enumerate(run.nodes):
        host = _host(hosts, node.get("host"), f"nodes[{index}].host")
        try:
            nodes.append(from_json(Node, {**node, "host": host}))
        except Mismatch as error:
            raise error.inside(f"nodes[{index}]") from None
    return request, Layout(run.run, tuple(nodes))


def _host(hosts: Mapping[str, Host], name: object, field: str) -> Host:
    if not isinstance(name, str) or name not in hosts:
        raise Mismatch(f"the inventory has no host {name!r}", field)
    return hosts[name]


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Return ``plan.json``, which ``--dry-run --json`` prints as well."""
    return {
        **formats.stamp(),
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
                "gpu_names": list(entry.node.gpu_names),
                "vendor": entry.node.vendor,
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
