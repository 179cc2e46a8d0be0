"""Request, layout and plan of a run as JSON values, for its folder. Secret values never appear."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from ..spec.data import DataSet
from ..spec.errors import UnreadableRecord
from ..spec.frozen import frozen
from ..spec.model import Host, Inventory, Job, Layout, Node, Plan, Request, Resources, Role
from ..spec.typed_json import Mismatch, from_json, to_json
from . import compat, formats

#: Fields of a request that ``run.json`` holds in another form, or not at all.
_SPECIAL = ("job", "inventory", "hosts", "code_copy", "stdin", "ask_passphrase")

#: Fields that an earlier release does not know, and may refuse: left out where they hold their default.
_NEW: Mapping[type, Collection[str]] = {
    Job: (
        "bring",
        "checkpoints",
        "data",
        "environment",
        "include",
        "keep_on_host",
        "keep_warm",
        "launcher_options",
        "modules",
        "output_credential",
        "output_to",
        "output_unattended",
        "preload",
        "prepare",
        "python",
        "share",
        "wrapper",
    ),
    DataSet: ("credential",),
    Resources: ("gpu_ids", "gpu_model"),
    Node: ("containers", "gpu_names", "pythons", "vendor"),
    Request: ("ignore_foreign", "max_rate", "not_before", "preemptible", "project", "resume_paths"),
    Role: ("environment", "host", "modules"),
}


def _described(value: Any, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a value as JSON values, without the new ones that say nothing."""
    new = _NEW[type(value)]
    values = {one: getattr(value, one.name) for one in fields(value) if one.name not in without}
    return {
        one.name: _json(its)
        for one, its in values.items()
        if one.name not in new or its not in (one.default, {})
    }


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    return _described(value) if type(value) in _NEW else to_json(value)


def describe_job(job: Job) -> dict[str, Any]:
    """Return a job as JSON values; of its secrets only the names."""
    values = _described(replace(job, secrets={}))
    roles = {"roles": [_described(role) for role in job.roles]}
    return {
        **values,
        **roles,
        "resources": _described(job.resources),
        "secrets": sorted(job.secrets),
    }


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
    return {
        **formats.stamp(),
        "run": layout.run_id,
        "started": started,
        **_described(request, without=_SPECIAL),
        "job": describe_job(request.job),
        "inventory": {
            **_without_hosts(request.inventory),
            "hosts": [describe_host(host) for host in request.inventory.hosts],
        },
        "hosts": [host.name for host in request.hosts],
        "nodes": [{**_described(node), "host": node.host.name} for node in layout.nodes],
        **({"wanted": layout.wanted} if layout.wanted else {}),
        **({"shares": list(layout.shares)} if layout.shares else {}),
        **({"most": layout.most} if layout.most else {}),
    }


def _without_hosts(inventory: Inventory) -> dict[str, Any]:
    values: dict[str, Any] = to_json(replace(inventory, hosts=()))
    return {name: one for name, one in values.items() if name != "projects" or one}


@frozen
class _Run:
    """The fields of ``run.json`` that are not a request's own."""

    run: str
    job: Mapping[str, Any]
    inventory: Inventory
    started: float
    hosts: tuple[str, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()
    wanted: int = 0
    shares: tuple[int, ...] = ()
    most: int = 0


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
    return request, Layout(run.run, tuple(nodes), run.wanted, run.shares, run.most)


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
