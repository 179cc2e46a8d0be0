"""Fill in the placeholders and role variables of one process.

A framework that starts the ranks of a node itself runs a shim in each, which fills in ``{{rank}}``
and ``{{local_rank}}``. Without the shim these placeholders are an error of the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .. import frameworks
from ..frameworks import Place
from ..spec.errors import PlanError, suggestion
from ..spec.gpus import is_mig
from ..spec.model import Process, Task
from . import placeholders


def fill(process: Process, place: Place) -> Process:
    """Return the process with its role's variables and placeholders filled in.

    Raises PlanError for a placeholder without a value.
    """
    if process.task:
        process = replace(process, env=_env(process, process.task, place))
    values = _values(process, place)
    own = _own_variables(process, place)
    words = (*process.argv, *own.values())
    later, argv = frozenset[str](), process.argv
    if process.rank is None and (unknown := placeholders.used(words) & placeholders.OF_A_RANK):
        of_rank = [name for name, value in own.items() if _is_of_a_rank(value)]
        argv, later = (
            _left_to_the_shim(process, place, min(unknown), of_rank),
            placeholders.OF_A_RANK,
        )

    def host(name: str) -> str:
        return _address(name, place)

    env = {
        name: placeholders.render([value], values, host, later)[0] for name, value in own.items()
    }
    argv = placeholders.render(argv, values, host, later)
    return replace(process, argv=argv, env={**process.env, **env})


def _own_variables(process: Process, place: Place) -> dict[str, str]:
    """Return the variables of the job and its role that hold placeholders and are not computed."""
    given = dict(place.job.envs)
    if process.task:
        given |= place.job.role(process.task.role).at(process.task.index).envs
    return {
        name: value
        for name, value in given.items()
        if process.env.get(name) == value and placeholders.PLACEHOLDER.search(value)
    }


def _is_of_a_rank(*words: str) -> bool:
    return bool(placeholders.used(words) & placeholders.OF_A_RANK)


def _env(process: Process, task: Task, place: Place) -> dict[str, str]:
    """Return the variables of a role's process: computed ones win, then its own."""
    framework = frameworks.get(place.job.framework)
    role = place.job.role(task.role).at(task.index)
    computed = {"LAUNCHER_ROLE": task.role, "LAUNCHER_INDEX": str(task.index)}
    cast = framework.cast
    one_each = all(len(other.gpus) == 1 for other in place.node.tasks)
    one_each = one_each and not any(map(is_mig, place.node.gpus))  # CUDA sees a single one
    gpus = place.node.gpus if cast and cast.shares_gpus and one_each else task.gpus
    computed |= place.node.visible(gpus)
    cores = {"OMP_NUM_THREADS": str(role.resources.cpus)} if role.resources.cpus else {}
    given = {**place.node.host.env, **place.job.envs, **role.envs}
    own = {name: given[name] for name in ("OMP_NUM_THREADS", *role.envs) if name in given}
    protected = {
        name: value
        for name, value in process.env.items()
        if name in framework.computed or name.startswith("LAUNCHER_")
    }
    return {**process.env, **cores, **own, **protected, **computed}


def _values(process: Process, place: Place) -> dict[str, str]:
    """Return what the placeholders of a process mean, as far as its node knows."""
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
        **{f"data.{one.name}": place.env[one.variable] for one in place.job.data},
    }
    if process.task:
        values |= {"role": process.task.role, "index": str(process.task.index)}
        if process.rank is None:  # it starts ranks on its own, as a node does without roles
            order = [task.key for other in layout.nodes for task in other.tasks]
            values |= {
                "node_rank": str(order.index(process.key)),
                "num_nodes": str(len(order)),
                "rank_offset": str(process.task.rank),
                "local_world_size": str(process.task.size),
            }
    if process.rank is not None:
        values["rank"] = str(process.rank)
        values["local_rank"] = str(process.rank - node.rank_offset)
    return values


def _left_to_the_shim(
    process: Process, place: Place, token: str, variables: Sequence[str]
) -> tuple[str, ...]:
    """Return the command whose shim fills in what only a rank knows, in these ``variables`` too."""
    argv, shim = process.argv, place.rank_shim()
    in_words = ("--tokens",) if _is_of_a_rank(*argv) else ()
    tokens = (*in_words, *(("--env", ",".join(variables)) if variables else ()))
    for at in range(len(argv) - len(shim)):
        if argv[at : at + len(shim)] == shim:
            return (*argv[: at + len(shim) - 1], *tokens, "--", *argv[at + len(shim) :])
    name = place.job.framework
    raise PlanError(
        f"{{{{{token}}}}} is not known before {name} starts the ranks",
        "use {{node_rank}} or {{rank_offset}}, or --framework torch, which starts each rank itself",
    )


def _address(name: str, place: Place) -> str:
    """Return the address of a process's host. Raises PlanError."""
    role, _, number = name.partition(".")
    known = []
    for node in place.layout.nodes:
        there = [("node", node.node_rank), *((task.role, task.index) for task in node.tasks)]
        if (role, number or "0") in [(kind, str(index)) for kind, index in there]:
            return place.meeting.address_of(node.host)
        known += [f"{kind}.{index}" for kind, index in there]
    raise PlanError(
        f"{{{{host:{name}}}}}: there is no {name} in this run",
        suggestion(name, known) or f"known: {', '.join(known[:8])}",
    )
