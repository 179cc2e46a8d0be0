"""A line that says how a run stands while a program waits for it, in a notebook or at a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from ..records.run_reader import RunReader
from ..records.state import ENDED, RunState
from ..spec.errors import LauncherError
from ..spec.files import open_plain
from ..spec.model import Layout
from ..spec.process_key import ProcessKey, ProcessKind

#: Seconds between two lines, and characters of one in a notebook.
EVERY, NOTEBOOK = 0.5, 100
#: Bytes of the end of a log in which its last line is looked for.
TAIL = 4096

#: There is one line, however many threads wait.
_one = threading.Lock()


def place() -> tuple[TextIO, int] | None:
    """Return where a person would see a line that moves, and its width; None where nobody does."""
    if _in_notebook():
        return sys.stdout, NOTEBOOK
    try:
        seen = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # no stream, or a closed one
        return None
    return (sys.stderr, shutil.get_terminal_size().columns - 1) if seen else None


def _in_notebook() -> bool:
    """Return whether this is the kernel of a notebook; IPython is not imported to find out."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def shown(folder: Path, wanted: bool) -> Iterator[None]:
    """Show how the run of a folder stands, if it is wanted and there is a place for it."""
    there = place() if wanted else None
    if there is None or not _one.acquire(blocking=False):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(folder, *there, over), daemon=True)
    try:
        thread.start()
        yield
    finally:
        over.set()
        thread.join()
        _one.release()


def _show(folder: Path, stream: TextIO, width: int, over: threading.Event) -> None:
    reader, before, text = RunReader(folder), "", ""
    with suppress(OSError, ValueError):  # the place is gone
        while not over.wait(EVERY):
            text = _line(reader, width)
            if text != before:
                _write(stream, before, text)
                before = text
        if before:
            last = _line(reader, width)
            _write(stream, before, last)
            stream.write("\n")
            stream.flush()


def _write(stream: TextIO, before: str, text: str) -> None:
    stream.write("\r" + text.ljust(len(before)))
    stream.flush()


def _line(reader: RunReader, width: int) -> str:
    try:
        state, now = reader.state(), time.time()
        try:
            layout, since = reader.layout, now - reader.started
        except LauncherError:  # nothing is decided yet
            layout, since = Layout(reader.name, ()), 0.0
        last = "" if state.status in ENDED else _last_words(reader.path, state.attempt)
        return text_of(reader.name, state, layout, since, last, width)
    except LauncherError as error:
        return f"{reader.name}: {error}"[:width]


def text_of(name: str, state: RunState, layout: Layout, since: float, last: str, width: int) -> str:
    """Return the line, of so many characters at most: the last words of a rank get what is left."""
    parts = [name, state.status if state.status != "preparing" else state.stage or "preparing"]
    if since > 0:
        minutes, seconds = divmod(int(since), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}")
    if layout.world_size:
        ranks = [one for one in state.processes.values() if one.rank is not None]
        done = sum(one.code is not None for one in ranks)
        ended = f" ({done} ended)" if done and state.status not in ENDED else ""
        parts.append(f"{layout.world_size} rank{'' if layout.world_size == 1 else 's'}{ended}")
    text = "  ".join(parts)
    return f"{text}  | {last}"[:width] if last else text[:width]


def _last_words(folder: Path, attempt: int) -> str:
    """Return the last line of the lowest rank that has printed any, made harmless.

    A run without logs of ranks has those of its nodes or roles.
    """

    found: list[tuple[bool, int, str, Path]] = []
    for log in (folder / "logs" / f"attempt-{attempt}").glob("*.out"):
        if ProcessKey.kind_of(log.stem) not in {None, ProcessKind.SETUP}:
            key = ProcessKey.parse(log.stem)
            found.append((key.kind is not ProcessKind.RANK, key.index, key.group, log))
    for *_, log in sorted(found)[:1]:
        with suppress(OSError), open_plain(log) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read(TAIL).replace(b"\r", b"\n").decode("utf-8", "replace").split("\n")
            words = [line for line in lines if line.strip()]
            return "".join(one for one in words[-1] if one.isprintable()) if words else ""
    return ""
