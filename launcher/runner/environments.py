"""The environment that each host of a run builds of a lock in the code, once for all runs."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..records import events as ev
from ..spec.environments import Environment
from ..spec.errors import NoEnvironment
from ..spec.model import Layout
from ..transport import answers, rsync
from ..transport.agent_client import os_error
from .concurrency import beside, together
from .context import RunContext
from .host_session import HostSession
from .images import Images
from .policy import environments

#: Seconds between two questions to a host, and between two lines about what is built.
PAUSE, TELL = 0.3, 10.0
#: In the folder of the run: what a build that failed has printed.
LOG = "environment.log"


class Environments:
    """Gives hosts the environment or image of a job; does nothing for a job that names none to give."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._wanted = context.job.environment or Environment()
        self._images = Images(context)
        self._building: dict[str, str] = {}  # what each host that builds has said last

    async def give(self, sessions: Sequence[HostSession]) -> None:
        """Make sure that all hosts have it, and that it stays while the run does. Raises HostError."""
        await self._images.give(sessions)
        if not self._wanted.uv:
            return
        started = time.time()
        async with beside(self._tell(started)):
            built = await together(self._one(session) for session in sessions)
        if any(built):
            seconds = time.time() - started
            self._context.add(ev.EnvironmentBuilt(time.time(), len(built), sum(built), seconds))

    async def _one(self, session: HostSession) -> bool:
        """Return whether a host had to build it."""
        may_pip = built = False
        while True:
            answer = await session.agent.answer(
                answers.Environment,
                "environment",
                run=self._context.name,
                uv=self._wanted.uv,
                wheels=self._wanted.wheels,
                may_pip=may_pip,
            )
            if answer.state == "there":
                self._building.pop(session.name, None)
                session.built_python = answer.python
                return built
            if answer.state == "failed":
                raise self._failed(session, answer)
            if answer.state == "no-uv":
                if may_pip:
                    raise environments.without_uv(session.name, answer.machine)
                may_pip = not await _bring_uv(session, answer)
                continue
            built = built or answer.state == "building"
            waits = "waits for another run that builds the same"
            self._building[session.name] = waits if answer.state == "busy" else answer.said
            await asyncio.sleep(PAUSE)

    def _failed(self, session: HostSession, answer: answers.Environment) -> Exception:
        self._context.folder.write_bytes(LOG, answer.log.encode("utf-8", "replace"))
        if known := os_error(session.name, answer.log):
            return known
        why = environments.cause(answer.log) or answer.said or "it was killed"
        return NoEnvironment(
            session.name,
            f"the environment of {self._wanted.uv} cannot be built: {why}",
            f"all of its output: {self._context.folder.path / LOG}",
        )

    async def _tell(self, started: float) -> None:
        """Say now and then what is built, for as long as it is."""
        await asyncio.sleep(1.0)
        while True:
            if self._building:
                host, said = next(iter(self._building.items()))
                hosts = tuple(self._building)
                self._context.add(ev.EnvironmentBuilding(time.time(), hosts, host, said))
            await asyncio.sleep(TELL)


def with_built(layout: Layout, sessions: Sequence[HostSession]) -> Layout:
    """Return a layout whose nodes use what their hosts have built, or have as an image."""
    known = {one.name: one.facts for one in sessions if one.built_python or one.container}
    nodes = (
        replace(node, python=facts.python, container=facts.container)
        if (facts := known.get(node.host.name))
        else node
        for node in layout.nodes
    )
    return replace(layout, nodes=tuple(nodes))


async def _bring_uv(session: HostSession, answer: answers.Environment) -> bool:
    """Give a host the uv of this machine; return False if there is none, or none that runs there."""
    ours = shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))
    fits = answer.machine == platform.machine() and answer.libc.startswith("glibc")
    if not ours or not fits or not answer.tools:
        return False
    file, about = await asyncio.to_thread(_program, ours)
    to = f"{answer.tools}/uv-{about.st_size}-{about.st_mtime_ns}"
    arguments = ["--times", "--perms", f"{file.parent}/", f"x:{to}/"]
    await rsync.copy(session.connection, session.name, arguments, os.fsencode(file.name))
    return True


def _program(path: str) -> tuple[Path, os.stat_result]:
    file = Path(path).resolve()
    return file, file.stat()
