"""Check that every host has what the job's framework needs, before anything is started."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from .. import frameworks
from ..frameworks import requirements
from ..jobs import planner
from ..jobs.preparation import on_trial
from ..records import packages
from ..spec.errors import FrameworkMissing
from ..spec.model import Job, Layout, Node
from ..transport.answers import Missing
from .concurrency import together
from .host_session import HostSession
from .in_image import in_image
from .policy import environments


def modules_of(job: Job) -> tuple[str, ...]:
    """Return the modules that the framework's own launcher needs, and those of the framework that
    the job's script imports. Often none: a command may be anything."""
    needed = requirements.modules_of(job.framework)
    direct = frameworks.get(job.framework).imports
    if direct and not job.roles:
        # Slow, and most runs do not need it.
        from ..fleet.check.job_needs import imported

        found = imported(job)
        needed += tuple(name for name in direct if name in found)
    return needed


class Requirements:
    """A search that runs on the hosts meanwhile: ``start`` it, and later ``check`` what it found."""

    def __init__(self, sessions: Sequence[HostSession], layout: Layout, job: Job) -> None:
        self._sessions, self._layout, self._job = sessions, layout, job
        self._modules = (*modules_of(job), *requirements.needs_of(job.framework))
        activated = job.environment is not None and job.environment.is_activated
        self._asks = bool(self._modules or job.modules or activated)  # an image is known by its ID
        self.packages: dict[str, tuple[str, ...]] = {}  # by host, once it was checked

    async def start(self) -> None:
        """Make all hosts start the search. Raises HostError."""
        if self._asks:
            await together(
                session.agent.ask(
                    "search",
                    modules=self._modules,
                    env={**session.host.env, **self._job.envs},
                    folder=self._folder(session),
                    python=self._node(session).python,
                    behind=on_trial(self._job, self._node(session)),
                    **in_image(self._job, self._layout, self._node(session)),
                )
                for session in self._sessions
            )

    async def check(self) -> None:
        """Wait for the search.

        Raises NoEnvironment or FrameworkMissing for the first host that misses something, naming all
        others that do.
        """
        if not self._asks:
            return
        answers = await together(
            session.agent.answer(Missing, "found") for session in self._sessions
        )
        self._asks = False  # a start that is tried again does not ask again
        if failed := environments.failed(
            {
                session.name: answer.trouble
                for session, answer in zip(self._sessions, answers, strict=True)
                if answer.trouble
            }
        ):
            raise failed
        self.packages = {
            session.name: answer.packages
            for session, answer in zip(self._sessions, answers, strict=True)
            if answer.packages
        }
        without = {
            session: answer.missing
            for session, answer in zip(self._sessions, answers, strict=True)
            if answer.missing
        }
        if without:
            raise self._missing(without)

    def differing(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Return what the hosts do not have alike, once it was checked: of an environment all packages;
        of another Python, which may have any, those that the job needs."""
        pythons = {
            one.name: one.facts.python_version
            for one in self._sessions
            if one.name in self.packages
        }
        found = packages.differing(self.packages, pythons)
        if not found or self._job.environment:
            return found
        pythons = {host: version.rpartition(".")[0] for host, version in pythons.items()}
        from ..fleet.check.job_needs import imported  # slow, and hosts seldom differ

        needed = {*requirements.modules_of(self._job.framework), *imported(self._job)}
        return packages.differing(self.packages, pythons, needed)

    def _missing(self, without: Mapping[HostSession, Sequence[str]]) -> FrameworkMissing:
        """Return the first host's error, naming all other hosts that miss the same."""
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
        root = self._node(session).root
        return posixpath.join(planner.run_dir(root, self._layout.run_id), "code")

    def _node(self, session: HostSession) -> Node:
        return next(node for node in self._layout.nodes if node.host.name == session.name)
