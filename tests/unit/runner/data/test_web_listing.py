"""A file of a web server, as a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent.base import manifest
from launcher.runner.data import listing
from launcher.spec.errors import InputError, StoreError
from support.web_server import Web

CONTENT = b"some bytes " * 10_000
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    with Web("127.0.0.1").running() as web:
        web.files["/a/%C3%A9%20b.tar"] = CONTENT
        yield web


def read(web: Web, end: str = "") -> listing.Listed:
    return listing.read_source(f"{web.url}/a/é b.tar{end}")


def test_it_is_read_when_it_may_have_changed(web: Web) -> None:
    first = read(web)
    with first.manifest.open("rb") as file:
        (entry,) = manifest.entries(file)
    known = manifest.SHA256 + SUM.encode()
    assert entry == manifest.Entry("é b.tar".encode(), len(CONTENT), False, known)
    before = web.sent
    assert read(web).version == first.version
    assert web.sent == before

    web.files["/a/%C3%A9%20b.tar"] = CONTENT[::-1]
    second = read(web)
    assert second.version != first.version
    assert not first.manifest.exists()
    assert second.store
    assert not second.store.has_changed()
    before = web.sent
    second.store.doubt()
    assert read(web).version == second.version
    assert web.sent - before >= len(CONTENT), "a host found another sum"

    web.tag, web.changed = lambda data: "", 0
    before = web.sent
    assert read(web).version == read(web).version == second.version
    assert web.sent - before >= 2 * len(CONTENT), "nothing says that it is the same"


def test_a_sum_in_the_url_saves_the_reading(web: Web) -> None:
    pinned = read(web, f"#sha256={SUM.upper()}")
    assert web.sent == 0
    assert pinned.version == read(web).version
    web.has_length = web.has_ranges = False
    with pytest.raises(InputError, match=f"its sha256 is {SUM}"):
        read(web, f"#sha256={'0' * 64}")


def test_a_file_without_an_end(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether all of it has come, only its sum says."""
    web.has_ranges = False
    monkeypatch.setattr(Web, "_head", headless)
    with pytest.raises(StoreError, match="does not say where the file ends") as error:
        read(web)
    assert "#sha256=" in error.value.hint
    assert read(web, f"#sha256={SUM}").version.bytes == len(CONTENT)


def headless(web: Web, handler: object, status: int, length: int, **more: str) -> None:
    """Answer without a length, as HTTP/1.0 does."""
    handler.protocol_version = "HTTP/1.0"  # type: ignore[attr-defined]
    handler.send_response(status)  # type: ignore[attr-defined]
    handler.end_headers()  # type: ignore[attr-defined]
