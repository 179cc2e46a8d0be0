"""The images of a run: all hosts have the same ones before anything starts, pinned by their IDs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...jobs.environments import images_of, is_needed, roles_with
from ...jobs.image_requests import image_request
from ...records import events as ev
from ...spec.containers import Container
from ...spec.environments import Environment
from ...spec.errors import LauncherError
from ...spec.model import Layout
from ..context import RunContext
from ..host_session import HostSession
from ..listeners import OnEvent
from ..policy import images
from .bringing import Bringing, Given, Others

if TYPE_CHECKING:
    from .building import Building


class Images:
    """Gives hosts the images of a job and its roles; does nothing for a job that names none."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._wanted = images_of(context.job)
        self._had: dict[str, list[HostSession]] = {}  # by image, hosts that have got it

    async def give(self, sessions: Sequence[HostSession], layout: Layout) -> None:
        """Make sure that all hosts can start the same image of a role, one image after the other. Of a
        layout without nodes it is not known yet which roles a host has. Raises HostError, InputError."""
        for wanted in self._wanted:
            had = self._had.setdefault(wanted.key, [])
            had += [one for one in sessions if wanted.key in one.containers and one not in had]
            lacking = [
                one
                for one in sessions
                if wanted.key not in one.containers
                and is_needed(self._context.job, layout, one.name, wanted)
            ]
            if lacking:
                await self._give(wanted, lacking)

    async def _give(self, wanted: Environment, sessions: Sequence[HostSession]) -> None:
        started, context, roles = time.time(), self._context, self._roles(wanted)
        given = await self._bring(wanted, sessions, roles)
        for session in sessions:
            answer = given.found[session.name]
            assert answer.spec
            session.containers[wanted.key] = Container(
                answer.id, answer.spec, answer.python, answer.python_version
            )
        ids = {given.found[one.name].machine: given.found[one.name].id for one in sessions}
        context.add(
            ev.ImageGiven(
                time=time.time(),
                image=wanted.image,
                id=given.found[sessions[0].name].id,
                runtimes={s.name: given.found[s.name].runtime for s in sessions},
                brought=given.brought,
                seconds=time.time() - started,
                ids=ids if len(ids) > 1 else {},
                roles=roles,
            )
        )

    async def _bring(
        self, wanted: Environment, sessions: Sequence[HostSession], roles: tuple[str, ...]
    ) -> Given:
        context = self._context
        ours = {"run": context.name, "uses": True}
        log = context.folder.path / images.log(wanted, self._wanted, roles)
        bringing = Bringing(
            wanted,
            lambda session: {
                **image_request(context.job, wanted, session.facts, session.host.data_folder),
                **ours,
            },
            context.folder.path.parent.parent / "images" / context.name,
            context.add,
            Others(self._id_so_far(wanted, roles), self._living(wanted)),
            building=_building_of(wanted, log, context.add),
        )
        try:
            return await bringing.give(sessions)
        except LauncherError as error:
            raise images.of_roles(error, roles) from None

    def _roles(self, wanted: Environment) -> tuple[str, ...]:
        """Return the roles that run in an image, if not all of the job does."""
        job = self._context.job
        return roles_with(job, wanted) if job.has_several_environments else ()

    def _living(self, wanted: Environment) -> tuple[HostSession, ...]:
        return tuple(one for one in self._had.get(wanted.key, ()) if not one.is_over)

    def _id_so_far(self, wanted: Environment, roles: tuple[str, ...]) -> str:
        """Return the ID that the hosts of the run have had so far; one for each kind of machine."""
        given = [
            event
            for event in self._context.events
            if isinstance(event, ev.ImageGiven)
            and (event.image, event.roles) == (wanted.image, roles)
        ]
        return " ".join(
            dict.fromkeys(one for event in given for one in event.ids.values() or [event.id])
        )


def _building_of(wanted: Environment, log: Path, on_event: OnEvent) -> Building | None:
    if not wanted.is_built:
        return None
    from . import building  # most runs build none

    return building.of(wanted, log, on_event)
