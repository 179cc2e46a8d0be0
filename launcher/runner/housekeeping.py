"""What launcher's files take, here and on hosts, and which of them are old: decide, then delete."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from ..fleet.cleanup import unfinished_runs
from ..fleet.fanout import Visited, visit_hosts
from ..records import catalog
from ..records.receipt import Receipt
from ..records.run_reader import RunReader
from ..records.state import ENDED
from ..spec.errors import HostError, LauncherError
from ..spec.frozen import frozen
from ..spec.home import home
from ..spec.model import Host, Inventory, Node
from ..transport.agent_bundle import agent_name
from ..transport.answers.disk import Pruned, Usage
from ..transport.ssh import AskPassphrase
from . import kept_notes
from .images import cache
from .kept_notes import Note

There = Mapping[str, Usage | HostError]
#: Seconds for a host to delete images, too.
PATIENCE = 600.0


@frozen
class RunHere:
    """A run of this machine. ``ended`` is when, in seconds since the epoch; None while it runs.
    ``left_there`` says whether hosts may have files of it that were never brought back."""

    run: str
    bytes: int
    outputs: int
    ended: float | None
    hosts: tuple[str, ...]
    left_there: bool


@frozen
class CacheHere:
    """A folder with files of an image, left by a launcher that was killed while it brought it."""

    name: str
    bytes: int
    used: float


@frozen
class Here:
    """What launcher's folder takes on this machine, in bytes, and how much of the disk is free.
    ``notes`` are what it keeps of the sources of data sets, of builds, and of wheels."""

    bytes: int
    free: int
    runs: tuple[RunHere, ...]
    caches: tuple[CacheHere, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def noted(self) -> int:
        """The bytes of the notes."""
        return kept_notes.size_of(self.notes)


@frozen
class HostPlan:
    """What to delete on a host; ``code`` are sources and versions."""

    runs: tuple[str, ...] = ()
    code: tuple[tuple[str, str], ...] = ()
    agents: tuple[str, ...] = ()
    stubs: bool = False
    bytes: int = 0
    envs: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


@frozen
class PrunePlan:
    """What to delete, here and by host. ``caches`` are folders here in which images travelled, and
    ``notes`` files here that say what sources of data sets and builds were ``before``, or are wheels.

    ``kept`` are old runs that stay because hosts have files of them that were never brought back,
    ``unreached`` those with a host that was not asked, and ``unknown`` counts old runs on hosts that
    this machine has no record of.
    """

    here: tuple[str, ...] = ()
    bytes: int = 0
    hosts: Mapping[str, HostPlan] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()
    unknown: int = 0
    caches: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    before: float = 0.0

    @property
    def total(self) -> int:
        """The bytes that it frees, here and there."""
        return self.bytes + sum(plan.bytes for plan in self.hosts.values())


@frozen
class Freed:
    """The result: bytes freed, what is in use and stayed, and what failed, by host."""

    bytes: int
    runs: int
    kept: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


# -- what there is


def measure_here() -> Here:
    """Return what this machine has. Files with several names count once."""
    disk = os.statvfs(home()) if home().exists() else None
    free = disk.f_bavail * disk.f_frsize if disk else 0
    unsure = unfinished_runs()
    runs = tuple(_measured(path, unsure) for path in catalog.folders())
    caches = tuple(
        CacheHere(path.name, disk_use(path), path.stat().st_mtime)
        for path in cache.left(home() / "images")
    )
    notes = kept_notes.measured(_active(runs))
    return Here(disk_use(home()), free, runs, caches, notes)


def _active(runs: Iterable[RunHere]) -> list[Path]:
    return [home() / "runs" / one.run for one in runs if one.ended is None]


def _measured(path: Path, unsure: Collection[str]) -> RunHere:
    summary = catalog.summary(path)
    is_over = summary.status in ENDED and not summary.followed
    receipt = _receipt(path)
    ended = None
    if is_over:
        ended = receipt.started + receipt.seconds if receipt else summary.started
    left = bool(receipt and (receipt.not_brought or not receipt.outputs_complete))
    outputs = disk_use(path / "outputs")
    left = left or path.name in unsure
    return RunHere(path.name, disk_use(path), outputs, ended, summary.hosts, left)


def _receipt(path: Path) -> Receipt | None:
    try:
        return RunReader(path).receipt()
    except LauncherError:
        return None


def disk_use(path: Path) -> int:
    """Return the bytes that a folder takes on disk. Also in agent/relay/tree.py."""
    total, seen = 0, set()
    for base, folders, files in os.walk(path):
        for name in (*folders, *files):
            try:
                status = os.lstat(os.path.join(base, name))
            except OSError:
                continue
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total


async def measure_there(
    inventory: Inventory, hosts: Sequence[Host], ask: AskPassphrase | None
) -> There:
    """Return what each host has, or why it could not be asked."""

    async def one(visited: Visited) -> Usage:
        agent = await visited.agent()
        try:
            return await agent.answer(Usage, "usage")
        finally:
            await agent.close()

    return await visit_hosts(inventory, "", _nodes(hosts), one, ask)


def _nodes(hosts: Sequence[Host]) -> list[Node]:
    return [Node(host, 0, 0, 0, root=host.workdir) for host in hosts]


# -- what is old


def plan(
    here: Here,
    there: There,
    before: float,
    *,
    keep_outputs: bool = False,
    unknown: bool = False,
    agent: str = "",
) -> PrunePlan:
    """Return what to delete of what nothing has used since ``before``, in seconds since the epoch.

    With ``keep_outputs``, runs that have outputs here stay here; with ``unknown``, old runs on hosts
    that this machine has no record of go, too. The ``agent`` of this version stays on hosts.
    """
    old = [run for run in here.runs if run.ended is not None and run.ended < before]
    asked = {host for host, usage in there.items() if isinstance(usage, Usage)}
    fitting = [run for run in old if not run.left_there]
    reached = [run for run in fitting if asked.issuperset(run.hosts)]
    doomed = [run for run in reached if not (keep_outputs and run.outputs)]
    recorded = {run.run for run in here.runs}
    names = {run.run for run in fitting}
    emptied = [one for one in here.caches if one.used < before]
    forgotten = kept_notes.doomed(here.notes, before)
    plans, strangers = {}, 0
    for host, usage in there.items():
        if not isinstance(usage, Usage):
            continue
        plans[host], others = _host_plan(usage, before, names, recorded, unknown, agent)
        strangers += 0 if unknown else others
    return PrunePlan(
        tuple(run.run for run in doomed),
        sum(one.bytes for several in (doomed, emptied) for one in several)
        + sum(forgotten.values()),
        {host: one for host, one in plans.items() if one != HostPlan()},
        tuple(run.run for run in old if run.left_there),
        tuple(run.run for run in fitting if run not in reached),
        strangers,
        tuple(one.name for one in emptied),
        tuple(forgotten),
        before,
    )


def _host_plan(
    usage: Usage,
    before: float,
    names: Collection[str],
    recorded: Collection[str],
    unknown: bool,
    agent: str,
) -> tuple[HostPlan, int]:
    """Return the plan of one host, and how many old runs there nobody here knows."""
    still = [run for run in usage.runs if not run.alive]
    strangers = [run for run in still if run.run not in recorded and run.used < before]
    runs = [run for run in still if run.run in names] + (strangers if unknown else [])
    code = [one for one in usage.code if one.used < before]
    agents = [one for one in usage.agents if not one.in_use and one.agent != agent]
    envs = [one for one in usage.envs if not one.in_use and one.used < before]
    images = [one for one in usage.images if not one.in_use and one.used < before]
    planned = HostPlan(
        tuple(run.run for run in runs),
        tuple((one.source, one.version) for one in code),
        tuple(one.agent for one in agents),
        usage.stubs > 0,
        sum(one.bytes for several in (runs, code, agents, envs, images) for one in several),
        tuple(one.env for one in envs),
        tuple(one.image for one in images),
    )
    return planned, len(strangers)


def current_agent() -> str:
    """Return the name of the agent that this version starts on hosts."""
    return agent_name()


# -- delete it


async def prune(
    inventory: Inventory | None, chosen: PrunePlan, ask: AskPassphrase | None = None
) -> Freed:
    """Delete what a plan names: on hosts first. A run stays here if a host keeps something of it."""

    async def one(visited: Visited) -> Pruned:
        mine = chosen.hosts[visited.host]
        agent = await visited.agent()
        try:
            return await agent.answer(
                Pruned,
                "prune",
                patience=PATIENCE if mine.images else 0.0,
                runs=list(mine.runs),
                code=[list(one) for one in mine.code],
                agents=list(mine.agents),
                envs=list(mine.envs),
                images=list(mine.images),
                stubs=mine.stubs,
            )
        finally:
            await agent.close()

    done: Mapping[str, Pruned | HostError] = {}
    if inventory and chosen.hosts:
        hosts = [inventory.host(name) for name in chosen.hosts]
        done = await visit_hosts(inventory, "", _nodes(hosts), one, ask)
    failed = {host: e.message for host, e in done.items() if isinstance(e, HostError)}
    kept = tuple(
        dict.fromkeys(name for one in done.values() if isinstance(one, Pruned) for name in one.kept)
    )
    missed = {run for host in failed for run in chosen.hosts[host].runs} | set(kept)
    removed = [run for run in chosen.here if run not in missed]
    size = sum(plan.bytes for host, plan in chosen.hosts.items() if host not in failed)
    folders = [home() / "runs" / run for run in removed]
    folders += [home() / "images" / name for name in chosen.caches]
    size += await asyncio.to_thread(_remove, folders)
    if chosen.notes:
        size += await asyncio.to_thread(_forget, chosen.notes, chosen.before)
    return Freed(size, len(removed), kept, failed)


def _forget(notes: Collection[str], before: float) -> int:
    summaries = [(path, catalog.summary(path)) for path in catalog.folders()]
    active = [path for path, one in summaries if one.status not in ENDED or one.followed]
    return kept_notes.remove(notes, active, before)


def _remove(folders: Sequence[Path]) -> int:
    total = 0
    for path in folders:
        total += disk_use(path)
        shutil.rmtree(path, ignore_errors=True)
    return total
