"""Reads logs for pages: a range of one, the ends of all, the place of a moment or of a text."""

from __future__ import annotations

import base64
import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..records.run_folder import times
from . import confined
from .answers import Runs

#: Most bytes of all logs together in one answer, and of one search; bytes read at once.
ENDS, SEARCHED, PIECE = 1 << 20, 64 << 20, 1 << 20
#: Most places that a search returns, bytes of the text, and of a line that is returned.
FOUND, TEXT, LINE = 200, 200, 400


def log_bytes(runs: Runs, run: str, log: str, offset: int, most: int) -> tuple[int, bytes, int]:
    """Return an offset, the bytes of a log from there on, and its size. Raises OSError.

    A negative offset counts from the end.
    """
    with confined.opened(runs.root, _place(run, log)) as file:
        size = os.fstat(file).st_size
        start = min(size, offset if offset >= 0 else max(0, size + offset))
        return start, os.pread(file, min(most, size - start), start), size


def ends(runs: Runs, run: str, names: Sequence[str]) -> dict[str, Any]:
    """Return the ends of logs, in pieces in the order in which they came, to the second, and the
    ``next`` offset of each log. Raises OSError."""
    with confined.folder(runs.root, (run,)):
        arrivals = times(runs.root / run)
    pieces: list[tuple[float, str, int, bytes]] = []
    offsets = []
    for name in names:
        start, data, _ = log_bytes(runs, run, name, -ENDS // max(1, len(names)), ENDS)
        offsets.append(start + len(data))
        noted = arrivals.get(name, [])
        cuts = [(when, end) for when, end in noted if start < end < offsets[-1]]
        last = noted[-1][0] if noted else 0.0
        at = start
        for when, end in [*cuts, (last, offsets[-1])]:
            if end > at:
                pieces.append((when, name, at, data[at - start : end - start]))
                at = end
    pieces.sort(key=lambda piece: (piece[0], piece[1], piece[2]))
    return {
        "next": offsets,
        "pieces": [
            {"when": when, "log": name, "offset": at, "data": base64.b64encode(data).decode()}
            for when, name, at, data in pieces
        ],
    }


def offset_at(runs: Runs, run: str, log: str, moment: float) -> int:
    """Return the offset of what came to a log at a moment, to the second. Raises OSError."""
    with confined.folder(runs.root, (run,)):
        noted = times(runs.root / run).get(log, [])
    index = bisect_right([when for when, _ in noted], moment)
    return noted[index - 1][1] if index else 0


def find(runs: Runs, run: str, log: str, text: str, offset: int) -> dict[str, Any]:
    """Return the lines of a log from an offset on in which a text occurs, in any case, and the ``next``
    offset to search from if there is more. Raises OSError."""
    wanted = text.encode()[:TEXT].lower()
    found: list[dict[str, Any]] = []
    with confined.opened(runs.root, _place(run, log)) as file:
        at, size = max(0, offset), os.fstat(file).st_size
        stop = min(size, at + SEARCHED)
        while at < stop and len(found) < FOUND:
            data = os.pread(file, PIECE, at)
            end = len(data) if at + len(data) >= size else data.rfind(b"\n") + 1 or len(data)
            low, here = data[:end].lower(), 0
            while len(found) < FOUND and (match := low.find(wanted, here)) >= 0:
                begin = low.rfind(b"\n", 0, match) + 1
                close = low.find(b"\n", match)
                here = close + 1 if close >= 0 else end
                line = data[begin : min(here, begin + LINE)].decode("utf-8", "replace")
                found.append({"offset": at + begin, "line": line.rstrip("\r\n")})
            at += here if len(found) == FOUND else end
    return {"found": found, "next": at if at < size else None}


def event(offsets: Sequence[int], log: str, offset: int, data: bytes) -> bytes:
    """Return the event with new bytes of a log; its id are the next offsets of all logs."""
    value = {"log": log, "offset": offset, "data": base64.b64encode(data).decode()}
    ids = ",".join(map(str, offsets))
    return f"id: {ids}\nevent: log\ndata: {json.dumps(value)}\n\n".encode()


def _place(run: str, log: str) -> tuple[str, ...]:
    return (run, "logs", *log.split("/"))
