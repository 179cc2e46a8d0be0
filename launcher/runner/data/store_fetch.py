"""Has a host read the objects of a store that it lacks, by URLs that are signed here, or a file of a web
server.

A request names some objects and lasts for seconds: so URLs are always fresh, progress is known, and
what a host could not finish is continued by the next one.
"""

from __future__ import annotations

import asyncio

from ...spec.errors import SourceChanged, SyncError
from ...transport.answers.data import DataFetched, DataObjects
from .host import Delivered, Host, OnPercent
from .listing import Remote

#: Objects in one request, and seconds for which a host reads them.
MOST, SECONDS = 400, 20.0
#: Seconds for the answer: that of the slowest object in the middle of a silence.
PATIENCE = 120.0
#: Bytes that the slowest server sends in a second, where an object is one answer.
BYTES_A_SECOND = 250e3
#: How often a host may be refused although its URLs are fresh, or may read nothing.
TRIES = 3

_Sizes = dict[str, int]


async def fetch(host: Host, one: Delivered, store: Remote, progress: OnPercent) -> int:
    """Bring all objects that a host lacks; return their bytes. Raises HostError."""
    version = one.listed.version
    left: _Sizes = {}
    copied = vain = 0
    is_first, is_end = True, False
    while not (is_end and not left):
        if not is_end and len(left) < MOST:
            named = await host.agent.answer(
                DataObjects,
                "data",
                patience=PATIENCE + version.files / 1000,
                do="missing",
                version=version.version,
                first=is_first,
                most=MOST - len(left),
            )
            is_first, is_end = False, len(named.objects) < MOST - len(left)
            left |= dict(named.objects)
            continue
        fetched = await _round(host, version.version, left, store)
        _require_readable(host, one, fetched, store.advice)
        left = {path: left[path] for path, _, _ in fetched.failed if path in left}
        copied += fetched.bytes
        vain = 0 if fetched.bytes else vain + 1
        if vain >= TRIES and left:
            raise _refused(host, one, fetched, store.advice)
        progress(min(99, copied * 100 // max(1, version.bytes)))
    return copied


async def _round(host: Host, version: str, left: _Sizes, store: Remote) -> DataFetched:
    seconds, patience = SECONDS, PATIENCE
    if not store.by_ranges:  # what is not whole at the end begins again
        seconds += sum(left.values()) / BYTES_A_SECOND
        patience += seconds
    objects = await asyncio.to_thread(lambda: [[path, store.url(path)] for path in left])
    return await host.agent.answer(
        DataFetched,
        "data",
        patience=patience,
        do="fetch",
        version=version,
        objects=objects,
        seconds=seconds,
        follow=store.follow,
        headers=dict(store.headers),
    )


def _require_readable(host: Host, one: Delivered, fetched: DataFetched, advice: str) -> None:
    """Raise SourceChanged or SyncError for the first object that another try does not help."""
    for path, code, text in fetched.failed:
        if code == "changed":
            raise SourceChanged(
                host.name,
                f"{one.data.name}: {path}: {text}",
                "wait until nothing writes there, and start again: objects that have arrived stay",
            )
        if code == "refused":
            raise SyncError(
                host.name,
                f"{one.data.name}: {path} cannot be read from {one.data.source}: {text}",
                advice,
            )


def _refused(host: Host, one: Delivered, fetched: DataFetched, advice: str) -> SyncError:
    path, _, text = fetched.failed[0] if fetched.failed else ("?", "", "")
    return SyncError(
        host.name,
        f"{one.data.name}: {path} cannot be read from {one.data.source}: {text or 'nothing arrives'}",
        advice,
    )
