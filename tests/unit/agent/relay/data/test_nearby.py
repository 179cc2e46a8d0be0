"""Copies that another user of a host shares: taken where they are what they should be, else left alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import manifest
from launcher.agent.base.protocol import Refused
from launcher.agent.relay.data import places
from launcher.agent.relay.data.requests import DataRequests

LARGE = os.urandom(5_000_000)
FILES = {
    b"deep/er/\xff\n": b"small",
    b"empty": b"",
    b"large": LARGE,
    b"other": b"other",
}


def entries(sum_of: Callable[[bytes], bytes]) -> list[manifest.Entry]:
    """Return what is in the set."""
    found = [manifest.Entry(path, len(data), False, sum_of(data)) for path, data in FILES.items()]
    return sorted([*found, manifest.Entry(b"link", target=b"deep/er")], key=lambda one: one.path)


def by_sha256(data: bytes) -> bytes:
    """Return a sum as the manifest of a folder has it."""
    return manifest.SHA256 + hashlib.sha256(data).hexdigest().encode()


def by_tag(data: bytes) -> bytes:
    """Return a tag as many stores have it."""
    return manifest.ETAG + hashlib.md5(data).hexdigest().encode()


class User:
    """A user's launcher on a host, and one set of his."""

    def __init__(self, root: Path, shared: Path, sum_of: Callable[[bytes], bytes]) -> None:
        self.root, self.shared = root, shared
        self.text = manifest.HEADER + b"".join(map(manifest.encode, entries(sum_of)))
        self.version = hashlib.sha256(self.text).hexdigest()[: manifest.LENGTH]
        self.is_of_store = sum_of is by_tag
        self.requests = DataRequests(str(root), lambda *_: None)

    def do(self, what: str, **request: Any) -> dict[str, Any]:
        """Ask for something."""
        about = {"version": self.version, "shared": str(self.shared), **request}
        return dict(self.requests.answer({"do": what, **about}))

    def begin(self) -> dict[str, Any]:
        """Begin to bring the set."""
        size = sum(map(len, FILES.values()))
        begun = self.do("begin", name="mine", bytes=size, files=len(FILES), limit=0)
        if not begun["have"]:
            self.do("list_of", payload=self.text)
        return begun

    def bring(self) -> Path:
        """Bring it from its source; return where it is."""
        folder = Path(self.begin()["folder"])
        for path, data in FILES.items():
            place = os.path.join(os.fsencode(folder), b"files", path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(data)
        (folder / "files" / "link").symlink_to("deep/er")
        if self.is_of_store:
            noted = [by_sha256(data) + b" " + path + b"\0" for path, data in FILES.items()]
            (folder / "sums").write_bytes(b"".join(noted))
        assert self.do("seal") == {"bad": [], "count": 0}
        self.do("leave")  # as the end of a relay does
        return (self.root / "data" / self.version).resolve()

    def take(self, meanwhile: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """Take it from others; something happens once a part of it is read."""
        taken = self.do("take", first=True, seconds=-1)
        while not taken["over"]:
            if taken["bytes"]:
                meanwhile()
                meanwhile = lambda: None  # noqa: E731 - once
            taken = self.do("take", first=False, seconds=-1)
        return taken

    @property
    def has_it(self) -> bool:
        """Whether the set is here, and whole."""
        found = self.do("verify")
        return bool(found["here"] and not found["count"])


Both = tuple[User, User]


@pytest.fixture(params=[by_sha256, by_tag])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Both:
    """Two users with a folder for both."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (User(tmp_path / name, shared, request.param) for name in ("one", "two"))
    return one, two


def test_a_copy_of_ones_own(both: Both) -> None:
    """It has all of the set, and its own files."""
    one, two = both
    assert two.do("nearby") == {"users": []}
    theirs = one.bring()
    assert theirs.is_relative_to(one.shared)
    assert len(two.do("nearby")["users"]) == 1
    two.begin()
    assert two.take()["whole"]
    assert two.do("seal") == {"bad": [], "count": 0}
    shutil.rmtree(one.shared / theirs.parent.name)
    assert two.has_it
    mine = (two.root / "data" / two.version).resolve()
    assert (mine / "files" / "large").read_bytes() == LARGE
    assert not (mine / "taken").exists()
    assert not one.do("verify")["here"]
    one.bring()
    assert one.has_it


def test_what_was_sealed_and_not_linked_is_used(both: Both) -> None:
    """A process that was killed between the two leaves a version that is whole."""
    one, _ = both
    one.bring()
    (one.root / "data" / one.version).unlink()
    again = User(one.root, one.shared, by_tag if one.is_of_store else by_sha256)
    assert again.begin() == {"have": True}
    assert again.has_it


def test_a_version_that_is_removed_leaves_nothing(both: Both) -> None:
    """Neither it nor its link; and another one may come."""
    one, two = both
    theirs = one.bring()
    assert one.do("list")["sets"][0]["bytes"] == sum(map(len, FILES.values()))
    assert one.do("prune", keep=0)["freed"] > len(LARGE)
    assert not theirs.exists()
    assert not [*(one.root / "data").glob("*[0-9a-f]")]
    assert two.do("nearby") == {"users": []}


def test_a_removal_that_was_interrupted_is_finished(both: Both) -> None:
    """What it left takes room, and has no name that anybody could ask for."""
    one, _ = both
    theirs = one.bring()
    link = one.root / "data" / one.version
    apart = theirs.with_name(f"removing-{one.version}")
    theirs.rename(apart)
    link.unlink()
    link.with_name(f"removing-{one.version}").symlink_to(apart)
    (apart / "files" / "large").unlink()
    again = DataRequests(str(one.root), lambda *_: None)
    assert again.answer({"do": "prune", "keep": 1 << 40})["freed"] > 0
    assert not apart.exists()
    assert not [*(one.root / "data").glob("removing-*")]
    assert one.bring().is_relative_to(one.shared)


#: What becomes of a copy, before it is read or while it is, and the reason why it is not taken.
BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda at: os.truncate(at / "large", 1000), "1000 bytes instead of 5000000"),
    "longer": (lambda at: os.truncate(at / "large", 1 << 40), "bytes instead of 5000000"),
    "changed": (lambda at: (at / "large").write_bytes(b"x" * len(LARGE)), "another sum"),
    "a small one": (lambda at: (at / "other").write_bytes(b"0ther"), "other has another sum"),
    "gone": (lambda at: (at / "large").unlink(), "No such file"),
    "all is gone": (lambda at: at.parent.rename(at.parent.parent / "away"), ""),
    "a link": (lambda at: _replace(at / "large", os.symlink, "/dev/zero"), "symbolic links"),
    "a pipe": (lambda at: _replace(at / "large", os.mkfifo), "is no file"),
    "a folder": (lambda at: _replace(at / "large", os.mkdir), "is no file"),
    "a linked folder": (
        lambda at: (at / "deep").rename(at / "away") and (at / "deep").symlink_to("away"),
        "Not a directory",
    ),
}


def _replace(path: Path, make: Callable[..., object], *words: str) -> None:
    path.unlink()
    make(*words, path)


@pytest.mark.parametrize("what", BREAKS)
def test_nothing_is_believed(both: Both, what: str) -> None:
    """What another user has may be anything: it is left alone, and the set comes from its source."""
    one, two = both
    files = one.bring() / "files"
    _make_writable(files)
    break_it, why = BREAKS[what]
    break_it(files)
    two.begin()
    taken = two.take()
    assert not taken["whole"]
    assert why in taken["why"]
    assert two.bring().is_dir()
    assert two.has_it


@pytest.mark.parametrize("what", ["cut off", "changed", "all is gone"])
def test_a_copy_that_changes_while_it_is_read(both: Both, what: str) -> None:
    """A file is read once, and its copy here has the sum, or is none."""
    one, two = both
    files = one.bring() / "files"
    _make_writable(files)
    two.begin()
    taken = two.take(lambda: BREAKS[what][0](files))
    if taken["whole"]:  # a clone does not change, nor does a file that was read by then
        assert two.do("seal") == {"bad": [], "count": 0}
    else:
        two.bring()
    assert two.has_it


def _make_writable(files: Path) -> None:
    for folder, _, names in os.walk(os.fsencode(files)):
        os.chmod(folder, 0o755)
        for name in names:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o644)


def test_tags_that_are_no_sums_prove_nothing(tmp_path: Path) -> None:
    """An object in parts has a tag that nobody here can compare."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    def in_parts(data: bytes) -> bytes:
        return by_tag(data) + b"-2"

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (User(tmp_path / name, shared, in_parts) for name in ("one", "two"))
    one.is_of_store = True
    one.bring()
    two.begin()
    taken = two.take()
    assert (taken["whole"], taken["why"].startswith("its store names no sum")) == (False, True)


def test_folders_that_others_could_change(tmp_path: Path) -> None:
    """A version in one of these could be replaced: nothing is put there."""
    (tmp_path / "one").mkdir()
    user = User(tmp_path / "one", tmp_path / "shared", by_sha256)
    with pytest.raises(Refused, match="is no folder there"):
        user.begin()
    user.shared.mkdir()
    user.shared.chmod(0o777)
    with pytest.raises(Refused, match="may be written to by everybody"):
        user.begin()
    user.shared.chmod(0o1777)
    user.bring()
    (its,) = user.shared.iterdir()
    its.rename(user.shared / "away")
    its.symlink_to("away")
    user.text += b"f 0 0 sha256:%s z\0" % hashlib.sha256(b"").hexdigest().encode()
    user.version = hashlib.sha256(user.text).hexdigest()[: manifest.LENGTH]
    with pytest.raises(Refused, match="belongs to"):
        user.begin()


def test_a_folder_for_sets_that_is_gone(tmp_path: Path) -> None:
    """Its disk is lost, or root has removed it: without the setting, a set comes as if it were new."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "one").mkdir()
    user = User(tmp_path / "one", shared, by_sha256)
    _make_writable(user.bring())
    shutil.rmtree(shared)
    with pytest.raises(Refused, match="is no folder there"):
        user.begin()
    requests = DataRequests(str(user.root), lambda *_: None)
    user.do = lambda what, **request: dict(  # type: ignore[method-assign]
        requests.answer({"do": what, "version": user.version, **request})
    )
    assert user.bring().is_relative_to(user.root)
    assert user.has_it


def test_a_folder_that_another_user_may_have_put_there(tmp_path: Path) -> None:
    """One's own folder can be moved by who may write to it: what is in it would pass for sealed."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "one").mkdir()
    user = User(tmp_path / "one", shared, by_sha256)
    name = places._own_name(str(user.root))
    planted = shared / name / user.version / "files"
    planted.mkdir(parents=True)
    (shared / name).chmod(0o2775)
    with pytest.raises(Refused, match="may be written to by its group"):
        user.begin()
    (shared / name).chmod(0o755)
    planted.chmod(0o777)
    with pytest.raises(Refused, match="files may be written to by everybody"):
        user.begin()


def test_what_is_finished_later_is_shared_too(both: Both) -> None:
    """A process that was killed just before it let others read a version."""
    one, two = both
    theirs = one.bring()
    (one.root / "data" / one.version).unlink()
    theirs.chmod(0o700)
    again = User(one.root, one.shared, by_tag if one.is_of_store else by_sha256)
    assert again.begin() == {"have": True}
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o755
    assert len(two.do("nearby")["users"]) == 1
