"""Talk to the agent of one host: install it if needed, send requests, receive events and logs.

Only this module knows the agent's protocol.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import Any, TypeVar

import asyncssh

from ..agent.base import protocol
from ..spec import errors
from ..spec.frozen import frozen
from ..spec.model import Facts, Host
from ..spec.typed_json import Mismatch, from_json, require_bounds
from . import login_shell
from .agent_bundle import (
    FOUND,
    NO_AGENT,
    find_script,
    has_changed,
    packed,
    packed_rest,
    start_command,
)
from .agent_errors import UPGRADE, no_agent, refusal, taken_over, trouble
from .agent_parts import is_plain
from .answers.environments import Pythons as PythonsThere
from .answers.facts import read_facts
from .answers.outputs import Files, Listed, Outputs
from .answers.reading import read
from .answers.runs import Clock, Problem
from .connection import Connection, RemoteProcess

T = TypeVar("T")

#: What stands for the name of a log where a host sends its metrics.
METRICS = protocol.METRICS
#: What stands before the paths of outputs that travel as logs do, and how many of a host do.
LIVE, LIVE_FILES, is_live = protocol.LIVE, protocol.LIVE_FILES, protocol.is_live
#: Seconds for the agent's first line: an interpreter on a slow disk needs some.
FIRST_WORD = 20.0
#: Seconds for an answer; an agent that is silent for longer counts as gone.
ANSWERS = 60.0
#: Seconds for a host to look for the Pythons of environments.
LOOKING = 120.0
#: Seconds for answers that take more or less than others: describing the host, changing many files.
PATIENCE = {
    **dict.fromkeys(("probe", "survey"), 45.0),
    "now": 30.0,
    **dict.fromkeys(("snapshot", "patch", "seal", "discard", "remove"), 600.0),
}
#: Seconds that messages from a host may delay its answer; only a list of outputs takes longer.
LATE, LATE_LIST = 300.0, 3600.0
#: Why an agent's connection is closed, unless it fell silent.
DROPPED = "the connection dropped"
#: Seconds that it may take to install the agent.
INSTALLING = 300.0
#: Bytes that a host may print while the agent is installed.
MOST_SAID = 1 << 20
#: What a login shell may print before the agent's first line.
NOISE = 1 << 16


@frozen
class _Hello:
    """The first line of a relay."""

    magic: str
    version: int = protocol.VERSION
    #: The host has all of the agent, not only what every run needs.
    whole: bool = False


@frozen
class _Answer:
    """A relay's answer to a request."""

    ok: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None


@frozen
class _Record:
    """The fields of every record of a journal."""

    seq: int
    event: str


@frozen
class _Piece:
    """A piece of a log; its bytes follow it."""

    log: str
    offset: int


class _Parts:
    """A list of files that comes in parts."""

    def __init__(self) -> None:
        self.all = Outputs()
        self._count = self._characters = 0

    def take(self, part: object) -> None:
        """Take one more part. Raises Mismatch."""
        files = from_json(Files, part)
        paths = (*files.links, *files.same, *files.sparse)
        for one in (*files.outputs, *files.code, *files.elsewhere, *paths):
            self._count += 1
            self._characters += sum(len(text) for text in one if isinstance(text, str))
        if self._count > protocol.MOST_FILES or self._characters > protocol.MOST_CHARACTERS:
            raise Mismatch("more files than a host lists")
        self.all.take(files)


class Agent:
    """The agent of one host over one channel. Requests may overlap; answers are matched by number.

    ``on_journal(record, end)``, ``on_log(name, offset, data)`` and ``on_idle(sizes)`` are called
    with what the agent sends without a request, and ``on_working(done)`` with the bytes of a request
    that it is done with, where it tells. If ``on_log`` returns False, acknowledge the piece
    later. What none of them can take is a ``fault`` of the host: ``on_fault(error)`` is called, and
    nothing more is read.
    """

    def __init__(self, host: Host, process: RemoteProcess | None, is_whole: bool = True) -> None:
        self.host = host
        self._process = process
        self._is_whole, self._completing = is_whole, asyncio.Lock()
        self._decoder = protocol.Decoder()
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._parts: dict[int, _Parts] = {}  # of answers that may come in parts
        self._due: dict[int, float] = {}  # when each request should be answered
        self._heard = 0.0  # when the agent last sent anything, logs included
        self._next = 0
        self._reader: asyncio.Task[None] | None = None
        self._follows = False  # the host may send journal and logs
        self.fault: errors.BadAnswer | None = None
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # why it is
        self.on_journal: Callable[[dict[str, Any], int], None] = lambda record, end: None
        self.on_log: Callable[[str, int, bytes], bool] = lambda name, offset, data: True
        self.on_idle: Callable[[Mapping[str, int]], None] = lambda sizes: None
        self.on_working: Callable[[int], None] = lambda done: None
        self.on_fault: Callable[[errors.BadAnswer], None] = lambda error: None

    @classmethod
    def absent(cls, host: Host) -> Agent:
        """Return an agent that is not connected: every request raises ConnectionLost."""
        agent = cls(host, None)
        agent.closed.set_result(DROPPED)
        return agent

    @classmethod
    async def open(cls, host: Host, connection: Connection) -> Agent:
        """Start the agent on ``host``; install it first if needed. Raises HostError."""
        process = await connection.execute(start_command(host))
        first, rest = await _first_line(host, process)
        said = first.decode("utf-8", "replace")
        if said.split(" ")[0] == NO_AGENT:
            first, rest = await _installed(host, process)
        if first.startswith(b"launcher-"):
            process.close()
            raise no_agent(host, first.decode("utf-8", "replace"))
        agent = cls(host, process, _agreed(host, first).whole)
        if agent._take(rest):
            agent._reader = asyncio.ensure_future(agent._read())
        return agent

    async def close(self) -> None:
        """Close the relay; runs on the host continue."""
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._lost(errors.ConnectionLost(self.host.name, "the connection was closed"))
        if self._process:
            self._process.close()

    async def ask(
        self,
        op: str,
        patience: float = 0.0,
        parts: _Parts | None = None,
        payload: bytes | bytearray = b"",
        **request: Any,
    ) -> dict[str, Any]:
        """Send a request, with a ``payload`` behind it, and return the answer, or its last part where it
        comes in ``parts``.

        Raises HostError: ConnectionLost if no answer can come; Silent, and drops the agent, if it is
        silent for ``patience`` seconds (default: by operation). Cancel the call to give up on one
        answer but keep the agent.
        """
        if self.fault is not None:
            raise self.fault
        if self.closed.done() or self._process is None:
            raise errors.ConnectionLost(self.host.name, "the connection is gone")
        if not self._is_whole and not is_plain(op, request):
            await self._complete()
        self._next += 1
        number = self._next
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        seconds = patience or PATIENCE.get(op, ANSWERS)
        begins = max([time.monotonic(), *self._due.values()])  # one after the other
        latest = begins + seconds + (LATE_LIST if op == "outputs" else LATE)
        self._asked[number], self._due[number] = answer, begins + seconds
        if parts is not None:
            self._parts[number] = parts
        self._follows = self._follows or op == "follow"
        try:
            self._process.stdin.write(protocol.encode({"id": number, "op": op, **request}, payload))
            while not answer.done():
                due = max(self._due[number], self._heard + seconds)
                left = min(due, latest) - time.monotonic()
                if left <= 0:
                    answer.cancel()
                    raise self._silent(seconds)
                await asyncio.wait({answer}, timeout=left)
            reply = answer.result()
        except (OSError, asyncssh.Error) as error:
            raise errors.ConnectionLost(self.host.name, str(error)) from None
        finally:
            del self._asked[number], self._due[number]
            self._parts.pop(number, None)
        decoded = read(_Answer, self.host.name, op, reply)
        if decoded.error is not None:
            refused = read(Problem, self.host.name, op, decoded.error)
            raise refusal(self.host.name, refused)
        return decoded.ok

    async def _complete(self) -> None:
        """Bring the rest of the agent to the host, once. Raises HostError."""
        async with self._completing:
            if not self._is_whole:
                _require_same(self.host)
                sizes, content = packed_rest()
                await self.ask("add", INSTALLING, payload=content, sizes=sizes)
                self._is_whole = True

    async def answer(self, kind: type[T], op: str, **request: Any) -> T:
        """Do the same; return the answer as a ``kind``."""
        return read(kind, self.host.name, op, await self.ask(op, **request))

    async def _read(self) -> None:
        assert self._process
        reason = ""
        try:
            while data := await self._process.stdout.read(1 << 18):
                self._heard = time.monotonic()
                if not self._take(data):
                    return
            words = (await self._process.stderr.read(4000)).decode("utf-8", "replace").strip()
            reason = words.splitlines()[-1] if words else "the host closed it"
        except (OSError, asyncssh.Error) as error:
            reason = str(error)
        if self.fault is None:
            self._lost(errors.ConnectionLost(self.host.name, f"the connection was lost: {reason}"))

    def _take(self, data: bytes) -> bool:
        """Pass on what came; return False when the host sent what no agent sends."""
        try:
            self._pass_on(data)
            return True
        except errors.BadAnswer as error:
            self._distrust(error)
        except Exception as error:  # whatever a message can make us raise is its sender's fault
            kind = (
                "" if isinstance(error, ValueError | errors.LauncherError) else type(error).__name__
            )
            self._distrust(errors.BadAnswer(self.host.name, f"{kind} {error}".strip()))
        return False

    def _pass_on(self, data: bytes) -> None:
        taken = 0
        for message, payload in self._decoder.feed(data):
            require_bounds(message)
            if "id" in message:
                self._take_answer(from_json(int, message["id"]), message)
            elif "working" in message:
                if "done" in message:
                    self.on_working(from_json(int, message["done"]))
            elif self._follows:
                taken += self._news(message, payload)
            elif not {"log", "journal", "idle"}.isdisjoint(message):
                raise Mismatch("it reports a run that nobody follows")
        if taken:
            self.acknowledge(taken)

    def _take_answer(self, number: int, message: dict[str, Any]) -> None:
        answer = self._asked.get(number)
        if answer is None or answer.done():
            return  # nobody waits for it any more
        if "part" not in message:
            answer.set_result(message)
        elif number in self._parts:
            self._parts[number].take(message["part"])
        else:
            raise Mismatch("a part of an answer that has none")

    def _news(self, message: dict[str, Any], payload: bytes) -> int:
        """Pass on what came without a request; return the bytes of logs to acknowledge."""
        if "log" in message:
            piece = from_json(_Piece, message)
            return len(payload) if self.on_log(piece.log, piece.offset, payload) else 0
        if "journal" in message:
            from_json(_Record, message["journal"])
            self.on_journal(message["journal"], from_json(int, message["end"]))
        elif "idle" in message:
            self.on_idle(from_json(dict[str, int], message["idle"]))
        return 0

    def _distrust(self, error: errors.BadAnswer) -> None:
        """Believe nothing more of the host, and let everybody who waits for it know."""
        self.fault = error
        if not self.closed.done():
            self.closed.set_result(error.message)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(error)
        if self._process:
            self._process.close()
        self.on_fault(error)

    def acknowledge(self, size: int) -> None:
        """Allow the host to send ``size`` more bytes of logs."""
        try:
            if self._process:
                self._process.stdin.write(protocol.encode({"ack": size}))
        except (OSError, asyncssh.Error):
            pass  # the connection just dropped; the reader reports it

    def _silent(self, seconds: float) -> errors.Silent:
        error = errors.Silent(
            self.host.name,
            f"the agent did not answer within {seconds:.0f} s",
            errors.HANGS,
        )
        self._lost(error)
        return error

    def _lost(self, error: errors.ConnectionLost) -> None:
        if not self.closed.done():
            self.closed.set_result(error.message if isinstance(error, errors.Silent) else DROPPED)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(error)

    # -- requests with a result of their own

    async def probe(self, with_gpus: bool = True, needs: Sequence[str] = ()) -> Facts:
        """Return the facts of the host, and which paths of ``needs`` it lacks; the clock's offset is
        uncertain by half a round trip."""
        before, own_hosts = time.time(), self.host.own_hosts
        answer = await self.ask("probe", gpus=with_gpus, needs=list(needs), own_hosts=own_hosts)
        after = time.time()
        there = read(Clock, self.host.name, "probe", answer).time
        return read_facts(self.host.name, "probe", answer, there - (before + after) / 2)

    async def pythons(self, wanted: Sequence[str]) -> dict[str, tuple[str, str] | errors.HostError]:
        """Return the path and the version of each of several Pythons, or why there is none.

        Raises HostError where the host does not answer.
        """
        scripts = [find_script(python) for python in wanted]
        answer = await self.answer(PythonsThere, "pythons", patience=LOOKING, scripts=scripts)
        if len(answer.said) != len(wanted):
            raise errors.BadAnswer(self.host.name, "its answer to pythons: not one for each")
        found: dict[str, tuple[str, str] | errors.HostError] = {}
        for python, said in zip(wanted, answer.said, strict=True):
            version, _, path = said.removeprefix(FOUND).partition(" ")
            if said.startswith(FOUND) and path.startswith("/"):
                found[python] = path, version
            else:
                host = replace(self.host, python=python)
                found[python] = no_agent(host, said or "launcher-no-python")
        return found

    async def outputs(
        self,
        run: str,
        paths: Sequence[str],
        written: Mapping[str, Any] | None = None,
        received: bool = False,
        elsewhere: Sequence[str] = (),
    ) -> tuple[Listed, Outputs]:
        """Return what a run has written on the host, however many files that are.

        With ``written``, what it wrote outside of its outputs, too: ``also`` are patterns of what to
        list of that, and ``auto`` for how many bytes of the smallest files to list, 0 for none. With
        ``received``, what other hosts have shared with it, too. ``elsewhere`` are patterns of files
        outside of the run's folder.
        """
        parts = _Parts()
        more: dict[str, Any] = {} if written is None else {"written": dict(written)}
        more |= {"received": True} if received else {}
        more |= {"elsewhere": list(elsewhere)} if elsewhere else {}
        last = await self.ask("outputs", parts=parts, run=run, paths=list(paths), **more)
        try:
            parts.take(last)
        except Mismatch as error:
            raise errors.BadAnswer(self.host.name, f"its answer to outputs: {error}") from None
        return read(Listed, self.host.name, "outputs", last), parts.all


def _agreed(host: Host, first: bytes) -> _Hello:
    """Return what a relay says first. Raises AgentError if it speaks another version of the protocol."""
    try:
        hello = from_json(_Hello, json.loads(first[first.rindex(b'{"magic"') :]))
    except (ValueError, RecursionError) as error:
        raise errors.BadAnswer(host.name, f"its first line is not ours: {error}") from None
    if other := protocol.other_version(hello.version, "its agent"):
        raise errors.AgentError(host.name, other, UPGRADE)
    return hello


async def _first_line(host: Host, process: RemoteProcess) -> tuple[bytes, bytes]:
    """Return the first line of the agent or our script, and what followed; skip a shell's noise."""
    data, marker = b"", login_shell.MARKER.encode()
    try:
        async with asyncio.timeout(FIRST_WORD):
            while len(data) < NOISE:
                piece = await process.stdout.read(NOISE)
                data += piece
                lines = data.split(b"\n")
                for position, line in enumerate(lines[:-1]):
                    if line == marker:
                        continue
                    if line.startswith(b"launcher-") or protocol.MAGIC.encode() in line:
                        return line, b"\n".join(lines[position + 1 :])
                if not piece:
                    break
            complaint = (await process.stderr.read(2000)).decode("utf-8", "replace").strip()
    except TimeoutError:
        process.close()
        if marker not in data:
            raise taken_over(host, f"was silent for {FIRST_WORD:.0f} s", data) from None
        raise errors.AgentError(
            host.name,
            f"{host.python} did not start within {FIRST_WORD:.0f} s",
            "is a disk or a network file system hanging on the host?",
        ) from None
    if marker not in data and len(data) < NOISE and not complaint:
        raise taken_over(host, "exited", data)
    said = data.replace(b"\n" + marker + b"\n", b"\n")
    raise trouble(host, complaint or said.decode("utf-8", "replace").strip())


def _require_same(host: Host) -> None:
    """Raise AgentError if the agent's files are no longer those that this command began with."""
    if has_changed():
        raise errors.AgentError(
            host.name,
            "launcher here has been changed or upgraded since this command began, and the host has no "
            "agent of the version that began it",
            "start the command again",
        )


async def _installed(host: Host, process: RemoteProcess) -> tuple[bytes, bytes]:
    """Give the agent to a host that has none; return its first line, and what followed."""
    try:
        _require_same(host)
    except errors.AgentError:
        process.close()
        raise
    with suppress(BrokenPipeError):  # it has exited already: its output says why
        process.stdin.write(packed())
    data = b""
    try:
        async with asyncio.timeout(INSTALLING):
            while b"\n" not in data and (piece := await process.stdout.read(NOISE)):
                data += piece
                if len(data) > MOST_SAID:
                    process.close()
                    raise errors.BadAnswer(host.name, "it prints without end")
            complaint = b"" if b"\n" in data else await process.stderr.read(2000)
    except TimeoutError:
        process.close()
        raise errors.Silent(
            host.name, f"it did not take the agent within {INSTALLING:.0f} s", errors.HANGS
        ) from None
    except (OSError, asyncssh.Error) as error:
        raise errors.ConnectionLost(host.name, f"the connection was lost: {error}") from None
    first, end, rest = data.partition(b"\n")
    if not end:
        raise trouble(host, (complaint + data).decode("utf-8", "replace").strip())
    return first, rest
