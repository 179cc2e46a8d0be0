"""Takes up a run that another process began: watches it while somebody follows it, else follows it.

Two processes never follow one run: who holds the lock of its folder does, and everybody else reads
what that one writes there.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..records import codec, receipt
from ..records import events as ev
from ..records.receipt import Receipt
from ..records.run_folder import RunFolder, read_as, read_json, write_json
from ..records.state import RunState, log_hosts, step
from ..spec.errors import InputError, LauncherError
from ..spec.model import Layout, Request, Secret
from .run import Run

#: Seconds between two looks at what the follower wrote.
LOOK = 0.1
#: Most bytes of one log in one look.
PIECE = 1 << 20
#: Where it stands how far a run that was detached has been shown.
SHOWN = "shown.json"

OnEvent = Callable[[ev.Event], None]
OnLog = Callable[[str, str, bytes], None]


class Attached:
    """One process that takes up a run. ``on_event`` hears what is new, ``on_log`` all bytes that
    were not shown before."""

    def __init__(
        self,
        path: Path,
        on_event: OnEvent = lambda event: None,
        on_log: OnLog = lambda host, name, data: None,
    ) -> None:
        self.path, self.name = path, path.name
        self._on_event, self._on_log = on_event, on_log
        self.request, self._layout, self.started = _described(path)
        self.grace = self.request.job.grace
        self.killing = False
        self._run: Run | None = None
        self._stopping = False
        self._seen = 0  # bytes of events.jsonl
        self._shown: dict[str, int] = {}
        self._log_hosts: dict[str, str] = {}

    @property
    def layout(self) -> Layout:
        """Who does what, as soon as that is known."""
        if not self._layout.nodes:
            _, self._layout, _ = _described(self.path)
        return self._layout

    async def follow(self) -> Receipt:
        """To the end of the run. Raises LauncherError."""
        self._begin()
        try:
            while True:
                ended = self.receipt()
                folder = RunFolder(self.path)
                if ended is None and folder.hold() and self.receipt() is None:
                    return await self._take_over(folder)
                folder.close()
                self.look()
                if ended is not None:
                    return ended
                await asyncio.sleep(LOOK)
        finally:
            self.remember()

    async def until_started(self) -> Receipt | None:
        """Until everything runs; the receipt of a run that ended before. Raises LauncherError when
        its follower died."""
        state = RunState()
        while not state.all_started:
            ended = self.receipt()
            for event in self._new_events():
                state = step(state, event)
                self._on_event(event)
            if ended is not None:
                return ended
            if self.holder() is None and self.receipt() is None:
                raise LauncherError(
                    f"the follower of {self.name} died before everything was started",
                    f"launcher stop {self.name} ends what it had begun",
                )
            await asyncio.sleep(LOOK)
        return None

    def stop(self, grace: float | None = None) -> None:
        """Asks for the end, whoever follows the run; again: without grace."""
        self.killing = self._stopping
        self._stopping = True
        if grace is not None:
            self.grace = grace
            write_json(self.path / "stop.json", {"grace": grace})
        if self._run:
            self._run.stop()
            return
        if (holder := self.holder()) is not None:
            os.kill(holder, signal.SIGINT)

    def pull_now(self) -> None:
        """Asks whoever follows the run to bring its outputs back at once."""
        if self._run:
            self._run.pull_now()
        elif (holder := self.holder()) is not None:
            os.kill(holder, signal.SIGUSR1)

    async def bring(self) -> dict[str, str]:
        """Logs and outputs as they are on the hosts now; the run goes on. Returns what could not be
        brought, by host."""
        events = (self.path / "events.jsonl").stat().st_size
        folder = RunFolder(self.path)
        if folder.hold():
            return await Run(self.request, folder).bring(self.layout, self.started)
        folder.close()
        self._seen = events
        self.pull_now()
        while self.holder() is not None:
            for event in self._new_events():
                if isinstance(event, ev.OutputsPulled):
                    return dict(event.failed)
            await asyncio.sleep(LOOK)
        return {}

    def holder(self) -> int | None:
        """The pid of the process that follows the run, or None."""
        folder = RunFolder(self.path)
        try:
            return folder.holder
        finally:
            folder.close()

    def receipt(self) -> Receipt | None:
        """The receipt of a run that has ended."""
        folder = RunFolder(self.path)
        try:
            value = folder.read("receipt.json")
        finally:
            folder.close()
        return None if value is None else receipt.read(value, self.path / "receipt.json")

    def show_from(self, offsets: Mapping[str, int]) -> None:
        """Where the logs begin for :meth:`look`, by name; others begin at their beginning."""
        self._shown = dict(offsets)

    def show_up_to(self, name: str, end: int) -> None:
        """Shows one log up to a byte."""
        begin = self._shown.get(name, 0)
        with open(self.path / "logs" / name, "rb") as file:
            file.seek(begin)
            data = file.read(max(0, end - begin))
        if data:
            self._show(name, data)

    def look(self) -> None:
        """Shows what has come since the last look."""
        for event in self._new_events():
            self._on_event(event)
        more = True
        while more:
            more = False
            for path in sorted((self.path / "logs").glob("attempt-*/*")):
                name = f"{path.parent.name}/{path.name}"
                with open(path, "rb") as file:
                    file.seek(self._shown.get(name, 0))
                    data = file.read(PIECE)
                if data:
                    self._show(name, data)
                    more = more or len(data) == PIECE

    # -- how far it was shown

    def _begin(self) -> None:
        """After the last byte that was shown. A run in the foreground shows all that it writes."""
        self._seen = (self.path / "events.jsonl").stat().st_size
        known = read_as(dict[str, int], self.path / SHOWN)
        if known is not None:
            self._shown = dict(known)
        elif self.holder() is None:
            logs = (self.path / "logs").glob("attempt-*/*")
            self._shown = {f"{log.parent.name}/{log.name}": log.stat().st_size for log in logs}

    def remember(self) -> None:
        """Notes how far it was shown, for the next one."""
        write_json(self.path / SHOWN, self._shown)

    def _show(self, name: str, data: bytes) -> None:
        self._shown[name] = self._shown.get(name, 0) + len(data)
        self._on_log(self._host_of(name), name, data)

    def _host_of(self, name: str) -> str:
        """Whose log it is. Another attempt may have had another host there."""
        stem = name.partition(".")[0]
        if stem not in self._log_hosts:
            lines = (self.path / "events.jsonl").read_bytes()
            self._log_hosts |= log_hosts(ev.decode_lines(lines[: lines.rfind(b"\n") + 1]))
        host = self._log_hosts.get(stem) or self.layout.host_of(name.split("/")[1])
        return host or "?"

    def _new_events(self) -> list[ev.Event]:
        with open(self.path / "events.jsonl", "rb") as file:
            file.seek(self._seen)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._seen += whole
        events = ev.decode_lines(data[:whole], self.path / "events.jsonl")
        if any(isinstance(event, ev.NodeReplaced | ev.NodesReduced) for event in events):
            _, self._layout, _ = _described(self.path)
        return events

    # -- nobody else follows it

    async def _take_over(self, folder: RunFolder) -> Receipt:
        def show(host: str, name: str, data: bytes) -> None:
            self._show(name, data)

        self.look()
        _, self._layout, _ = _described(self.path)  # the one before us may have replaced a host
        run = self._run = Run(self.request, folder, self._on_event, show)
        if self._stopping:
            run.stop()
        return await run.go_on(self.layout, self.started)


def _with_secrets(request: Request, names: Sequence[str]) -> Request:
    """Secrets stand in no record: they come from the environment here. Without them the run goes on,
    but nothing of it can be started again."""
    if any(name not in os.environ for name in names):
        return replace(request, max_restarts=0, min_nodes=None)
    secrets = {name: Secret(os.environ[name]) for name in names}
    return replace(request, job=replace(request.job, secrets=secrets))


def _described(path: Path) -> tuple[Request, Layout, float]:
    try:
        value = read_json(path / "run.json")
    except (OSError, ValueError):
        raise InputError(
            f"{path.name} cannot be taken up: {path / 'run.json'} is not whole",
            "it ended before anything was started; launcher rm forgets it",
        ) from None
    request, layout = codec.read_run(value, path / "run.json")
    request = _with_secrets(request, value["job"].get("secrets", ()))
    return request, layout, float(value["started"])
