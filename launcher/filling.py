"""Gives the tokens of one process their values. Pure.

Not responsible for what a token looks like (:mod:`launcher.tokens`). Where a framework starts the
ranks of a node itself, through the shim, ``{{rank}}`` and ``{{local_rank}}`` are filled in by the
shim; where it does so without one, nobody can, and the plan says so.
"""

from __future__ import annotations

from dataclasses import replace

from . import tokens
from .errors import PlanError, suggestion
from .frameworks import Place
from .model import Process


def fill(process: Process, place: Place) -> Process:
    """The process with its tokens filled in. Raises PlanError for one that cannot be."""
    node, layout = place.node, place.layout
    values = {
        "node_rank": str(node.node_rank),
        "rank_offset": str(node.rank_offset),
        "local_world_size": str(node.local_world_size),
        "world_size": str(layout.world_size),
        "num_nodes": str(layout.num_nodes),
        "master_addr": place.meeting.master_addr,
        "master_port": str(place.meeting.master_port),
        "outputs": place.env["LAUNCHER_OUTPUT_DIR"],
    }
    argv, later = process.argv, frozenset[str]()
    if process.rank is not None:
        values["rank"] = str(process.rank)
        values["local_rank"] = str(process.rank - node.rank_offset)
    elif unknown := tokens.used(argv) & tokens.OF_A_RANK:
        argv, later = _left_to_the_shim(process, place, min(unknown)), tokens.OF_A_RANK

    def host(name: str) -> str:
        return _address(name, place)

    return replace(process, argv=tokens.render(argv, values, host, later))


def _left_to_the_shim(process: Process, place: Place, token: str) -> tuple[str, ...]:
    """The command whose shim fills in what only a rank knows."""
    argv, shim = process.argv, place.rank_shim()
    for at in range(len(argv) - len(shim)):
        if argv[at : at + len(shim)] == shim:
            return (*argv[: at + len(shim) - 1], "--tokens", "--", *argv[at + len(shim) :])
    name = place.job.framework
    raise PlanError(
        f"{{{{{token}}}}} is not known before {name} starts the ranks",
        "{{node_rank}} and {{rank_offset}} are; --framework torch starts each rank by itself",
    )


def _address(name: str, place: Place) -> str:
    """The address of the host of a process. Raises PlanError."""
    role, _, number = name.partition(".")
    for node in place.layout.nodes:
        if (role, number or "0") == ("node", str(node.node_rank)):
            return place.meeting.address_of(node.host)
    known = [f"node.{node.node_rank}" for node in place.layout.nodes]
    raise PlanError(
        f"{{{{host:{name}}}}}: there is no {name} in this run",
        suggestion(name, known) or f"there are {', '.join(known[:8])}",
    )
