"""The routes of the console: one page, its files, and ``/api/``."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import FileIO
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from ..api.client import AsyncClient
from ..records.metric_curves import MetricCurves
from ..records.scalars import Scalars
from ..spec.errors import InputError, LauncherError, RunKept
from ..spec.version import __version__
from . import archive, bodies, confined, drafts, logs, stream, sweeps
from .actions import Actions
from .answers import Runs, fitting
from .cluster import ClusterPages
from .compared import MOST, compared
from .curves import Curves, of_metrics, of_scalars
from .guard import Guard, Session
from .source import source
from .sparks import Sparks

#: Most bytes of a body with a code, and streams at once.
CODE, STREAMS = 1024, 32
_FULL = f"{STREAMS} pages are open already: close one"
_USED = (
    "this address was used before, or is of an earlier console: start launcher console again, "
    "and open the new one"
)
#: Most bytes of a log in one answer.
PIECE = 1 << 20
_CHUNK = 1 << 18
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
#: What hosts wrote is saved and never shown by the browser itself: it may be a page with a script.
_HOSTILE = {
    "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "content-type": "application/octet-stream",
}


#: What is wrong with a path that leads to nothing that may be opened; None is our own refusal.
_NOT_THERE = (None, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR)


class Console:
    """Answers requests about the runs of this machine."""

    def __init__(self, session: Session, client: AsyncClient | None = None) -> None:
        #: Says whether streams must end, since the process does.
        self.is_ending: Callable[[], bool] = lambda: False
        self._client = client or AsyncClient()
        self._actions, self._cluster = Actions(self._client), ClusterPages(self._client)
        self._stops = sweeps.SweepStops(self._client)
        self._session, self._runs, self._streams = session, Runs(), 0
        self._curves = Curves(Scalars, of_scalars)
        self._sparks = Sparks(self._runs)
        self._metric_curves = Curves(MetricCurves, of_metrics)

    def app(self) -> ASGIApp:
        """Return the guarded application."""
        handlers = {
            HTTPException: _refused,
            LauncherError: _failed,
            drafts.Refused: _wrong,
            OSError: _missing,
        }
        pages = Starlette(routes=self.routes(), exception_handlers=handlers)
        return Guard(pages, self._session)

    def routes(self) -> list[Route]:
        """Return all addresses that are answered."""
        return [
            Route("/", self._page),
            Route("/static/{name:path}", self._static),
            Route("/session", self._open, methods=["POST"]),
            Route("/api/console", self._about),
            Route("/api/runs", self._list),
            Route("/api/sparks", self._losses),
            Route("/api/runs/{run}", self._run),
            Route("/api/runs/{run}/logs", self._ends),
            Route("/api/runs/{run}/search", self._search),
            Route("/api/runs/{run}/moment", self._moment),
            Route("/api/runs/{run}/logs/{log:path}", self._log),
            Route("/api/runs/{run}/source", self._source),
            Route("/api/runs/{run}/outputs.tar", self._archive),
            Route("/api/runs/{run}/scalars", self._scalars),
            Route("/api/runs/{run}/metrics", self._metrics),
            Route("/api/compare", self._compare),
            Route("/api/cluster", self._hosts),
            Route("/api/projects", self._projects),
            Route("/api/projects/{project}", self._share, methods=["POST"]),
            Route("/api/check", self._checked),
            Route("/api/reservations", self._reserve, methods=["POST"]),
            Route("/api/sweeps", self._sweeps),
            Route("/api/sweeps/{sweep}", self._sweep),
            Route("/api/sweeps/{sweep}/stop", self._stop_sweep, methods=["POST"]),
            Route("/api/fields", self._fields),
            Route("/api/scripts", self._scripts),
            Route("/api/plan", self._plan, methods=["POST"]),
            Route("/api/jobs", self._start, methods=["POST"]),
            Route("/api/runs/{run}/outputs", self._outputs),
            Route("/api/runs/{run}/outputs/{path:path}", self._output),
            Route("/api/runs/{run}/stop", self._stop, methods=["POST"]),
            Route("/api/runs/{run}/delete", self._delete, methods=["POST"]),
            Route("/api/runs/{run}/rerun", self._rerun, methods=["POST"]),
            Route("/api/events", self._events),
        ]

    async def _page(self, request: Request) -> Response:
        return _own_file("console.html")

    async def _static(self, request: Request) -> Response:
        return _own_file(request.path_params["name"])

    async def _open(self, request: Request) -> Response:
        code = bodies.typed(await bodies.values(request, CODE), "code", str, "")
        cookie = self._session.exchange(code)
        if cookie is None:
            raise HTTPException(401, _USED)
        answer = Response(status_code=204)
        answer.set_cookie(self._session.cookie_name, cookie, httponly=True, samesite="strict")
        return answer

    async def _about(self, request: Request) -> Response:
        read_only, full = self._session.read_only, self._streams >= STREAMS
        told = {"version": __version__, "read_only": read_only, "full": _FULL if full else ""}
        return JSONResponse(told)

    async def _list(self, request: Request) -> Response:
        lines = await asyncio.to_thread(self._runs.lines)
        return JSONResponse({"runs": fitting(lines, request.query_params)})

    async def _losses(self, request: Request) -> Response:
        names = list(dict.fromkeys(request.query_params.getlist("run")))
        return JSONResponse(await asyncio.to_thread(self._sparks.of, names))

    async def _run(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._runs.one, request.path_params["run"]))

    async def _log(self, request: Request) -> Response:
        run, log = request.path_params["run"], request.path_params["log"]
        start, data, size = await asyncio.to_thread(
            logs.log_bytes, self._runs, run, log, _number(request, "offset", 0), PIECE
        )
        facts = {"launcher-offset": str(start), "launcher-size": str(size)}
        return Response(data, headers={**_HOSTILE, **facts})

    async def _ends(self, request: Request) -> Response:
        names = _logs(request)
        run = request.path_params["run"]
        return JSONResponse(await asyncio.to_thread(logs.ends, self._runs, run, names))

    async def _search(self, request: Request) -> Response:
        asked, run = request.query_params, request.path_params["run"]
        log, text = asked.get("log", ""), asked.get("text", "")
        if not text:
            raise HTTPException(400, "text must be what to look for")
        offset = _number(request, "offset", 0)
        return JSONResponse(await asyncio.to_thread(logs.find, self._runs, run, log, text, offset))

    async def _moment(self, request: Request) -> Response:
        log, moment = request.query_params.get("log", ""), _number(request, "time", 0)
        run = request.path_params["run"]
        offset = await asyncio.to_thread(logs.offset_at, self._runs, run, log, moment)
        return JSONResponse({"offset": offset})

    async def _source(self, request: Request) -> Response:
        run = request.path_params["run"]
        return JSONResponse(await asyncio.to_thread(source, self._runs, run))

    async def _archive(self, request: Request) -> Response:
        run = self._known(request)
        parts = [part for part in request.query_params.get("path", "").split("/") if part]
        sent = archive.tar(self._runs.root, (run, "outputs", *parts), "/".join([run, *parts]))
        await asyncio.to_thread(next, sent)  # what is wrong with the folder is an answer of its own
        file = quote("-".join([run, *parts[-1:], "outputs"][:2]), safe="") + ".tar"
        place = f"attachment; filename*=UTF-8''{file}"
        return StreamingResponse(sent, headers={**_HOSTILE, "content-disposition": place})

    async def _scalars(self, request: Request) -> Response:
        return await self._drawn(request, self._curves)

    async def _metrics(self, request: Request) -> Response:
        return await self._drawn(request, self._metric_curves)

    async def _drawn(self, request: Request, curves: Curves) -> Response:
        tags, points = request.query_params.getlist("tag"), _number(request, "points", 1000)
        run, root = request.path_params["run"], self._runs.root
        return JSONResponse(await asyncio.to_thread(curves.of, root, run, tags, points))

    async def _compare(self, request: Request) -> Response:
        names = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 1 <= len(names) <= MOST:
            raise HTTPException(400, f"name 1 to {MOST} runs: ?run=A&run=B")
        return JSONResponse(await asyncio.to_thread(compared, self._runs, names))

    async def _hosts(self, request: Request) -> Response:
        return JSONResponse(await self._cluster.now())

    async def _projects(self, request: Request) -> Response:
        return JSONResponse(await self._cluster.projects())

    async def _checked(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._cluster.checked))

    async def _sweeps(self, request: Request) -> Response:
        return JSONResponse({"sweeps": await asyncio.to_thread(sweeps.listed)})

    async def _sweep(self, request: Request) -> Response:
        name = request.path_params["sweep"]
        return JSONResponse(await asyncio.to_thread(sweeps.one, name))

    async def _stop_sweep(self, request: Request) -> Response:
        await bodies.values(request)
        await self._stops.stop(request.path_params["sweep"])
        return Response(status_code=202)

    async def _fields(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(drafts.fields))

    async def _scripts(self, request: Request) -> Response:
        workdir = request.query_params.get("workdir", "")
        return JSONResponse(await asyncio.to_thread(drafts.scripts, workdir))

    async def _plan(self, request: Request) -> Response:
        form = await _form(request)
        return JSONResponse(await asyncio.to_thread(drafts.plan, form, self._client))

    async def _start(self, request: Request) -> Response:
        return JSONResponse({"run": await drafts.start(await _form(request), self._client)}, 201)

    async def _outputs(self, request: Request) -> Response:
        parts = [part for part in request.query_params.get("path", "").split("/") if part]
        place = (request.path_params["run"], "outputs", *parts)
        found, more = await asyncio.to_thread(confined.entries, self._runs.root, place)
        listed = [
            {"name": one.name, "kind": one.kind, "size": one.size, "modified": one.modified}
            for one in found
        ]
        return JSONResponse({"entries": listed, "more": more})

    async def _output(self, request: Request) -> Response:
        parts = request.path_params["path"].split("/")
        place = (request.path_params["run"], "outputs", *parts)
        with confined.opened(self._runs.root, place) as file:
            own = os.fdopen(os.dup(file), "rb", buffering=0)
        size = os.fstat(own.fileno()).st_size
        headers = {
            **_HOSTILE,
            "content-length": str(size),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(parts[-1], safe='')}",
        }
        if request.method == "HEAD":
            own.close()
            return Response(headers=headers)
        return StreamingResponse(_whole(own, size), headers=headers)

    async def _stop(self, request: Request) -> Response:
        given = await bodies.values(request)
        await self._actions.stop(self._known(request), bodies.number(given, "grace", 1e6))
        return Response(status_code=202)

    async def _delete(self, request: Request) -> Response:
        given = await bodies.values(request)
        force, lose = (bodies.typed(given, name, bool, False) for name in ("force", "lose"))
        done = await self._actions.delete(self._known(request), force, lose)
        return JSONResponse({"deleted": done.deleted, "not_brought": list(done.left)})

    async def _rerun(self, request: Request) -> Response:
        given = await bodies.values(request)
        name = await self._actions.rerun(
            self._known(request),
            arguments=bodies.words(given, "arguments") if "arguments" in given else None,
            hosts=bodies.typed(given, "hosts", str, "") or None,
            from_checkpoint=bodies.typed(given, "from_checkpoint", bool, False),
        )
        return JSONResponse({"run": name}, 201)

    async def _reserve(self, request: Request) -> Response:
        given = await bodies.values(request)
        words = ("gpus", "for", "hosts", "at", "note")
        run = await self._actions.reserve(*(bodies.typed(given, one, str, "") for one in words))
        return JSONResponse({"run": run}, 201)

    async def _share(self, request: Request) -> Response:
        given = await bodies.values(request)
        quota, limit = (_whole_number(given, name) for name in ("quota", "limit"))
        if quota is None:
            raise HTTPException(400, "quota must be a whole number of GPUs")
        seen = bodies.typed(given, "seen", str, "")
        told = await self._actions.share(request.path_params["project"], quota, limit, seen)
        if told["written"]:
            self._cluster.forget_projects()
        return JSONResponse(told)

    def _known(self, request: Request) -> str:
        """Return the name of a run that is here: the api also takes beginnings. Raises OSError."""
        run: str = request.path_params["run"]
        with confined.folder(self._runs.root, (run,)):
            return run

    async def _events(self, request: Request) -> Response:
        if self._streams >= STREAMS:
            raise HTTPException(503, _FULL)
        names, offsets = _logs(request), request.query_params.getlist("offset")
        if len(offsets) != len(names) or not all(one.isdecimal() for one in offsets):
            raise HTTPException(400, "each log needs an offset: ?log=LOG&offset=0")
        asked = [int(one[:18]) for one in offsets]
        at = stream.resumed(request.headers.get("last-event-id", ""), asked)
        run = request.query_params.get("run", "")
        news = stream.events(self._runs, run, names, at, lambda: self.is_ending())
        return StreamingResponse(self._counted(news), media_type="text/event-stream")

    async def _counted(self, news: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            async for piece in news:
                yield piece
        finally:
            self._streams -= 1


async def _form(request: Request) -> drafts.Form:
    given = await bodies.values(request)
    values, texts = (bodies.typed(given, name, dict, {}) for name in ("values", "texts"))
    if not all(isinstance(text, str) and key.isidentifier() for key, text in texts.items()):
        raise HTTPException(400, "texts must be YAML by keys")
    return drafts.Form({key: one for key, one in values.items() if key not in texts}, texts)


async def _whole(file: FileIO, size: int) -> AsyncIterator[bytes]:
    """Yield a file as it was when asked for: it may grow, but its length was announced."""
    with file:
        sent = 0
        while sent < size:
            data = await asyncio.to_thread(file.read, min(_CHUNK, size - sent))
            if not data:
                raise OSError("the file became shorter while it was sent")
            sent += len(data)
            yield data


def _whole_number(given: Mapping[str, Any], name: str) -> int | None:
    """Return a number of GPUs; None where it is missing. Raises HTTPException."""
    number = bodies.number(given, name, 1 << 16)
    if number is not None and number != int(number):
        raise HTTPException(400, f"{name} must be a whole number of GPUs")
    return None if number is None else int(number)


def _logs(request: Request) -> list[str]:
    names = request.query_params.getlist("log")
    if len(names) > stream.LOGS:
        raise HTTPException(400, f"name at most {stream.LOGS} logs")
    return names


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    try:
        number = int(text) if len(text) < 19 else None
    except ValueError:
        number = None
    if number is None:
        raise HTTPException(400, f"{name} must be a whole number")
    return number


def _own_file(name: str) -> Response:
    kind = _TYPES.get(name.rpartition(".")[2])
    folder = files(__package__) / "static"
    if kind is None or name not in _names(folder):
        raise HTTPException(404, "there is no such page")
    return Response(folder.joinpath(name).read_bytes(), media_type=kind)


def _names(folder: Traversable, above: str = "") -> Iterator[str]:
    for file in folder.iterdir():
        if file.is_dir():
            yield from _names(file, f"{above}{file.name}/")
        else:
            yield above + file.name


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, LauncherError)
    told: dict[str, object] = {"error": str(error), "hint": error.hint}
    if isinstance(error, RunKept):
        told["hosts"] = [str(one) for one in error.errors]
    return JSONResponse(told, 400 if isinstance(error, InputError) else 409)


async def _wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, drafts.Refused)
    told = {"error": error.error.message, "hint": error.error.hint, "field": error.field}
    return JSONResponse(told, 400)


async def _missing(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if error.errno in _NOT_THERE:
        return JSONResponse({"error": "there is no such run or file"}, 404)
    return JSONResponse({"error": f"{error.filename or 'this machine'}: {error.strerror}"}, 409)
