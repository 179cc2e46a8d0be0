"""How a host is told, and asked, to start something in an image of a run."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from ..agent.processes import container_list, containers
from ..jobs import planner
from ..jobs.environments import container_of
from ..spec.containers import ContainerSpec
from ..spec.model import Job, Layout, Node
from ..spec.typed_json import to_json


def in_image(
    job: Job, layout: Layout, node: Node, role: str = "", own_hosts: bool = False
) -> dict[str, Any]:
    """Return what a request says of the image in which the processes of a role run on a node; nothing
    for none."""
    spec = _spec(job, node, role)
    if spec is None:
        return {}
    if own_hosts:
        hosts = posixpath.join(planner.run_dir(node.root, layout.run_id), "hosts")
        spec = replace(spec, hosts=hosts)
    path = planner.search_path_inside(job, node, layout.run_id, role)
    return {"container": to_json(spec), "path": list(path)}


def _spec(job: Job, node: Node, role: str) -> ContainerSpec | None:
    """Return how processes of a role start there: without GPUs, where the job has none."""
    container = container_of(job, node, role)
    if container is None:
        return None
    spec = container.spec
    has_gpus = bool(node.gpus) or (job.resources.gpus != 0 and node.host.gpus is None)
    return spec if has_gpus else replace(spec, gpus="")


def visiting_command(
    job: Job,
    node: Node,
    argv: Sequence[str],
    env: Mapping[str, str],
    folder: str,
    before: Sequence[str],
    is_terminal: bool,
    role: str = "",
) -> str | None:
    """Return the lines of sh for a visitor in the image of a run, or of a role; None where that is in
    none.

    It is a container of its own, with what those of the run see, and ends with those lines.
    """
    spec = _spec(job, node, role)
    if spec is None:
        return None
    what = containers.Contained(
        argv, env, folder, before, terminal="tty" if is_terminal else "pipe"
    )
    theirs = cast("Any", to_json(spec))
    name = f"launcher-visitor-{secrets.token_hex(6)}"
    note = container_list.text([(theirs, name)])
    place = posixpath.join(node.root, containers.VISITORS)
    return containers.visit(theirs, what, place, name, note)
