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
from ..spec.gpus import name_of
from ..spec.model import Facts, Host, holder_text
from ..spec.typed_json import Mismatch, from_json, require_bounds
from . import answers, login_shell
from .agent_bundle import FOUND, NO_AGENT, find_script, packed, start_command
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
#: The same for operations that take more or less: describing the host, changing many files.
#: Seconds for a host to look for the Pythons of environments.
LOOKING = 120.0
PATIENCE = {
    **dict.fromkeys(("probe", "survey"), 45.0),
    "now": 30.0,
    **dict.fromkeys(("snapshot", "seal", "discard", "remove"), 600.0),
}
#: Seconds that messages from a host may delay its answer; only a list of outputs takes longer.
LATE, LATE_LIST = 300.0, 3600.0
#: Why an agent's connection is closed, unless it fell silent.
DROPPED = "the connection dropped"
#: What to do when launcher and agent speak different versions of the protocol.
UPGRADE = "use the version of launcher that started the run, or the newer of the two"
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
        self.all = answers.Outputs()
        self._count = self._characters = 0

    def take(self, part: object) -> None:
        """Take one more part. Raises Mismatch."""
        files = from_json(answers.Files, part)
        paths = (*files.links, *files.same)
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

    def __init__(self, host: Host, process: RemoteProcess | None) -> None:
        self.host = host
        self._process = process
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
            first, rest = await _installed(host, process, said)
        if first.startswith(b"launcher-"):
            process.close()
            raise _no_agent(host, first.decode("utf-8", "replace"))
        _agree(host, first)
        agent = cls(host, process)
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
        decoded = answers.read(_Answer, self.host.name, op, reply)
        if decoded.error is not None:
            refused = answers.read(answers.Problem, self.host.name, op, decoded.error)
            raise _refusal(self.host.name, refused)
        return decoded.ok

    async def answer(self, kind: type[T], op: str, **request: Any) -> T:
        """Do the same; return the answer as a ``kind``."""
        return answers.read(kind, self.host.name, op, await self.ask(op, **request))

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
        there = answers.read(answers.Clock, self.host.name, "probe", answer).time
        return answers.facts(self.host.name, "probe", answer, there - (before + after) / 2)

    async def pythons(self, wanted: Sequence[str]) -> dict[str, tuple[str, str] | errors.HostError]:
        """Return the path and the version of each of several Pythons, or why there is none.

        Raises HostError where the host does not answer.
        """
        scripts = [find_script(python) for python in wanted]
        answer = await self.answer(answers.Pythons, "pythons", patience=LOOKING, scripts=scripts)
        if len(answer.said) != len(wanted):
            raise errors.BadAnswer(self.host.name, "its answer to pythons: not one for each")
        found: dict[str, tuple[str, str] | errors.HostError] = {}
        for python, said in zip(wanted, answer.said, strict=True):
            version, _, path = said.removeprefix(FOUND).partition(" ")
            if said.startswith(FOUND) and path.startswith("/"):
                found[python] = path, version
            else:
                host = replace(self.host, python=python)
                found[python] = _no_agent(host, said or "launcher-no-python")
        return found

    async def outputs(
        self,
        run: str,
        paths: Sequence[str],
        written: Mapping[str, Any] | None = None,
        received: bool = False,
        elsewhere: Sequence[str] = (),
    ) -> tuple[answers.Listed, answers.Outputs]:
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
        return answers.read(answers.Listed, self.host.name, "outputs", last), parts.all


def _agree(host: Host, first: bytes) -> None:
    """Raise AgentError if the agent speaks another version of the protocol."""
    try:
        hello = from_json(_Hello, json.loads(first[first.rindex(b'{"magic"') :]))
    except (ValueError, RecursionError) as error:
        raise errors.BadAnswer(host.name, f"its first line is not ours: {error}") from None
    if other := protocol.other_version(hello.version, "its agent"):
        raise errors.AgentError(host.name, other, UPGRADE)


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
            raise _taken_over(host, f"was silent for {FIRST_WORD:.0f} s", data) from None
        raise errors.AgentError(
            host.name,
            f"{host.python} did not start within {FIRST_WORD:.0f} s",
            "is a disk or a network file system hanging on the host?",
        ) from None
    if marker not in data and len(data) < NOISE and not complaint:
        raise _taken_over(host, "exited", data)
    said = data.replace(b"\n" + marker + b"\n", b"\n")
    raise _trouble(host, complaint or said.decode("utf-8", "replace").strip())


def _taken_over(host: Host, did: str, data: bytes) -> errors.AgentError:
    """Return the error for a login shell that never got as far as our command."""
    printed = data.decode("utf-8", "replace").strip().splitlines()
    last = f"; it printed: {printed[-1][:200]}" if printed else ""
    return errors.AgentError(
        host.name,
        f"the login shell {did} before it ran launcher's command: does a startup file (~/.bashrc, "
        f"~/.zshenv, ~/.cshrc, config.fish) exec, exit or read?{last}",
        "let it leave where there is no terminal; first line of ~/.bashrc: [[ $- == *i* ]] || return",
    )


async def _installed(host: Host, process: RemoteProcess, said: str) -> tuple[bytes, bytes]:
    """Give the agent to a host that ``said`` it has none; return its first line, and what followed."""
    with suppress(BrokenPipeError):  # it has exited already: its output says why
        process.stdin.write(packed(said))
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
        raise _trouble(host, (complaint + data).decode("utf-8", "replace").strip())
    return first, rest


def _no_agent(host: Host, word: str) -> errors.HostError:
    if word.startswith("launcher-old-python"):
        return errors.PythonTooOld(
            host.name,
            f"{host.python} is Python {word.split()[-1]}",
            "launcher needs 3.8 or newer on hosts: set python: in the inventory",
        )
    if word.startswith("launcher-no-conda-python "):
        place = word.partition(" ")[2]
        return errors.NoPython(
            host.name,
            f"the conda environment {place} has no Python",
            f"conda install -p {place} python there adds one",
        )
    if word.startswith("launcher-no-conda "):
        name, *known = word.split()[1:] or ("",)
        has = f"it has {', '.join(known)}" if known else "conda env list there shows them"
        return errors.NoPython(
            host.name,
            f"there is no conda environment {name}",
            f"{has}; or name it by its folder: conda:/path/to/env",
        )
    if word == "launcher-no-python":
        return errors.NoPython(
            host.name,
            f"there is no {host.python}",
            "apt install python3 there, or set python: in the inventory to a full path",
        )
    if word.startswith(("launcher-no-variable ", "launcher-no-user ")):
        kind, _, name = word.partition(" ")
        missing = f"${name} is not set" if "variable" in kind else f"there is no user for {name}"
        return errors.AgentError(
            host.name,
            f"{missing} in a shell without a terminal there; workdir: or python: names it",
            "write the whole path in the inventory, or set it where such a shell reads it: for bash "
            "at the top of ~/.bashrc",
        )
    if word.startswith("launcher-unsafe-folder "):
        return errors.UnsafeFolder(
            host.name,
            f"launcher's folder there could be changed by other users: {word.partition(' ')[2]}",
            "chmod go-w that folder, or set workdir: in the inventory to a folder of your own",
        )
    return errors.AgentError(host.name, f"the agent did not start: {word}")


def _trouble(host: Host, complaint: str) -> errors.HostError:
    """Return the error for a complaint of a shell or an interpreter."""
    last = complaint.splitlines()[-1] if complaint else "no output"
    known = os_error(host.name, complaint)
    return known or errors.AgentError(
        host.name, f"the agent did not start: {last}", f"try `ssh {host.name} {host.python} -V`"
    )


def os_error(host: str, complaint: str) -> errors.HostError | None:
    """Return the error for a well-known message of the operating system, or None."""
    full = ("No space left", "Disk quota exceeded")
    closed = ("Read-only file system", "Permission denied")
    if any(words in complaint for words in full):
        return errors.DiskFull(
            host,
            f"no space left for launcher's files: {_last_with(complaint, full)}",
            "free some, or set workdir: in the inventory to a disk with space (df -h, df -i)",
        )
    if any(words in complaint for words in closed):
        return errors.ReadOnly(
            host,
            f"launcher's folder is not writable: {_last_with(complaint, closed)}",
            "set workdir: in the inventory to a folder that you may write to",
        )
    return None


def _last_with(complaint: str, words: tuple[str, ...]) -> str:
    """Return the last line with one of these messages; later lines are its consequences."""
    lines = [line for line in complaint.splitlines() if any(word in line for word in words)]
    return lines[-1].strip().removeprefix("cause: ")  # as uv has it


def _gpu_name(gpu: int | str | None) -> str:
    return name_of(gpu) if isinstance(gpu, int) else str(gpu)


_ELSEWHERE = (
    "give the data set another to:, such as data/NAME; LAUNCHER_DATA_NAME always holds its path"
)
#: What to do about refusals, by their codes.
_NO_ENVIRONMENT = {
    "no-environment": "what git ignores is not copied: --include PATH, or !PATH in .launcherignore",
    "local-path": "leave the line out, and set PYTHONPATH to the folder: -e PYTHONPATH=lib",
}
_NO_DATA = {
    "in-the-way": _ELSEWHERE,
    "no-path": _ELSEWHERE,
    "no-data-folder": "root makes data_folder: of the inventory, mkdir -m 1777; or leave it out",
    "not-shared": "file:///path is a folder that all hosts have: mount it there",
    "silent": "is the server of its file system there? umount -f -l, and mount it again",
}


def _refusal(host: str, refused: answers.Problem) -> errors.HostError:
    code, message = refused.code, refused.message
    if code == "port-taken" and refused.port is not None:
        return errors.PortTaken(host, message, port=refused.port)
    if code in (protocol.UNKNOWN_REQUEST, protocol.OTHER_VERSION):
        return errors.AgentError(host, message, UPGRADE)
    if code == protocol.BAD_REQUEST:
        return errors.AgentError(host, f"it refused a request: {message}", UPGRADE)
    if code == "gpu-busy":
        at = refused.holder.since
        known = {name: one for name, one in vars(refused.holder).items() if one is not None}
        since = time.strftime(", since %d %b %H:%M", time.localtime(at)) if at else ""
        return errors.GpuBusy(
            host,
            f"GPU {_gpu_name(refused.gpu)} is in use by {holder_text(known)}{since}",
            "wait for that run, or choose other hosts with --hosts",
        )
    if code == "no-room":
        return errors.DiskFull(
            host, f"no room for the data set: {message}", f"launcher data prune --hosts {host}"
        )
    if code in _NO_ENVIRONMENT:
        return errors.NoEnvironment(host, message, _NO_ENVIRONMENT[code])
    if code in _NO_DATA:
        return errors.SyncError(host, message, _NO_DATA[code])
    if code == "os":
        return os_error(host, message) or errors.HostError(host, message)
    return errors.StartError(host, message)
