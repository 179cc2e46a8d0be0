"""Whether every host has what the job's framework cannot do without, before anything is started."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from .. import frameworks
from ..frameworks import requirements
from ..jobs import planner
from ..spec.errors import FrameworkMissing
from ..spec.model import Job, Layout
from ..transport.answers import Missing
from .concurrency import together
from .host_session import HostSession


def modules_of(job: Job) -> tuple[str, ...]:
    """Those of the framework's own launcher, and those that ranks which it starts directly import, as
    far as the job's script says so. Often none: a command may be anything."""
    needed = requirements.modules_of(job.framework)
    direct = frameworks.get(job.framework).imports
    if direct and not job.roles:
        from ..fleet.check.job_needs import (
            imported,  # reads Python: slow, and most runs need it not
        )

        found = imported(job)
        needed += tuple(name for name in direct if name in found)
    return needed


class Wanted:
    """Looked for while the hosts do something else: ``begin``, and later ``require``."""

    def __init__(self, sessions: Sequence[HostSession], layout: Layout, job: Job) -> None:
        self._sessions, self._layout, self._job = sessions, layout, job
        self._modules = (*modules_of(job), *requirements.needs_of(job.framework))

    async def begin(self) -> None:
        """Has all hosts begin to look. Raises HostError."""
        if self._modules:
            await together(
                session.agent.ask(
                    "search",
                    modules=self._modules,
                    env={**session.host.env, **self._job.envs},
                    folder=self._folder(session),
                )
                for session in self._sessions
            )

    async def require(self) -> None:
        """Raises FrameworkMissing for the first host that lacks something, naming all that do."""
        if not self._modules:
            return
        told = await together(session.agent.answer(Missing, "found") for session in self._sessions)
        self._modules = ()  # asked and answered: a start that is tried again asks no more
        without = {
            session: x.missing for session, x in zip(self._sessions, told, strict=True) if x.missing
        }
        if without:
            raise self._told(without)

    def _told(self, without: Mapping[HostSession, Sequence[str]]) -> FrameworkMissing:
        """The first host's, with all hosts that lack the same."""
        session, missing = next(iter(without.items()))
        names = requirements.first_of(self._job.framework, missing)
        others = [
            other.name
            for other, theirs in without.items()
            if other is not session and set(names) & set(theirs)
        ]
        also = f"; nor do{'es' * (len(others) == 1)} {', '.join(others)}" if others else ""
        facts = session.facts
        what, hint = requirements.describe_missing(
            self._job.framework, facts.python, facts.python_version, names
        )
        return FrameworkMissing(session.name, what + also, hint)

    def _folder(self, session: HostSession) -> str:
        (node,) = (node for node in self._layout.nodes if node.host.name == session.name)
        return posixpath.join(planner.run_dir(node.root, self._layout.run_id), "code")
