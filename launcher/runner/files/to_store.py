"""Which files of which host go to a run's store: each once, from the host that wrote it.

A file that a host was given and has left alone is an output of the host or run that wrote it. If that
host does not answer, and nobody has written the file again, the first host that was given it stores it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ...records.record_files import read_as
from ...records.stored import StoredFile
from ...spec.errors import HostError
from ...transport.agent_client import Agent
from ..policy import spares
from ..policy.spares import Files, State
from . import outputs, seeding
from .choice import Choice
from .mirrors import state_of
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
    run: Path,
    found: Mapping[str, Listed],
    former: Collection[str],
    done: Collection[str] = (),
    stored: Iterable[StoredFile] = (),
) -> dict[str, Listed]:
    """Return what each host stores of what it has. Of ``former`` hosts, nothing that others went on
    with and have written again; ``done`` are hosts that have ``stored`` everything. Blocks."""
    given = _given(run)
    if not given:
        return dict(found)
    mirrors = [
        place
        for place in sorted(run.glob(".hosts/*/outputs"))
        if place.parent.name not in found and place.parent.name not in done
    ]
    current = {
        host: _paths(seeding.own(found[host], given.get(host, {})))
        for host in found
        if host in given and host not in former
    }
    taken = spares.superseded({path for its in given.values() for path in its}, current, given)
    taken |= {
        one.path
        for one in stored
        if one.host in done and given.get(one.host, {}).get(one.path) not in (None, _state(one))
    }
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
    """Return stored files whose names hosts take over, each as one of the host that was given it and
    stores it now, as of :func:`own`: those of hosts that are not ``current`` any more, and those that a
    host stored just as it was given them. Blocks."""
    given = _given(run)
    now = {
        host: paths
        for host, what in own.items()
        if host in current and (paths := given.get(host, {}).keys() & _paths(what))
    }
    if not now:
        return []
    wanted = set().union(*now.values())
    known = [one for one in stored if one.path in wanted]
    has = {(one.host, one.path) for one in known}
    found = []
    for one in sorted(known, key=lambda one: one.name):  # its plain name first
        before = given.get(one.host, {}).get(one.path)
        is_as_given = before == _state(one)
        if one.host in current and not is_as_given:
            continue
        for host, paths in now.items():
            # Given the same, the two went on beside each other: neither has what the other wrote.
            is_beside = not is_as_given and before == given[host].get(one.path)
            if one.path in paths and (host, one.path) not in has and not is_beside:
                has.add((host, one.path))
                found.append(replace(one, host=host))
                break
    return found


def _given(run: Path) -> Mapping[str, Mapping[str, State]]:
    return read_as(dict[str, dict[str, State]], run / seeding.NOTE) or {}


def _state(one: StoredFile) -> State:
    return one.size, one.time


def _paths(what: Listed) -> set[str]:
    return {path for path, *_ in what.files}


def _has(mirror: Path, path: str, state: State) -> bool:
    try:
        return state_of(mirror / path) == state
    except OSError:
        return False


def _without(
    what: Listed, current: Mapping[str, Collection[str]], given: Mapping[str, Files]
) -> Listed:
    old = spares.superseded((path for path, *_ in what.files), current, given)

    def is_kept(path: str, *_: int) -> bool:
        return path not in old

    return replace(what, outputs=what.outputs.only(is_kept), code=what.code.only(is_kept))
