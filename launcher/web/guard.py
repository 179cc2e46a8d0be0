"""Stands before every request: who may ask, from where, and what a browser may do with the answer."""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What anybody may load: the page itself, which holds nothing of a run.
_PUBLIC = ("/", "/session")
_STATIC = "/static/"
#: Most bytes of a request's head.
HEAD = 16384
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def token_file(port: int) -> str:
    """Return the name of the file in launcher's folder that holds :attr:`Session.header`."""
    return f"console-{port}.header"


class Session:
    """The secrets of one console: a code that opens it once, the cookie given for the code, and the
    token with which programs ask."""

    def __init__(self, port: int, read_only: bool = False) -> None:
        self.port, self.read_only = port, read_only
        self.cookie_name = f"launcher-console-{port}"  # browsers share cookies between ports
        self.code: str | None = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)
        self._authorization = f"Bearer {secrets.token_urlsafe(32)}"

    def exchange(self, code: str) -> str | None:
        """Return the cookie for the right code, and forget the code; None for a wrong one."""
        if self.code is None or not _equal(code, self.code):
            return None
        self.code = None
        return self._cookie

    @property
    def header(self) -> str:
        """The line with which a program asks (RFC 6750)."""
        return f"Authorization: {self._authorization}"

    def trusts(self, authorization: str) -> bool:
        """Return whether an Authorization header has this session's token."""
        return _equal(authorization, self._authorization)

    def knows(self, header: str) -> bool:
        """Return whether a Cookie header has this session's cookie."""
        try:
            morsel = SimpleCookie(header).get(self.cookie_name)
        except CookieError:
            return False
        return morsel is not None and _equal(morsel.value, self._cookie)


def _length(scope: Scope) -> int:
    """Return about how many bytes the head of a request has: what comes in one piece is read whole."""
    fields = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return fields + len(scope.get("raw_path") or b"") + len(scope["query_string"])


def _equal(given: str, right: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), right.encode())


class Guard:
    """Refuses strangers, foreign pages and unknown names of this machine; adds headers to answers.

    Plain ASGI: middleware that buffers would hold back streams.
    """

    def __init__(self, app: ASGIApp, session: Session) -> None:
        self._app, self._session = app, session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket is served
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                message["headers"] = headers.raw
            await send(message)

        refused = None
        if _length(scope) > HEAD:
            refused = 431, f"the head of the request is larger than {HEAD} bytes"
        refused = refused or refusal(
            self._session, scope["method"], scope["path"], Headers(scope=scope)
        )
        if refused is None:
            await self._app(scope, receive, guarded)
        else:
            status, why = refused
            await JSONResponse({"error": why}, status)(scope, receive, guarded)


def refusal(session: Session, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
    """Return the status and sentence with which a request is refused; None if it may pass."""
    own = {f"127.0.0.1:{session.port}", f"localhost:{session.port}"}
    host = headers.get("host", "")
    if host not in own:
        return 421, f"the console answers on 127.0.0.1:{session.port} only"
    writes = method not in ("GET", "HEAD")
    if writes and method != "POST":
        return 405, "the console knows GET and POST only"
    if writes and path != "/session" and session.read_only:
        return 403, "this console is read-only: it was started with --read-only"
    if any(origin != f"http://{host}" for origin in headers.getlist("origin")):
        return 403, "the request comes from another page"
    # The address may be opened from anywhere: a browser says "cross-site" of a link as well.
    if path != "/" and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return 403, "the request comes from another page"
    if writes and headers.get("content-type") != "application/json":
        return 415, "the body must be application/json"
    public = path in _PUBLIC or path.startswith(_STATIC)
    if public or session.knows(headers.get("cookie", "")):
        return None
    token, file = headers.get("authorization"), f"~/.launcher/{token_file(session.port)}"
    if token is None:
        return 401, f"open the address that launcher console printed, or send the token in {file}"
    if not session.trusts(token):
        return 401, f"the token is of another console: read {file} again"
    return None
