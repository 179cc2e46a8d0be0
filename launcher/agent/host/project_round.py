"""The part of one host in the decision about a quota: it locks, shows and writes its books, for a relay
and its launcher, or for a supervisor and the one that leads it."""

from __future__ import annotations

import errno
import os
import time

from ..base.protocol import Refused
from ..processes.processes import user_name
from . import project_books, projects, socket_names, witnesses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.lean import Socket
    from ..base.messages import Message

#: Seconds after which a lock is let go, whatever becomes of who decides: others wait for it.
LONGEST = 20.0


class ProjectRound:
    """The lock of one project on this host, while somebody decides."""

    def __init__(self) -> None:
        self._lock: Socket | None = None
        self._project, self._until = "", 0.0

    def answer(self, request: Message) -> Message:
        """Do what a launcher asks for: look, lock, write, drop, leave, dismiss or unlock. Raises
        Refused, OSError."""
        self.expire()
        do, project = request["do"], request.get("project", "")
        if do == "lock":
            return dict(look(), **self.lock(project))
        if do == "write":
            preemptible = bool(request.get("preemptible"))
            self.write(request["run"], project, request["gpus"], preemptible, request["hosts"])
        elif do == "drop":
            project_books.remove(request["run"])
        elif do == "leave":  # the run is over: nothing of it is left here
            project_books.remove(request["run"])
            witnesses.end(request["run"])
        elif do == "dismiss":  # it is over, as far as is known: some of its hosts may still show it
            witnesses.end(request["run"])
        elif do == "unlock":
            self.unlock()
        elif do != "look":
            raise Refused("bad-request", "no such step: %.80r" % (do,))
        return look()

    def expire(self) -> None:
        """Let go of a lock that was held for too long: who stands still keeps nobody."""
        if self._lock and time.monotonic() > self._until:
            self.unlock()

    def lock(self, project: str) -> Message:
        """Lock a project here; return whether it is ``locked``, or else whose the lock is, if known.
        Raises Refused, OSError."""
        if not projects.is_project(project):
            raise Refused("bad-request", "not a project: %.80r" % (project,))
        if self._lock and self._project == project:
            return {"locked": True}
        self.unlock()
        name = "project/%s" % project
        try:
            self._lock = socket_names.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            holder = socket_names.seen().get(name)
            uid = socket_names.uid_of(holder) if holder else None
            return {"locked": False, "holder": "" if uid is None else user_name(uid)}
        self._project, self._until = project, time.monotonic() + LONGEST
        return {"locked": True}

    def write(self, run: str, project: str, gpus: int, preemptible: bool, hosts: list[str]) -> None:
        """Note that a run uses GPUs, under a lock held since the books were read. Raises Refused,
        OSError."""
        self.expire()
        if self._lock is None or self._project != project:
            raise Refused("not-locked", "the lock of %s was let go" % project)
        project_books.write(run, project, gpus, preemptible, hosts)

    def unlock(self) -> None:
        """Let go of the lock, if there is one."""
        if self._lock:
            self._lock.close()
        self._lock = None


def look() -> Message:
    """Return how projects stand here: who uses GPUs, what books say, and who asks. Raises OSError."""
    members = projects.members(socket_names.seen(whole=True))
    return {"members": members, "books": project_books.read(), "user": user_name(os.getuid())}
