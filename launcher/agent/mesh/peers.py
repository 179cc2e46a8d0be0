"""Joins the hosts of one run: the head starts a framework's own launcher, whose ``ssh`` reaches the
others through here.

The others dial the head, at the address and port where all of them have reached it before; so
nobody listens but the head. All lines are TLS, and both ends show a certificate that was made for
this run and this host. A line carries one command; one more from each host says when another is
wanted, and that the run is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys

from ..base import frames
from ..base.tcp import keep_alive, own_address
from .commands import LOOK, Commands, hang_up, say, signal_group
from .tls import context, join, name_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import Message
    from .tls import Line

#: Seconds for all hosts to dial the head after it has begun, or for a new line of one of them.
PATIENCE = 30.0
#: Looks until what a framework's launcher has started has noticed its end.
SETTLE = 20
#: Seconds by which it fails later than the rank or host because of which it did: the clocks of two
#: hosts are compared, and not exactly.
AFTER = 0.4
#: What stands in the folder ``relay`` of a run on each host, and first in a framework's PATH.
PROGRAMS = {"ssh": "ssh {run_dir}", "rank": "rank --of {run_dir} --"}


class Member:
    """This host's part: who it is, what commands it runs, and its socket for those here."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        path = os.path.join(run_dir, "peer.json")
        with open(path) as file:
            self.spec = json.load(file)
        os.unlink(path)  # it holds our key
        self.host, self.head = self.spec["host"], self.spec["lead"]  # the key of older agents, too
        self.env, self.cwd = dict(os.environ), os.getcwd()
        self.loop = asyncio.get_event_loop()
        self.commands = Commands(self.env, self.cwd, self.spec["grace"])
        self.asking = 0  # how many programs here want something just now
        self._write_programs()

    def _write_programs(self) -> None:
        folder = os.path.join(self.run_dir, "relay")
        os.makedirs(folder, exist_ok=True)
        start = [sys.executable, "-I", "-S", os.path.abspath(sys.argv[0])]
        for name, rest in PROGRAMS.items():
            words = start + [w.format(run_dir=self.run_dir) for w in rest.split()]
            text = '#!/bin/sh\nexec %s "$@"\n' % " ".join(_quoted(word) for word in words)
            path = os.path.join(folder, name)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o700)

    async def listen_here(self) -> asyncio.AbstractServer:
        """Opens the socket for the programs in ``relay``."""
        os.chdir(self.run_dir)  # the path of a socket may be 107 bytes at most
        try:
            os.unlink("peer.sock")
        except FileNotFoundError:
            pass
        return await asyncio.start_unix_server(self._asked, "peer.sock")

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asking += 1
        try:
            message = await frames.read_message(reader)
            if message and message.get("ask") == "environment":
                await say(writer, frames.ASK, {"env": self.env, "cwd": self.cwd})
            elif message and message.get("command"):
                await self.run(reader, writer, message)
        finally:
            self.asking -= 1
            hang_up(writer)

    async def run(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: Message
    ) -> None:
        """Runs what somebody here wants to run on a host: only the head does."""
        await _refuse(writer, "only %s runs commands on other hosts" % self.head)


class Head(Member):
    """The head node, where the framework's launcher runs."""

    def __init__(self, run_dir: str) -> None:
        super().__init__(run_dir)
        self._others = {host: self.loop.create_future() for host in self.spec["hosts"]}
        self._others.pop(self.host)
        #: By token: the host, and a line to it.
        self._wanted: dict[str, tuple[str, asyncio.Future[Line]]] = {}

    async def serve(self, address: str, port: int, secrets: bool, argv: list[str]) -> int:
        """Until ``argv`` has ended; returns its exit code. It may see the secrets or not."""
        server = await asyncio.start_server(
            self._dialled,
            own_address(address),
            port,
            ssl=context(self.spec, ssl.PROTOCOL_TLS_SERVER),
        )
        here = await self.listen_here()
        code = await self._framework(secrets, argv)
        if code == 0 and self._others:  # a short one may end before the others have dialled
            await asyncio.wait(self._others.values(), timeout=PATIENCE)
        for line in list(self._others.values()):
            if line.done():
                await say(line.result(), frames.ASK, {"over": code})
                hang_up(line.result())
        self.commands.stop()
        await self.commands.finish()
        server.close()
        here.close()
        return code

    async def _framework(self, secrets: bool, argv: list[str]) -> int:
        """Many hand their environment on as arguments, which all users of a host can read: those
        see no secrets. Ranks have them from their own host."""
        hidden = () if secrets else self.spec["secrets"]
        env = {name: value for name, value in self.env.items() if name not in hidden}
        env["PATH"] = os.path.join(self.run_dir, "relay") + os.pathsep + env["PATH"]
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pid, ended = self.commands.start(argv, env, [null, 1, 2])
        except OSError as error:
            sys.stderr.write("launcher: cannot start %s: %s\n" % (argv[0], error.strerror))
            return 127
        finally:
            os.close(null)
        self.loop.add_signal_handler(signal.SIGTERM, lambda: _pass_on(pid, signal.SIGTERM))
        code = await ended
        for look in range(SETTLE):
            if look * LOOK >= (AFTER if code else 0) and not (self.asking or signal_group(pid, 0)):
                break
            await asyncio.sleep(LOOK)
        return code

    async def _dialled(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = name_in(writer)
        message = await frames.read_message(reader) or {}
        if host not in self._others:
            _note("a line from %s was refused: no other host of this run" % (host,))
        elif message.get("control"):
            keep_alive(writer.get_extra_info("socket"))
            if self._others[host].done():  # the line before was lost, and we were not told
                self._others[host] = self.loop.create_future()
            self._others[host].set_result(writer)
            await frames.read(reader)  # nothing comes; returns when the line is gone
            known = self._others[host]
            if known.done() and known.result() is writer:
                self._others[host] = self.loop.create_future()
        else:
            wanted, line = self._wanted.pop(str(message.get("line")), (None, None))
            if line and wanted == host and not line.done():
                keep_alive(writer.get_extra_info("socket"))
                line.set_result((reader, writer))
                return
        hang_up(writer)

    async def run(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: Message
    ) -> None:
        host = message["host"]
        if host == self.host:
            await self.commands.serve(reader, writer, message["command"])
            return
        if host not in self._others:
            hosts = ", ".join(self.spec["hosts"])
            await _refuse(writer, "%s is no host of this run (%s)" % (host, hosts))
            return
        line = await self._line_to(host)
        if line is None:
            await _refuse(writer, "%s did not answer within %d s" % (host, PATIENCE))
            return
        there, to_there = line
        try:
            await say(to_there, frames.ASK, {"command": message["command"]})
            await join((reader, to_there), (there, writer))
        finally:
            hang_up(to_there)

    async def _line_to(self, host: str) -> Line | None:
        deadline = self.loop.time() + PATIENCE
        if not await _came(self._others[host], deadline, self.loop):
            return None
        token = os.urandom(16).hex()
        line = self.loop.create_future()
        self._wanted[token] = (host, line)
        await say(self._others[host].result(), frames.ASK, {"line": token})
        return line.result() if await _came(line, deadline, self.loop) else None


class Peer(Member):
    """Any other host: it does what the head wants, until the head says that the run is over."""

    async def serve(self, address: str, port: int) -> int:
        """Returns our exit code: 0 when the run is over, 1 when the head is gone."""
        self._where = (address, port)
        self._context = context(self.spec, ssl.PROTOCOL_TLS_CLIENT)
        self._lines: set[asyncio.Task[None]] = set()
        self.loop.add_signal_handler(signal.SIGTERM, self._stop)
        here = await self.listen_here()
        self._over = self.loop.create_future()
        obeying = asyncio.ensure_future(self._obey())
        await asyncio.wait([obeying, self._over], return_when=asyncio.FIRST_COMPLETED)
        code = self._over.result() if self._over.done() else obeying.result()
        if code == 1:
            _note("%s, where this run is led, is gone: what ran here for it is ended" % self.head)
        self.commands.stop()
        await self.commands.finish()
        here.close()
        return code

    def _stop(self) -> None:
        if not self._over.done():
            self._over.set_result(128 + signal.SIGTERM)

    async def _obey(self) -> int:
        reached = False
        while True:
            line = await self._dial({"control": True}, once=reached)
            if line is None:
                return 1
            reached = True
            reader, writer = line
            message = await frames.read_message(reader)
            while message:
                if "over" in message:
                    return 0
                task = asyncio.ensure_future(self._take_line(message["line"]))
                self._lines.add(task)
                task.add_done_callback(self._lines.discard)
                message = await frames.read_message(reader)
            hang_up(writer)

    async def _take_line(self, token: str) -> None:
        line = await self._dial({"line": token})
        if line is None:
            return
        reader, writer = line
        try:
            message = await frames.read_message(reader)
            if message:
                await self.commands.serve(reader, writer, message["command"])
        finally:
            hang_up(writer)

    async def _dial(self, hello: Message, once: bool = False) -> Line | None:
        """A line to the head, or None. One that refuses where it has listened before is gone."""
        deadline = self.loop.time() + PATIENCE
        while self.loop.time() < deadline:
            try:
                reader, writer = await asyncio.open_connection(*self._where, ssl=self._context)
            except ConnectionRefusedError:
                if once:
                    return None
            except ssl.SSLError as error:
                _note("who answers at %s:%s is not %s: %s" % (*self._where, self.head, error))
                return None
            except OSError:
                pass
            else:
                if name_in(writer) == self.head:
                    keep_alive(writer.get_extra_info("socket"))
                    await say(writer, frames.ASK, hello)
                    return reader, writer
                hang_up(writer)
            await asyncio.sleep(0.1)
        return None


async def _came(
    future: asyncio.Future[Any], deadline: float, loop: asyncio.AbstractEventLoop
) -> bool:
    await asyncio.wait([future], timeout=max(0.0, deadline - loop.time()))
    return future.done()


async def _refuse(writer: asyncio.StreamWriter, why: str) -> None:
    await say(writer, frames.EXIT, {"trouble": why})


def _pass_on(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _note(text: str) -> None:
    sys.stderr.write("launcher: %s\n" % text)
    sys.stderr.flush()


def main(argv: list[str]) -> None:
    """``lead ADDRESS PORT bare|with-secrets -- COMMAND ...`` or ``peer ADDRESS PORT``."""
    part, address, port = argv[0], argv[1], int(argv[2])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def all_of_it() -> int:
        run_dir = os.environ["LAUNCHER_RUN_DIR"]
        if part == "lead":
            return await Head(run_dir).serve(address, port, argv[3] != "bare", argv[5:])
        return await Peer(run_dir).serve(address, port)

    try:
        code = loop.run_until_complete(all_of_it())
    except OSError as error:
        _note("%s:%d: %s" % (address, port, error))
        code = 125
    sys.stdout = None
    os._exit(code if code >= 0 else 128 - code)
