"""Files of web servers that are away, cut off, wrong about their length, or changed meanwhile."""

from __future__ import annotations

import errno
import hashlib
import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent.relay import signed_urls
from launcher.spec.errors import StoreError
from launcher.transport import web_file
from support.web_server import Web

CONTENT = bytes(range(256)) * 20_000
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(web_file, "LONGEST_PAUSE", 0.0)
    with Web("127.0.0.1").running() as web:
        web.files["/f"] = CONTENT
        yield web


def read(web: Web, path: str = "/f") -> web_file.Sum:
    address = web.url + path
    return web_file.read(address, web_file.look(address))[0]


def test_a_file_is_read_once(web: Web) -> None:
    assert read(web) == web_file.Sum(len(CONTENT), SUM)
    found = web_file.look(f"{web.url}/f")
    assert (found.size, found.by_ranges, found.is_sure) == (len(CONTENT), True, True)
    assert 0 <= web.sent - len(CONTENT) <= 3, "its first byte before and after, and now"
    web.files["/f"] = CONTENT[::-1]
    assert web_file.look(f"{web.url}/f") != found


def test_what_is_cut_off_is_continued(web: Web) -> None:
    web.refusals, web.cuts = [503, 429], [1_000_000] * 5
    assert read(web).sha256 == SUM
    assert 0 <= web.sent - len(CONTENT) <= 2, "no byte twice"


def test_without_ranges_it_begins_again(web: Web) -> None:
    web.has_ranges = False
    found = web_file.look(f"{web.url}/f")
    web.cuts = [1_000_000]
    assert not found.by_ranges
    assert read(web).sha256 == SUM
    web.cuts = [10] * 9
    with pytest.raises(StoreError, match=r"is cut off at 10 of 5120000 bytes, 5 times"):
        read(web)


@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("has_ranges", [True, False])
def test_lengths(web: Web, size: int, has_length: bool, has_ranges: bool) -> None:
    web.has_length, web.has_ranges = has_length, has_ranges
    web.files["/f"] = CONTENT[:size]
    assert read(web) == web_file.Sum(size, hashlib.sha256(CONTENT[:size]).hexdigest())


def test_a_wrong_length(web: Web) -> None:
    web.longer, web.has_ranges = 5, False
    with pytest.raises(StoreError, match=r"is cut off at 5120000 of 5120005 bytes, 5 times"):
        read(web)
    web.longer, web.has_length = 0, False
    web.cuts = [1_000_000] * 9
    with pytest.raises(StoreError, match=r"IncompleteRead, 5 times"):
        read(web)


def test_it_changes_meanwhile(web: Web) -> None:
    """It is read again, three times at most."""
    other, changes = CONTENT[::-1], iter([False, False, True])

    def change() -> None:
        if next(changes, False):
            web.files["/f"] = other

    web.before, web.cuts = change, [1_000_000]
    assert read(web).sha256 == hashlib.sha256(other).hexdigest()
    web.before = lambda: web.files.update({"/f": web.files["/f"] + b"x"})
    with pytest.raises(StoreError, match="changes while it is read") as error:
        read(web)
    assert "#sha256=" in error.value.hint


def test_whether_a_change_shows(web: Web) -> None:
    """Not by the time of a file that has just been changed, nor by tags that say they are weak."""
    web.tag = lambda data: ""
    assert web_file.look(f"{web.url}/f").is_sure
    web.changed = 4e9
    assert not web_file.look(f"{web.url}/f").is_sure
    web.changed = 0
    assert not web_file.look(f"{web.url}/f").is_sure
    web.tag = lambda data: 'W/"1"'
    assert not web_file.look(f"{web.url}/f").is_sure


def test_refusals(web: Web) -> None:
    with pytest.raises(StoreError, match="the server answers 404"):
        read(web, "/none")
    web.refusals = [403]
    with pytest.raises(StoreError, match="403") as error:
        read(web)
    assert "everybody may read" in error.value.hint
    web.refusals = [503] * 9
    with pytest.raises(StoreError, match="the server answers 503, 5 times"):
        read(web)
    with pytest.raises(StoreError, match="cannot be read: Connection refused, 5 times"):
        web_file.look("http://127.0.0.1:9/f")


def test_redirections_are_bounded_and_not_shown(web: Web) -> None:
    web.moved = {"/a": f"{web.url}/b?sig=hunter2", "/b?sig=hunter2": "/f"}
    assert read(web, "/a").sha256 == SUM
    for where in ("/loop", "file:///etc/passwd", "http://me:hunter2@127.0.0.1/f"):
        web.moved["/loop"] = where
        with pytest.raises(StoreError, match="302") as error:
            read(web, "/loop")
        assert "hunter2" not in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize("kind", [web_file._Bounded, signed_urls._Elsewhere])
def test_nothing_leads_from_https_to_http(kind: type[web_file._Bounded]) -> None:
    request = urllib.request.Request("https://h/x", headers={"Range": "bytes=1-"})
    about = (request, None, 302, "", None)
    assert kind().redirect_request(*about, "http://h/x") is None  # type: ignore[arg-type]
    there = kind().redirect_request(*about, "https://h/y")  # type: ignore[arg-type]
    assert there is not None
    assert there.get_header("Range") == "bytes=1-"


class Full(io.BytesIO):
    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_is_kept(web: Web, tmp_path: Path) -> None:
    """It goes on where it was cut off, begins anew where it has changed, and a full disk is told."""
    with (tmp_path / "f").open("w+b") as file:
        web.cuts = [300_000, 200_000]
        assert web_file.save(f"{web.url}/f", file) == web_file.Sum(len(CONTENT), SUM)
        file.flush()
        assert (tmp_path / "f").read_bytes() == CONTENT
        assert web.sent < len(CONTENT) + 100_000
        web.cuts, web.has_ranges = [300_000], False
        assert web_file.save(f"{web.url}/f", file).sha256 == SUM
        file.flush()
        assert (tmp_path / "f").read_bytes() == CONTENT
    with pytest.raises(OSError, match="No space"):
        web_file.save(f"{web.url}/f", Full())


def test_a_file_without_a_known_end(web: Web) -> None:
    """Who does not know its size does not take what has come for all of it."""
    web.has_length = web.has_ranges = web.has_end = False
    with pytest.raises(
        StoreError, match="/f cannot be read: its server does not say where it ends"
    ):
        web_file.save(f"{web.url}/f", io.BytesIO())
    web.cuts = [1000]
    assert web_file.save(f"{web.url}/f", io.BytesIO(), size=len(CONTENT)).sha256 == SUM
    web.cuts = [1000] * 9
    with pytest.raises(StoreError, match=r"is cut off at 1000 of 5120000 bytes, 5 times"):
        web_file.save(f"{web.url}/f", io.BytesIO(), size=len(CONTENT))


def test_a_login_is_not_told_to_others() -> None:
    request = web_file._request("https://h/x", "", "Basic x")
    assert request.get_header("Authorization") == "Basic x"
    about = (request, None, 302, "", None)
    there = web_file._Bounded().redirect_request(*about, "https://store/y")  # type: ignore[arg-type]
    assert there is not None
    assert not there.has_header("Authorization")
    for same in ("https://h:443/y", "https://H/y"):
        there = web_file._Bounded().redirect_request(*about, same)  # type: ignore[arg-type]
        assert there is not None
        assert there.get_header("Authorization") == "Basic x"
    there = web_file._Bounded().redirect_request(*about, "https://h:8443/y")  # type: ignore[arg-type]
    assert there is not None
    assert not there.has_header("Authorization")
