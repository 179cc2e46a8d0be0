"""Wheels that are fetched to this machine: once, complete or not there, and what they should be."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from launcher.records import events as ev
from launcher.runner import kept_notes
from launcher.runner.wheels import cache as wheel_cache
from launcher.runner.wheels import logins
from launcher.runner.wheels.cache import WheelCache, WheelSet
from launcher.spec.environments import Environment
from launcher.spec.errors import NoEnvironment, WheelsNotFetched
from launcher.transport.answers.environments import WantedWheels
from support.package_index import PackageIndex
from support.wheels import write_wheel

#: Of an index that says no sums.
LOCK = """\
version = 1
revision = 3
requires-python = ">=3.9"

[[package]]
name = "job"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "two" }}]

[[package]]
name = "two"
version = "1.0"
source = {{ registry = "{url}" }}
wheels = [{{ {kind} = "{files}two-1.0-py3-none-any.whl" }}]
"""
UV = Path(sys.executable).parent / "uv"
pytestmark = pytest.mark.skipif(not UV.exists(), reason="uv is not installed in this environment")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    folder = tmp_path / "index"
    write_wheel(folder, "one", "1.0", needs=["two"], data=os.urandom(1 << 20))
    write_wheel(folder, "two", "1.0")
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with PackageIndex(folder).serving() as serving:
        monkeypatch.setenv("UV_DEFAULT_INDEX", serving.url)
        yield serving


class Machine:
    """This machine, with requirements in a workdir."""

    def __init__(self, folder: Path, work: str = "work") -> None:
        self.folder, self.home = folder / work, folder / "home"
        self.folder.mkdir()
        self.events: list[ev.Event] = []
        self.waits = asyncio.Event()
        self.logged = ""
        self.said: list[str] = []

    def wants(self, text: str) -> WantedWheels:
        """Write requirements; return what a host says that is to build them."""
        (self.folder / "requirements.txt").write_text(text)
        made = hashlib.blake2b(b"%d\0%s" % (len(text), text.encode()), digest_size=16).hexdigest()
        abi = "cp{}{}".format(*sys.version_info)
        python = "{}.{}.{}".format(*sys.version_info)
        files = ("requirements.txt",)
        return WantedWheels(python, "cpython", abi, "x86_64", "glibc 2.28", files, made, False)

    def locks(self, lock: str) -> WantedWheels:
        """Write a project with a lock; return what a host says that is to build it."""
        project = '[project]\nname = "job"\nversion = "1"\nrequires-python = ">=3.9"\n'
        made = hashlib.blake2b(digest_size=16)
        for name, text in (("pyproject.toml", project), ("uv.lock", lock)):
            (self.folder / name).write_text(text)
            made.update(b"%d\0%s" % (len(text), text.encode()))
        files = ("pyproject.toml", "uv.lock")
        return replace(self.wants(""), files=files, sum=made.hexdigest(), is_lock=True)

    async def fetch(self, wanted: WantedWheels) -> WheelSet:
        def log(said: str) -> Path:
            self.logged = said
            return Path("/log")

        environment = Environment(uv=".", wheels="fetch")
        cache = WheelCache(environment, self.folder, log, self.events.append)
        return await cache.get("gpu1", wanted, self.say)

    def say(self, said: str, done: int, total: int) -> None:
        self.said.append(said)
        if "waits for another run that fetches the same" in said:
            self.waits.set()

    def fetched(self, wanted: WantedWheels) -> WheelSet:
        return asyncio.run(self.fetch(wanted))


@pytest.fixture
def here(tmp_path: Path, index: PackageIndex) -> Machine:
    return Machine(tmp_path)


def test_they_are_fetched_once(here: Machine, index: PackageIndex) -> None:
    wanted = here.wants("one\n")
    found = here.fetched(wanted)
    folder = found.delivered.listed.folder
    names = ["one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "wheels.txt"]
    listed = (folder / "wheels.txt").read_text().splitlines()
    assert [line.partition(" --hash=sha256:")[0] for line in listed] == ["one==1.0", "two==1.0"]
    assert sorted(index.read) == names
    index.read.clear()
    assert here.fetched(wanted) == found
    # Another kind of host that needs the same gets the same version, of the wheels that are here.
    other = here.fetched(replace(wanted, libc="glibc 2.40"))
    assert other.version == found.version
    # What is kept of other sets is not read again.
    here.fetched(here.wants("one\n# more\n"))
    assert not index.read
    assert (folder / names[0]).stat().st_nlink == 4


def sums_of(found: WheelSet) -> set[str]:
    """Return the sums of the wheels of a set."""
    text = (found.delivered.listed.folder / "wheels.txt").read_text()
    return {line.rpartition(":")[2] for line in text.splitlines()}


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_text_with_other_folders_of_wheels(here: Machine, tmp_path: Path) -> None:
    """Each project gets its own wheels, and those that it has now."""
    other, text = Machine(tmp_path, "other"), "--no-index\n--find-links wheels\nlocal\n"
    ours = write_wheel(here.folder / "wheels", "local", "1.0", data=b"ours")
    theirs = write_wheel(other.folder / "wheels", "local", "1.0", data=b"theirs")
    assert sums_of(here.fetched(here.wants(text))) == {sum_of(ours)}
    assert sums_of(other.fetched(other.wants(text))) == {sum_of(theirs)}
    write_wheel(here.folder / "wheels", "local", "1.0", data=b"changed")
    assert sums_of(here.fetched(here.wants(text))) == {sum_of(ours)}


@pytest.mark.parametrize("way", ["variable", "file"])
def test_the_same_text_with_another_index(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """As where torch is taken from cu121 instead of cpu."""
    wanted, old = here.wants("one\n"), tmp_path / "index" / "one-1.0-py3-none-any.whl"
    assert sum_of(old) in sums_of(here.fetched(wanted))
    new = write_wheel(tmp_path / "new", "one", "1.0", data=b"cu121")
    with PackageIndex(tmp_path / "new").serving() as serving:
        if way == "variable":
            monkeypatch.setenv("UV_DEFAULT_INDEX", serving.url)
        else:
            named = f'index = [{{url = "{serving.url}", default = true}}]\n'
            monkeypatch.delenv("UV_DEFAULT_INDEX")
            (here.folder / "uv.toml").write_text(named)
        assert sums_of(here.fetched(wanted)) == {sum_of(new)}


def test_a_wheel_that_was_changed_here_is_fetched_again(here: Machine, index: PackageIndex) -> None:
    wanted = here.wants("one\n")
    folder = here.fetched(wanted).delivered.listed.folder
    good = (folder / "two-1.0-py3-none-any.whl").read_bytes()
    index.read.clear()
    (folder / "two-1.0-py3-none-any.whl").write_bytes(b"nonsense")
    here.fetched(wanted)
    assert (folder / "two-1.0-py3-none-any.whl").read_bytes() == good
    assert index.read == ["two-1.0-py3-none-any.whl"]


def test_a_damaged_wheel_goes_into_no_new_set(here: Machine, index: PackageIndex) -> None:
    """It is fetched again for all sets that have it, also if the old one is not asked for any more."""
    old = here.fetched(here.wants("one\n")).delivered.listed.folder
    (old / "two-1.0-py3-none-any.whl").write_bytes(b"nonsense")
    index.read.clear()
    new = here.fetched(here.wants("two\n"))
    good = index.folder / "two-1.0-py3-none-any.whl"
    assert (new.delivered.listed.folder / good.name).read_bytes() == good.read_bytes()
    assert sums_of(new) == {sum_of(good)}
    assert index.read == [good.name]
    assert here.fetched(here.wants("one\n")).count == 2
    assert (old / good.name).read_bytes() == good.read_bytes()


def test_a_wheel_that_is_not_what_the_index_says(here: Machine, index: PackageIndex) -> None:
    index._sums[
        ("two-1.0-py3-none-any.whl", (index.folder / "two-1.0-py3-none-any.whl").stat().st_mtime)
    ] = "0" * 64
    with pytest.raises(
        WheelsNotFetched, match=r"two-1.0-py3-none-any.whl of http://.* has the sha256"
    ) as raised:
        here.fetched(here.wants("two\n"))
    assert "uv lock --upgrade-package two" in raised.value.hint
    assert not list((here.home / "wheels" / "files").iterdir())


def test_an_index_without_sums(here: Machine, index: PackageIndex) -> None:
    index.has_sums = False
    found = here.fetched(here.wants("two\n"))
    digest = hashlib.sha256((index.folder / "two-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    assert digest in (found.delivered.listed.folder / "wheels.txt").read_text()


def test_a_wheel_that_is_cut_off(here: Machine, index: PackageIndex) -> None:
    """Where an index has no sum, for which uv takes what comes, it is not taken for a whole one, nor from a folder."""
    index.has_length, index.cut = False, 100
    with pytest.raises(WheelsNotFetched, match=r"two-.*.whl: .* does not say where it ends"):
        here.fetched(
            here.locks(
                LOCK.format(kind="url", url=index.url, files=f"http://{index.server}/files/")
            )
        )
    whole = write_wheel(here.folder / "wheels", "two", "1.0", data=b"x" * 9999)
    whole.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(WheelsNotFetched, match=r"two-1.0-py3-none-any.whl of .* is no whole wheel"):
        here.fetched(here.locks(LOCK.format(kind="path", url="wheels", files="")))
    assert not list((here.home / "wheels" / "files").iterdir())


def test_what_uv_cannot_find_is_named(here: Machine, index: PackageIndex) -> None:
    with pytest.raises(WheelsNotFetched, match=r"the wheels of . for Python .* none was not found"):
        here.fetched(here.wants("none==1\n"))
    assert "none" in here.logged
    write_wheel(index.folder, "win", "1.0", tag="cp311-cp311-win_amd64")
    with pytest.raises(WheelsNotFetched, match="win"):
        here.fetched(here.wants("win\n"))
    with pytest.raises(NoEnvironment, match="has pypy"):
        here.fetched(replace(here.wants("one\n"), implementation="pypy"))
    stale = here.wants("one\n")
    here.wants("one # edited\n")
    with pytest.raises(
        WheelsNotFetched, match=r"requirements.txt in .* is not what the run's code has"
    ):
        here.fetched(stale)


def test_an_index_that_is_out_of_reach(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    with pytest.raises(
        WheelsNotFetched, match=r"127.0.0.1:9 cannot be reached from this machine"
    ) as raised:
        here.fetched(here.wants("one\n"))
    assert "UV_DEFAULT_INDEX" in raised.value.hint


def test_no_secret_of_an_index_is_told(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the error nor in the log, where uv hides passwords alone."""
    index = "http://hunter1:hunter2@127.0.0.1:9/simple?token=hunter3"
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    with pytest.raises(WheelsNotFetched, match=r"127.0.0.1:9 cannot be reached") as raised:
        here.fetched(here.wants("one\n"))
    assert "127.0.0.1:9" in here.logged
    assert "hunter" not in here.logged + raised.value.message + raised.value.hint


def test_a_host_of_a_kind_that_uv_does_not_know(here: Machine, index: PackageIndex) -> None:
    with pytest.raises(NoEnvironment, match=r"ppc64le with glibc 2.28") as raised:
        here.fetched(replace(here.wants("one\n"), machine="ppc64le"))
    assert raised.value.host == "gpu1"
    assert "uv lock" in raised.value.hint
    assert "--wheels DIR" in raised.value.hint
    lock = LOCK.format(kind="url", url=index.url, files=f"http://{index.server}/files/")
    assert here.fetched(replace(here.locks(lock), machine="ppc64le")).count == 1


def test_a_login(here: Machine, index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    index.login = "Basic dTpw"
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url.replace("//", "//u:p@"))
    assert here.fetched(here.wants("two\n")).count == 1


@pytest.mark.parametrize("way", ["variable", "name", "file", "requirements"])
def test_logins_that_uv_takes(
    here: Machine, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    index.login, index.moves = "Basic dTpw", True
    with_login, text = index.url.replace("//", "//u:p@"), "two\n"
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    if way in ("variable", "name"):
        monkeypatch.setenv("UV_INDEX_CORP_USERNAME", "u")
        monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", "p")
    if way == "variable":
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"corp={index.url}")
    elif way == "requirements":
        text = f"--index-url {with_login}\ntwo\n"
    else:
        url, name = (index.url, 'name = "corp"') if way == "name" else (with_login, 'name = "x"')
        named = f'index = [{{url = "{url}", {name}, default = true}}]\n'
        (here.folder / "uv.toml").write_text(named)
    assert here.fetched(here.wants(text)).count == 1


#: A FAKE of the ``keyring`` program, which knows one login. It notes what it is asked.
KEYRING = """#!{python}
import os, sys
with open({asked!r}, "a") as file:
    print(sys.argv[1:], file=file)
assert "hunter2" not in " ".join([*sys.argv, *os.environ.values()])
if sys.argv[1:] == ["get", {url!r}, "u"]:
    print("hunter2")
elif sys.argv[1:] == ["get", {url!r}, "--mode", "creds"]:
    print("u" + chr(10) + "hunter2")
else:
    sys.exit(1)
"""


@pytest.mark.parametrize("way", ["uv", "token", "variable", "settings", "always", "other"])
def test_logins_that_programs_keep(
    here: Machine,
    index: PackageIndex,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    way: str,
) -> None:
    """In uv's own store, or in a keyring that uv is told to ask. Nothing shows the password."""
    asked = tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    keyring = tmp_path / "bin" / "keyring"
    keyring.write_text(KEYRING.format(python=sys.executable, asked=str(asked), url=index.url))
    keyring.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    user = "__token__" if way == "token" else "u"
    index.login = "Basic " + base64.b64encode(f"{user}:hunter2".encode()).decode()
    with_user = index.url.replace("//", "//u@")
    if way in ("uv", "token"):
        words = ["--token", "-"] if way == "token" else ["--username", "u", "--password", "-"]
        login = [UV, "auth", "login", index.url, *words]
        subprocess.run(login, input="hunter2", text=True, check=True, capture_output=True)
    elif way == "variable":
        monkeypatch.setenv("UV_DEFAULT_INDEX", with_user)
        monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
    elif way == "settings":
        monkeypatch.setenv("UV_DEFAULT_INDEX", with_user)
        (here.folder / "uv.toml").write_text('keyring-provider = "subprocess"\n')
    elif way == "always":
        monkeypatch.delenv("UV_DEFAULT_INDEX")
        about = f'url = "{index.url}", default = true, authenticate = "always"'
        (here.folder / "uv.toml").write_text(
            f'keyring-provider = "subprocess"\nindex = [{{{about}}}]\n'
        )
    else:  # the keyring has another user's, and nothing else has one
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url.replace("//", "//other@"))
        monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
        with pytest.raises(WheelsNotFetched, match=r"the wheels of \. for ") as raised:
            here.fetched(here.wants("two\n"))
        assert "hunter2" not in raised.value.message + raised.value.hint + here.logged
        with pytest.raises(WheelsNotFetched, match="answers 401") as raised:
            here.fetched(here.locks(of_files(index)))
        assert "is the login for its server right" in raised.value.hint
        assert f"['get', '{index.server}', 'other']" in asked.read_text()
        return
    assert here.fetched(here.wants("two\n")).count == 1
    assert "hunter2" not in repr(here.events) + here.logged
    assert asked.exists() == (way not in ("uv", "token")), "who is not to be asked is not"


def of_files(index: PackageIndex) -> str:
    """Return a lock, of which uv asks no index: the files are the first that anybody asks for."""
    files, file = index.url.replace("simple", "files/"), "two-1.0-py3-none-any.whl"
    made = hashlib.sha256((index.folder / file).read_bytes()).hexdigest()
    lock = LOCK.format(url=index.url, kind="url", files=files)
    return lock.replace(f'{file}"', f'{file}", hash = "sha256:{made}"')


def test_an_index_that_is_told_no_login(
    here: Machine, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``authenticate = "never"`` holds wherever a login is written, or kept."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login u password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    index.login = "Basic " + base64.b64encode(b"u:hunter2").decode()
    settings = f'index = [{{url = "{index.url}", default = true, authenticate = "never"}}]\n'
    (here.folder / "uv.toml").write_text(settings)
    with pytest.raises(WheelsNotFetched, match="answers 401") as raised:
        here.fetched(here.locks(of_files(index)))
    assert "authenticate" in raised.value.hint
    (here.folder / "uv.toml").write_text(settings.replace("never", "auto"))
    assert here.fetched(here.locks(of_files(index))).count == 1


@pytest.fixture
def silent(index: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A keyring that waits for somebody who is not there; it notes who waits for it."""
    (tmp_path / "bin").mkdir()
    keyring, asked = tmp_path / "bin" / "keyring", tmp_path / "asked"
    keyring.write_text(f"#!/bin/sh\nsleep 600 &\necho $! >> {asked}\nwait\n")
    keyring.chmod(0o755)
    for name, value in {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "NETRC": str(tmp_path / "none"),
        "UV_DEFAULT_INDEX": index.url.replace("//", "//u@"),
        "UV_KEYRING_PROVIDER": "subprocess",
    }.items():
        monkeypatch.setenv(name, value)
    index.login = "Basic x"
    return asked


def test_a_keyring_that_does_not_answer(
    here: Machine, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, silent: Path
) -> None:
    """It is asked once, and ends with what it has started."""
    monkeypatch.setattr(logins, "UNLOCKING", 0.5)
    with pytest.raises(WheelsNotFetched, match="answers 401"):
        here.fetched(here.locks(of_files(index)))
    (waiting,) = silent.read_text().split()
    waited(lambda: not Path("/proc", waiting).exists())


def test_a_run_that_is_stopped_while_uv_asks(here: Machine, silent: Path) -> None:
    """uv waits for a keyring as long as that takes: the run says so, and ends both."""

    async def stopped() -> None:
        fetching = asyncio.ensure_future(here.fetch(here.wants("two\n")))
        await asyncio.to_thread(waited, lambda: silent.exists() and silent.read_text().strip())
        fetching.cancel()
        await asyncio.wait([fetching])

    asyncio.run(stopped())
    waited(lambda: not any(Path("/proc", one).exists() for one in silent.read_text().split()))
    assert here.said == ["uv finds out which wheels gpu1 needs, and may ask keyring"]


def test_a_full_disk(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", "/home/x")

    monkeypatch.setattr(wheel_cache._Fetching, "_read", full)
    with pytest.raises(WheelsNotFetched, match="cannot be kept: /home/x: No space left") as raised:
        here.fetched(here.wants("one\n"))
    assert "launcher prune" in raised.value.hint
    assert not list((here.home / "wheels" / "files").iterdir())


def waited(come: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_at_once_and_one_that_is_given_up(here: Machine, index: PackageIndex) -> None:
    """The second waits; when the first is given up, it fetches, and no half of anything is left."""
    wanted = here.wants("one\n")
    index.go_on.clear()

    async def both() -> WheelSet:
        first = asyncio.ensure_future(here.fetch(wanted))
        await asyncio.to_thread(index.reached.wait, 30)
        second = asyncio.ensure_future(here.fetch(wanted))
        await here.waits.wait()
        assert not list((here.home / "wheels" / "sets").glob("*.json"))
        first.cancel()
        index.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(both()).count == 2
    waited(lambda: not list((here.home / "wheels" / "files").glob(".new-*")))


def test_one_that_is_gone_stops_the_others(
    here: Machine, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for what is large, to be told then that another one is missing."""
    answer = index.answer

    def gone(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith("/two-1.0-py3-none-any.whl"):
            assert index.reached.wait(30), "the large one is on its way"
            handler.path = "/files/none"
        answer(handler)

    monkeypatch.setattr(index, "answer", gone)
    index.go_on.clear()
    with pytest.raises(WheelsNotFetched, match=r"two-1.0-.* the server answers 404"):
        here.fetched(here.wants("one\n"))
    files = here.home / "wheels" / "files"
    assert index.read == ["one-1.0-py3-none-any.whl"], "nobody has asked again for what stalls"
    index.go_on.set()
    waited(lambda: not list(files.iterdir()))


def test_old_wheels_go_with_the_sets_that_have_them(here: Machine, index: PackageIndex) -> None:
    old = here.fetched(here.wants("one\n")).delivered.listed.folder
    ages_ago = time.time() - 10 * 86400
    for path in old.parent.iterdir():
        os.utime(path, (ages_ago, ages_ago))
    new = here.fetched(here.wants("two\n")).delivered.listed.folder
    notes = kept_notes.measured(())
    assert kept_notes.size_of(notes) > 1 << 20
    doomed = kept_notes.doomed(notes, time.time() - 86400)
    assert kept_notes.remove(doomed, (), time.time() - 86400) > 1 << 20
    assert not old.exists()
    assert [path.name for path in new.glob("*.whl")] == ["two-1.0-py3-none-any.whl"]
    assert len(list((here.home / "wheels" / "files").iterdir())) == 1
    assert here.fetched(here.wants("two\n")).delivered.listed.folder == new
