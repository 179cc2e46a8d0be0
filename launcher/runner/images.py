"""The image of a run: all hosts have the same one before anything starts, pinned by its ID."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..jobs.image_requests import image_request
from ..records import events as ev
from ..spec.containers import Container
from ..spec.environments import Environment
from .context import RunContext
from .host_session import HostSession
from .image_bringing import Bringing, Others

#: In the folder of the run: what a build of its image has printed.
LOG = "image.log"


class Images:
    """Gives hosts the image of a job; does nothing for a job that names none."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._wanted = context.job.environment or Environment()
        self._had: list[HostSession] = []  # hosts that got it before

    async def give(self, sessions: Sequence[HostSession]) -> None:
        """Make sure that all hosts can start the same image. Raises HostError, InputError."""
        sessions = [one for one in sessions if one.container is None]
        if not self._wanted.image or not sessions:
            return
        from . import image_building  # most runs build none

        started = time.time()
        context = self._context
        ours = {"run": context.name, "uses": True}
        bringing = Bringing(
            self._wanted,
            lambda session: {**image_request(context.job, session.facts), **ours},
            context.folder.path.parent.parent / "images" / context.name,
            context.add,
            Others(self._of_other_hosts, tuple(one for one in self._had if not one.is_over)),
            building=image_building.of(self._wanted, context.folder.path / LOG, context.add),
        )
        given = await bringing.give(sessions)
        for session in sessions:
            answer = given.found[session.name]
            assert answer.spec
            session.container = Container(
                answer.id, answer.spec, answer.python, answer.python_version
            )
        self._had += sessions
        ids = {given.found[one.name].machine: given.found[one.name].id for one in sessions}
        context.add(
            ev.ImageGiven(
                time=time.time(),
                image=self._wanted.image,
                id=given.found[sessions[0].name].id,
                runtimes={s.name: given.found[s.name].runtime for s in sessions},
                brought=given.brought,
                seconds=time.time() - started,
                ids=ids if len(ids) > 1 else {},
            )
        )

    @property
    def _of_other_hosts(self) -> str:
        """The ID that the hosts of the run have had so far; one for each kind of machine."""
        given = (event for event in self._context.events if isinstance(event, ev.ImageGiven))
        return " ".join(
            dict.fromkeys(one for event in given for one in event.ids.values() or [event.id])
        )
