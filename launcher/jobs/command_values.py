"""Values of a job that its command has: it starts ranks as another launcher would."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .. import frameworks
from ..spec.environments import Environment
from ..spec.errors import InputError
from ..spec.gpus import COMPUTED
from ..spec.model import Job, Resources
from . import command, start_commands, wrapped_commands

#: Variables whose values no record should have.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.I)


def framework_of(values: Mapping[str, Any]) -> str:
    """Return the framework's name; torchrun takes no roles, so a job with roles gets torch."""
    return str(values.get("framework", "torch" if values.get("roles") else Job.framework))


def taken_over(
    values: Mapping[str, Any], environment: Mapping[str, str], is_usual: bool
) -> dict[str, Any]:
    """Return the values that a start command of another launcher, as ``torchrun``, stands for.

    What the job itself says comes first, but not a framework that ``is_usual``, for all runs;
    ``environment`` has the values of variables that it passes on by name. Raises InputError.
    """
    framework = frameworks.get(framework_of(values))
    if values.get("roles") or not values.get("run"):
        return {}
    words, shell = command.split(values["run"], framework, with_variables=True)
    peeled = wrapped_commands.peeled(words)
    found = None if shell else start_commands.take(peeled.words)
    if found is None:
        return {}
    fits = framework.name in (found.framework, *found.also)
    is_named = "framework" in values and (fits or not is_usual)
    chosen = framework.name if is_named else found.framework
    is_taken = not peeled.wrapper or frameworks.get(chosen).takes_wrapper
    if not is_taken or chosen not in (found.framework, *found.also):
        return {}
    computed = frameworks.get(chosen).computed | COMPUTED
    known = {*values.get("envs", {}), *values.get("secrets", {})}
    passed = {n: _passed(n, found, environment) for n in found.passed if n not in known}
    secrets = {name: None for name in passed if _SECRET.search(name)}
    envs = {**passed, **peeled.envs, **found.envs}
    envs = {name: value for name, value in envs.items() if name not in {*computed, *secrets}}
    taken: dict[str, Any] = {"framework": chosen, "run": found.run}
    front = {"launcher_options": found.options, "wrapper": peeled.wrapper}
    taken |= {name: words for name, words in front.items() if words}
    if envs:
        taken["envs"] = {**envs, **values.get("envs", {})}
    if peeled.conda and (values.get("environment") or values.get("python")):
        raise InputError(
            f"conda run -n {peeled.conda}: the job names another environment",
            "leave out one of them",
        )
    if peeled.wrapper and values.get("python"):
        raise InputError(
            f"{' '.join(peeled.wrapper[:2])}: the job names another Python", "leave out one of them"
        )
    if peeled.conda:
        taken["environment"] = Environment(conda=peeled.conda)
    if secrets:
        taken["secrets"] = {**secrets, **values.get("secrets", {})}
    if found.restarts and "max_restarts" not in values:
        taken["max_restarts"] = found.restarts
    return taken | _counts(found, values)


def _counts(found: start_commands.StartCommand, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of a start command that the job leaves open."""
    taken: dict[str, Any] = {}
    given = values.get("resources", Resources())
    nodes = values.get("num_nodes")
    if nodes is None and given.gpus is None and "hosts" not in values and found.nodes:
        taken["num_nodes"] = nodes = found.nodes
    local = found.local_ranks
    if found.exact and found.ranks:
        return taken | _exactly(found, found.ranks, nodes, given)
    if found.ranks and found.ranks % (found_nodes := nodes if isinstance(nodes, int) else 1) == 0:
        local = found.ranks // found_nodes
    if local and given == Resources():
        taken["resources"] = Resources(nproc_per_node=local)
    return taken


def _exactly(
    found: start_commands.StartCommand, ranks: int, nodes: int | str | None, given: Resources
) -> dict[str, Any]:
    """Return the ranks of each host where a command says how many there are in all.

    Raises InputError.
    """
    said = f"{found.exact} {ranks}"
    per_host = given.nproc_per_node
    if isinstance(nodes, int) and per_host and nodes * per_host != ranks:
        raise InputError(
            f"{said}: the job has {nodes} x {per_host} = {nodes * per_host} ranks",
            "leave out one of them; -np {{world_size}} always fits",
        )
    if given != Resources():
        return {}
    if isinstance(nodes, int) and ranks % nodes == 0:
        return {"resources": Resources(nproc_per_node=ranks // nodes)}
    if isinstance(nodes, int):
        raise InputError(
            f"{said} over {nodes} hosts: they would have unequal numbers of ranks",
            "--nproc-per-node N says how many each host has, --gpus N chooses hosts by their GPUs",
        )
    if found.local_ranks:
        return {"resources": Resources(nproc_per_node=found.local_ranks)}
    raise InputError(
        f"{said}: over how many hosts?", "--nodes N; or --nproc-per-node N, for each of the hosts"
    )


def _passed(name: str, found: start_commands.StartCommand, environment: Mapping[str, str]) -> str:
    """Return the value of a variable that a command passes on from its own environment. Raises
    InputError."""
    if name in environment:
        return environment[name]
    raise InputError(
        f"{found.exact.split()[0]} -x {name}: {name} is not set in your environment",
        f"-x {name}=VALUE; or leave it out where the hosts have it",
    )
