"""What is known of the images that runs on this host have used, or that a launcher has brought.

::

    images/used/<key>    what an image is called and where it is; touched whenever it is used
    images/locks/<key>   held shared while a run begins with it, and alone while it is removed
    images/<id>.tar      a file that a launcher sends; one that stays was interrupted
    images/saved-<pid>.tar  a file for another host, of a relay with that number
    images/context-<key>    files for builds, as builds.py has them

The images themselves are the runtimes'. A run that is alive has a link ``image-<key>`` in its folder for
each that it uses, and keeps what these lead to.
"""

from __future__ import annotations

import fcntl
import os
import re
import time

from ...base import lean, run_lock
from ...base.protocol import blake2b
from ...processes.containers import DOCKER, PODMAN
from .. import tree
from . import runtimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ...base.messages import Message

KEY = re.compile(r"[0-9a-f]{20}\Z")
#: Files that an interrupted launcher or relay leaves.
_SENT, _SAVED = re.compile(r"([0-9a-f]{64})\.tar\Z"), re.compile(r"saved-([0-9]+)\.tar\Z")
#: The files of a build: their folder, and what has its lock.
CONTEXT = re.compile(r"context-[0-9a-f]{16}\Z")
#: In the folder of a run: links to the images that it uses, and the only one that earlier versions make.
LINKS, OLD_LINK = "image-", "image"
#: Seconds for which a run waits until an image is removed, and for a runtime to remove one.
REMOVAL = 150.0
#: Most images, and most names of one, that are listed.
MOST, NAMES = 2000, 50


class Locks:
    """Locks below a folder that this process holds until it exits, or lets go."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def take(self, name: str, kind: int = fcntl.LOCK_EX) -> bool:
        """Take a lock, unless others hold it."""
        if name not in self._held:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            path = os.path.join(self._folder, name)
            self._held[name] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held[name], kind | fcntl.LOCK_NB)
        except OSError:
            self.drop(name)
            return False
        return True

    def holds(self, name: str) -> bool:
        """Return whether this process has it."""
        return name in self._held

    def mark(self, name: str) -> None:
        """Note when what a lock is for was changed, for those who had looked before they took it."""
        os.utime(self._held[name], (time.time(), time.time()))

    def is_marked(self, name: str, since: float) -> bool:
        """Return whether that was so since then; also for a lock that is new."""
        return os.fstat(self._held[name]).st_mtime >= since

    def drop(self, name: str) -> None:
        """Let go of a lock."""
        if name in self._held:
            os.close(self._held.pop(name))


class ImageStore:
    """The images that are known below ``root``."""

    def __init__(self, root: str, going_on: Callable[[], object] = lambda: None) -> None:
        self.root, self.folder = root, os.path.join(root, "images")
        self.locks = Locks(os.path.join(self.folder, "locks"))
        self._going_on = going_on

    # -- use

    def hold(self, runtime: str, about: str, since: float) -> bool:
        """Keep an image from being removed while this process lives; return whether somebody may have
        removed it ``since`` it was looked for."""
        key, waited = _key(runtime, about), False
        deadline = time.monotonic() + REMOVAL
        while not self.locks.take(key, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                return True
            waited = True
            self._going_on()
            time.sleep(0.05)
        return waited or self.locks.is_marked(key, since)

    def note(
        self, runtime: str, program: str, image: str, image_id: str, run: str, brought: bool
    ) -> None:
        """Write down that an image is used: now, and by a run while that is alive, if it is one."""
        key = _key(runtime, image_id or image)
        path = os.path.join(self.folder, "used", key)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        brought = brought or bool((self._read(key) or {}).get("brought"))
        about = {"runtime": runtime, "program": program, "image": image, "id": image_id}
        new = "%s.%d.new" % (path, os.getpid())
        with open(new, "w") as file:
            file.write(lean.dumps(dict(about, brought=brought)))
        os.replace(new, path)
        run_dir = os.path.join(self.root, "runs", run)
        if run_lock.is_run_name(run) and os.path.isdir(run_dir):
            try:
                os.symlink(path, os.path.join(run_dir, LINKS + key))
            except FileExistsError:  # it was given to the run before
                pass

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            with open(os.path.join(self.folder, "used", key)) as file:
                known: dict[str, Any] = lean.loads(file.read())
        except (OSError, ValueError):
            return None
        words = ("runtime", "program", "image", "id")
        return known if all(isinstance(known.get(word), str) for word in words) else None

    # -- listing

    def listed(self) -> Message:
        """Return the images that are there; and by runtime, why it does not tell of its own.

        What somebody has removed meanwhile is forgotten.
        """
        found: list[Message] = []
        trouble: dict[str, Message] = {}
        runs = self._runs()
        by_program: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        for key, known in self._known():
            kind = (known["runtime"], known["program"])
            by_program.setdefault(kind, {})[key] = known
        for (runtime, program), images in by_program.items():
            self._going_on()
            if runtime not in (PODMAN, DOCKER):
                found += [self._of_path(key, images[key], runs) for key in images]
                continue
            there, why = runtimes.described(program, [one["id"] for one in images.values()])
            if why:
                trouble[runtime] = why
                continue
            has_containers = bool(there) and runtimes.has_containers(program)
            for key, known in images.items():
                about = there.get(known["id"])
                if about is None:
                    self._forget(key)
                    continue
                names = runtimes.users(program, known["id"]) if has_containers else []
                found.append(self._row(key, known, runs, about[0], about[1], names))
        found = [one for one in found if one]
        return {"images": found[:MOST], "trouble": trouble}

    def _known(self) -> Iterator[tuple[str, dict[str, Any]]]:
        folder = os.path.join(self.folder, "used")
        for key in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            known = self._read(key) if KEY.match(key) else None
            if known:
                yield key, known

    def _runs(self) -> dict[str, list[str]]:
        """Return the runs that are alive, by the keys of the images that each uses."""
        base = os.path.join(self.root, "runs")
        found: dict[str, list[str]] = {}
        for name in sorted(os.listdir(base)) if os.path.isdir(base) else ():
            keys = _linked(os.path.join(base, name))
            if keys and run_lock.is_alive(os.path.join(base, name)):
                for key in keys:
                    found.setdefault(key, []).append(name)
        return found

    def _of_path(self, key: str, known: dict[str, Any], runs: dict[str, list[str]]) -> Message:
        path = known["image"]
        if not os.path.exists(path):
            self._forget(key)
            return {}
        size = os.path.getsize(path) if os.path.isfile(path) else None
        return self._row(key, known, runs, size, [path], [])

    def _row(
        self,
        key: str,
        known: dict[str, Any],
        runs: dict[str, list[str]],
        size: int | None,
        names: list[str],
        containers: list[str],
    ) -> Message:
        its = runs.get(key, [])
        others = [n for n in containers if not any(n.startswith("launcher-%s-" % r) for r in its)]
        try:
            used = os.stat(os.path.join(self.folder, "used", key)).st_mtime
        except OSError:
            return {}  # it has just been removed
        return {
            "key": key,
            "runtime": known["runtime"],
            "id": known["id"],
            "names": names[:NAMES],
            "bytes": size,
            "used": used,
            "brought": bool(known.get("brought")),
            "runs": its[:NAMES],
            "containers": others[:NAMES],
        }

    def _forget(self, key: str) -> None:
        """Forget an image that is not there, unless a run is about to use it."""
        if self.locks.holds(key) or not self.locks.take(key):
            return
        _unlink(os.path.join(self.folder, "used", key))
        self.locks.drop(key)

    # -- removal

    def remove(self, key: str) -> Message:
        """Remove an image with all its names; return what uses it, else why it stays."""
        known = self._read(key) if KEY.match(key) else None
        if known is None:
            return {"state": "missing"}
        if known["runtime"] not in (PODMAN, DOCKER):
            return {"state": "of-host", "said": known["image"]}
        by = self._runs_of(key)
        if not by and not self.locks.take(key):
            by = ["a run that begins"]
        try:
            by = by or self._runs_of(key)
            if by:
                return {"state": "used", "by": by}
            containers = runtimes.users(known["program"], known["id"])
            if containers:
                return {"state": "used", "by": ["container %s" % n for n in containers[:NAMES]]}
            self.locks.mark(key)
            why = runtimes.remove(known["program"], known["id"], REMOVAL)
            if why:
                return dict(why, state="failed")
            _unlink(os.path.join(self.folder, "used", key))
            return {"state": "removed"}
        finally:
            self.locks.drop(key)

    def _runs_of(self, key: str) -> list[str]:
        return ["run %s" % run for run in self._runs().get(key, [])[:NAMES]]

    # -- keeping house

    def kept(self) -> list[Message]:
        """Return what a launcher has brought here: images, and files that were left."""
        if not os.path.isdir(self.folder):
            return []
        known = [one for one in self.listed()["images"] if one["brought"]]
        found = [
            {
                "image": one["key"],
                "name": (one["names"] or [one["id"][:12]])[0][:500],
                "bytes": one["bytes"] or 0,
                "used": one["used"],
                "in_use": bool(one["runs"] or one["containers"]),
            }
            for one in known
        ]
        for name in sorted(os.listdir(self.folder)):
            path = os.path.join(self.folder, name)
            if CONTEXT.match(name):
                found.append(self._context(name))
            if not (_SENT.match(name) or _SAVED.match(name)) or os.path.islink(path):
                continue
            try:
                status = os.stat(path)
            except OSError:
                continue
            is_free = self._take(name)
            self.locks.drop(name[:64])
            found.append(
                {
                    "image": name,
                    "name": name,
                    "bytes": status.st_blocks * 512,
                    "used": status.st_mtime,
                    "in_use": not is_free,
                }
            )
        return found

    def _context(self, name: str) -> Message:
        """Return what the files of a build take, and whether one reads them."""
        path = os.path.join(self.folder, name)
        is_free = self.locks.take(name)
        self.locks.drop(name)
        size = 0
        for place in (path, path + ".old"):
            for _, entry in tree.walk(os.fsencode(place)) if os.path.isdir(place) else ():
                size += entry.stat(follow_symlinks=False).st_blocks * 512
        return {
            "image": name,
            "name": name,
            "bytes": size,
            "used": tree.mtime(path),
            "in_use": not is_free,
        }

    def _take(self, name: str) -> bool:
        """Return whether nobody sends or makes a file; hold the lock of one that is sent."""
        sent, saved = _SENT.match(name), _SAVED.match(name)
        if sent:
            return self.locks.take(sent[1])
        return bool(saved) and not os.path.exists("/proc/%s" % saved[1])  # type: ignore[index]

    def prune(self, key: str) -> bool:
        """Remove an image or a file that :meth:`kept` has named; return whether it is gone."""
        if KEY.match(key):
            return self.remove(key)["state"] in ("removed", "missing")
        if CONTEXT.match(key):
            return self._remove_context(key)
        is_free = self._take(key)
        if is_free:
            _unlink(os.path.join(self.folder, key))
        self.locks.drop(key[:64])
        return is_free

    def _remove_context(self, name: str) -> bool:
        is_free = self.locks.take(name)
        if is_free:
            for path in (name + ".old", name):
                tree.remove(os.path.join(self.folder, path))
        self.locks.drop(name)
        return is_free


def _linked(run_dir: str) -> set[str]:
    """Return the keys of the images to which the folder of a run has links."""
    found = set()
    for name in os.listdir(run_dir) if os.path.isdir(run_dir) else ():
        link = os.path.join(run_dir, name)
        if (name == OLD_LINK or name.startswith(LINKS)) and os.path.islink(link):
            found.add(os.path.basename(os.readlink(link)))
    return found


def _key(runtime: str, about: str) -> str:
    text = "%s\0%s" % (runtime, about)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
