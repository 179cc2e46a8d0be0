"""The environment that each host of a run builds of a lock in the code, once for all runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..fleet import builders
from ..jobs.environments import all_of, images_of, is_needed
from ..records import events as ev
from ..spec.environments import Environment
from ..spec.model import Layout
from ..transport import rsync
from ..transport.agent_errors import os_error
from ..transport.answers.environments import Environment as EnvironmentThere
from ..transport.answers.environments import WantedWheels
from .concurrency import in_thread, together
from .context import RunContext
from .doings import Doings, Told
from .host_session import HostSession
from .policy import environments

if TYPE_CHECKING:
    from .images.of_run import Images

#: Seconds between two questions to a host.
PAUSE = 0.3
#: How often wheels are brought to a host that has lost them again before it could build.
BRINGINGS = 2
#: In the folder of the run: what a build that failed has printed.
LOG = "environment.log"


#: By the number of an environment and a host.
_Known = dict[tuple[int, str], EnvironmentThere]


class Environments:
    """Gives hosts the environments and images of a job; nothing for a job that names none to give."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._wanted = {n: one for n, one in enumerate(all_of(context.job)) if one.recipe}
        self._images = self._of_images()
        self._doings = Doings()
        self._brought: dict[tuple[int, str], str] = {}  # wheels that a host has
        self._origins: dict[int, str] = {}  # where those that are fetched come from

    def _of_images(self) -> Images | None:
        if not images_of(self._context.job):
            return None
        from .images.of_run import Images  # few runs are in one

        return Images(self._context)

    async def give(self, sessions: Sequence[HostSession], layout: Layout) -> None:
        """Make sure that all hosts have it, and that it stays while the run does. Of a layout without
        nodes it is not known yet which roles a host has. Raises HostError."""
        if self._images:
            await self._images.give(sessions, layout)
        if not self._wanted:
            return
        started = time.time()
        async with self._doings.told(self._tell):
            known = await self._give_wheels(sessions, layout)
            built = await together(self._each(session, layout, known) for session in sessions)
        if any(built):
            seconds = time.time() - started
            self._context.add(ev.EnvironmentBuilt(time.time(), len(built), sum(built), seconds))

    async def _give_wheels(self, sessions: Sequence[HostSession], layout: Layout) -> _Known:
        """Give hosts the wheels that they lack, all at once: they pass them on. Return what
        others have answered, by the number of the environment and the host."""
        known: _Known = {}
        for number, wanted in self._wanted.items():
            if not wanted.is_fetched:
                continue
            needing = [
                one for one in sessions if is_needed(self._context.job, layout, one.name, wanted)
            ]
            asked = await together(self._ask(one, number, wanted) for one in needing)
            known |= {
                (number, session.name): answer
                for session, answer in zip(needing, asked, strict=True)
                if answer.wanted is None
            }
            lacking = {
                session: answer.wanted
                for session, answer in zip(needing, asked, strict=True)
                if answer.wanted
            }
            if lacking:
                await self._bring_wheels(number, wanted, lacking, sessions)
        return known

    async def _bring_wheels(
        self,
        number: int,
        wanted: Environment,
        lacking: Mapping[HostSession, WantedWheels],
        sessions: Sequence[HostSession] = (),
    ) -> None:
        from .wheels.bringing import Wheels  # few runs need any

        log, having = (
            self._context.folder.path / LOG,
            [one for one in sessions if one not in lacking],
        )

        def write(said: str) -> Path:
            self._context.folder.write_bytes(LOG, said.encode("utf-8", "replace"))
            return log

        given = await Wheels(self._context, wanted, write, self._doings.note).give(lacking, having)
        for host, version in given.items():
            self._brought[number, host] = version
            self._doings.over(host)

    async def _ask(
        self, session: HostSession, number: int, wanted: Environment, may_pip: bool = False
    ) -> EnvironmentThere:
        is_fetched = wanted.is_fetched
        if is_fetched and number not in self._origins:
            place = Path(self._context.job.workdir, wanted.recipe)
            from .wheels import uv_settings  # few runs fetch wheels

            self._origins[number] = await in_thread(uv_settings.origin, place, os.environ)
        return await session.agent.answer(
            EnvironmentThere,
            "environment",
            run=self._context.name,
            builder=wanted.builder,
            path=wanted.recipe,
            wheels="" if is_fetched else wanted.wheels,
            fetched=is_fetched,
            origin=self._origins.get(number, ""),
            brought=self._brought.get((number, session.name), ""),
            finder=builders.finder(wanted.builder),
            may_pip=may_pip,
            number=number,
        )

    async def _each(self, session: HostSession, layout: Layout, known: _Known) -> bool:
        """Give a host what its roles need, or may need; return whether it had to build any."""
        built = [
            await self._one(session, number, wanted, known.pop((number, session.name), None))
            for number, wanted in self._wanted.items()
            if is_needed(self._context.job, layout, session.name, wanted)
        ]
        return any(built)

    async def _one(
        self,
        session: HostSession,
        number: int,
        wanted: Environment,
        known: EnvironmentThere | None,
    ) -> bool:
        """Return whether a host had to build it; ``known`` is what it has answered so far."""
        may_pip, built, brought = False, False, 0
        while True:
            answer = known or await self._ask(session, number, wanted, may_pip)
            known = None
            if answer.state == "there":
                self._doings.over(session.name)
                if self._context.job.has_several_environments:
                    session.pythons[wanted.key] = answer.python
                else:
                    session.built_python = answer.python
                return built
            if answer.state == "failed":
                raise self._failed(session, answer, wanted)
            if answer.state == "no-builder":
                if may_pip:
                    raise environments.without_builder(session.name, wanted, answer.machine)
                may_pip = not await _bring(session, wanted.builder, answer)
                continue
            if answer.wanted:  # another run has given up, or they are gone again
                brought += 1
                if brought > BRINGINGS:
                    raise environments.wheels_gone(session.name)
                await self._bring_wheels(number, wanted, {session: answer.wanted})
                continue
            built = built or answer.state == "building"
            waits = "waits for another run that builds the same"
            self._doings.note(session.name, waits if answer.state == "busy" else answer.said)
            await asyncio.sleep(PAUSE)

    def _failed(
        self, session: HostSession, answer: EnvironmentThere, wanted: Environment
    ) -> Exception:
        self._context.folder.write_bytes(LOG, answer.log.encode("utf-8", "replace"))
        if known := os_error(session.name, answer.log):
            return known
        return environments.not_built(
            session.name, wanted, answer, str(self._context.folder.path / LOG)
        )

    def _tell(self, told: Told) -> None:
        """Say what is built."""
        one = told.doing
        more = (told.host, one.said, one.done, one.total, told.seconds)
        self._context.add(ev.EnvironmentBuilding(told.now, told.hosts, *more))


def with_built(layout: Layout, sessions: Sequence[HostSession]) -> Layout:
    """Return a layout whose nodes use what their hosts have built, or have as an image."""
    known = {
        one.name: one.facts for one in sessions if one.built_python or one.containers or one.pythons
    }
    nodes = (
        replace(node, python=facts.python, containers=facts.containers, pythons=facts.pythons)
        if (facts := known.get(node.host.name))
        else node
        for node in layout.nodes
    )
    return replace(layout, nodes=tuple(nodes))


async def _bring(session: HostSession, kind: str, answer: EnvironmentThere) -> bool:
    """Give a host a program of this machine; return False if there is none, or none that runs there."""
    name, ours = builders.BROUGHT[kind], builders.own(kind)
    if not ours or not builders.fits(answer.machine, answer.libc) or not answer.tools:
        return False
    file, about = await asyncio.to_thread(_program, ours)
    to = f"{answer.tools}/{name}-{about.st_size}-{about.st_mtime_ns}"
    arguments = ["--times", "--perms", f"{file.parent}/", f"x:{to}/"]
    await rsync.copy(session.connection, session.name, arguments, os.fsencode(file.name))
    return True


def _program(path: str) -> tuple[Path, os.stat_result]:
    file = Path(path).resolve()
    return file, file.stat()
