"""Who takes the place of a host that was lost, and who does what then. Pure."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ...jobs.layout import offers
from ...spec.errors import PlanError
from ...spec.model import Facts, Host, Job, Layout, Node

#: What is known of a file without reading it: its size in bytes, and when it was written (ns).
State = tuple[int, int]
Files = Mapping[str, State]


def spares(hosts: Sequence[Host], layout: Layout, never: Collection[str]) -> tuple[Host, ...]:
    """The hosts that the run may use and does not, in the order of the inventory.

    A host that was lost once is among ``never``: what it still does or holds is not known.
    """
    taken = {node.host.name for node in layout.nodes} | set(never)
    return tuple(host for host in hosts if host.name not in taken)


def in_place_of(node: Node, host: Host, facts: Facts, job: Job) -> Node:
    """The node as ``host`` would be it: same ranks, and as many free GPUs. Raises PlanError."""
    (offer,) = offers([host], {host.name: facts})
    count = node.local_world_size
    with_gpus = offer.total > 0 and job.resources.gpus != 0
    if (node.gpus and not with_gpus) or (with_gpus and len(offer.gpus) < count):
        held = f", held by {offer.taken}" if offer.taken else ""
        raise PlanError(
            f"{host.name} cannot take the place of {node.host.name}, which had {count} processes: "
            f"{len(offer.gpus)} of {offer.total} GPUs are free{held}"
        )
    return replace(
        node,
        host=host,
        gpus=offer.gpus[:count] if with_gpus else (),
        root=facts.root,
        python=facts.python,
    )


def with_node(layout: Layout, node: Node) -> Layout:
    """The layout with another host at the place of one: every rank stays where it is."""
    nodes = (node if old.node_rank == node.node_rank else old for old in layout.nodes)
    return replace(layout, nodes=tuple(nodes))


def without(layout: Layout, host: str) -> Layout:
    """The layout of those that are left, in their order: ranks close up, and a lost first node
    makes the next one the first."""
    nodes: list[Node] = []
    offset = 0
    for node in layout.nodes:
        if node.host.name != host:
            nodes.append(replace(node, node_rank=len(nodes), rank_offset=offset))
            offset += node.local_world_size
    return replace(layout, nodes=tuple(nodes))


# -- outputs


def newest(mirrors: Mapping[str, Files]) -> dict[str, str]:
    """For each path the host whose file was written last."""
    found: dict[str, str] = {}
    for host, files in mirrors.items():
        for path, (_, written) in files.items():
            if path not in found or written > mirrors[found[path]][path][1]:
                found[path] = host
    return found


def named(path: str, patterns: Iterable[str]) -> bool:
    """Whether ``outputs`` of a job mean this path of the code's folder, as the hosts read them."""
    for pattern in map(posixpath.normpath, patterns):
        if pattern == "." or path == pattern or path.startswith(pattern + "/"):
            return True
        if fnmatch.fnmatchcase(path, pattern):
            return True
    return False


def own(files: Files, given: Files) -> dict[str, State]:
    """What a host has written itself: without the files that it was given and left as they were."""
    return {path: state for path, state in files.items() if given.get(path) != state}


def superseded(
    former: Iterable[str], current: Mapping[str, Collection[str]], given: Mapping[str, Files]
) -> set[str]:
    """Files of a host that is no longer in the run, which one that was given them has written anew."""
    return {
        path
        for path in former
        if any(path in files and path in given.get(host, ()) for host, files in current.items())
    }
