"""What podman has answered of images, for as long as nothing has changed where its answers come from.

An ID means the same for ever; whether it is still there, and what a name means, is in a file of podman's
storage, which each pull, load, tag and removal writes anew::

    images/podman-<host>.json   answers, and how that file and podman's settings looked before podman was
                                asked; hosts may share a home folder

Where podman looks may change unseen, as by a script that is called podman: what it then refuses to start
has the answers forgotten.
"""

from __future__ import annotations

import os
import pwd
import time

from ..base import json_files
from ..base.protocol import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

NAME = "podman-%s.json"
#: Has podman say where its storage is. Other stores may have images as well, and are not watched.
PLACE = "{{.Store.GraphRoot}}\t{{.Store.GraphDriverName}}\t{{.Store.GraphOptions}}"
#: Variables that say where a storage is, and which podman answers.
_VARIABLES = ("CONTAINER", "PODMAN", "STORAGE_", "XDG_CONFIG_", "XDG_DATA_", "XDG_RUNTIME_", "HOME")
#: Seconds within which two changes may look alike: the clock of files ticks, a hundredth at most.
_TICK = 0.1


def forget(folder: str) -> None:
    """Have podman asked anew of each image. ``folder`` is that of images."""
    try:
        os.unlink(_place(folder))
    except OSError:
        pass


class Answers:
    """Those of one podman, as its settings are now. ``folder`` is that of images."""

    def __init__(self, folder: str, program: str, env: Mapping[str, str]) -> None:
        self._path = _place(folder)
        self._settings = _settings(program, env)
        known = json_files.read(self._path)
        #: Whether podman was asked where its storage is.
        self.is_located = known.get("settings") == self._settings
        self._list = str(known["list"]) if self.is_located and "list" in known else ""
        self._was = _state(self._list)
        answers = known.get("answers") if self._was and known.get("was") == self._was else {}
        self._known: dict[str, Any] = answers if isinstance(answers, dict) else {}

    def of(self, image: str) -> dict[str, Any] | None:
        """Return what podman would answer; None where that is not known."""
        found = self._known.get(image)
        return dict(found) if isinstance(found, dict) else None

    def locate(self, said: str) -> None:
        """Take in what podman has said of :data:`PLACE`."""
        root, driver, more = (said.rstrip("\n").split("\t") + ["", ""])[:3]
        if root.startswith("/") and driver:
            if "imagestore" not in more:  # images may be in another store as well
                self._list = os.path.join(root, driver + "-images", "images.json")
            self._was = _state(self._list)
            self._write()

    def keep(self, image: str, answer: dict[str, Any]) -> None:
        """Remember what podman has answered since this was made, or since it has said its place."""
        is_settled = self._was and time.time() - self._was[-1] / 1e9 > _TICK
        if is_settled and self._lists(answer["id"]):
            self._known[image] = answer
            self._write()

    def _write(self) -> None:
        about = {"settings": self._settings, "list": self._list, "was": self._was}
        json_files.write(self._path, dict(about, answers=self._known))

    def _lists(self, image_id: str) -> bool:
        """Return whether the file has an image: it may be in a storage that is not watched."""
        try:
            with open(self._list) as file:
                return '"%s"' % image_id in file.read()
        except (OSError, ValueError):
            return False


def _place(folder: str) -> str:
    return os.path.join(folder, NAME % os.uname().nodename)


def _state(path: str) -> list[int]:
    """Return what differs once a file was written anew; [] for one that is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _settings(program: str, env: Mapping[str, str]) -> str:
    """Return a sum of all that decides which storage podman answers from, and what names mean there."""
    about: list[Any] = [program, _state(program), os.getuid()]
    about += sorted(one for one in env.items() if one[0].startswith(_VARIABLES))
    about += [(path, _state(path)) for path in _files(env)]
    return blake2b(repr(about).encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()


def _files(env: Mapping[str, str]) -> Iterator[str]:
    yield from ("/etc/subuid", "/etc/subgid")
    yield from (
        env[name] for name in sorted(env) if name.startswith("CONTAINER") and env[name][:1] == "/"
    )
    home = env.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    own = env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    for base in ("/usr/share", "/etc", own):
        for folder, folders, names in os.walk(os.path.join(base, "containers")):
            folders[:] = sorted(one for one in folders if one.endswith(".d"))
            yield from (os.path.join(folder, name) for name in sorted(names))
