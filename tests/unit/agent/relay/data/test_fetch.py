"""Reading objects from a store that is slow, cut off, too busy, or has something else by now."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher.agent.base import manifest
from launcher.agent.base.manifest import Entry
from launcher.agent.relay.data import fetch as data_fetch
from launcher.agent.relay.data import sums
from launcher.agent.relay.data.fetch import Fetch
from support.http_server import Server

CONTENT = bytes(range(256)) * 4000
SECRET = "X-Amz-Signature=0123456789abcdef"


class Store:
    """A server that answers as a test says: ``answer(handler, number of the request)``."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler, int], None]) -> None:
        self.ranges: list[str | None] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.ranges.append(self.headers.get("Range"))
                answer(self, len(store.ranges))

            def log_message(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/bucket/key?{SECRET}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., Store]]:
    """Start stores that stop with the test."""
    stores: list[Store] = []

    def start(answer: Callable[[BaseHTTPRequestHandler, int], None]) -> Store:
        stores.append(Store(answer))
        return stores[-1]

    yield start
    for store in stores:
        store.close()


@pytest.fixture(params=[0, 1 << 30], ids=["in parts", "in memory"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the object in parts, as a large one, and into memory, as a small one."""
    monkeypatch.setattr(data_fetch, "SMALL", request.param)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fetch, "_sleep", lambda self, seconds: None)


def send(
    handler: BaseHTTPRequestHandler,
    status: int = 200,
    body: bytes = CONTENT,
    length: int | None = None,
    **headers: str,
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def entry(tag: str = "tag-1", path: bytes = b"deep/a file") -> Entry:
    return Entry(path, len(CONTENT), False, manifest.ETAG + tag.encode())


def fetch(folder: Path, url: str, one: Entry, seconds: float = 60.0) -> list[list[str]]:
    (folder / "files").mkdir(exist_ok=True)
    reading = Fetch(str(folder), seconds)
    reading.run([(one, url)], lambda: None)
    assert SECRET not in repr(reading.failed)
    return reading.failed


def whole(folder: Path) -> bool:
    """Return whether the object has arrived, and its sum is noted."""
    known = {b"deep/a file": b"sha256:" + hashlib.sha256(CONTENT).hexdigest().encode()}
    file = folder / "files/deep/a file"
    return file.exists() and file.read_bytes() == CONTENT and sums.noted(str(folder)) == known


def test_what_is_cut_off_is_continued(tmp_path: Path, serve: Callable[..., Store]) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            send(handler, body=CONTENT[:300_000], length=len(CONTENT), ETag='"tag-1"')
            handler.close_connection = True
            handler.wfile.flush()
            handler.connection.shutdown(2)
        else:
            begins = int(str(handler.headers["Range"]).removeprefix("bytes=").removesuffix("-"))
            assert handler.headers["If-Match"] == '"tag-1"'
            send(handler, 206, CONTENT[begins:], ETag='"tag-1"')

    store = serve(answer)
    assert fetch(tmp_path, store.url, entry()) == []
    assert whole(tmp_path)
    assert store.ranges[0] is None
    assert all(store.ranges[1:]), store.ranges


def test_a_small_object_that_is_cut_off_is_read_again(
    tmp_path: Path, serve: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came of it is nowhere, and what an earlier copy has left in its place does not stay."""
    monkeypatch.setattr(data_fetch, "SMALL", 1 << 30)

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        assert number != 2 or not whole(tmp_path)
        send(handler, body=CONTENT[: 300_000 * number], length=len(CONTENT), ETag='"tag-1"')
        handler.close_connection = True
        handler.wfile.flush()
        handler.connection.shutdown(2)

    (tmp_path / "files/deep").mkdir(parents=True)
    before = tmp_path / "files/deep/a file"
    before.write_bytes(bytes(len(CONTENT) + 1))
    (tmp_path / "other").hardlink_to(before)
    store = serve(answer)
    assert fetch(tmp_path, store.url, entry()) == []
    assert whole(tmp_path)
    assert store.ranges == [None] * 4
    assert (tmp_path / "other").stat().st_size == len(CONTENT) + 1, "another version's"


def test_a_part_whose_tag_is_no_sum_is_not_read_again(
    tmp_path: Path, serve: Callable[..., Store]
) -> None:
    """The store has said so to an earlier process, which has noted it."""
    store = serve(in_store("s3-kms"))
    (tmp_path / "parts").mkdir()
    part = tmp_path / "parts" / hashlib.sha256(b"deep/a file").hexdigest()[:32]
    part.write_bytes(CONTENT[:300_000])
    assert fetch(tmp_path, store.url, entry(STORES["s3-kms"][0])) == []
    assert store.ranges == ["bytes=300000-"]
    (tmp_path / "files/deep/a file").rename(part)
    assert fetch(tmp_path, store.url, entry(STORES["s3-kms"][0])) == []
    assert store.ranges == ["bytes=300000-"]


@pytest.mark.parametrize("left", [300_000, 299_999, 100, 0])
def test_what_has_arrived_is_not_read_again(
    tmp_path: Path,
    serve: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
    left: int,
) -> None:
    """Its sums are those of what arrives, also over several requests; of a part that is not as long as it
    was left, all of the file is summed."""
    summed = []

    def sums_of(*about: object) -> tuple[str, str]:
        summed.append(about)
        return sums.sums_of(*about)  # type: ignore[arg-type]

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        said = handler.headers["Range"] or "bytes=0-"
        begins = int(said.removeprefix("bytes=").removesuffix("-"))
        end = len(CONTENT) if is_well else 300_000
        length = len(CONTENT) - begins
        send(handler, 206 if begins else 200, CONTENT[begins:end], length, ETag=f'"{tag}"')
        handler.close_connection = True
        handler.wfile.flush()
        handler.connection.shutdown(2)

    monkeypatch.setattr(data_fetch, "sums_of", sums_of)
    tag, is_well = hashlib.md5(CONTENT).hexdigest(), False
    store, one = serve(answer), entry(tag)
    (tmp_path / "files").mkdir()
    arriving: dict[str, sums.Arriving] = {}
    first = Fetch(str(tmp_path), 60.0, arriving=arriving)
    first.run([(one, store.url)], lambda: None)
    assert first.failed[0][1] == "refused"
    (part,) = (tmp_path / "parts").iterdir()
    with part.open("r+b") as file:
        file.truncate(left)
    is_well = True
    second = Fetch(str(tmp_path), 60.0, arriving=arriving)
    second.run([(one, store.url)], lambda: None)
    assert second.failed == []
    assert whole(tmp_path)
    assert bool(summed) == (left not in (0, 300_000))
    assert arriving == {}


def test_parts_of_two_versions_are_not_mixed(tmp_path: Path, serve: Callable[..., Store]) -> None:
    """An object of the same path and length in another copy has other bytes so far."""
    body, is_well = bytes(len(CONTENT)), False

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if is_well:
            send(handler, 206, CONTENT[300_000:])
            return
        send(handler, 200 if number == 1 else 503, body[:300_000], len(CONTENT))
        handler.close_connection = True
        handler.wfile.flush()
        handler.connection.shutdown(2)

    store, one = serve(answer), entry(hashlib.md5(CONTENT).hexdigest())
    arriving: dict[str, sums.Arriving] = {}
    for name in ("before", "now"):
        (tmp_path / name / "files").mkdir(parents=True)
    first = Fetch(str(tmp_path / "before"), 60.0, arriving=arriving)
    first.run([(one, store.url)], lambda: None)
    (part,) = (tmp_path / "before/parts").iterdir()
    assert part.read_bytes() == body[:300_000]
    (tmp_path / "now/parts").mkdir()
    (tmp_path / "now/parts" / part.name).write_bytes(CONTENT[:300_000])
    is_well = True
    second = Fetch(str(tmp_path / "now"), 60.0, arriving=arriving)
    second.run([(one, store.url)], lambda: None)
    assert second.failed == []
    assert whole(tmp_path / "now")


def test_a_store_without_ranges_starts_again(tmp_path: Path, serve: Callable[..., Store]) -> None:
    store = serve(lambda handler, number: send(handler))
    (tmp_path / "parts").mkdir()
    part = tmp_path / "parts" / hashlib.sha256(b"deep/a file").hexdigest()[:32]
    part.write_bytes(b"x" * 1000)
    assert fetch(tmp_path, store.url, entry()) == []
    assert whole(tmp_path)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_store_is_asked_again(
    tmp_path: Path, serve: Callable[..., Store], status: int
) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number < 3:
            send(handler, status, b"<Error/>", Retry_After="1")
        else:
            send(handler)

    store = serve(answer)
    assert fetch(tmp_path, store.url, entry()) == []
    assert whole(tmp_path)
    assert len(store.ranges) == 3


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (lambda h, n: send(h, 503, b""), "refused", "the server answers 503, 6 times"),
        (lambda h, n: send(h, 403, b""), "expired", "403"),
        (lambda h, n: send(h, 400, b""), "expired", "400"),  # Google calls that a bad request
        (lambda h, n: send(h, 404, b""), "changed", "gone"),
        (lambda h, n: send(h, 412, b""), "changed", "has changed"),
        (lambda h, n: send(h, 301, b"", Location="/x"), "refused", "301"),
        (lambda h, n: send(h, ETag='"tag-2"'), "changed", "has changed"),
        (lambda h, n: send(h, body=CONTENT + b"x"), "changed", "1024001 bytes"),
        (lambda h, n: send(h, body=CONTENT[:-1]), "changed", "1023999 bytes"),
    ],
)
def test_nothing_wrong_looks_whole(
    tmp_path: Path,
    serve: Callable[..., Store],
    answer: Callable[[BaseHTTPRequestHandler, int], None],
    code: str,
    words: str,
) -> None:
    store = serve(answer)
    ((path, theirs, text),) = fetch(tmp_path, store.url, entry())
    assert (path, theirs) == ("deep/a file", code)
    assert words in text
    assert not (tmp_path / "files/deep").exists()
    assert sums.noted(str(tmp_path)) == {}


@pytest.mark.usefixtures("either")
def test_other_bytes_of_the_same_length(tmp_path: Path, serve: Callable[..., Store]) -> None:
    """Where the tag is an MD5, and not that of an encrypted object, it is compared."""
    tag = hashlib.md5(CONTENT).hexdigest()
    store = serve(lambda handler, number: send(handler, body=bytes(len(CONTENT))))
    ((_, code, text),) = fetch(tmp_path, store.url, entry(tag))
    assert (code, text) == ("refused", "it arrived with another sum than the store names")
    keyed = {"x_amz_server_side_encryption": "aws:kms"}
    other = serve(lambda handler, number: send(handler, **keyed))
    assert fetch(tmp_path, other.url, entry("0" * 32)) == []


@pytest.mark.usefixtures("either")
def test_a_file_of_a_web_server(tmp_path: Path, serve: Callable[..., Store]) -> None:
    """It is found behind redirections, and has the sum that was listed, or is not there."""

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if "key" in handler.path:
            send(handler, 302, b"", Location="/file")
        else:
            send(handler)

    store, name = serve(answer), b"deep/a file"
    (tmp_path / "files").mkdir()
    for known, failed in ((bytes(64), "another sum"), (hashlib.sha256(CONTENT).digest(), "")):
        one = Entry(name, len(CONTENT), False, manifest.SHA256 + known.hex().encode())
        reading = Fetch(str(tmp_path), 60.0, follow=True)
        reading.run([(one, store.url)], lambda: None)
        assert [text for _, _, text in reading.failed if failed not in text] == []
        assert bool(reading.failed) == bool(failed)
        assert whole(tmp_path) != bool(failed)


@pytest.mark.usefixtures("either")
def test_time_is_over(tmp_path: Path, serve: Callable[..., Store]) -> None:
    """The next request continues."""
    store = serve(lambda handler, number: send(handler))
    ((_, code, _),) = fetch(tmp_path, store.url, entry(), seconds=0)
    assert code == "later"
    assert fetch(tmp_path, store.url, entry()) == []
    assert whole(tmp_path)


@pytest.mark.usefixtures("either")
def test_nobody_is_there(tmp_path: Path) -> None:
    ((_, code, text),) = fetch(tmp_path, f"http://127.0.0.1:9/x?{SECRET}", entry())
    assert code == "refused"
    assert "Connection refused, 6 times" in text


def test_objects_that_have_not_changed_are_shared(tmp_path: Path) -> None:
    """A version that is here has most of the next one."""
    old, new = tmp_path / "old", tmp_path / "new"
    for place in (old, new):
        (place / "files").mkdir(parents=True)
    tags = {"old": {b"a": "1", b"b": "1", b"c": "1"}, "new": {b"a": "1", b"b": "2", b"d": "1"}}
    for place in (old, new):
        entries = [
            Entry(path, 1, False, b"etag:" + tag.encode()) for path, tag in tags[place.name].items()
        ]
        data = manifest.HEADER + b"".join(map(manifest.encode, entries))
        (place / "manifest").write_bytes(data)
    for name in "abc":
        (old / "files" / name).write_bytes(name.encode())
        with (old / "sums").open("ab") as file:
            file.write(b"sha256:%s %s\0" % (name.encode(), name.encode()))
    sums.write_contents(str(old))
    left = [one.path for one in sums.missing(str(new), str(old / "files"))]
    assert left == [b"b", b"d"]
    assert (new / "files/a").samefile(old / "files/a")
    assert sums.noted(str(new)) == {b"a": b"sha256:a"}


@pytest.mark.usefixtures("either")
def test_sums_that_google_names(tmp_path: Path, serve: Callable[..., Store]) -> None:
    """They count, and not a tag that only looks like one: the MD5 of an object, or none at all."""
    md5 = hashlib.md5(CONTENT)
    named = "crc32c=AAAAAA==,md5=" + base64.b64encode(md5.digest()).decode()
    other = "md5=" + base64.b64encode(hashlib.md5(b"other").digest()).decode()
    none = hashlib.md5(b"of the parts").hexdigest()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        assert handler.headers["Accept-Encoding"] == "gzip"
        tag, said = [("x/=", named), (none, "crc32c=AAAAAA=="), ("x/=", other)][number - 1]
        send(handler, ETag=f'"{tag}"', x_goog_hash=said)

    store = serve(answer)
    for tag in ("x/=", none, "x/="):
        (tmp_path / "files").mkdir(exist_ok=True)
        reading = Fetch(str(tmp_path), 60.0, headers={"Accept-Encoding": "gzip"})
        reading.run([(entry(tag), store.url)], lambda: None)
        if store.ranges[2:]:
            assert reading.failed[0][1:] == [
                "refused",
                "it arrived with another sum than the store names",
            ]
        else:
            assert reading.failed == []


#: How stores answer for CONTENT: the tag, and the headers of an answer with all of it, and of a rest.
_MD5 = hashlib.md5(CONTENT)
_BASE64 = base64.b64encode(_MD5.digest()).decode()
_OTHER = hashlib.md5(b"other").hexdigest()  # it looks like a sum, and is none
_KMS = {"x_amz_server_side_encryption": "aws:kms"}
_AZURE = {"x_ms_version": "2020"}
_GOOGLE = {"x_goog_hash": "md5=" + _BASE64}
_COMPOSED = {"x_goog_hash": "crc32c=AAAAAA=="}
STORES: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "azure": (
        "0x8D1",
        {**_AZURE, "Content_MD5": _BASE64},
        {**_AZURE, "x_ms_blob_content_md5": _BASE64},
    ),
    "azure-once": ("0x8D1", {**_AZURE, "Content_MD5": _BASE64}, _AZURE),
    "azure-late": ("0x8D1", _AZURE, {**_AZURE, "x_ms_blob_content_md5": _BASE64}),
    "s3": (_MD5.hexdigest(), {}, {}),
    "s3-parts": (_OTHER + "-3", {}, {}),
    "s3-kms": (_OTHER, _KMS, _KMS),
    "s3-kms-once": (_OTHER, _KMS, {}),
    "google": (_MD5.hexdigest(), _GOOGLE, _GOOGLE),
    "google-once": ("x/=", _GOOGLE, {}),
    "google-composed": (_OTHER, _COMPOSED, _COMPOSED),
    "google-composed-once": (_OTHER, _COMPOSED, {}),
}


def in_store(kind: str, body: bytes = CONTENT) -> Callable[[BaseHTTPRequestHandler, int], None]:
    """Answer as such a store does."""
    tag, of_all, of_rest = STORES[kind]

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        said = handler.headers["Range"]
        begins = int((said or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = of_rest if said else of_all
        with contextlib.suppress(OSError):  # the reader's time was over
            send(handler, 206 if said else 200, body[begins:], ETag=f'"{tag}"', **headers)

    return answer


def in_rounds(
    folder: Path,
    url: str,
    one: Entry,
    monkeypatch: pytest.MonkeyPatch,
    arriving: dict[str, sums.Arriving] | None,
    most: int = 30,
) -> tuple[int, list[list[str]]]:
    """Read an object in rounds that end once a piece has come; return how many, and what failed at
    last. Without ``arriving``, each is that of another process."""
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr(data_fetch, "time", clock)
    (folder / "files").mkdir()
    number, failed = 0, [["", "later", ""]]
    while number < most and [code for _, code, _ in failed] == ["later"]:
        number += 1
        reading = Fetch(str(folder), 1.5, arriving=arriving)
        reading.run([(one, url)], lambda: None)
        failed = reading.failed
    return number, failed


@pytest.mark.parametrize("piece", [len(CONTENT), 300_000])
@pytest.mark.parametrize(
    ("kind", "is_same_process"),
    [
        *((kind, True) for kind in STORES),
        *((kind, False) for kind in ("azure", "azure-once", "s3", "s3-parts", "s3-kms", "google")),
    ],
)
def test_rounds_that_end_after_each_piece(
    tmp_path: Path,
    serve: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    piece: int,
    is_same_process: bool,
) -> None:
    """What a store said of an object counts in all of them, for as long as the process lives."""
    monkeypatch.setattr(manifest, "PIECE", piece)
    store, one = serve(in_store(kind)), entry(STORES[kind][0])
    arriving: dict[str, sums.Arriving] | None = {} if is_same_process else None
    rounds, failed = in_rounds(tmp_path, store.url, one, monkeypatch, arriving)
    assert failed == []
    assert whole(tmp_path)
    assert not arriving
    assert not list((tmp_path / "parts").iterdir())
    assert rounds == -(-len(CONTENT) // piece)


@pytest.mark.parametrize("kind", ["azure", "azure-once", "azure-late", "s3", "google-once"])
def test_other_bytes_in_rounds(
    tmp_path: Path, serve: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A sum that the store named in any of them is compared."""
    monkeypatch.setattr(manifest, "PIECE", 300_000)
    store, one = serve(in_store(kind, CONTENT[:-1] + b"x")), entry(STORES[kind][0])
    arriving: dict[str, sums.Arriving] = {}
    ((_, code, text),) = in_rounds(tmp_path, store.url, one, monkeypatch, arriving)[1]
    assert (code, text) == ("refused", "it arrived with another sum than the store names")
    assert not whole(tmp_path)
    assert arriving == {}
    assert not list((tmp_path / "parts").iterdir())


@pytest.mark.parametrize("body", [CONTENT, CONTENT[:-1] + b"x"])
@pytest.mark.parametrize("kind", STORES)
def test_all_of_it_comes_instead_of_the_rest(
    tmp_path: Path,
    serve: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    body: bytes,
) -> None:
    """It takes the place of what was here, and the sums are those of it; what was said before of the same
    object still holds."""
    monkeypatch.setattr(manifest, "PIECE", 300_000)
    tag, one = STORES[kind][0], entry(STORES[kind][0])

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number < 3:
            in_store(kind)(handler, number)
        else:
            send(handler, 200, body, ETag=f'"{tag}"')

    store = serve(answer)
    arriving: dict[str, sums.Arriving] = {}
    with monkeypatch.context() as patch:
        assert in_rounds(tmp_path, store.url, one, patch, arriving, 2)[1][0][1] == "later"
    last = Fetch(str(tmp_path), 60.0, arriving=arriving)
    last.run([(one, store.url)], lambda: None)
    assert store.ranges == [None, "bytes=300000-", "bytes=600000-"]
    assert arriving == {}
    if body == CONTENT:
        assert last.failed == []
        assert whole(tmp_path)
    elif kind in ("s3-parts", "s3-kms", "s3-kms-once", "google-composed", "google-composed-once"):
        digest = hashlib.sha256(body).hexdigest().encode()  # the store never named a sum
        assert sums.noted(str(tmp_path)) == {one.path: b"sha256:" + digest}
    else:
        assert [code for _, code, _ in last.failed] == ["refused"]


@pytest.mark.parametrize("kind", STORES)
def test_it_changes_between_rounds(
    tmp_path: Path, serve: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(manifest, "PIECE", 300_000)
    tag, _, of_rest = STORES[kind]

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            in_store(kind)(handler, number)
        else:
            with contextlib.suppress(OSError):
                send(handler, 206, bytes(len(CONTENT) - 300_000), ETag='"another"', **of_rest)

    store = serve(answer)
    ((_, code, text),) = in_rounds(tmp_path, store.url, entry(tag), monkeypatch, {})[1]
    assert (code, text) == ("changed", "it has changed at its source")
    assert not whole(tmp_path)


@pytest.mark.parametrize(
    ("kind", "here"),
    [
        ("s3", bytes(300_000)),
        ("s3", bytes(len(CONTENT))),
        ("s3-kms", CONTENT),
        ("google-composed", CONTENT),
    ],
)
def test_a_part_of_an_earlier_process(
    tmp_path: Path, serve: Callable[..., Store], kind: str, here: bytes
) -> None:
    """It may be damaged, or its tag no sum: the object is read again before it is refused."""
    store = serve(in_store(kind))
    (tmp_path / "parts").mkdir()
    part = tmp_path / "parts" / hashlib.sha256(b"deep/a file").hexdigest()[:32]
    part.write_bytes(here)
    assert fetch(tmp_path, store.url, entry(STORES[kind][0])) == []
    assert whole(tmp_path)
    assert store.ranges[-1] is None


def test_a_file_without_a_tag_is_another_one(
    tmp_path: Path, serve: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all of it comes again, what was said of the one before does not hold."""
    monkeypatch.setattr(manifest, "PIECE", 300_000)

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        other = "md5=" + base64.b64encode(hashlib.md5(bytes(len(CONTENT))).digest()).decode()
        with contextlib.suppress(OSError):
            if number == 1:
                send(handler, 200, bytes(len(CONTENT)), x_goog_hash=other)
            else:
                send(handler, 200)

    store, listed = serve(answer), manifest.SHA256 + hashlib.sha256(CONTENT).hexdigest().encode()
    one = Entry(b"deep/a file", len(CONTENT), False, listed)
    arriving: dict[str, sums.Arriving] = {}
    with monkeypatch.context() as patch:
        in_rounds(tmp_path, store.url, one, patch, arriving, 1)
    last = Fetch(str(tmp_path), 60.0, arriving=arriving)
    last.run([(one, store.url)], lambda: None)
    assert last.failed == []
    assert whole(tmp_path)


def test_a_file_without_a_tag_changes_between_rounds(
    tmp_path: Path, serve: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put together of two is read again, once; the one that was listed is not refused."""
    monkeypatch.setattr(manifest, "PIECE", 300_000)

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        begins = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        body, tag = (bytes(len(CONTENT)), "old") if number == 1 else (CONTENT, "new")
        with contextlib.suppress(OSError):
            send(handler, 206 if begins else 200, body[begins:], ETag=f'"{tag}"')

    store, listed = serve(answer), manifest.SHA256 + hashlib.sha256(CONTENT).hexdigest().encode()
    one = Entry(b"deep/a file", len(CONTENT), False, listed)
    assert in_rounds(tmp_path, store.url, one, monkeypatch, {})[1] == []
    assert whole(tmp_path)
    assert store.ranges.count(None) == 2
