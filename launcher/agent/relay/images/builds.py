"""Builds images of Dockerfiles on this host, for all hosts of a run.

::

    images/context-<key>        the files that a build may copy, sent by a launcher
    images/context-<key>.old    those of the build before, whose files the next one links to
    images/build-<pid>.*        Dockerfile, log and ID of a build, of a relay with that number
    images/locks/context-<key>  held while a context is sent and a build reads it

"""

from __future__ import annotations

import os
import re
import time

from ...base.protocol import Refused
from ...processes import build_guard
from ...processes.containers import DOCKER, PODMAN
from .. import tree
from . import runtimes
from .store import CONTEXT, Locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.messages import Message
    from ...processes.build_guard import Guard

#: What a build leaves if its relay is killed.
_LEFT = re.compile(r"build-([0-9]+)\.")
#: Bytes of a log that an answer carries.
PIECE = 1 << 14
#: Bytes of a Dockerfile, and of the file that says what of its context is left out.
MOST = 1 << 20
#: Seconds after which a build is ended that nobody asks about: a cable was pulled.
PATIENCE = 120.0
#: What podman says if the kernel or a container around us allows it no containers for RUN.
_NO_CONTAINERS = re.compile(r"error running container: .*creating container for", re.S)


class Builds:
    """Builds on this host for one connection: one at a time."""

    def __init__(self, root: str, locks: Locks) -> None:
        self.folder, self._locks = os.path.join(root, "images"), locks
        self._guard: Guard | None = None
        self._asked = 0.0
        self._request: Message = {}
        self._is_plain = False  # without containers of its own for RUN

    # -- where it can be done

    def builder(self, request: Message) -> Message:
        """Return the runtime that builds here, or why none does; and this host's machine."""
        wanted = request["runtime"]
        names = [wanted] if wanted in (PODMAN, DOCKER) else [PODMAN, DOCKER]
        why: list[str] = []
        code = "no-runtime"
        for name in names:
            path = runtimes.program(name)
            if not path:
                continue
            answers = ["info"] if name == PODMAN else ["version", "--format", "{{.Server.Version}}"]
            status, _, err = runtimes.ran([path, *answers], runtimes.PATIENCE, runtimes.login())
            if status == 0:
                return {
                    "state": "yours",
                    "runtime": name,
                    "program": path,
                    "machine": os.uname().machine,
                }
            code = runtimes.code_of(err) or "cannot-start"
            why.append("%s: %s" % (name, runtimes.reason(err)))
        return dict(runtimes.trouble(code, "; ".join(why)), machine=os.uname().machine)

    # -- what it reads

    def context(self, request: Message) -> Message:
        """Take the lock of a context, and say where its files go; and those of the last one, if any. Or
        give up what has come."""
        name = "context-%s" % request["key"]
        if not CONTEXT.match(name):
            raise Refused("bad-context", "not the key of a context: %.80r" % (request["key"],))
        if not self._locks.holds(name) and not self._locks.take(name):
            return {"state": "busy"}
        place = os.path.join(self.folder, name)
        if request.get("discard"):
            tree.remove(place)
            self._locks.drop(name)
            return {"state": "done"}
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        if os.path.isdir(place):
            tree.remove(place + ".old")
            os.rename(place, place + ".old")
        os.mkdir(place, 0o700)
        return {"state": "yours", "place": place}

    # -- the build

    def build(self, request: Message) -> Message:
        """Build an image; repeated until it is done, with how much of the log is known already."""
        if request.get("stop"):
            self.end()
            return {"state": "done"}
        self._asked = time.monotonic()
        if self._guard is None:
            self._clear()
            self._request, self._is_plain = request, False
            self._write(request)
            self._guard = self._started()
        is_over = self._guard.is_over()
        log, has_more = self._log_from(request["offset"])
        told = {"log": log.decode("utf-8", "replace"), "bytes": len(log)}
        if not is_over or has_more:
            return dict(told, state="working")
        code, text = self._guard.code or 0, self._tail()
        if code and self._is_denied_containers(text):
            self._is_plain = True
            with open(self._file("log"), "a") as file:
                file.write(build_guard.AGAIN + "\n")
            self._guard = self._started()
            return dict(told, state="working")
        answer = self._failed(code, text) if code else self._done()
        self.end()
        return dict(told, **answer)

    def _done(self) -> Message:
        with open(self._file("iid")) as file:
            image_id = file.read().strip().rpartition(":")[2]
        about = runtimes.inspected(self._request["program"], image_id)
        name = "context-%s" % self._request["key"]
        if self._locks.holds(name):
            tree.remove(os.path.join(self.folder, name + ".old"))
            self._locks.drop(name)
        machine = about.get("machine", "")
        return {"state": "done", "id": image_id, "machine": machine, "bases": self._bases()}

    def _failed(self, code: int, text: str) -> Message:
        said = runtimes.reason(text) or runtimes.silent(code)
        if code < 0 or (code > 128 and "Error: " not in text):
            said = "%s was killed" % self._request["runtime"]
        return {"state": "failed", "code": runtimes.code_of(text), "said": said}

    def _bases(self) -> dict[str, str]:
        """Return the IDs of the images that the build began from, as far as they are known here."""
        found = {}
        for name in self._request.get("bases", []):
            about = runtimes.inspected(self._request["program"], name)
            if about["state"] == "there":
                found[name] = about["id"]
        return found

    def bases(self, request: Message) -> Message:
        """Return the IDs that images have here now, by their names."""
        self._request = request
        return {"state": "done", "bases": self._bases()}

    def _is_denied_containers(self, text: str) -> bool:
        return (
            self._request["runtime"] == PODMAN
            and not self._is_plain
            and "BUILDAH_ISOLATION" not in os.environ
            and _NO_CONTAINERS.search(text) is not None
        )

    def _write(self, request: Message) -> None:
        """Write the Dockerfile, and what of the context it does not see."""
        for name in ("dockerfile", "ignore"):
            if len(request[name]) > MOST:
                raise Refused("bad-dockerfile", "%s is too long" % name)
        with open(self._file("Dockerfile"), "w") as file:
            file.write(request["dockerfile"])
        with open(self._file("Dockerfile.dockerignore"), "w") as file:
            file.write(request["ignore"])

    def _started(self) -> Guard:
        request = self._request
        program, is_podman = request["program"], request["runtime"] == PODMAN
        env = dict(runtimes.login(), BUILDKIT_PROGRESS="plain", NO_COLOR="1")
        if self._is_plain:
            env["BUILDAH_ISOLATION"] = "chroot"
        context = request["context"] or os.path.join(self.folder, "context-%s" % request["key"])
        words = [program, "build", "--file", self._file("Dockerfile"), "--tag", request["tag"]]
        words += ["--iidfile", self._file("iid"), "--force-rm"]
        if is_podman:  # what docker understands, SHELL and HEALTHCHECK, needs docker's form
            ignored = self._file("Dockerfile.dockerignore")
            words += ["--format", "docker", "--layers", "--ignorefile", ignored]
        for argument in request["build_args"]:
            words += ["--build-arg", argument]
        bases = request.get("bases", [])
        local = [name for name in bases if name.startswith("localhost/")]  # in no registry
        if request["pull"] and len(local) < len(bases):
            words.append("--pull=newer" if local and is_podman else "--pull")

        def command(mark: str) -> list[str]:
            marked = ["--add-host", mark + ":127.0.0.1"] if is_podman else []
            return [*words, *marked, context]

        clean = _Cleaner(program) if is_podman else _nothing
        return build_guard.start(command, env, self._file("log"), clean)

    def _file(self, kind: str) -> str:
        return os.path.join(self.folder, "build-%d.%s" % (os.getpid(), kind))

    def _log_from(self, offset: int) -> tuple[bytes, bool]:
        """Return a piece of the log, of whole lines if there are any, and whether there is more."""
        try:
            with open(self._file("log"), "rb") as file:
                file.seek(offset)
                piece = file.read(PIECE)
        except OSError:
            return b"", False
        has_more = len(piece) == PIECE
        return (piece[: piece.rfind(b"\n") + 1] or piece if has_more else piece), has_more

    def _tail(self) -> str:
        try:
            with open(self._file("log"), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - PIECE))
                return file.read(PIECE).decode("utf-8", "replace")
        except OSError:
            return ""

    def expire(self) -> None:
        """End a build that nobody has asked about for long."""
        if self._guard and time.monotonic() - self._asked > PATIENCE:
            self.end()

    def end(self) -> None:
        """End a build that nobody waits for any more, and remove its files."""
        if self._guard:
            self._guard.stop()
            self._guard = None
            self._remove(os.getpid())

    def _remove(self, pid: int) -> None:
        for name in os.listdir(self.folder):
            found = _LEFT.match(name)
            if found and int(found[1]) == pid:
                os.unlink(os.path.join(self.folder, name))

    def _clear(self) -> None:
        """Remove what relays that were killed have left."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        for name in os.listdir(self.folder):
            found = _LEFT.match(name)
            if found and not os.path.exists("/proc/%s" % found[1]):
                self._remove(int(found[1]))
        self._remove(os.getpid())


def _nothing(is_meant: Callable[[str], bool]) -> None:
    """Clean up where the daemon does."""


class _Cleaner:
    """Removes working containers of podman."""

    def __init__(self, program: str) -> None:
        self._program = program

    def __call__(self, is_meant: Callable[[str], bool]) -> None:
        words = [self._program, "info", "--format", "{{.Store.GraphRoot}}"]
        _, out, _ = runtimes.ran(words, runtimes.PATIENCE, runtimes.login())
        for _ in range(3):  # one that is just made may be seen too late
            found = build_guard.working_containers(out.strip(), is_meant) if out.strip() else []
            if not found:
                break
            removing = [self._program, "rm", "--force", *found]
            runtimes.ran(removing, runtimes.PATIENCE, runtimes.login())
            time.sleep(build_guard.PAUSE)
