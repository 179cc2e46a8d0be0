"""Writes the log of a batch script into the files of the workdir that its ``#SBATCH`` lines name."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from ...jobs import script_log
from ...records import adoption
from ...records import events as ev
from ...records.run_reader import RunReader
from ...spec.model import Layout
from ...spec.process_key import ProcessKey
from ..concurrency import in_thread
from ..context import RunContext


async def write(context: RunContext, layout: Layout) -> None:
    """Write what the script has printed in the last attempt, if the workdir is here."""
    if not layout.nodes or not context.state.has_begun:  # an earlier log stays
        return
    job, host, key = context.job, layout.nodes[0].host.name, ProcessKey.of_node(0)
    files = script_log.files(job, layout.run_id, host, os.environ.get("USER", ""))
    for path, streams in files.items():
        logs = {f"attempt-{context.state.attempt}/{key}.{stream}" for stream in streams}
        folder = context.event_log.folder.path
        problem = await in_thread(_write, folder, logs, Path(job.workdir), path)
        if problem is not None:
            context.add(ev.ScriptLogWritten(time.time(), path, problem))


def _write(folder: Path, logs: Collection[str], workdir: Path, path: str) -> str | None:
    """Write logs of a run in whole lines, in the order in which they came here.

    Return why not, or ""; None where the workdir is on another machine: of a run that was taken up from
    its hosts, only they say where to write, and what.
    """
    if (folder / adoption.FILE).exists() or not workdir.is_dir():
        return None
    target, rest = workdir / path, dict.fromkeys(sorted(logs), b"")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for piece in RunReader(folder).logs(merged=True):
                if piece.name in logs:
                    whole, end, rest[piece.name] = (rest[piece.name] + piece.data).rpartition(b"\n")
                    file.write(whole + end)
            file.writelines(rest.values())
    except OSError as error:
        return error.strerror or str(error)
    return ""
