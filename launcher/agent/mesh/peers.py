"""Joins the hosts of a run: the head node starts a framework's own launcher, whose ``ssh`` reaches
the other hosts, the peers, through this module.

The peers connect to the head, at the address and port that the rendezvous has tested, so only the
head listens. All connections are TLS, and both ends present a certificate made for this run and host.
A connection carries one command. One more from each peer is for control: on it the head asks for
connections, and says that the run is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import time

from ..base import frames, programs, protocol
from ..base.tcp import keep_alive, listen, own_address
from . import slurm, slurm_nodes, slurm_queue, slurm_signals
from .commands import LOOK, Commands, hang_up, say, say_soon, signal_group
from .tls import context, join, name_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import Message
    from .tls import Streams

#: Seconds for all peers to connect after the head has started, or for one more connection of a peer.
PATIENCE = 30.0
#: Most looks at the processes of a framework's launcher after it has exited, until all are gone.
SETTLE = 20
#: Seconds by which a failed framework's launcher exits after the rank that failed: clocks of hosts
#: are compared, which is not exact.
AFTER = 0.4
#: The programs in the folder ``relay`` of a run on each host, which is first in a framework's PATH.
PROGRAMS = {"ssh": "ssh {run_dir}", "rank": "rank --of {run_dir} --"}


class Member:
    """What the head and a peer have in common: commands, and a socket for the programs of this host."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        path = os.path.join(run_dir, "peer.json")
        with open(path) as file:
            self.spec = json.load(file)
        os.unlink(path)  # it holds our key
        self.host, self.head = self.spec["host"], self.spec["head"]
        self.env, self.cwd = dict(os.environ), os.getcwd()
        self.is_slurm = slurm_nodes.NODES in self.env
        if self.is_slurm:
            self.env.update(slurm.of_host())
        self.loop = asyncio.get_event_loop()
        self.commands = Commands(self.env, self.cwd, self.spec["grace"])
        self.asking = 0  # open connections of programs of this host
        self._write_programs()

    def _write_programs(self) -> None:
        folder = programs.folder(self.run_dir, "relay")
        start = [sys.executable, "-I", "-S", os.path.abspath(sys.argv[0])]
        more = slurm.PROGRAMS if self.is_slurm else ()
        shims = dict(PROGRAMS, **{name: "slurm %s {run_dir}" % name for name in more})
        for name, rest in shims.items():
            words = start + [w.format(run_dir=self.run_dir) for w in rest.split()]
            text = '#!/bin/sh\nexec %s "$@"\n' % " ".join(_quoted(word) for word in words)
            path = os.path.join(folder, name)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o700)
        # In front of what a batch script puts first in PATH, too.
        there, here = (
            os.path.join(one, "accelerate")
            for one in (programs.folder(self.run_dir, "bin"), folder)
        )
        if self.is_slurm and os.path.isfile(there) and not os.path.lexists(here):
            os.symlink(there, here)

    async def listen_here(self) -> asyncio.AbstractServer:
        """Open the socket for the programs in ``relay``."""
        os.chdir(self.run_dir)  # the path of a socket has at most 107 bytes
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
        """Run a command that a program of this host wants to run on some host: only the head does."""
        await _refuse(writer, "only %s can run commands on other hosts" % self.head)


class Head(Member):
    """The host where the framework's launcher runs."""

    def __init__(self, run_dir: str) -> None:
        super().__init__(run_dir)
        #: By peer: its control connection.
        self._peers = {host: self.loop.create_future() for host in self.spec["hosts"]}
        self._peers.pop(self.host)
        #: By token: the peer, and the connection that it was asked for.
        self._wanted: dict[str, tuple[str, asyncio.Future[Streams]]] = {}

    async def serve(self, address: str, port: int, secrets: bool, argv: list[str]) -> int:
        """Run ``argv`` and serve its ``ssh`` until it exits; return its exit code.

        ``secrets``: whether its environment has them.
        """
        listener = socket.socket(fileno=listen(port, own_address(address)).detach())
        server = await asyncio.start_server(
            self._dialled, sock=listener, ssl=context(self.spec, ssl.PROTOCOL_TLS_SERVER)
        )
        here = await self.listen_here()
        code = await self._framework(secrets, argv)
        if code == 0 and self._peers:  # a short one may exit before the peers have connected
            await asyncio.wait(self._peers.values(), timeout=PATIENCE)
        for control in list(self._peers.values()):
            if control.done():
                await say(control.result(), frames.ASK, {"over": code})
                hang_up(control.result())
        self.commands.stop()
        await self.commands.finish()
        server.close()
        here.close()
        return code

    async def _framework(self, secrets: bool, argv: list[str]) -> int:
        """Run the framework's launcher; return its exit code.

        Many launchers pass their environment on as arguments, which all users of a host can read:
        they get no secrets. Ranks get them from their own host.
        """
        hidden = () if secrets else self.spec["secrets"]
        env = {name: value for name, value in self.env.items() if name not in hidden}
        env["PATH"] = os.path.join(self.run_dir, "relay") + os.pathsep + env["PATH"]
        if self.is_slurm:  # tasks have it, too, as the script does
            env["SLURM_JOB_START_TIME"] = str(int(time.time()))
            if self.spec.get("ends"):
                env[slurm_queue.ENDS] = str(int(self.spec["ends"]))
        try:
            pid, ended = self.commands.start(argv, env, [0, 1, 2])
        except OSError as error:
            sys.stderr.write("launcher: cannot start %s: %s\n" % (argv[0], error.strerror))
            return protocol.not_started(error)
        self.loop.add_signal_handler(signal.SIGTERM, lambda: _pass_on(pid, signal.SIGTERM))
        warning = self._warn_in_time(pid)
        code = await ended
        if warning:
            warning.cancel()
        for look in range(SETTLE):
            if look * LOOK >= (AFTER if code else 0) and not (self.asking or signal_group(pid, 0)):
                break
            await asyncio.sleep(LOOK)
        return code

    def _warn_in_time(self, pid: int) -> asyncio.TimerHandle | None:
        """Have the batch script, which is ``pid``, or its tasks get the signal that it asks for."""
        asked = slurm_signals.wanted(self.env) if self.is_slurm and self.spec.get("ends") else None
        if asked is None:
            return None
        delay = max(0.0, self.spec["ends"] - time.time() - asked.seconds)
        return self.loop.call_later(delay, self._warn, pid, asked)

    def _warn(self, pid: int, asked: slurm_signals.Wanted) -> None:
        whom = "the script" if asked.to_script else "all tasks"
        _note("SIG%s to %s, %d s before --time is over" % (asked.name, whom, asked.seconds))
        if asked.to_script:
            _pass_on(pid, asked.number)
            return
        self.commands.send(asked.number)
        for control in self._peers.values():
            if control.done():
                say_soon(control.result(), frames.ASK, {"signal": asked.number})

    async def _dialled(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = name_in(writer)
        message = await frames.read_message(reader) or {}
        if host not in self._peers:
            _note("refused a connection from %s, which is not another host of this run" % (host,))
        elif message.get("control"):
            keep_alive(writer.get_extra_info("socket"))
            if self._peers[host].done():  # the connection before was lost unnoticed
                self._peers[host] = self.loop.create_future()
            self._peers[host].set_result(writer)
            await frames.read(reader)  # returns when the connection is gone: a peer sends nothing
            known = self._peers[host]
            if known.done() and known.result() is writer:
                self._peers[host] = self.loop.create_future()
        else:
            wanted, streams = self._wanted.pop(str(message.get("token")), (None, None))
            if streams and wanted == host and not streams.done():
                keep_alive(writer.get_extra_info("socket"))
                streams.set_result((reader, writer))
                return
        hang_up(writer)

    async def run(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: Message
    ) -> None:
        host = message["host"]
        if host == self.host:
            await self.commands.serve(reader, writer, message["command"])
            return
        if host not in self._peers:
            hosts = ", ".join(self.spec["hosts"])
            await _refuse(writer, "%s is not a host of this run (%s)" % (host, hosts))
            return
        streams = await self._connection_to(host)
        if streams is None:
            await _refuse(writer, "%s did not answer within %d s" % (host, PATIENCE))
            return
        there, to_there = streams
        try:
            await say(to_there, frames.ASK, {"command": message["command"]})
            await join((reader, to_there), (there, writer))
        finally:
            hang_up(to_there)

    async def _connection_to(self, host: str) -> Streams | None:
        """Return a new connection to a peer, or None when it does not make one in time."""
        deadline = self.loop.time() + PATIENCE
        if not await _is_done(self._peers[host], deadline, self.loop):
            return None
        token = os.urandom(16).hex()
        streams = self.loop.create_future()
        self._wanted[token] = (host, streams)
        await say(self._peers[host].result(), frames.ASK, {"token": token})
        return streams.result() if await _is_done(streams, deadline, self.loop) else None


class Peer(Member):
    """Any other host: it runs what the head asks for, until the head says that the run is over."""

    async def serve(self, address: str, port: int) -> int:
        """Return the exit code of this agent: 0 when the run is over, 1 when the head is gone."""
        self._where = (address, port)
        self._context = context(self.spec, ssl.PROTOCOL_TLS_CLIENT)
        self._serving: set[asyncio.Task[None]] = set()
        self.loop.add_signal_handler(signal.SIGTERM, self._stop)
        here = await self.listen_here()
        self._over = self.loop.create_future()
        obeying = asyncio.ensure_future(self._obey())
        await asyncio.wait([obeying, self._over], return_when=asyncio.FIRST_COMPLETED)
        code = self._over.result() if self._over.done() else obeying.result()
        if code == 1:
            _note("the head node %s is gone: stopping what it runs on this host" % self.head)
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
            control = await self._dial({"control": True}, once=reached)
            if control is None:
                return 1
            reached = True
            reader, writer = control
            message = await frames.read_message(reader)
            while message:
                if "over" in message:
                    return 0
                if "signal" in message:
                    self.commands.send(message["signal"])
                    message = await frames.read_message(reader)
                    continue
                task = asyncio.ensure_future(self._serve_one(message["token"]))
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)
                message = await frames.read_message(reader)
            hang_up(writer)

    async def _serve_one(self, token: str) -> None:
        streams = await self._dial({"token": token})
        if streams is None:
            return
        reader, writer = streams
        try:
            message = await frames.read_message(reader)
            if message:
                await self.commands.serve(reader, writer, message["command"])
        finally:
            hang_up(writer)

    async def _dial(self, hello: Message, once: bool = False) -> Streams | None:
        """Return a connection to the head, or None when it is gone.

        With ``once`` a refused connection is the end: the head listened before.
        """
        deadline = self.loop.time() + PATIENCE
        while self.loop.time() < deadline:
            try:
                reader, writer = await asyncio.open_connection(*self._where, ssl=self._context)
            except ConnectionRefusedError:
                if once:
                    return None
            except ssl.SSLError as error:
                _note("%s port %s is not answered by %s: %s" % (*self._where, self.head, error))
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


async def _is_done(
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
    """Run ``head ADDRESS PORT bare|with-secrets -- COMMAND ...`` or ``peer ADDRESS PORT``."""
    part, address, port = argv[0], argv[1], int(argv[2])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def serve() -> int:
        run_dir = os.environ["LAUNCHER_RUN_DIR"]
        if part == "head":
            return await Head(run_dir).serve(address, port, argv[3] != "bare", argv[5:])
        return await Peer(run_dir).serve(address, port)

    try:
        code = loop.run_until_complete(serve())
    except OSError as error:
        _note("%s port %d: %s" % (address, port, error))
        code = 125
    sys.stdout = None
    os._exit(code if code >= 0 else 128 - code)
