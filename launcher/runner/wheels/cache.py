"""Fetches the wheels that hosts need to this machine, once.

uv resolves here, by its own settings and indexes; a lock is taken as it is. See ``folders`` for
where they are.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import tomllib
import urllib.parse
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ...fleet import builders
from ...records import events as ev
from ...records.record_files import read_as, write_json
from ...spec.data import DataSet
from ...spec.environments import Environment
from ...spec.errors import StoreError, WheelsNotFetched
from ...spec.frozen import frozen
from ...spec.home import home, make_home
from ...spec.typed_json import to_json
from ...transport import index_logins
from ...transport.answers.environments import WantedWheels
from ...transport.child_process import ChildProcess
from ..concurrency import Interrupted, in_own_thread, in_thread, in_threads
from ..data import listing
from ..data.host import Delivered
from ..listeners import OnEvent
from ..policy import environments, wheels
from ..policy.wheels import Wheel
from . import tools, uv_settings
from .folders import FOLDER
from .logins import Logins

#: What hosts call the data set: only what is new of a changed lock travels.
NAME = "environment-wheels"
#: Which wheels there are, with their sums. Also in agent/relay/wanted.py.
LIST = "wheels.txt"
#: Wheels that are fetched at once; seconds between two looks at a lock, and between two events.
AT_ONCE, PAUSE, EVERY = 8, 0.3, 0.25
#: Seconds for others to end once one has failed; what waits for a server for longer is left to itself.
GRACE = 2.0
#: Most bytes of a file that says what is wanted, as hosts read it.
MOST = 1 << 24
_PIECE = 1 << 20
#: Called with what goes on, and with bytes: so far, and of how many.
OnSaid = Callable[[str, int, int], None]


@frozen
class WheelSet:
    """The wheels of one kind of host, as a data set; ``count`` of them."""

    delivered: Delivered
    count: int

    @property
    def version(self) -> str:
        """What hosts call it."""
        return self.delivered.listed.version.version

    @property
    def bytes(self) -> int:
        """The bytes of all wheels."""
        return self.delivered.listed.version.bytes


@frozen
class _Note:
    version: str
    count: int


class WheelCache:
    """Fetches the wheels of one environment of a job. ``log`` is where uv's words go if it fails."""

    def __init__(
        self, environment: Environment, workdir: Path, log: Callable[[str], Path], on_event: OnEvent
    ) -> None:
        self._wanted, self._workdir = environment, workdir
        self._log, self._on_event = log, on_event

    async def get(self, host: str, wanted: WantedWheels, say: OnSaid) -> WheelSet:
        """Return the wheels for a host, which other hosts may need as well; fetch them if they are not
        here. Raises NoEnvironment, WheelsNotFetched, InputError."""
        wheels.require_cpython(host, wanted)
        origin = await in_thread(uv_settings.origin, self._workdir / self._wanted.uv, os.environ)
        key = wheels.key(wanted, origin)
        async with _alone(key, say):
            try:
                return await in_thread(_known, key) or await self._fetched(key, host, wanted, say)
            except OSError as error:
                raise _unwritten(error) from None

    async def _fetched(self, key: str, host: str, wanted: WantedWheels, say: OnSaid) -> WheelSet:
        tools.require_tools()
        began = time.time()
        await in_thread(self._require_same, wanted)
        indexes = await in_thread(self._indexes, wanted)
        asks = ", and may ask keyring" if indexes.has_keyring else ""
        say(f"uv finds out which wheels {host} needs{asks}", 0, 0)
        lock = await self._resolved(host, wanted)
        chosen = wheels.chosen(lock, host, wanted, self._wanted.recipe)
        folder = (self._workdir / wanted.files[0]).parent
        logins = Logins(indexes, folder, os.environ, lambda said: say(said, 0, 0))
        fetching = _Fetching(key, chosen, logins)
        size = await self._watched(fetching, say)
        found = await in_thread(_settled, key, len(chosen))
        spent = time.time() - began
        self._on_event(ev.WheelsFetched(time.time(), found.count, found.bytes, size, spent))
        return found

    def _require_same(self, wanted: WantedWheels) -> None:
        """Raise WheelsNotFetched unless the files here say what those of the run's code say."""
        made = hashlib.blake2b(digest_size=16)
        for path in wanted.files:
            try:
                with (self._workdir / path).open("rb") as file:
                    data = file.read(MOST)
            except OSError:
                data = b""
            made.update(b"%d\0" % len(data) + data)
        if made.hexdigest() != wanted.sum:
            named = " or ".join(os.path.basename(path) for path in wanted.files[:3])
            raise WheelsNotFetched(
                f"{named} in {self._workdir} is not what the run's code has",
                "start a new run; or put the file back as it was (launcher show says of which commit)",
            )

    # -- which they are

    async def _resolved(self, host: str, wanted: WantedWheels) -> Mapping[str, Any]:
        """Have uv say which packages there are; return its ``pylock.toml``."""
        first = self._workdir / wanted.files[0]
        with tempfile.TemporaryDirectory(prefix="launcher-wheels-") as scratch:
            to = Path(scratch) / "pylock.toml"
            argv = [
                builders.own("uv"),
                *_words(host, wanted, first),
                "--output-file",
                os.fspath(to),
            ]
            env = {name: v for name, v in os.environ.items() if name not in ("VIRTUAL_ENV",)}
            env |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
            running = await ChildProcess.start(argv, cwd=first.parent, env=env)
            try:
                assert running.stderr
                said = await running.stderr.read()
                await running.wait()
            finally:
                await running.end(signal.SIGKILL)  # with a keyring that it asks
            if running.returncode:
                raise self._unresolved(said.decode("utf-8", "replace"), wanted)
            return tomllib.loads(to.read_text())

    def _unresolved(self, said: str, wanted: WantedWheels) -> WheelsNotFetched:
        said = index_logins.without_secrets(said)
        log = self._log(said)
        why = environments.cause(said) or "uv was killed"
        hint = f"all of uv's output: {log}"
        if server := environments.unreachable(said):
            why = f"{server} cannot be reached from this machine: {why}"
            hint = f"UV_DEFAULT_INDEX names another index, HTTPS_PROXY a proxy; {hint}"
        text = f"the wheels of {self._wanted.recipe} for {wheels.described(wanted)}: {why}"
        return WheelsNotFetched(text, hint)

    def _indexes(self, wanted: WantedWheels) -> index_logins.Indexes:
        """Return the indexes that uv knows for a run."""
        files = [self._workdir / path for path in wanted.files]
        lines = () if wanted.is_lock else files
        return uv_settings.indexes(files[0].parent, lines, os.environ)

    # -- fetching them

    async def _watched(self, fetching: _Fetching, say: OnSaid) -> int:
        """Fetch, and tell how far that is; return the bytes that came."""
        await in_own_thread(fetching.look)
        await fetching.logins.learn(fetching.left)
        what = f"this machine fetches {_counted(len(fetching.left))}"

        async def tell() -> None:
            while True:
                done, total = fetching.done, fetching.total
                say(what, done, total)
                self._on_event(ev.SourceRead(time.time(), "wheels", done, total or None))
                await asyncio.sleep(EVERY)

        if not fetching.left:
            await in_own_thread(fetching.run)
            return 0
        telling = asyncio.ensure_future(tell())
        try:
            await in_own_thread(fetching.run)
        finally:
            telling.cancel()
            self._on_event(ev.SourceRead(time.time(), "wheels", 0, is_over=True))
        return fetching.done


def _counted(count: int) -> str:
    return f"{count} wheel{'s' * (count != 1)}"


def _words(host: str, wanted: WantedWheels, file: Path) -> list[str]:
    """Return the words by which uv says which packages there are."""
    common = ["--quiet", "--no-header", "--format", "pylock.toml", "--python", sys.executable]
    if wanted.is_lock:
        words = ["export", *common, "--frozen", "--no-emit-project"]
        return words + [word for one in wanted.folders for word in ("--no-emit-package", one)]
    kind = ["--python-version", wanted.python, "--python-platform", wheels.platform(host, wanted)]
    return ["pip", "compile", os.fspath(file), *common, *kind, "--only-binary", ":all:"]


class _Fetching:
    """Fetches the wheels of a set that are not here, into a folder beside its place."""

    def __init__(self, key: str, chosen: Sequence[Wheel], logins: Logins) -> None:
        self._folder, self._files = _place(key, ".new"), _base() / "files"
        self._chosen, self.logins = chosen, logins
        self.left: Sequence[Wheel] = ()
        #: Bytes so far, and of how many, as far as the lock says that.
        self.done, self.total = 0, 0
        self._lock = threading.Lock()

    def look(self, going_on: Callable[[], None]) -> None:
        """Find out which are not here: what a disk or somebody has changed is not. Blocks."""
        are_here = in_threads(lambda one: self._is_here(one, going_on), self._chosen, AT_ONCE)
        here = zip(self._chosen, are_here, strict=True)
        self.left = [one for one, is_here in here if not is_here]
        sizes = [one.size for one in self.left]
        self.total = sum(filter(None, sizes)) if all(sizes) else 0

    def _is_here(self, one: Wheel, going_on: Callable[[], None]) -> bool:
        made = hashlib.sha256()
        try:
            with (self._files / one.sha256).open("rb") as file:
                while piece := file.read(_PIECE):
                    going_on()
                    made.update(piece)
        except (FileNotFoundError, IsADirectoryError):  # it has no sum yet, or is not here
            return False
        return made.hexdigest() == one.sha256

    def run(self, going_on: Callable[[], None]) -> None:
        """Fetch all of them, until one fails. Blocks. Raises WheelsNotFetched, OSError."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)
        self._require_room()
        failed = threading.Event()

        def still() -> None:
            going_on()
            if failed.is_set():
                raise Interrupted

        def fetch(one: Wheel) -> str:
            try:
                return self._one(one, still)
            except BaseException:
                failed.set()
                raise

        fetched = in_threads(fetch, self.left, AT_ONCE, GRACE)
        sums = dict(zip((one.file for one in self.left), fetched, strict=True))
        by_sum = {one.sha256 or sums[one.file]: one for one in self._chosen}
        for digest, one in by_sum.items():
            _link(self._files / digest, self._folder / one.file)
        (self._folder / LIST).write_text(wheels.listed(by_sum))

    def _require_room(self) -> None:
        free = shutil.disk_usage(self._files).free
        if self.total > free:
            text = f"there is no room for the wheels in {_base()}: they are {self.total >> 20} MB"
            raise WheelsNotFetched(f"{text}, and {free >> 20} MB are free", _ROOM)

    def _one(self, one: Wheel, going_on: Callable[[], None]) -> str:
        """Fetch a wheel; return its sha256."""
        with tempfile.NamedTemporaryFile(dir=self._files, prefix=".new-", delete=False) as made:
            try:
                digest = self._read(one, made, going_on)
                made.flush()
                _require_whole(one, digest, Path(made.name))
                os.fchmod(made.fileno(), 0o644)
                os.fsync(made.fileno())
                os.replace(made.name, self._files / digest)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(made.name)
                raise
        return digest

    def _read(self, one: Wheel, to: IO[bytes], going_on: Callable[[], None]) -> str:
        before = 0

        def on_read(count: int, total: int | None) -> None:
            nonlocal before
            going_on()
            with self._lock:
                self.done += count - before
            before = count

        parts = urllib.parse.urlsplit(one.source)
        if parts.scheme not in ("http", "https"):
            path = urllib.parse.unquote(parts.path) if parts.scheme == "file" else one.source
            return _copied(one, path, to, on_read)
        from ...transport import web_file

        login = self.logins.of(one)
        try:
            address = index_logins.bare(one.source)
            return web_file.save(address, to, login, on_read, one.size).sha256
        except StoreError as error:
            raise _refused(one, error, bool(login), self.logins.gets_none(one)) from None


def _refused(one: Wheel, error: StoreError, has_login: bool, gets_none: bool) -> WheelsNotFetched:
    hint = "start again: what has come stays here"
    if "where it ends" in error.message:
        hint = error.hint
    if "answers 401" in error.message or "answers 403" in error.message:
        hint = (
            f"uv auth login {_server(one)}; or ~/.netrc, or UV_INDEX_NAME_USERNAME and ..._PASSWORD"
        )
        hint = "is the login for its server right, and may it read this?" if has_login else hint
        hint = "uv's settings say that it is told no login: authenticate" if gets_none else hint
    elif "answers 404" in error.message or "answers 410" in error.message:
        hint = f"the index has it no more: uv lock --upgrade-package {one.package}"
    said = error.message.replace(index_logins.bare(one.source), index_logins.without(one.source))
    return WheelsNotFetched(f"{one.file}: {said}", hint)


def _server(one: Wheel) -> str:
    parts = urllib.parse.urlsplit(index_logins.without(one.source))
    return f"{parts.scheme}://{parts.netloc}"


def _copied(
    one: Wheel, path: str, to: IO[bytes], on_read: Callable[[int, int | None], None]
) -> str:
    made, done = hashlib.sha256(), 0
    try:
        source = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        text = f"{one.file}: {path} cannot be read: {error.strerror}"
        raise WheelsNotFetched(text, "uv lock, or name another folder of wheels") from None
    with source:
        while piece := source.read(_PIECE):
            made.update(piece)
            to.write(piece)
            done += len(piece)
            on_read(done, None)
    return made.hexdigest()


def _checked(one: Wheel) -> dict[str, str]:
    """Return the sums of a wheel that can be looked at here."""
    known = hashlib.algorithms_guaranteed
    return {kind: its for kind, its in one.sums.items() if kind in known and "shake" not in kind}


def _require_whole(one: Wheel, digest: str, path: Path) -> None:
    """Raise WheelsNotFetched for a wheel that is not what the lock says, and for one that is cut off:
    where an index has no sum, uv makes it of what comes."""
    sums, where = _checked(one), index_logins.without(one.source)
    for kind, wanted in sums.items():
        found = digest
        if kind != "sha256":
            with path.open("rb") as file:
                found = hashlib.file_digest(file, kind).hexdigest()
        if found != wanted:
            raise WheelsNotFetched(
                f"{one.file} of {where} has the {kind} {found}, and the lock says {wanted}",
                f"was it changed there? uv lock --upgrade-package {one.package} takes it as it is now",
            )
    if not _is_zip(path, bool(sums)):
        raise WheelsNotFetched(
            f"{one.file} of {where} is no whole wheel",
            "was it copied or uploaded to its end? Put it there again",
        )


def _is_zip(path: Path, has_sum: bool) -> bool:
    """Return whether an archive has its end; without a sum, also whether all of it can be read."""
    try:
        with zipfile.ZipFile(path) as opened:
            return has_sum or opened.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return False


_ROOM = "launcher prune frees some; LAUNCHER_HOME names a folder on another disk"


def _unwritten(error: OSError) -> WheelsNotFetched:
    where = error.filename or _base()
    text = f"the wheels cannot be kept: {where}: {error.strerror or error}"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return WheelsNotFetched(text, _ROOM if full else "look at that folder")


# -- the cache


def _base() -> Path:
    return home() / FOLDER


def _place(key: str, ending: str = "") -> Path:
    return _base() / "sets" / f"{key}{ending}"


@asynccontextmanager
async def _alone(key: str, say: OnSaid) -> AsyncIterator[None]:
    """Keep other runs of this user from fetching the same meanwhile; wait for one that does."""
    place = _place(key, ".lock")
    await asyncio.to_thread(_make_folders)
    lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.utime(lock)  # nobody tidies up what is used
                break
            except BlockingIOError:
                say("waits for another run that fetches the same wheels", 0, 0)
                await asyncio.sleep(PAUSE)
        yield
    finally:
        os.close(lock)


def _make_folders() -> None:
    make_home()
    for name in ("files", "sets"):
        (_base() / name).mkdir(mode=0o700, parents=True, exist_ok=True)


def _known(key: str) -> WheelSet | None:
    """Return a set that is here. One that was changed since is none."""
    note, folder = read_as(_Note, _place(key, ".json")), _place(key)
    if note is None or not (folder / LIST).exists():
        return None
    listed = listing.read(folder)
    if listed.version.version != note.version:
        _discard(key)
        return None
    os.utime(_place(key, ".json"))
    return _as_set(listed, note.count)


def _settled(key: str, count: int) -> WheelSet:
    """Let runs use a set that is complete."""
    place = _place(key)
    shutil.rmtree(place, ignore_errors=True)
    os.rename(_place(key, ".new"), place)
    listed = listing.read(place)
    write_json(_place(key, ".json"), to_json(_Note(listed.version.version, count)))
    return _as_set(listed, count)


def _as_set(listed: listing.Listed, count: int) -> WheelSet:
    # Not shared: they may be of an index that only this user may read, and nobody has called them data.
    return WheelSet(Delivered(DataSet(NAME, os.fspath(listed.folder)), listed, False), count)


def _discard(key: str) -> None:
    """Remove a set, and those of its wheels that are not what their names say."""
    _place(key, ".json").unlink(missing_ok=True)
    mine = {path.stat().st_ino for path in _place(key).iterdir()}
    for path in (_base() / "files").iterdir():
        if path.stat().st_ino in mine:
            with path.open("rb") as file:
                is_good = hashlib.file_digest(file, "sha256").hexdigest() == path.name
            if not is_good:
                path.unlink()
    shutil.rmtree(_place(key), ignore_errors=True)


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:
        if to.exists():
            raise
        shutil.copyfile(file, to)  # a file system without such links
