"""Decide which host replaces a lost one, and what the new layout is. Pure."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ...jobs.environments import unable
from ...jobs.gpus import foreign, users_text
from ...jobs.layout import offers
from ...spec.errors import PlanError
from ...spec.model import Facts, Host, Job, Layout, Node

#: A file without its contents: size in bytes, and modification time in nanoseconds.
State = tuple[int, int]
Files = Mapping[str, State]


def spares(hosts: Sequence[Host], layout: Layout, never: Collection[str]) -> tuple[Host, ...]:
    """Return the hosts that the run may use and does not, in the order of the inventory.

    ``never`` contains every host that was lost once: its processes may still run.
    """
    taken = {node.host.name for node in layout.nodes} | set(never)
    return tuple(host for host in hosts if host.name not in taken)


class UsedOutside(PlanError):
    """A spare has enough free GPUs only if the run shares some with programs outside launcher."""


def in_place_of(node: Node, host: Host, facts: Facts, job: Job, only_idle: bool = False) -> Node:
    """Return the node with ``host`` in its place: same ranks, and as many free GPUs.

    GPUs on which somebody works outside launcher are taken last. Raises PlanError when the host has too
    few; UsedOutside when those are needed, with ``only_idle``.
    """
    lacking = unable(job, host, facts.pythons) & {task.role for task in node.tasks}
    if lacking:
        raise PlanError(
            f"{host.name} cannot replace {node.host.name}: it lacks the environment of role "
            f"{min(lacking)}"
        )
    (offer,) = offers([host], {host.name: facts}, job)
    count, used = node.local_world_size, foreign(facts)
    free = sorted(offer.gpus, key=lambda index: index in used)
    with_gpus = offer.total > 0 and job.resources.gpus != 0
    if (node.gpus and not with_gpus) or (with_gpus and len(offer.gpus) < count):
        held = f", held by {offer.taken}" if offer.taken else ""
        raise PlanError(
            f"{host.name} cannot replace {node.host.name}, which ran {count} processes: only "
            f"{len(offer.gpus)} of its {offer.total} GPUs are free{held}"
        )
    taken = free[:count] if with_gpus else []
    if only_idle and (shared := [index for index in taken if index in used]):
        by = users_text(use for index in shared for use in used[index])
        raise UsedOutside(f"{host.name}: GPUs are used outside launcher by {by}")
    return replace(
        node,
        host=host,
        **offer.of(sorted(taken, key=offer.gpus.index)),
        root=facts.root,
        python=facts.python,
        containers=facts.containers,
        pythons=facts.pythons,
    )


def with_node(layout: Layout, node: Node) -> Layout:
    """Return the layout with ``node`` in the place of the node of the same rank: no rank moves."""
    nodes = (node if old.node_rank == node.node_rank else old for old in layout.nodes)
    return replace(layout, nodes=tuple(nodes))


def without(layout: Layout, host: str) -> Layout:
    """Return the layout without a host: ranks close up, and the next node follows a lost first one."""
    nodes: list[Node] = []
    offset = 0
    for node in layout.nodes:
        if node.host.name != host:
            nodes.append(replace(node, node_rank=len(nodes), rank_offset=offset))
            offset += node.local_world_size
    return replace(layout, nodes=tuple(nodes))


# -- outputs


def newest(mirrors: Mapping[str, Files]) -> dict[str, str]:
    """Return, for each path, the host whose file was written last."""
    found: dict[str, str] = {}
    for host, files in mirrors.items():
        for path, (_, written) in files.items():
            if path not in found or written > mirrors[found[path]][path][1]:
                found[path] = host
    return found


def named(path: str, patterns: Iterable[str]) -> bool:
    """Return whether the ``outputs`` patterns of a job match a path of the code's folder, as on the
    hosts."""
    for pattern in map(posixpath.normpath, patterns):
        if pattern == "." or path == pattern or path.startswith(pattern + "/"):
            return True
        if fnmatch.fnmatchcase(path, pattern):
            return True
        if pattern.startswith("**/") and named(path, [pattern[3:]]):
            return True
    return False


def superseded(
    former: Iterable[str], current: Mapping[str, Collection[str]], given: Mapping[str, Files]
) -> set[str]:
    """Return the files of a former host that a host which was given them has written again."""
    return {
        path
        for path in former
        if any(path in files and path in given.get(host, ()) for host, files in current.items())
    }
