"""Outputs that a job names by absolute paths or by ``~``: what the run has written there.

Here they have the paths that they get in the outputs of the run, below :data:`ROOT` or :data:`HOME`:
``/tmp/ckpt/a.pt`` is ``_root/tmp/ckpt/a.pt``, and ``~/results/b`` is ``_home/results/b``.
"""

from __future__ import annotations

import os
import stat

from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Tuple

    from .tree import Listed

ROOT, HOME = "_root", "_home"
#: Most files and folders that are looked at for one pattern.
MOST_LOOKED = 200_000
#: Seconds by which a file may seem older than it is: file systems have whole seconds, and clocks of
#: their own.
SLACK = 2.0
GLOB = "*?["


class Elsewhere:
    """What is found: files by their paths among the outputs, the real folder of each ``place``, and
    what is ``noted`` besides."""

    def __init__(
        self, since: float, own: str, going_on: Callable[[], object], noted: tree.Noted
    ) -> None:
        self.files: dict[str, Listed] = {}
        self.places: dict[str, str] = {}
        self.noted = noted
        self._since, self._going_on = since - SLACK, going_on
        self._own = os.path.realpath(own)  # our own folder: other runs are no outputs of this one

    def look(self, pattern: str) -> None:
        """Look for what a pattern names: a file, a folder with all that is in it, or a glob."""
        fixed, rest = split(pattern)
        place = os.path.expanduser(fixed)
        try:
            is_folder = stat.S_ISDIR(os.stat(place).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_folder = False
            if not os.path.lexists(place):
                return  # nothing was written there
        except OSError as error:
            self.noted.unreadable[pattern] = str(error.strerror)
            return
        folder = os.path.realpath(place if is_folder else os.path.dirname(place))
        if _is_below(folder, self._own) or (is_folder and folder == "/"):
            self.noted.unreadable[pattern] = "it leads to %s" % folder
        elif is_folder:
            self._take(pattern, folder, shown_as(fixed), rest)
        elif os.path.islink(place):
            self.noted.left_out[pattern] = "it is a link to %s" % os.readlink(place)
        elif not rest:
            shown = os.path.dirname(shown_as(fixed))
            if self._take_one(folder, shown, os.path.basename(place)):
                self.places[shown] = folder

    def _take(self, pattern: str, folder: str, shown: str, rest: str) -> None:
        found = False
        for looked, name in enumerate(self._walk(folder)):
            if looked >= MOST_LOOKED:
                self.noted.unreadable[pattern] = (
                    "there is too much to look through: name a smaller folder"
                )
                break
            if name and (not rest or tree.matches(name, rest)):
                found = self._take_one(folder, shown, name) or found
        if found:
            self.places[shown] = folder

    def _take_one(self, folder: str, shown: str, name: str) -> bool:
        """Return whether it is a file, or a link to one of the same place, that the run has written."""
        path, place = "%s/%s" % (shown, name), os.path.join(folder, name)
        try:
            status = os.lstat(place)
        except OSError:
            return False  # removed meanwhile
        if max(status.st_mtime, status.st_ctime) < self._since:
            return False  # it was there before the run
        if stat.S_ISLNK(status.st_mode):
            there, why = tree.target(folder, name)
            if why:
                self.noted.left_out[place] = why
            else:
                self.noted.links[path] = "%s/%s" % (shown, there)
        elif not stat.S_ISREG(status.st_mode):
            self.noted.left_out[place] = "it is a pipe, a socket or a device"
        elif not os.access(place, os.R_OK):
            self.noted.unreadable[place] = "Permission denied"
        else:
            self.files[path] = (path, status.st_size, min(status.st_mtime_ns, tree.LATEST))
            self.noted.file(path, status)
        return path in self.files or path in self.noted.links

    def _walk(self, top: str) -> Iterator[str]:
        """Yield the paths of files and links below a folder, and "" for each folder. Follow no link."""
        queue = [""]
        while queue:
            inside = queue.pop()
            self._going_on()
            yield ""
            try:
                with os.scandir(os.path.join(top, inside)) as entries:
                    for entry in entries:
                        name = inside + "/" + entry.name if inside else entry.name
                        if not entry.is_dir(follow_symlinks=False):
                            yield name
                        elif os.path.join(top, name) != self._own:
                            queue.append(name)
            except OSError as error:
                self.noted.unreadable[os.path.join(top, inside)] = str(error.strerror)


def split(pattern: str) -> Tuple[str, str]:
    """Return the folder or file that a pattern begins with, and what is a glob below it."""
    parts = os.path.normpath(pattern).split("/")
    fixed = len(parts)
    for number, part in enumerate(parts):
        if any(sign in part for sign in GLOB):
            fixed = number
            break
    return "/".join(parts[:fixed]) or "/", "/".join(parts[fixed:])


def shown_as(path: str) -> str:
    """Return the path among the outputs of a path that begins with ``/`` or ``~``."""
    if path.startswith("~"):
        return HOME + path[1:]
    return ROOT + path.rstrip("/")


def _is_below(path: str, folder: str) -> bool:
    return (path + "/").startswith(folder.rstrip("/") + "/")


def began(run_dir: str) -> float:
    """Return when the run began here: its copy of the code came before anything of it was started."""
    for name in (tree.SNAPSHOT, "run.json"):
        try:
            return os.stat(os.path.join(run_dir, name)).st_mtime
        except OSError:
            continue
    return 0.0
