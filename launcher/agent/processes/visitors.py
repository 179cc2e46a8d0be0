"""Containers of no run: the first start of an image, a search in one, a visitor's command.

Each belongs to a process of the host, this one or the shell of a visitor, and ends with it.

::

    visitors/<name>       which runtime has the container, and its name
    visitors/<name>.fifo  held open by whom it belongs to; what is in the container ends when nobody does
"""

from __future__ import annotations

import errno
import os

from . import container_list, containers
from .heard import Heard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..base.messages import ContainerSpec

#: Below the root.
FOLDER = containers.VISITORS


class Visitor(Heard):
    """A program in an image that this process waits for. It leaves no container, once :meth:`end` was
    called, or the next launcher has connected."""

    def __init__(
        self,
        root: str,
        spec: ContainerSpec,
        argv: list[str],
        env: Mapping[str, str],
        login: Mapping[str, str],
    ) -> None:
        folder = os.path.join(root, FOLDER)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        name = "launcher-visitor-%d-%s" % (os.getpid(), os.urandom(4).hex())
        self._place = os.path.join(folder, name)
        self._fifo = _held(self._place)
        container_list.note(self._place, [(spec, name)])
        fifo = self._place + ".fifo" if self._fifo is not None else ""
        what = containers.Contained(argv, env, "/", files=("", "", fifo, ""))
        words, passed = containers.command(spec, what, name, containers.VISITOR)
        super().__init__(words, containers.client_environment(spec, passed, login))

    def end(self) -> None:
        """End it if it is not over, and leave no container."""
        super().end()
        if self._fifo is not None:
            os.close(self._fifo)
            self._fifo = None
        # A client that exits well has removed the container.
        if self.code == 0 or container_list.remove_noted(self._place):
            _forget(self._place)


def end_left(root: str) -> None:
    """Remove the containers whose owners were killed."""
    folder = os.path.join(root, FOLDER)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        place = os.path.join(folder, name)
        if name.endswith((".fifo", ".new")):
            if not os.path.exists(place.rpartition(".")[0]) and not _is_held(place):
                _unlink(place)
        elif not _is_held(place + ".fifo") and container_list.remove_noted(place):
            _forget(place)


def _held(place: str) -> int | None:
    """Make a fifo for a place and hold it open; return None on a file system that has none."""
    try:
        os.mkfifo(place + ".new", 0o600)
        held = os.open(place + ".new", os.O_RDWR | os.O_CLOEXEC)
        os.rename(place + ".new", place + ".fifo")  # where it is seen, it is held
        return held
    except OSError:
        return None


def _is_held(fifo: str) -> bool:
    """Return whether somebody has a fifo open."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return True
    except OSError as error:
        return error.errno not in (errno.ENXIO, errno.ENOENT)


def _forget(place: str) -> None:
    _unlink(place)
    _unlink(place + ".fifo")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
