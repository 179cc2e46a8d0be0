"""Shares folders of a run between its hosts: what one host writes there appears on all others.

The first host is the hub: all others connect to it, by TLS with certificates of this attempt, and it
passes changes on. What reaches the hub last is what all hosts end up with:

* the hub takes every change, unless a process of its own has changed that path meanwhile;
* another host passes over a change of a path for which the hub still owes it an answer.

A change is ``j`` {"path", "state"} and, for a file, ``i`` its bytes and ``j`` {"whole": bool}. It is
answered in order, by ``j`` {"took": true} or {"took": false}: then it is sent again later.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import ssl
import sys
import time

from ..base import frames, lean, protocol
from ..base.local_sockets import SUPERVISOR, connect
from ..base.tcp import keep_alive
from .commands import LOST, hang_up, say
from .outbox import Outbox
from .shared_tree import FILE, FOLDER, LINK, SharedTree
from .tls import context, name_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Dict

    from ..base.messages import Message, ShareSpec
    from .shared_tree import State

#: Seconds between two looks at the folders, and how much of a processor looks may take.
PAUSE, SHARE_OF_TIME = 0.4, 0.05
#: Seconds until a change is sent again that a host could not take.
AGAIN = 5.0
#: Seconds between two tries to reach the hub: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
#: Seconds for all of a host's changes to reach the hub after its processes have ended.
FLUSH = 15.0
#: Seconds for which the hub outlives its own part while a host is away that has not ended its part.
AWAY = 60.0
#: Largest piece of a file in one frame, and paths of a list in one message.
PIECE, LISTED = 1 << 18, 2000
#: Problems that are told at most.
TOLD = 20
#: Codes of what went wrong; :class:`launcher.records.reasons.ShareTrouble` has the same.
CONFLICT, NO_ROOM, CANNOT_WRITE = "conflict", "no-room", "cannot-write"


class Member:
    """One host's part: looks at the folders, and exchanges changes with others over lines."""

    def __init__(self, spec: ShareSpec, run_dir: str) -> None:
        self.spec, self.host, self.run_dir = spec, spec["host"], run_dir
        self.tree = SharedTree(run_dir, spec["folders"], "shared-incoming-%d" % os.getpid())
        self.tree.changes()  # what is here already is compared when hosts meet
        self.lines: Dict[str, Line] = {}  # by host
        self._ended: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        self._told: set[tuple[str, str]] = set()

    def end(self) -> None:
        """Look once more, pass on what is left, and end."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def watch(self) -> None:
        """Look for changes again and again, until the processes of this host have ended."""
        while True:
            ending, began = self._ended.done(), time.process_time()
            self.look(last=ending)
            if ending:
                return
            pause = max(PAUSE, (time.process_time() - began) / SHARE_OF_TIME)
            await asyncio.wait([self._ended], timeout=pause)

    def look(self, last: bool = False) -> None:
        """Have all lines tell what has changed here."""
        self.spread(self.tree.changes(last), None)

    def spread(self, paths: Iterable[str], source: Line | None) -> None:
        """Have all lines but one tell the state of these paths."""
        for line in self.lines.values():
            if line is not source:
                line.add(paths)

    def takes(self, line: Line, path: str, state: State | None, name: str) -> bool:
        """Return whether a change of another host is to be made here; ``name`` is the file that
        arrived, if any."""
        return path not in line.outbox and self.tree.is_as_told(path) and not self._is_written(path)

    def took(self, line: Line, path: str) -> None:
        """Go on after a change of another host was made here."""

    def _is_written(self, path: str) -> bool:
        """Return whether a process here has a file open that would be replaced."""
        state = self.tree.known.get(path)
        return bool(state and state[0] == FILE) and not self.tree.is_at_rest(path)

    def trouble(self, code: str, path: str, other: str, why: str = "") -> None:
        """Tell the launcher, by the supervisor, of a problem; each path once."""
        if (code, path) in self._told or len(self._told) >= TOLD:
            return
        self._told.add((code, path))
        told = {"op": "share-trouble", "code": code, "path": path, "other": other, "detail": why}
        try:
            with connect(self.run_dir, SUPERVISOR) as supervisor:
                supervisor.sendall(protocol.encode(told))
        except OSError:
            pass  # the run is over here


class Line:
    """The exchange with one other host, across all connections to it."""

    def __init__(self, member: Member, host: str) -> None:
        self.member, self.host, self.outbox = member, host, Outbox()
        self._tree = member.tree
        self._changed = asyncio.Event()
        self.has_ended = False  # the other host's part
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the other host is connected."""
        return self._writer is not None

    def add(self, paths: Iterable[str]) -> None:
        """Tell the state of these paths."""
        self.outbox.add(paths)
        self._changed.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Exchange changes over a connection until it is lost."""
        if self._writer:  # the connection before was lost unnoticed
            hang_up(self._writer)
            self.outbox.disconnected()
        self._writer = writer
        self._changed.set()
        sending = asyncio.ensure_future(self._send_all(writer))
        try:
            await self._hear_all(reader, writer)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            hang_up(writer)
            if self._writer is writer:
                self._writer = None
                self.outbox.disconnected()
            self._changed.set()

    async def drained(self) -> None:
        """Return when the other host has everything, or is gone."""
        while self._writer and self.outbox:
            self._changed.clear()
            await self._changed.wait()

    async def say_goodbye(self) -> None:
        """Tell the other host that this one has ended its part; return when it hangs up."""
        if self._writer:
            await say(self._writer, frames.ASK, {"bye": True})
        while self._writer:
            self._changed.clear()
            await self._changed.wait()

    # -- out

    async def _send_all(self, writer: asyncio.StreamWriter) -> None:
        while True:
            path = self.outbox.next()
            if path is None:
                self._changed.clear()
                await self._changed.wait()
            elif not await self._send(writer, path):
                return

    async def _send(self, writer: asyncio.StreamWriter, path: str) -> bool:
        """Send the state of a path as it is now; return False when the connection is lost."""
        state = self._tree.known.get(path)
        try:
            if state is None or state[0] != FILE:
                writer.write(frames.frame(frames.ASK, {"path": path, "state": state}))
            else:
                await self._send_file(writer, path, state)
            await writer.drain()
        except LOST:
            return False
        return True

    async def _send_file(self, writer: asyncio.StreamWriter, path: str, state: State) -> None:
        """Send a file. What is rewritten meanwhile does not count, and is told at the next look."""
        out, left = frames.frame(frames.ASK, {"path": path, "state": state}), state[1]
        try:
            file = self._tree.opened(path)
        except OSError:
            file = -1
        try:
            while file >= 0 and left:
                data = os.read(file, min(left, PIECE))
                if not data:
                    break
                left -= len(data)
                out += frames.frame(frames.INPUT, data)
                if left:
                    writer.write(out)
                    await writer.drain()
                    out = b""
        finally:
            if file >= 0:
                os.close(file)
        is_same = self._tree.known.get(path) == state and self._tree.is_as_told(path)
        writer.write(out + frames.frame(frames.ASK, {"whole": not left and file >= 0 and is_same}))

    # -- in

    async def _hear_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = await frames.read_message(reader)
            if message is None:
                return
            if "took" in message:
                self._answered(bool(message["took"]))
            elif "bye" in message:
                self.has_ended = True
                return
            elif "give" in message:
                self.add([path for path in message["give"] if self._tree.accepts(path)])
            elif "path" in message:
                took = await self._change(reader, message)
                if took is None:
                    return
                writer.write(frames.frame(frames.ASK, {"took": took}))

    def _answered(self, took: bool) -> None:
        path = self.outbox.acknowledged()
        if path is not None and not took:
            asyncio.get_event_loop().call_later(AGAIN, self.add, [path])
        self._changed.set()

    async def _change(self, reader: asyncio.StreamReader, message: Message) -> bool | None:
        """Make a change of the other host; return False if it is to be sent again, None for a line
        that is broken."""
        path, state = message["path"], message.get("state")
        if not self._tree.accepts(path) or not _is_state(state):
            return None
        name, trouble = "", None
        if state and state[0] == FILE:
            try:
                name, whole, trouble = await self._receive(reader, state[1])
            except EOFError:
                return None
            if not whole and trouble is None:
                return True  # it was rewritten: the next version follows
        try:
            if trouble:
                raise trouble
            self._make(path, state, name)
        except OSError as error:
            code = NO_ROOM if error.errno in (errno.ENOSPC, errno.EDQUOT) else CANNOT_WRITE
            self.member.trouble(code, path, self.host, error.strerror or str(error))
            return code != NO_ROOM
        finally:
            _forget(name)
        return True

    def _make(self, path: str, state: State | None, name: str) -> None:
        if not self.member.takes(self, path, state, name):
            return
        if state is None:
            self._tree.remove(path)
        else:
            self._tree.put(path, state, name)
        self.member.took(self, path)

    async def _receive(
        self, reader: asyncio.StreamReader, size: int
    ) -> tuple[str, bool, OSError | None]:
        """Return the file with what has arrived, whether it is whole, and why it could not be written.

        Raises EOFError when the connection is lost.
        """
        trouble: OSError | None = None
        name, file, got = "", -1, 0
        try:
            name, file = self._tree.incoming()
        except OSError as error:
            trouble = error
        try:
            while True:
                kind, data = await frames.read(reader)
                if kind == frames.ASK:
                    whole = bool(lean.loads(data.decode("utf-8")).get("whole")) and got == size
                    return name, whole, trouble
                if kind != frames.INPUT:
                    raise EOFError
                got += len(data)
                if trouble is None:
                    try:
                        _write_all(file, data)
                    except OSError as error:
                        trouble = error
        except BaseException:
            _forget(name)
            raise
        finally:
            if file >= 0:
                os.close(file)


class Hub(Member):
    """The first host: it takes changes of all others, in their order, and passes them on."""

    def __init__(self, spec: ShareSpec, run_dir: str) -> None:
        super().__init__(spec, run_dir)
        self.lines = {host: Line(self, host) for host in spec["hosts"] if host != self.host}
        self._met: set[str] = set()
        self._left = asyncio.Event()  # set when a host has hung up

    async def serve(self, listener: socket.socket) -> None:
        """Share until all hosts have ended their part."""
        server = await asyncio.start_server(
            self._dialled,
            sock=listener,
            ssl=context(self.spec, ssl.PROTOCOL_TLS_SERVER),
            limit=4 * PIECE,
        )
        await self.watch()
        await self._until_all_have_ended()
        server.close()

    async def _until_all_have_ended(self) -> None:
        """Pass changes on until the last host has ended its part. One that is away has a minute to come
        back; one that never came is not waited for."""
        while lines := [self.lines[host] for host in self._met if not self.lines[host].has_ended]:
            is_anybody_there = any(line.is_connected for line in lines)
            self._left.clear()
            waiting = asyncio.ensure_future(self._left.wait())
            done, _ = await asyncio.wait([waiting], timeout=None if is_anybody_there else AWAY)
            waiting.cancel()
            if not done and not any(line.is_connected for line in lines):
                return

    async def _dialled(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = self.lines.get(name_in(writer) or "")
        if line is None:
            hang_up(writer)
            return
        keep_alive(writer.get_extra_info("socket"))
        try:
            if await self._meet(line, reader, writer):
                await line.serve(reader, writer)
        finally:
            hang_up(writer)
            self._left.set()

    async def _meet(
        self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Compare what both have the first time that they meet; the newer version of a path counts."""
        theirs: Dict[str, State] = {}
        message = await frames.read_message(reader)
        while message and "have" in message:
            theirs.update(message["have"])
            message = await frames.read_message(reader)
        if message is None:
            return False
        if line.host in self._met:
            return True
        self._met.add(line.host)
        self.look()
        known = self.tree.known
        mine = [path for path in known if _is_newer(known[path], theirs.get(path))]
        give = [path for path in theirs if _is_newer(theirs[path], known.get(path))]
        line.add(sorted(mine, key=lambda path: _moment(known[path])))
        give.sort(key=lambda path: _moment(theirs[path]))
        for start in range(0, len(give), LISTED):
            await say(writer, frames.ASK, {"give": give[start : start + LISTED]})
        return True

    def takes(self, line: Line, path: str, state: State | None, name: str) -> bool:
        """Take it, unless a process here has changed that path meanwhile: then its version counts.

        What is removed there does not take a newer version along, which is sent again.
        """
        is_ours = not self.tree.is_as_told(path) or self._is_written(path)
        if state is None:
            if path in line.outbox:
                line.add([path])
            return not is_ours and path not in line.outbox
        same = state == self.tree.here(path) or (name and self.tree.equals(path, name))
        if not same and (is_ours or path in line.outbox):
            self.trouble(CONFLICT, path, self.host if is_ours else line.host)
        return not is_ours

    def took(self, line: Line, path: str) -> None:
        """Pass it on."""
        line.outbox.drop(path)
        self.spread([path], line)


class Spoke(Member):
    """Any other host."""

    def __init__(self, spec: ShareSpec, run_dir: str) -> None:
        super().__init__(spec, run_dir)
        self.lines = {spec["hub"]: Line(self, spec["hub"])}

    async def serve(self) -> None:
        """Share until the processes of this host have ended and the hub has all changes."""
        (line,) = self.lines.values()
        reaching = asyncio.ensure_future(self._keep_reaching(line))
        await self.watch()
        if line.is_connected:
            await asyncio.wait([asyncio.ensure_future(self._leave(line))], timeout=FLUSH)
        reaching.cancel()
        await asyncio.gather(reaching, return_exceptions=True)

    async def _leave(self, line: Line) -> None:
        await line.drained()
        await line.say_goodbye()

    async def _keep_reaching(self, line: Line) -> None:
        pause, secure = FIRST_PAUSE, context(self.spec, ssl.PROTOCOL_TLS_CLIENT)
        address, port = self.spec["address"], self.spec["port"]
        is_first = True
        while True:
            try:
                reader, writer = await asyncio.open_connection(
                    address, port, ssl=secure, limit=4 * PIECE
                )
            except OSError:
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
                continue
            try:
                if name_in(writer) == line.host:
                    keep_alive(writer.get_extra_info("socket"))
                    await self._hello(writer, is_first)
                    is_first, pause = False, FIRST_PAUSE
                    await line.serve(reader, writer)
            finally:
                hang_up(writer)
            await asyncio.sleep(pause)

    async def _hello(self, writer: asyncio.StreamWriter, is_first: bool) -> None:
        """Say what there is here: all of it at first, and nothing when the hub knows it."""
        known = list(self.tree.known.items()) if is_first else []
        for start in range(0, len(known), LISTED):
            await say(writer, frames.ASK, {"have": dict(known[start : start + LISTED])})
        await say(writer, frames.ASK, {"began": True})


def _moment(state: State) -> int:
    """Return when a file was written; folders come before all files, and links after them."""
    if state[0] == FILE:
        return int(state[2])
    return 0 if state[0] == FOLDER else 1 << 63


def _is_newer(one: State, other: State | None) -> bool:
    """Return whether a state takes the place of another one of the same path where two hosts meet."""
    if other is None:
        return True
    if one[0] != FILE or other[0] != FILE:
        return one != other and one[0] == FILE
    return one[1:3] != other[1:3] and (one[2], one[1]) > (other[2], other[1])


def _is_state(state: Any) -> bool:
    """Return whether what another host says is the state of a path; None is: it is gone."""
    if state is None:
        return True
    if not isinstance(state, list) or not state:
        return False
    if state[0] == FILE:
        return len(state) == 4 and all(isinstance(n, int) and 0 <= n < 1 << 63 for n in state[1:])
    return state == [FOLDER] or (state[0] == LINK and len(state) == 2 and isinstance(state[1], str))


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _forget(name: str) -> None:
    if name:
        try:
            os.unlink(name)
        except OSError:
            pass


def main(argv: list[str]) -> None:
    """Run ``share RUN_DIR LISTENER``: the descriptor of the hub's socket, -1 on other hosts."""
    run_dir, listener = argv[0], int(argv[1])
    path = os.path.join(run_dir, "share.json")
    with open(path) as file:
        spec = lean.loads(file.read())
    os.unlink(path)  # it holds our key
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a process opens a file that we look at
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def serve() -> None:
        part: Hub | Spoke = Hub(spec, run_dir) if listener >= 0 else Spoke(spec, run_dir)
        loop.add_signal_handler(signal.SIGTERM, part.end)
        try:
            if isinstance(part, Hub):
                await part.serve(socket.socket(fileno=listener))
            else:
                await part.serve()
        finally:
            part.tree.close()

    try:
        loop.run_until_complete(serve())
    except OSError as error:
        sys.stderr.write("launcher: sharing folders: %s\n" % error)
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
