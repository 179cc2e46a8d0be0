"""Which files of which host go to a run's store: each once, from the host that wrote it.

A file that a host was given and has left alone is an output of the host or run that wrote it. If that
host does not answer, and nobody has written the file again, the first host that was given it stores it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ...records.run_folder import read_as
from ...records.stored import StoredFile
from ...spec.errors import HostError
from ...transport.agent_client import Agent
from ..policy import spares
from ..policy.spares import Files, State
from . import outputs, seeding
from .choice import Choice
from .outputs import Listed


async def listed(
    agents: Mapping[str, Agent], run: str, choice: Choice, miss: Callable[[str, str], None]
) -> dict[str, Listed]:
    """Return what hosts have, in their order; ``miss`` is told of those that do not answer, and why."""

    async def one(agent: Agent) -> Listed | HostError:
        try:
            return await outputs.listed(agent, run, choice)
        except HostError as error:
            return error

    found = {}
    answers = await asyncio.gather(*map(one, agents.values()))
    for host, answer in zip(agents, answers, strict=True):
        if isinstance(answer, HostError):
            miss(host, answer.message)
        else:
            found[host] = answer
    return found


def own(
    run: Path, found: Mapping[str, Listed], former: Collection[str], done: Collection[str] = ()
) -> dict[str, Listed]:
    """Return what each host stores of what it has. Of ``former`` hosts, nothing that others went on
    with and have written again; ``done`` are hosts that have stored everything. Blocks."""
    given = read_as(dict[str, dict[str, State]], run / seeding.NOTE) or {}
    if not given:
        return dict(found)
    mirrors = [
        place
        for place in sorted(run.glob(".hosts/*/outputs"))
        if place.parent.name not in found and place.parent.name not in done
    ]
    current = {
        host: {path for path, *_ in seeding.own(found[host], given.get(host, {})).files}
        for host in found
        if host in given and host not in former
    }
    taken = spares.superseded({path for its in given.values() for path in its}, current, given)
    mine = {}
    for host, what in found.items():
        others = {
            path: state
            for path, state in given.get(host, {}).items()
            if path in taken or not any(_has(mirror, path, state) for mirror in mirrors)
        }
        taken |= given.get(host, {}).keys() - others.keys()
        mine[host] = seeding.own(what, others)
    return {
        host: _without(what, current, given) if host in former else what
        for host, what in mine.items()
    }


def handed_over(
    run: Path, own: Mapping[str, Listed], current: Collection[str], stored: Iterable[StoredFile]
) -> list[StoredFile]:
    """Return stored files of hosts that are not ``current`` any more, each as one of the host that was
    given it and stores it now, as of :func:`own`: it takes the place of the old one. Blocks."""
    given = read_as(dict[str, dict[str, State]], run / seeding.NOTE) or {}
    now = {
        host: given[host].keys() & {path for path, *_ in what.files}
        for host, what in own.items()
        if host in current and host in given
    }
    if not now:
        return []
    has = {(one.host, one.path) for one in stored if one.path in now.get(one.host, ())}
    left = [one for one in stored if one.host not in current]
    found = []
    for one in sorted(left, key=lambda one: one.name):  # its plain name first
        fit = (host for host in now if one.path in now[host] and (host, one.path) not in has)
        if (host := next(fit, None)) is not None:
            has.add((host, one.path))
            found.append(replace(one, host=host))
    return found


def _has(mirror: Path, path: str, state: State) -> bool:
    try:
        return outputs.state_of(mirror / path) == state
    except OSError:
        return False


def _without(
    what: Listed, current: Mapping[str, Collection[str]], given: Mapping[str, Files]
) -> Listed:
    old = spares.superseded((path for path, *_ in what.files), current, given)

    def is_kept(path: str, *_: int) -> bool:
        return path not in old

    return replace(what, outputs=what.outputs.only(is_kept), code=what.code.only(is_kept))
