"""What pages are told of runs, as JSON values. Values of secrets and of the environment never appear."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from ..api.client import home
from ..records import catalog
from ..records.receipt import stages
from ..records.run_lock import holder
from ..records.run_reader import RunReader
from ..records.state import ENDED
from ..spec.errors import LauncherError, UnreadableRecord
from . import confined

#: When the folder of a run and its records were changed, their sizes, and who follows a run that has no
#: receipt yet: no file says when that process was killed.
Stamp = tuple[tuple[int, int], ...]

#: Seconds in which a look at all runs is still new.
FRESH = 0.9
#: Stands for the pid of a process that follows a run where there is none.
NOBODY = -1


class Runs:
    """The runs of this machine. A summary is folded again only when a file of its run has changed.

    Of a run that has ended only its folder is looked at: its records are replaced, never appended to.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stamp, catalog.Summary]] = {}
        self._guard, self._listing = Lock(), Lock()
        self._stamps: tuple[float, dict[str, Stamp]] = (0.0, {})

    @property
    def root(self) -> Path:
        """The folder that holds those of all runs."""
        return home() / "runs"

    def stamps(self) -> dict[str, Stamp]:
        """Return for every run what differs once it has changed. Pages that ask at the same time share
        one look."""
        with self._guard:
            looked, stamps = self._stamps
            if time.monotonic() - looked > FRESH:
                stamps = {path.name: stamp for path, stamp in self._folders()}
                self._stamps = time.monotonic(), stamps
            return stamps

    def line(self, name: str) -> dict[str, Any]:
        """Return a run of ``stamps`` as in ``lines``."""
        return _line(self._summary(self.root / name))

    def lines(self) -> list[dict[str, Any]]:
        """Return all runs, the latest first. Pages that ask at the same time read each run once."""
        with self._listing:
            folders = dict(self._folders())
            names = {path.name for path in folders}
            known = list(self._known.items())  # streams add to it meanwhile
            self._known = {name: one for name, one in known if name in names}
            found = [self._summary(path, stamp) for path, stamp in folders.items()]
        return [_line(one) for one in sorted(found, key=lambda one: (-one.started, one.run))]

    def one(self, name: str) -> dict[str, Any]:
        """Return a run: its summary, receipt, processes, nodes, job and logs. Raises OSError,
        LauncherError."""
        with confined.folder(self.root, (name,)):
            path = self.root / name
        reader, described = RunReader(path), None
        state = reader.state()
        receipt = reader.receipt()
        try:
            described = _described(reader)
        except LauncherError:
            pass  # it ended before anything was decided
        logs, more = self.logs(name)
        return {
            **_line(self._summary(path)),
            "receipt": receipt and receipt.to_json(),
            "processes": [asdict(process) for process in state.processes.values()],
            "silent": sorted(state.silent),
            "lost": sorted(state.lost),
            "attempt": state.attempt,
            "stages": stages(reader.events()),
            "job": described,
            "logs": logs,
            "more_logs": more,
        }

    def logs(self, name: str) -> tuple[list[dict[str, Any]], bool]:
        """Return the name and size of each log of a run, and whether there are more. Raises OSError."""
        found: list[dict[str, Any]] = []
        left_out = False
        try:
            attempts, _ = confined.entries(self.root, (name, "logs"))
        except FileNotFoundError:
            return found, left_out
        for attempt in attempts:
            if attempt.kind == "folder" and attempt.name.startswith("attempt-"):
                files, more = confined.entries(self.root, (name, "logs", attempt.name))
                left_out = left_out or more
                found += [
                    {"name": f"{attempt.name}/{file.name}", "size": file.size}
                    for file in files
                    if file.kind == "file"
                ]
        return found, left_out

    def _folders(self) -> list[tuple[Path, Stamp]]:
        try:
            with os.scandir(self.root) as listing:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in listing]
        except OSError:  # nothing was run yet
            return []
        stamped = [
            (self.root / name, self._stamp(name, facts.st_mtime_ns))
            for name, facts in found
            if stat.S_ISDIR(facts.st_mode)
        ]
        return [(path, stamp) for path, stamp in stamped if stamp]

    def _stamp(self, name: str, changed: int) -> Stamp:
        known = self._known.get(name)
        if known is not None and known[1].status in ENDED and known[0][0] == (changed, 0):
            return known[0]
        return _stamp(self.root / name, changed)

    def _summary(self, path: Path, stamp: Stamp | None = None) -> catalog.Summary:
        if stamp is None:
            stamp = _stamp(path, os.stat(path, follow_symlinks=False).st_mtime_ns)
        known = self._known.get(path.name)
        if known is not None and known[0] == stamp:
            return known[1]
        summary = catalog.summary(path)
        self._known[path.name] = stamp, summary
        return summary


def fitting(lines: Sequence[dict[str, Any]], wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the runs that have the ``status``, ``project`` and ``user`` that are named, and in whose
    name, command, commit or note each word of ``text`` occurs."""
    words = wanted.get("text", "").lower().split()

    def fits(line: dict[str, Any]) -> bool:
        text = " ".join(line[one] for one in ("run", "command", "commit", "note")).lower()
        return (
            all(wanted.get(one) in (None, line[one]) for one in ("status", "project"))
            and (wanted.get("user") is None or wanted["user"] in line["users"])
            and all(word in text for word in words)
        )

    return [line for line in lines if fits(line)]


def _line(summary: catalog.Summary) -> dict[str, Any]:
    return {
        "run": summary.run,
        "status": summary.status,
        "reason": summary.reason,
        "started": summary.started,
        "hosts": list(summary.hosts),
        "wanted": summary.wanted,
        "most": summary.most,
        "gpus": summary.gpus,
        "ranks": summary.ranks,
        "followed": summary.followed,
        "ended": summary.status in ENDED,
        "damaged": summary.damaged,
        "command": summary.command,
        "commit": summary.commit,
        "seconds": summary.seconds,
        "tags": list(summary.tags),
        "note": summary.note,
        "project": summary.project,
        "users": list(summary.users),
    }


def _described(reader: RunReader) -> dict[str, Any]:
    job = reader.request.job
    return {
        "run": list(job.run),
        "shell": job.shell,
        "framework": job.framework,
        "secrets": list(reader.secret_names),
        "env": sorted(job.envs),
        "nodes": [
            {"host": node.host.name, "ranks": list(node.ranks), "gpus": list(node.gpus)}
            for node in reader.layout.nodes
        ],
    }


def _stamp(path: Path, changed: int) -> Stamp:
    def one(name: str) -> tuple[int, int]:
        try:
            facts = os.stat(path / name, follow_symlinks=False)
        except OSError:
            return 0, 0
        return facts.st_mtime_ns, facts.st_size

    stamps = tuple(one(name) for name in ("events.jsonl", "run.json", "receipt.json"))
    if not any(size for _, size in stamps):
        return ()
    ended = stamps[-1][1] > 0
    return (changed, 0), *stamps, (NOBODY if ended else _follower(path), 0)


def _follower(path: Path) -> int:
    try:
        pid = holder(path)
    except UnreadableRecord:
        pid = None
    return NOBODY if pid is None else pid
