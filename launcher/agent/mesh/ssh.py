"""``ssh HOST COMMAND`` for the launchers of frameworks: runs the command on another host of the run.

It reads no key, password or known_hosts: only hosts of the run can be named.
"""

from __future__ import annotations

import os
import select
import sys

from ..base import frames, lean
from ..base.lean import signal
from ..base.local_sockets import PEER, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from ..base.lean import Socket

#: Options of ssh(1) that take a value. All but -n are ignored: no SSH connection is made.
WITH_VALUE = "BbcDEeFIiJLlmOopQRSWw"
#: The exit status of ssh(1) for an error of its own.
FAILED = 255


def parse(words: Iterable[str]) -> tuple[str | None, str | None, bool]:
    """Return ``(host, command, whether stdin is wanted)``; host and command may be None."""
    host, wants_stdin, words = None, True, list(words)
    while words:
        word = words.pop(0)
        if word == "--":
            continue
        if word.startswith("-") and len(word) > 1:
            letters = word[1:]
            for position, letter in enumerate(letters):
                wants_stdin = wants_stdin and letter != "n"
                if letter in WITH_VALUE:
                    if position == len(letters) - 1 and words:
                        words.pop(0)
                    break
        elif host is None:
            host = word.rpartition("@")[2]
        else:
            return host, " ".join([word] + words), wants_stdin
    return host, None, wants_stdin


def main(argv: list[str]) -> None:
    """Run ``ssh RUN_DIR WORDS``: the words of ssh(1)."""
    run_dir, words = argv[0], argv[1:]
    host, command, wants_stdin = parse(words)
    if not host or not command:
        _fail("usage in a run: ssh HOST COMMAND")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        agent = connect(run_dir, PEER)
    except OSError as error:
        _fail("the agent on this host does not answer: %s" % error.strerror)
    agent.sendall(frames.frame(frames.ASK, {"host": host, "command": command}))
    _Caller(agent, host, wants_stdin).pump()


class _Caller:
    """Passes our standard streams to the agent and back."""

    def __init__(self, agent: Socket, host: str, wants_stdin: bool) -> None:
        self._agent, self._host = agent, host
        self._room = frames.WINDOW
        self._stdin = wants_stdin
        self._heard = bytearray()
        if not wants_stdin:
            agent.sendall(frames.frame(frames.INPUT))

    def pump(self) -> NoReturn:
        """Pass streams on until the command exits; then exit with its status."""
        while True:
            watched = [self._agent] + ([0] if self._stdin and self._room > 0 else [])
            ready = select.select(watched, [], [])[0]
            if self._agent in ready:
                self._hear()
            if 0 in ready:
                data = os.read(0, min(self._room, frames.PIECE))
                self._stdin = bool(data)
                self._room -= len(data)
                self._send(frames.frame(frames.INPUT, data))

    def _send(self, data: bytes) -> None:
        try:
            self._agent.sendall(data)
        except OSError:
            pass  # the reader still takes what the agent has sent, and then its end

    def _hear(self) -> None:
        try:
            data = self._agent.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            _fail("lost the connection to %s" % self._host)
        self._heard += data
        while len(self._heard) >= frames.HEAD.size:
            kind, length = frames.size_of(bytes(self._heard[: frames.HEAD.size]))
            end = frames.HEAD.size + length
            if len(self._heard) < end:
                return
            data = bytes(self._heard[frames.HEAD.size : end])
            del self._heard[:end]
            self._take(kind, data)

    def _take(self, kind: bytes, data: bytes) -> None:
        if kind in (frames.OUTPUT, frames.ERROR):
            _write(1 if kind == frames.OUTPUT else 2, data)
            return
        message = lean.loads(data.decode("utf-8"))
        if kind == frames.TAKEN:
            self._room += message["taken"]
        elif "trouble" in message:
            _fail(message["trouble"])
        else:
            os._exit(message["code"])


def _write(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # another process has made the pipe non-blocking
            select.select([], [fd], [])
        except OSError:
            os._exit(FAILED)  # the reader is gone


def _fail(text: str) -> NoReturn:
    sys.stderr.write("launcher: ssh: %s\n" % text)
    sys.stderr.flush()
    os._exit(FAILED)
