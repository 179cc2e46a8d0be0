"""A relay's part in the decision about a quota: it locks, shows and writes the books of this host."""

from __future__ import annotations

import errno
import os
import time

from ..base.protocol import Refused
from ..host import project_books, projects, socket_names
from ..processes.processes import user_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.lean import Socket
    from ..base.messages import Message

#: Seconds after which a lock is let go, whatever its launcher does: others wait for it.
LONGEST = 20.0


class ProjectRound:
    """The lock of one project on this host, while its launcher decides."""

    def __init__(self) -> None:
        self._lock: Socket | None = None
        self._project, self._until = "", 0.0

    def answer(self, request: Message) -> Message:
        """Do what is asked for: look, lock, write, drop or unlock. Raises Refused, OSError."""
        self.expire()
        do, project = request["do"], request.get("project", "")
        if do == "lock":
            return dict(self._look(), **self._take(project))
        if do == "write":
            if self._lock is None or self._project != project:
                raise Refused("not-locked", "the lock of %s was let go" % project)
            run, hosts = request["run"], request["hosts"]
            preemptible = bool(request.get("preemptible"))
            project_books.write(run, project, request["gpus"], preemptible, hosts)
        elif do == "drop":
            project_books.remove(request["run"])
        elif do == "unlock":
            self._let_go()
        elif do != "look":
            raise Refused("bad-request", "no such step: %.80r" % (do,))
        return self._look()

    def expire(self) -> None:
        """Let go of a lock that was held for too long: a launcher that stands still keeps nobody."""
        if self._lock and time.monotonic() > self._until:
            self._let_go()

    def _take(self, project: str) -> Message:
        if not projects.is_project(project):
            raise Refused("bad-request", "not a project: %.80r" % (project,))
        if self._lock and self._project == project:
            return {"locked": True}
        self._let_go()
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

    def _let_go(self) -> None:
        if self._lock:
            self._lock.close()
        self._lock = None

    def _look(self) -> Message:
        members = projects.members(socket_names.seen(whole=True))
        return {"members": members, "books": project_books.read(), "user": user_name(os.getuid())}
