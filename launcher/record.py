"""What the folder of a run says about it besides its events: request, plan and code, as JSON values.

Not responsible for writing. No secret's value is ever among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import __version__
from .model import Host, Job, Plan
from .source import Revision, Source

VERSION = 1


def describe_job(job: Job) -> dict[str, Any]:
    """A job; of its secrets only the names."""
    values = {
        name: value for name, value in vars(job).items() if name not in ("secrets", "sources")
    }
    return {
        **values,
        "run": list(job.run),
        "resources": asdict(job.resources),
        "envs": dict(job.envs),
        "outputs": list(job.outputs),
        "master_port": list(job.master_port),
        "secrets": sorted(job.secrets),
        "sources": dict(job.sources),
    }


def describe_host(host: Host) -> dict[str, Any]:
    """A host; what was not said is left out."""
    values = {**vars(host), "env": dict(host.env), "labels": dict(host.labels)}
    return {name: value for name, value in values.items() if value not in (None, {})}


def describe_request(
    name: str, job: Job, hosts: Sequence[Host], started: float, command_line: Sequence[str]
) -> dict[str, Any]:
    """``run.json``."""
    return {
        "version": VERSION,
        "launcher": __version__,
        "run": name,
        "started": started,
        "command_line": list(command_line),
        "job": describe_job(job),
        "hosts": [describe_host(host) for host in hosts],
    }


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
                        "argv": list(process.argv),
                        "env": dict(process.env),
                    }
                    for process in entry.processes
                ],
            }
            for entry in plan.nodes
        ],
    }


def describe_code(source: Source, revision: Revision) -> dict[str, Any]:
    """``code.json``."""
    return {
        "version": VERSION,
        "folder": str(source.folder),
        "snapshot": source.version,
        "files": source.files,
        "bytes": source.bytes,
        "commit": revision.commit,
        "branch": revision.branch,
        "dirty": revision.dirty,
        "untracked": list(revision.untracked),
    }
