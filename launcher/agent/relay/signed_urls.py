"""What it takes to read and write objects of a store by URLs that the launcher has signed, and to read
files of web servers.

A URL is a secret: it stays in memory, and no message, log or exception text of ours contains one.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import http.client
import select
import threading
import urllib.error
import urllib.parse
import urllib.request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

#: Answers after which it is worth to ask again.
AGAIN = (408, 425, 429, 500, 502, 503, 504)
#: What goes wrong with a disk, and not with a connection.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EACCES)


class Again(Exception):
    """The store cannot do it now. ``seconds`` is how long it asks to wait."""

    def __init__(self, text: str, seconds: float = 0.0) -> None:
        super().__init__(text)
        self.seconds = seconds


class Refusal(Exception):
    """The store answers with a ``status`` that asking again would not change."""

    def __init__(self, status: int) -> None:
        super().__init__("the server answers %d" % status)
        self.status = status


class _Here(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: it could lead a signature elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Elsewhere(urllib.request.HTTPRedirectHandler):
    """Follow redirections to other web servers, ten of them, and none from https to http."""

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302

    def redirect_request(self, req: Any, *args: Any) -> Any:
        there = urllib.parse.urlsplit(args[-1])
        is_safe = there.scheme == "https" or (there.scheme == "http" and req.type == "http")
        if not is_safe or "@" in there.netloc:
            return None
        return urllib.request.Request(args[-1].replace(" ", "%20"), headers=dict(req.headers))


class _Lines(threading.local):
    """The connections of a thread to stores, by scheme and place, that may be asked again."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], http.client.HTTPConnection] = {}


_lines = _Lines()
_opener = urllib.request.build_opener(_Here)
_following = urllib.request.build_opener(_Elsewhere)


def request_for(
    url: str, follow: bool, headers: Mapping[str, str] | None = None
) -> urllib.request.Request:
    """Return a request that reads, with the headers that a store wants. Web servers refuse programs that
    say nothing of themselves."""
    said = {"User-Agent": "launcher"} if follow else {}
    return urllib.request.Request(url, headers={**said, **(headers or {})})


@contextlib.contextmanager
def answer(request: urllib.request.Request, silence: float, follow: bool = False) -> Iterator[Any]:
    """Send a request, and give its answer to the body, also while it is read. ``follow``: it has no
    signature, and goes where the server redirects it.

    Raises Again for a connection that breaks off or stays silent for so many seconds, Refusal, and
    OSError for a disk.
    """
    try:
        if follow or _has_proxy(request.type, request.host):
            with (_following if follow else _opener).open(request, timeout=silence) as found:
                yield found
        else:
            with _kept_open(request, silence) as found:
                yield found
    except urllib.error.HTTPError as error:
        with error:
            raise _of_status(error.code, error.headers)
    except http.client.HTTPException as error:
        raise Again(type(error).__name__)
    except OSError as error:
        if (
            error.errno in _OF_DISKS and type(error).__module__ != "ssl"
        ):  # which has its own numbers
            raise
        inner = getattr(error, "reason", error)
        raise Again(str(getattr(inner, "strerror", None) or type(inner).__name__))


def hang_up() -> None:
    """Close the connections that this thread keeps open: it asks no store again."""
    while _lines.open:
        _lines.open.popitem()[1].close()


@functools.lru_cache(maxsize=None)
def _has_proxy(scheme: str, host: str) -> bool:
    return scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)


@contextlib.contextmanager
def _kept_open(request: urllib.request.Request, silence: float) -> Iterator[Any]:
    """Send a request over this thread's connection to its store, and keep that for the next one where
    all of the answer was read. Raises Again, Refusal, HTTPException, OSError."""
    place = (request.type, request.host)
    try:
        line, found = _asked(place, request, silence)
    except OSError as error:
        raise urllib.error.URLError(error)  # of a connection, whatever its number
    try:
        if not 200 <= found.status < 300:
            found.read(1 << 16)
            raise _of_status(found.status, found.headers)
        yield found
    finally:
        if found.length == 0 and not found.isclosed():
            found.read()
        if found.isclosed() and not found.will_close:
            _lines.open[place] = line
        else:
            line.close()


def _asked(
    place: tuple[str, str], request: urllib.request.Request, silence: float
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Send a request, over a new connection if the one that there was is not open any more."""
    headers = {"User-Agent": "launcher", **request.headers}
    line = _lines.open.pop(place, None)
    is_new = line is None or _has_ended(line)
    while True:
        if is_new or line is None:
            line = _new(place, silence)
        try:
            line.request(request.get_method(), request.selector, request.data, headers)
            return line, line.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            line.close()
            if is_new or request.data is not None:  # of which a part was sent
                raise
            is_new = True
        except BaseException:
            line.close()
            raise


def _has_ended(line: http.client.HTTPConnection) -> bool:
    """Return whether the other end has closed a connection while nothing was asked."""
    waiting = select.poll()
    waiting.register(line.sock, select.POLLIN)
    if not waiting.poll(0):
        return False
    line.close()
    return True


def _new(place: tuple[str, str], silence: float) -> http.client.HTTPConnection:
    scheme, host = place
    if scheme == "https":
        return http.client.HTTPSConnection(host, timeout=silence, context=_secure())
    return http.client.HTTPConnection(host, timeout=silence)


@functools.lru_cache(maxsize=None)
def _secure() -> ssl.SSLContext:
    """Return what trusts the authorities of this host; to read them takes milliseconds."""
    import ssl

    return ssl.create_default_context()


def _of_status(status: int, headers: Any) -> Exception:
    if status not in AGAIN:
        return Refusal(status)
    after = headers.get("Retry-After") or ""
    seconds = float(after) if after.isascii() and after.isdigit() else 0.0
    return Again("the server answers %d" % status, seconds)


def what_failed(error: Exception) -> str:
    """Return what to say of an error whose own text might have the URL."""
    return str(getattr(error, "strerror", None) or type(error).__name__)


def tag_of(found: Any) -> str:
    """Return the tag of the object in an answer; "" without one."""
    return str(found.headers.get("ETag") or "").strip('"')


def is_keyed(found: Any) -> bool:
    """Return whether an object is one whose tag is no sum: it is encrypted, or put together of parts."""
    if found.headers.get("x-goog-hash"):
        return md5_in(found) != tag_of(found)
    return (found.headers.get("x-amz-server-side-encryption") or "AES256") != "AES256"


def md5_in(found: Any) -> str:
    """Return the MD5 of the whole object that an answer names besides its tag; "" without one."""
    said = ",".join(found.headers.get_all("x-goog-hash") or [])
    for one in said.split(","):
        if one.strip().startswith("md5="):
            return _hex(one.strip()[4:])
    if found.headers.get("x-ms-version"):
        whole = found.headers.get("Content-MD5") if found.status in (200, 201) else None
        return _hex(found.headers.get("x-ms-blob-content-md5") or whole or "")
    return ""


def _hex(text: str) -> str:
    """Return bytes in base64 as hexadecimal digits; "" if they are no MD5."""
    try:
        found = base64.b64decode(text)
    except ValueError:
        return ""
    return found.hex() if len(found) == 16 else ""


def in_threads(count: int, work: Callable[[], None], going_on: Callable[[], Any]) -> None:
    """Do this in so many threads, until all have returned."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(1.0)
            going_on()
