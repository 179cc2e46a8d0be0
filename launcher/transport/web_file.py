"""Reads a file from a web server: how long it is, whether it has changed, and its sum.

What a server says of a file is not always true, so whatever is read is counted, and a file that has
changed between two answers is read from the beginning. Redirections are followed, a bounded number of
them, and never from https to http. They may have signatures: no message names where they lead.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from ..spec.errors import StoreError
from ..spec.frozen import frozen
from . import index_logins

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds for a server to send something, how often it may fail in a row, and the longest pause.
PATIENCE, TRIES, LONGEST_PAUSE = 30.0, 5, 20.0
#: How often a file may change while it is read.
CHANGES = 3
#: Answers after which it is worth to ask again.
AGAIN = (408, 425, 429, 500, 502, 503, 504)
#: Seconds since its last change for which a file may change again and keep its Last-Modified.
FRESH = 2.0
_PIECE = 1 << 20
#: Some servers refuse programs that say nothing of themselves.
_AGENT = "launcher"


@frozen
class Found:
    """What a server says of a file. ``size`` is None where it does not say; ``state`` changes with the
    content as far as the server knows, and ``is_sure`` says whether it does so with every change."""

    size: int | None
    state: str
    is_sure: bool
    by_ranges: bool = False
    has_end: bool = True  # it is known when all of it has come


@frozen
class Sum:
    """What a file has that was read: so many bytes, and this sha256."""

    size: int
    sha256: str


class _Changed(Exception):
    """The file is not what it was."""


class _Unwritten(Exception):
    """What has come cannot be written here; its cause is the OSError."""


def look(address: str, authorization: str = "") -> Found:
    """Return what a server says of a file, without reading it. Blocks. Raises StoreError."""
    trouble = _Trouble(address)
    is_whole = False
    while True:
        # Not HEAD: signatures behind redirections allow GET alone, and only a range shows that
        # ranges are there.
        request = _request(address, "" if is_whole else "bytes=0-0", authorization)
        try:
            with _opened(request) as answer:
                found = _found(answer)
            if found.size is not None or not found.by_ranges or is_whole:
                return found
            is_whole = True  # it says how long the part is, and not how long the file is
            continue
        except urllib.error.HTTPError as error:
            if error.code == 416 and not is_whole:
                is_whole = True  # there is no first byte
                continue
            trouble.refused(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            trouble.failed(error)
        trouble.wait()


def read(
    address: str,
    found: Found,
    on_read: Callable[[int, int | None], None] = lambda count, total: None,
) -> tuple[Sum, Found]:
    """Read a file, and keep nothing of it; return what the server says of it then. Blocks.

    ``found`` is what it said before. ``on_read`` is called with the bytes so far and, where it is known,
    their number, and may raise what it wants. Raises StoreError.
    """
    for _ in range(CHANGES):
        try:
            read = _Reading(address, found, on_read).run()
        except _Changed:
            found = look(address)
            continue
        before, found = found, look(address)
        if _is_same(before, found):
            return read, found
    raise StoreError(
        f"{address} changes while it is read",
        "wait until nobody writes it. If its mirrors differ in what they say of it, add the sum: "
        "#sha256=...",
    )


def save(
    address: str,
    to: IO[bytes],
    authorization: str = "",
    on_read: Callable[[int, int | None], None] = lambda count, total: None,
    size: int | None = None,
) -> Sum:
    """Write a file of a server into an open file; ``authorization`` is what this server alone is told.

    ``size`` is that of the file, where somebody else says it. What has none, and no end that its server
    tells, is refused: it may be cut off. Blocks.
    Raises StoreError, OSError. ``on_read`` is as in :func:`read`.
    """
    for _ in range(CHANGES):
        found = look(address, authorization)
        if found.size is None and size is not None:
            found = replace(found, size=size)
        try:
            return _Reading(address, found, on_read, authorization, to, True).run()
        except _Changed:
            continue
        except _Unwritten as error:
            raise error.__cause__ or error from None
    raise StoreError(f"{address} changes while it is read", "wait until nobody writes it")


def _is_same(one: Found, other: Found) -> bool:
    return one.state == other.state and (one.size == other.size or None in (one.size, other.size))


@contextmanager
def _writing() -> Iterator[None]:
    """Raise _Unwritten for what goes wrong here: it is no fault of the server."""
    try:
        yield
    except OSError as error:
        raise _Unwritten from error


class _Reading:
    """One time that a file is read from its beginning to its end."""

    def __init__(
        self,
        address: str,
        found: Found,
        on_read: Callable[[int, int | None], None],
        authorization: str = "",
        to: IO[bytes] | None = None,
        needs_end: bool = False,
    ) -> None:
        self._address, self._found, self._on_read = address, found, on_read
        self._authorization, self._to, self._needs_end = authorization, to, needs_end
        self._trouble = _Trouble(address)
        self._sum, self._have = hashlib.sha256(), 0

    def run(self) -> Sum:
        """Return the sum. Raises StoreError, _Changed."""
        while True:
            before = self._have
            try:
                size = self._go_on()
                if size is None or size == self._have:
                    return Sum(self._have, self._sum.hexdigest())
                self._trouble.text = f"is cut off at {self._have} of {size} bytes"
            except urllib.error.HTTPError as error:
                if error.code in (412, 416):
                    raise _Changed from None
                self._trouble.refused(error)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._trouble.failed(error)
            if self._have > before and self._found.by_ranges:
                self._trouble.count = 0
            self._trouble.wait()

    def _go_on(self) -> int | None:
        """Read what is missing, for as long as this answer lasts; return the size of the file."""
        if not self._found.by_ranges:
            self._begin()
        part = f"bytes={self._have}-" if self._have else ""
        with _opened(_request(self._address, part, self._authorization)) as answer:
            found = _found(answer)
            if not _is_same(self._found, found):
                raise _Changed
            begins = _begins(answer)
            if begins not in (0, self._have):
                raise _Changed
            if begins != self._have:
                self._begin()
            size = self._found.size if found.size is None else found.size
            if self._needs_end and size is None and not found.has_end:
                raise StoreError(
                    f"{self._address} cannot be read: its server does not say where it ends",
                    "so nobody sees whether all has come: take another server, or have it send a length",
                )
            while piece := answer.read(_PIECE):
                self._sum.update(piece)
                self._have += len(piece)
                self._write(piece)
                if size is not None and self._have > size:
                    raise _Changed
                self._on_read(self._have, size)
        return size

    def _begin(self) -> None:
        self._sum, self._have = hashlib.sha256(), 0
        if self._to is not None:
            with _writing():
                self._to.seek(0)
                self._to.truncate()

    def _write(self, piece: bytes) -> None:
        if self._to is not None:
            with _writing():
                self._to.write(piece)


def _found(answer: http.client.HTTPResponse) -> Found:
    headers = answer.headers
    length = headers.get("Content-Length")
    if answer.status == 206:
        length = str(headers.get("Content-Range") or "").rpartition("/")[2]
    size = int(length) if length and length.isascii() and length.isdigit() else None
    tag, modified = headers.get("ETag") or "", headers.get("Last-Modified") or ""
    is_sure = bool(tag) and not tag.startswith("W/")
    return Found(
        size,
        f"{tag} {modified}",
        is_sure or _is_old(modified, headers.get("Date") or ""),
        answer.status == 206,
        size is not None or (headers.get("Transfer-Encoding") or "").lower() == "chunked",
    )


def _is_old(modified: str, now: str) -> bool:
    """Return whether a file that changes now gets another time of its last change."""
    try:
        then, there = (
            email.utils.parsedate_to_datetime(one).timestamp() for one in (modified, now)
        )
    except (TypeError, ValueError, IndexError):
        return False
    return then + FRESH < there


def _begins(answer: http.client.HTTPResponse) -> int:
    """Return the byte that an answer starts with."""
    if answer.status != 206:
        return 0
    first = str(answer.headers.get("Content-Range") or "").partition(" ")[2].partition("-")[0]
    return int(first) if first.isascii() and first.isdigit() else 0


# -- asking


class _Trouble:
    """What goes wrong with a server, and whether to ask it again."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.count, self.text, self._pause = 0, "", 0.0

    def refused(self, error: urllib.error.HTTPError) -> None:
        """Note an answer that is a refusal. Raises StoreError for one that stays."""
        with error:
            code, after = error.code, error.headers.get("Retry-After") or ""
        if code not in AGAIN:
            raise _refusal(self._address, code) from None
        self.text = f"cannot be read: the server answers {code}"
        self._pause = float(after) if after.isascii() and after.isdigit() else 0.0

    def failed(self, error: Exception) -> None:
        """Note a connection that fails."""
        inner = getattr(error, "reason", error)
        why = getattr(inner, "strerror", None) or type(inner).__name__
        self.text = f"cannot be read: {why}"

    def wait(self) -> None:
        """Wait before the next try. Raises StoreError if there were too many."""
        self.count += 1
        if self.count >= TRIES:
            raise StoreError(
                f"{self._address} {self.text}, {TRIES} times",
                "does curl -L read it here? Start again when the server is well",
            )
        pause = max(0.5 * 2.0 ** (self.count - 1), self._pause)
        time.sleep(min(pause, LONGEST_PAUSE))
        self._pause = 0.0


def _refusal(address: str, code: int) -> StoreError:
    what = f"{address} cannot be read: the server answers {code}"
    if code in (401, 403):
        return StoreError(what, "only files that everybody may read can be a data set by their URL")
    if code in (404, 410):
        return StoreError(what, "look at the URL: it has to name a file")
    if 300 <= code < 400:
        return StoreError(
            what, "it leads to http://, in a circle, or nowhere: name the URL of the file itself"
        )
    return StoreError(what, "does curl -L read it here?")


def _request(address: str, part: str, authorization: str = "") -> urllib.request.Request:
    headers = {"User-Agent": _AGENT, **({"Range": part} if part else {})}
    request = urllib.request.Request(address, headers=headers)
    if authorization:  # which servers that it redirects to are not told
        request.add_unredirected_header("Authorization", authorization)
    return request


class _Bounded(urllib.request.HTTPRedirectHandler):
    """Follows redirections to other servers, of which there is a largest number."""

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request; None for one that is not made."""
        there = urllib.parse.urlsplit(newurl)
        is_safe = there.scheme == "https" or (there.scheme == "http" and req.type == "http")
        if not is_safe or "@" in there.netloc:
            return None
        request = urllib.request.Request(newurl.replace(" ", "%20"), headers=dict(req.headers))
        login = req.unredirected_hdrs.get("Authorization")
        if login and index_logins.server(newurl) == index_logins.server(req.full_url):
            request.add_unredirected_header("Authorization", login)
        return request


@contextmanager
def _opened(request: urllib.request.Request) -> Iterator[http.client.HTTPResponse]:
    with urllib.request.build_opener(_Bounded).open(request, timeout=PATIENCE) as answer:
        yield answer
