"""Check that every host has what the job's framework needs, before anything is started."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from .. import frameworks
from ..frameworks import requirements
from ..jobs import planner
from ..jobs.environments import Around, container_of, roles_apart
from ..jobs.preparation import on_trial
from ..records import packages
from ..spec.containers import Container
from ..spec.errors import FrameworkMissing
from ..spec.frozen import frozen
from ..spec.model import Job, Layout, Node
from ..transport.answers.environments import Missing
from .concurrency import together
from .host_session import HostSession
from .images.inside import in_image
from .policy import environments


def modules_of(job: Job) -> tuple[str, ...]:
    """Return the modules that the framework's own launcher needs, and those of the framework that
    the job's script imports. Often none: a command may be anything."""
    needed = requirements.modules_of(job)
    direct = frameworks.get(job.framework).imports
    if direct and not job.roles:
        # Slow, and most runs do not need it.
        from ..fleet.check.job_needs import imported

        found = imported(job)
        needed += tuple(name for name in direct if name in found)
    return needed


@frozen
class _Place:
    """A host with what is around processes there, and the first role that has it."""

    session: HostSession
    its: Around
    role: str
    container: Container | None

    @property
    def version(self) -> str:
        """The version of the Python."""
        if self.container:
            return self.container.python_version
        known = self.session.python_versions
        return known.get(self.its.python) or self.session.facts.python_version


class Requirements:
    """A search that runs on the hosts meanwhile: ``start`` it, and later ``check`` what it found."""

    def __init__(self, sessions: Sequence[HostSession], layout: Layout, job: Job) -> None:
        self._sessions, self._layout, self._job = sessions, layout, job
        self._modules = (*modules_of(job), *requirements.needs_of(job.framework))
        self._places = [
            _Place(session, its, role, container_of(job, self._node(session), role))
            for session in sessions
            for its, role in roles_apart(job, self._node(session)).items()
            if self._modules or its.is_activated  # an image is known by its ID
        ]
        self._asks = bool(self._places)
        self._found: list[tuple[_Place, Missing]] = []  # once it was checked

    def _of(self, session: HostSession) -> list[_Place]:
        return [place for place in self._places if place.session is session]

    async def start(self) -> None:
        """Make all hosts start the search, each in its first environment. Raises HostError."""
        if self._asks:
            await together(self._search(its[0]) for one in self._sessions if (its := self._of(one)))

    async def _search(self, place: _Place) -> None:
        session, node = place.session, self._node(place.session)
        await session.agent.ask(
            "search",
            modules=self._modules,
            env={**session.host.env, **self._job.envs},
            folder=self._folder(session),
            python=place.its.python,
            behind=on_trial(self._job, node, place.role),
            **in_image(self._job, self._layout, node, place.role),
        )

    async def _answers(self, session: HostSession) -> list[Missing]:
        """Wait for the search of a host; then it searches its other environments, one by one."""
        if not self._of(session):
            return []
        found = [await session.agent.answer(Missing, "found")]
        for place in self._of(session)[1:]:
            await self._search(place)
            found.append(await session.agent.answer(Missing, "found"))
        return found

    async def check(self) -> None:
        """Wait for the search.

        Raises NoEnvironment or FrameworkMissing for the first host that misses something, naming all
        others that do.
        """
        if not self._asks:
            return
        by_host = await together(self._answers(session) for session in self._sessions)
        self._asks = False  # a start that is tried again does not ask again
        self._found = [*zip(self._places, (one for found in by_host for one in found), strict=True)]
        troubles: dict[str, str] = {}
        for place, it in self._found:
            if it.trouble:
                troubles.setdefault(place.session.name, it.trouble)
        if failed := environments.failed(troubles):
            raise failed
        if without := [(place, it.missing) for place, it in self._found if it.missing]:
            raise self._missing(without)

    @property
    def packages(self) -> list[tuple[str, tuple[str, ...]]]:
        """The packages of each environment, with its host, once it was checked."""
        return [(place.session.name, it.packages) for place, it in self._found if it.packages]

    def differing(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Return what the hosts do not have alike, once it was checked: of an environment all packages;
        of another Python, which may have any, those that the job needs. Of a job whose roles have
        environments of their own, each is compared by itself."""
        groups: dict[str, list[tuple[_Place, Missing]]] = {}
        for place, it in self._found:
            if it.packages:
                groups.setdefault(self._compared_as(place.role), []).append((place, it))
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        for role, group in groups.items():
            suffix = f" of {role}" if role else ""
            found |= {name + suffix: its for name, its in self._differing(group).items()}
        return found

    def _compared_as(self, role: str) -> str:
        """Return the first role with the same environment as this one, "" for the job's own."""
        known = self._job.role(role) if role else None
        if known is None or not (known.environment or known.modules):
            return ""
        wanted = (known.environment, known.modules)
        return next(o.name for o in self._job.roles if (o.environment, o.modules) == wanted)

    def _differing(
        self, group: Sequence[tuple[_Place, Missing]]
    ) -> dict[str, dict[str, tuple[str, ...]]]:
        there = {place.session.name: it.packages for place, it in group}
        pythons = {place.session.name: place.version for place, _ in group}
        found = packages.differing(there, pythons)
        if not found or all(place.its.environment for place, _ in group):
            return found
        pythons = {host: version.rpartition(".")[0] for host, version in pythons.items()}
        from ..fleet.check.job_needs import imported  # slow, and hosts seldom differ

        needed = {*requirements.modules_of(self._job), *imported(self._job)}
        return packages.differing(there, pythons, needed)

    def _missing(self, without: Sequence[tuple[_Place, Sequence[str]]]) -> FrameworkMissing:
        """Return the first host's error, naming all other hosts that miss the same."""
        place, missing = without[0]
        names = requirements.first_of(self._job.framework, missing)
        others = dict.fromkeys(
            other.session.name
            for other, theirs in without
            if other.session is not place.session and set(names) & set(theirs)
        )
        inside = place.its.environment if place.container else None
        also = f"; nor do{'es' * (len(others) == 1)} {', '.join(others)}" if others else ""
        what, hint = requirements.describe_missing(
            *(self._job.framework, place.its.python, place.version, names),
            image=inside.image if inside else "",
            environment=place.its.environment,
        )
        return FrameworkMissing(place.session.name, what if inside else what + also, hint)

    def _folder(self, session: HostSession) -> str:
        root = self._node(session).root
        return posixpath.join(planner.run_dir(root, self._layout.run_id), "code")

    def _node(self, session: HostSession) -> Node:
        return next(node for node in self._layout.nodes if node.host.name == session.name)
