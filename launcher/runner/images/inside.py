"""How a host is told, and asked, to start something in an image of a run."""

from __future__ import annotations

import json
import posixpath
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from ...agent.processes import containers
from ...jobs import planner
from ...jobs.environments import container_of, is_in_image, on_host
from ...spec.containers import Container, ContainerSpec
from ...spec.errors import NoEnvironment
from ...spec.model import Job, Layout, Node
from ...spec.typed_json import to_json


def in_image(
    job: Job, layout: Layout, node: Node, role: str = "", own_hosts: bool = False
) -> dict[str, Any]:
    """Return what a request says of the image in which the processes of a role run on a node; nothing
    for none. Raises NoEnvironment."""
    spec = container_spec(job, node, role)
    if spec is None:
        return {}
    if own_hosts:
        hosts = posixpath.join(planner.run_dir(node.root, layout.run_id), "hosts")
        spec = replace(spec, hosts=hosts)
    path = planner.search_path_inside(job, node, layout.run_id, role)
    return {"container": to_json(spec), "path": list(path)}


def container_spec(job: Job, node: Node, role: str) -> ContainerSpec | None:
    """Return how processes of a role start there: without GPUs, where the job has none. Raises
    NoEnvironment."""
    container = container_there(job, node, role)
    if container is None:
        return None
    spec = container.spec
    has_gpus = bool(node.gpus) or (job.resources.gpus != 0 and node.host.gpus is None)
    return spec if has_gpus else replace(spec, gpus="")


def container_there(job: Job, node: Node, role: str) -> Container | None:
    """Return the image in which processes of a role start there; None for none.

    Raises NoEnvironment for one that the node was not given: nothing starts outside of it instead.
    """
    container = container_of(job, node, role)
    if container is None and is_in_image(job, node.host, role):
        what = f"the {on_host(job, node.host, role)} was not brought there"
        raise NoEnvironment(node.host.name, what, "nothing is started outside of it")
    return container


def visiting_command(
    spec: ContainerSpec,
    root: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    folder: str,
    before: Sequence[str],
    is_terminal: bool,
) -> str:
    """Return the lines of sh for a visitor in an image of a run. ``root`` is launcher's folder there.

    It is a container of its own, with what those of the run see, and ends with those lines.
    """
    what = containers.Contained(
        argv, env, folder, before, terminal="tty" if is_terminal else "pipe"
    )
    theirs = cast("Any", to_json(spec))
    name = f"launcher-visitor-{secrets.token_hex(6)}"
    about = {"spec": {"runtime": spec.runtime, "program": spec.program}, "names": [name]}
    place = posixpath.join(root, containers.VISITORS)
    return containers.visit(theirs, what, place, name, json.dumps([about]))
