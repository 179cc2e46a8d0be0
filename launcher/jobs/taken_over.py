"""Turn a start command of another launcher into values of a job: what it is, its options, its counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import frameworks
from ..spec.environments import Environment
from ..spec.errors import InputError
from ..spec.gpus import COMPUTED
from ..spec.model import Resources
from . import command, start_commands, wrapped_commands

#: Variables whose values no record should have.
_SECRET = re.compile(r"(?:^|_)(?:\w*KEY|TOKEN|SECRET|PASSWORD)(?:_|$)", re.I)


def values_of(
    values: Mapping[str, Any], named: str, environment: Mapping[str, str], is_usual: bool
) -> dict[str, Any]:
    """Return the values that a start command of another launcher, as ``torchrun``, stands for.

    What the job itself says comes first, but not a framework that ``is_usual``, for all runs;
    ``environment`` has the values of variables that it passes on by name. Raises InputError.
    """
    framework = frameworks.get(named)
    if values.get("roles") or not values.get("run"):
        return {}
    words, shell = command.split(values["run"], framework, with_variables=True)
    peeled = wrapped_commands.peeled(words)
    if not shell and not start_commands.program(peeled.words):
        peeled = wrapped_commands.without_variables(words)
    found = None if shell else start_commands.take(peeled.words)
    # Nobody here expands `$`: a command with it in front stays the shell script that it is.
    is_plain = found is None and bool(peeled.envs) and "$" not in "".join(peeled.envs.values())
    if is_plain:
        found = start_commands.StartCommand(framework.name, peeled.words)
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
    envs = {**passed, **peeled.envs, **found.envs}
    secrets = {
        name: None if name in passed else value
        for name, value in envs.items()
        if _SECRET.search(name) and name not in computed
    }
    if chosen == "env":
        found, envs = _with_counts(found, envs)
    envs = {name: value for name, value in envs.items() if name not in {*computed, *secrets}}
    taken: dict[str, Any] = {"run": found.run} | ({} if is_plain else {"framework": chosen})
    front = {"launcher_options": found.options, "wrapper": peeled.wrapper}
    taken |= {name: words for name, words in front.items() if words}
    if envs:
        taken["envs"] = {**envs, **values.get("envs", {})}
    taken |= _environment(peeled, values)
    if secrets:
        taken["secrets"] = {**secrets, **values.get("secrets", {})}
    if found.restarts and "max_restarts" not in values:
        taken["max_restarts"] = found.restarts
    return taken | _counts(found, values)


def _environment(peeled: wrapped_commands.Peeled, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment that a command in front names. Raises InputError for two of them."""
    if peeled.conda and (values.get("environment") or values.get("python")):
        raise InputError(
            f"conda run -n {peeled.conda}: the job names another environment",
            "leave out one of them",
        )
    if peeled.wrapper and values.get("python"):
        raise InputError(
            f"{' '.join(peeled.wrapper[:2])}: the job names another Python", "leave out one of them"
        )
    return {"environment": Environment(conda=peeled.conda)} if peeled.conda else {}


#: Variables in which scripts find counts that `framework: env` sets, unless the job does.
_NODES = "NNODES"
_LOCAL_RANKS = ("NPROC_PER_NODE", "GPUS_PER_NODE")


def _with_counts(
    found: start_commands.StartCommand, envs: Mapping[str, str]
) -> tuple[start_commands.StartCommand, dict[str, str]]:
    """Return a command with the counts that stand in front of it as variables, and the others."""
    counts = {
        name: int(value)
        for name, value in envs.items()
        if name in (_NODES, *_LOCAL_RANKS) and value.isascii() and value.isdigit() and int(value)
    }
    local = next((counts[name] for name in _LOCAL_RANKS if name in counts), None)
    counted = replace(
        found,
        nodes=found.nodes or counts.get(_NODES),
        local_ranks=found.local_ranks or local,
    )
    return counted, {name: value for name, value in envs.items() if name not in counts}


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
