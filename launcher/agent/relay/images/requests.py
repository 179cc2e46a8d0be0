"""The images that runs on this host ask for: looked up, pulled, loaded from a file, or saved into one.

::

    images/<id>.tar      an image that a launcher sends; removed once it is loaded
    images/locks/<id>    held while it is sent and loaded
    images/known/<key>   what an image holds: it never changes (searches: ../host/searched.py)
    images/podman-*.json what podman has answered; see ../host/podman_answers.py
    home/                the home folder of programs in images

Which are there, and who uses them, is in store.py.

"""

from __future__ import annotations

import os
import re
import time

from ...base import json_files
from ...base.protocol import Refused, blake2b
from ...host import podman_answers
from ...processes import visitors
from ...processes.containers import APPTAINER, BWRAP, DOCKER, PODMAN
from ...processes.heard import Heard
from ..steps import Steps
from . import runtimes, specs
from .store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from ...base.messages import ContainerSpec, Message
    from .builds import Builds

#: Seconds for a runtime to start a first container: without rights, podman gives each file of an image
#: to the user's IDs once, which takes minutes. And for the image's Python to answer in it.
STARTING, ANSWERING = 1800.0, 60.0
#: Seconds after which a start that goes on is reported, and after which one ends that nobody asks about.
PIECE, ABANDONED = 1.0, 120.0
#: What a container prints first.
_BEGUN = "launcher-begun"
#: How an image is named: 64 hexadecimal digits, the digest of its configuration.
_ID = re.compile(r"[0-9a-f]{64}\Z")
#: What images call machines, and what the kernel does.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}
#: Those that another runtime would not change.
_FINAL = ("other-machine", "no-mount")
#: Tells of the Python that an image has, if that works: not every program needs it.
_PYTHON = """\
echo launcher-begun
for name in python3 python; do
  if command -v "$name" >/dev/null 2>&1; then
    found=$("$name" -c 'import sys; print(sys.executable, sys.version.split()[0])' 2>/dev/null)
    case $found in /*" "[0-9]*) echo "$found"; exit 0;; esac
  fi
done
echo none
"""


class Images:
    """Those of this host, for one connection; with the locks that it holds until it exits."""

    def __init__(self, root: str, going_on: Callable[[], object] = lambda: None) -> None:
        self.root, self.folder = root, os.path.join(root, "images")
        self._store = ImageStore(root, going_on)
        self._job: Job | None = None
        self._looking: Generator[Message, None, Message] | None = None
        self._looks_for: Message = {}
        self._asked = 0.0
        self._builds: Builds | None = None
        #: What was brought here, by the program of a runtime: names that were pulled, and IDs.
        self._brought: set[tuple[str, str]] = set()

    def answer(self, request: Message) -> Message:
        """Do what is asked, or say how far it is. Raises Refused."""
        steps = {"look": self._look, "pull": self._pull, "take": self._take, "load": self._load}
        steps["save"] = self._save
        steps.update(dict.fromkeys(("builder", "context", "build", "bases"), self._built))
        steps["list"] = lambda request: self._store.listed()
        steps["remove"] = lambda request: self._store.remove(str(request["key"]))
        return steps[request["do"]](request)

    def _built(self, request: Message) -> Message:
        """Do what belongs to a build of an image."""
        if self._builds is None:
            from .builds import Builds  # few images are built

            self._builds = Builds(self.root, self._store.locks)
        answer: Message = getattr(self._builds, request["do"])(request)
        if request["do"] == "build" and answer["state"] == "done" and answer.get("id"):
            self._brought.add((request["program"], answer["id"]))
        return answer

    # -- looking

    def _look(self, request: Message) -> Message:
        """Find a runtime and the image in it, and what is in the image; repeated until that is known."""
        self._asked = time.monotonic()
        about = {name: value for name, value in request.items() if name != "id"}
        if self._looking is None or about != self._looks_for:
            self._end_looking()
            self._looking, self._looks_for = self._looked(request), about
        try:
            return next(self._looking)
        except StopIteration as found:
            self._looking = None
            answer: Message = found.value
            return answer
        except BaseException:
            self._looking = None
            raise

    def _end_looking(self) -> None:
        if self._looking:
            self._looking.close()
            self._looking = None

    def _looked(self, request: Message) -> Generator[Message, None, Message]:
        """Return what is found, and yield what goes on until then."""
        since = time.time()
        visitors.end_left(self.root)
        why: list[str] = []
        first: dict[str, Any] = {}
        for runtime, program in self._runtimes(request):
            found = yield from self._in(runtime, program, request)
            if found["state"] == "there" and request.get("uses"):
                found = yield from self._used(found, request, since)
            if found["state"] in ("there", "missing") or found["code"] in _FINAL:
                return found
            why.append("%s: %s" % (runtime, found["said"]))
            first = first or dict(found)
        if first:
            return dict(first, said="; ".join(why))
        return runtimes.trouble("no-runtime", ", ".join(_names(request)))

    def _used(
        self, found: Message, request: Message, since: float
    ) -> Generator[Message, None, Message]:
        """Keep the image that was found for who asks, and write that down."""
        runtime, program = found["runtime"], found["program"]
        image = found["spec"]["image"] if found["id"] else request["image"]
        if self._store.hold(runtime, found["id"] or image, since):
            found = yield from self._in(runtime, program, request)  # it may be gone
        if found["state"] == "there":
            called = {(program, found["id"]), (program, request["image"])}
            brought = bool(called & self._brought)
            self._store.note(runtime, program, image, found["id"], request.get("run", ""), brought)
        return found

    def _runtimes(self, request: Message) -> Iterator[tuple[str, str]]:
        """Yield the runtimes that may have an image of this kind, with their programs."""
        for name in _names(request):
            programs = (name, "singularity") if name == APPTAINER else (name,)
            for program in programs:
                path = runtimes.program(program)
                if path:
                    yield name, path
                    break

    def _in(
        self, runtime: str, program: str, request: Message
    ) -> Generator[Message, None, Message]:
        image, pinned = request["image"], request.get("pinned") or ""
        if runtime in (PODMAN, DOCKER):
            about = yield from self._known(runtime, program, pinned, image)
        else:
            about = _of_path(image)
        machine = os.uname().machine
        base = {"runtime": runtime, "program": program, "machine": machine}
        theirs = about.get("machine", "")
        if about["state"] == "missing":
            theirs = request.get("machine") or ""  # of a file that would be sent
        theirs = _MACHINES.get(theirs, theirs) or machine
        if theirs != machine:
            said = "the image is for %s, and this host is %s" % (theirs, machine)
            return dict(runtimes.trouble("other-machine", said), **base)
        if about["state"] != "there":
            return dict(about, **base)
        try:
            spec = specs.made(self.root, runtime, program, about["image"], request)
        except Refused as refusal:
            return dict(runtimes.trouble(refusal.code, str(refusal)), **base)
        python = yield from self._python(spec, about["id"])
        if python["state"] != "there":
            return dict(python, **base)
        return dict(python, id=about["id"], spec=spec, **base)

    def _known(
        self, runtime: str, program: str, pinned: str, image: str
    ) -> Generator[Message, None, dict[str, Any]]:
        """Ask for an image by its name, or by its IDs: one for each kind of machine that a run has."""
        about: dict[str, Any] = {}
        for one in pinned.split():
            named = "sha256:" + one if runtime == DOCKER else one
            its = yield from self._inspected(runtime, program, named)
            theirs = _MACHINES.get(its.get("machine", ""), its.get("machine", ""))
            if not about or (its["state"] == "there" and theirs == os.uname().machine):
                about = its
        return about or (yield from self._inspected(runtime, program, image))

    def _inspected(
        self, runtime: str, program: str, image: str
    ) -> Generator[Message, None, dict[str, Any]]:
        """Ask for an image, unless podman was asked before and nothing has changed since."""
        words = runtimes.inspection(program, image)
        if runtime != PODMAN:
            return runtimes.read(*(yield from _said(words)))
        answers = podman_answers.Answers(self.folder, program, runtimes.login())
        known = answers.of(image)
        if known is not None:
            return known
        if not answers.is_located:
            of_place = yield from _said([program, "info", "--format", podman_answers.PLACE])
            answers.locate(of_place[1])
        found = runtimes.read(*(yield from _said(words)))
        if found["state"] == "there":
            answers.keep(image, found)
        return found

    def _python(self, spec: ContainerSpec, image_id: str) -> Generator[Message, None, Message]:
        """Start a first container, which tells of the image's Python. That is done once for an image,
        unless its Python is the host's, which may change."""
        about = "\0".join([spec["runtime"], image_id, *spec["mounts"]])
        key = blake2b(about.encode("utf-8", "surrogateescape"), digest_size=10)
        path = os.path.join(self.folder, "known", key.hexdigest())
        known = json_files.read(path) if image_id else {}
        if known.get("state") == "there":
            return known
        trial = visitors.Visitor(self.root, spec, ["sh", "-c", _PYTHON], {}, runtimes.login())
        try:
            late = yield from _tried(trial)
        finally:
            trial.end()
        code, out, err = trial.code or 0, trial.out, late or trial.err
        words = [word for word in out.split() if word != _BEGUN]
        if code or late or not words:
            if spec["runtime"] == PODMAN:
                podman_answers.forget(self.folder)
            if runtimes.is_missing(err):  # it was removed since it was looked for
                return {"state": "missing"}
            return runtimes.trouble(
                runtimes.code_of(err) or "cannot-start", runtimes.last(err) or runtimes.silent(code)
            )
        python, version = (words[-2], words[-1]) if len(words) > 1 else ("", "")
        found = {"state": "there", "python": python, "python_version": version}
        places = [mount.split(":")[1] for mount in spec["mounts"]]
        if image_id and not any(python.startswith(place + "/") for place in places):
            json_files.write(path, found)
        return found

    # -- bringing

    def _pull(self, request: Message) -> Message:
        """Pull an image by its name; repeated until it is done."""
        answer = self._go_on(lambda: ([request["program"], "pull", request["image"]], ""))
        if answer["state"] == "done":
            self._brought.add((request["program"], request["image"]))
        return answer

    def _take(self, request: Message) -> Message:
        """Take the lock for sending an image, and say where the file goes; or give up what has come."""
        image_id = _checked(request["image_id"])
        if request.get("discard"):
            _unlink(self._file(image_id))
            self._store.locks.drop(image_id)
            return {"state": "done"}
        if not self._store.locks.take(image_id):
            return {"state": "busy"}
        return {"state": "yours", "place": self._file(image_id)}

    def _load(self, request: Message) -> Message:
        """Load an image that was sent; repeated until it is done."""
        image_id = _checked(request["image_id"])
        file = self._file(image_id)
        answer = self._go_on(lambda: ([request["program"], "load", "--input", file], file))
        if answer["state"] == "done":
            self._brought.add((request["program"], image_id))
        if answer["state"] != "working":
            self._store.locks.drop(image_id)
        return answer

    def _save(self, request: Message) -> Message:
        """Save an image into a file, for hosts that lack it; repeated until it is done."""
        image_id = _checked(request["image_id"])
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        file = os.path.join(self.folder, "saved-%d.tar" % os.getpid())
        program = request["program"]
        words = [program, "save", "--output", file]
        if request["runtime"] == PODMAN:
            words += ["--format", "docker-archive"]
        if request.get("discard"):
            _unlink(file)
            return {"state": "done"}
        answer = self._go_on(lambda: ([*words, _named(program, request["image"], image_id)], ""))
        size = os.path.getsize(file) if os.path.exists(file) else 0
        return dict(answer, place=file, id=image_id, bytes=size)

    def _go_on(self, begin: Any) -> Message:
        if self._job is None:
            argv, file = begin()
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._job = Job(argv, os.path.join(self.folder, "job-%d.log" % os.getpid()), file)
        job = self._job
        if job.go_on():
            return {"state": "working", "said": job.said()}
        self._job = None
        log = job.tail()
        job.discard()
        if job.code:
            return {
                "state": "failed",
                "said": runtimes.reason(log) or runtimes.silent(job.code),
                "log": log,
                "code": runtimes.code_of(log),
            }
        return {"state": "done"}

    def _file(self, image_id: str) -> str:
        return os.path.join(self.folder, image_id + ".tar")

    def expire(self) -> None:
        """Let go of what nobody has asked about for long."""
        if self._builds:
            self._builds.expire()
        if self._looking and time.monotonic() > self._asked + ABANDONED:
            self._end_looking()

    def end(self) -> None:
        """Stop what nobody waits for any more."""
        if self._builds:
            self._builds.end()
        self._end_looking()
        if self._job:
            self._job.kill()
            self._job.discard()
            self._job = None
        _unlink(os.path.join(self.folder, "saved-%d.tar" % os.getpid()))


class Job(Steps):
    """A command of a runtime, with the file that it was given, if any."""

    def __init__(self, argv: list[str], log: str, file: str) -> None:
        _unlink(log)
        super().__init__([argv], runtimes.login(), "/", log)
        self._file = file

    def said(self) -> str:
        """Return the last line that was printed, without docker's advice."""
        return runtimes.last(self.tail())

    def discard(self) -> None:
        """Remove its log, and the file."""
        _unlink(self.log)
        if self._file:
            _unlink(self._file)


def _names(request: Message) -> list[str]:
    """Return the names of the runtimes that may have an image of this kind."""
    if request["runtime"] != "auto":
        return [request["runtime"]]
    if request["image"].endswith(".sif"):
        return [APPTAINER]
    is_folder = request["image"].startswith("/") and not request.get("pinned")
    return [BWRAP] if is_folder else [PODMAN, DOCKER]


def _tried(trial: Heard) -> Generator[Message, None, str]:
    """Wait for a first container, and yield how far it is; return why it is given up, or ""."""
    answers_since = 0.0
    while not trial.wait(PIECE):
        has_begun = _BEGUN in trial.out
        answers_since = answers_since or (trial.seconds if has_begun else 0.0)
        if has_begun and trial.seconds > answers_since + ANSWERING:
            return "its Python gave no answer within %d s" % ANSWERING
        if trial.seconds > STARTING:
            return "it did not start within %d min" % (STARTING / 60)
        yield _working("its first start, %d s so far" % trial.seconds)
    return ""


def _said(argv: list[str]) -> Generator[Message, None, tuple[int, str, str]]:
    """Return the exit code of a runtime and what it has printed; podman answers nobody while it gives
    another run's files to a user's IDs."""
    asked = Heard(argv, runtimes.login())
    try:
        while not asked.wait(PIECE):
            if asked.seconds > STARTING:
                return 124, "", "no answer within %d min" % (STARTING / 60)
            yield _working("%s is busy, %d s so far" % (os.path.basename(argv[0]), asked.seconds))
    finally:
        asked.end()
    return asked.code or 0, asked.out, asked.err


def _working(said: str) -> Message:
    return {"state": "working", "said": said}


def _checked(image_id: object) -> str:
    if not isinstance(image_id, str) or not _ID.match(image_id):
        raise Refused("bad-image", "not the ID of an image: %.80r" % (image_id,))
    return image_id


def _named(program: str, name: str, image_id: str) -> str:
    """Return what to call an image, so that its name goes with it where it still has one."""
    return name if runtimes.inspected(program, name).get("id") == image_id else image_id


def _of_path(path: str) -> dict[str, Any]:
    """Return what is known of a folder or a file that is an image."""
    if os.path.isdir(path) or os.path.isfile(path):
        return {"state": "there", "id": "", "image": path}
    return {"state": "missing"}


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
