"""Starts the parts of a cluster, such as Ray's, waits until all have joined, and runs a command on it.

It runs on the first host, where ``ssh HOST COMMAND`` reaches the others. Parts end with the command;
without one, the cluster is kept until it is stopped, or its head, the first part, exits. What parts
print is among the outputs, in ``cluster/``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds between two looks, and from SIGTERM to SIGKILL for parts.
LOOK, GRACE = 0.1, 5.0
#: How much of a log is shown where a cluster does not come up.
LINES, LONGEST = 15, 10000
#: Exit code of a cluster that did not come up.
FAILED = 70


class _Whole:
    """``with WHOLE:`` puts SIGTERM off, so that what is started there is known when all is stopped."""

    def __init__(self) -> None:
        self._inside = False
        self._signal = 0

    def __enter__(self) -> None:
        self._inside = True

    def __exit__(self, *_: object) -> None:
        self._inside = False
        if self._signal:
            sys.exit(128 + self._signal)

    def stop(self, number: int, frame: Any) -> None:
        """Exit now, or at the end of the block."""
        self._signal = number
        if not self._inside:
            sys.exit(128 + number)


WHOLE = _Whole()


class Cluster:
    """The processes that this one started, each part with the file of what it prints."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._parts: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._command: subprocess.Popen[bytes] | None = None

    def start(self, parts: list[tuple[str, list[str]]]) -> None:
        """Start parts, in their order."""
        os.makedirs(self._folder, exist_ok=True)
        for number, (name, argv) in enumerate(parts):
            log = os.path.join(self._folder, "%d-%s.log" % (number, name))
            with WHOLE:
                self._parts.append((log, _quietly(argv, log)))

    def wait_for_all(self, argv: list[str], seconds: float) -> str:
        """Wait until a program that waits for all parts has exited with 0; return why it is not so."""
        deadline = time.monotonic() + seconds
        log = os.path.join(self._folder, "joined.log")
        waiting = _quietly(argv, log)
        try:
            while waiting.poll() is None:
                for written, part in self._parts:
                    if part.poll() is not None:
                        return "a part exited with %d\n%s" % (part.returncode, _end_of(written))
                if time.monotonic() > deadline:
                    return "not all hosts have joined in %d seconds" % seconds
                time.sleep(LOOK)
        finally:
            if waiting.poll() is None:
                waiting.kill()
        if waiting.returncode == 0:
            return ""
        return "it cannot be asked who has joined\n" + _end_of(log)

    def run(self, argv: list[str]) -> int:
        """Run the command; return its exit code as a shell has it."""
        with WHOLE:
            self._command = subprocess.Popen(argv)
        code = self._command.wait()
        return code if code >= 0 else 128 - code

    def keep(self) -> int:
        """Return an exit code once the head has exited; say so, and which hosts leave before."""
        (written, head), *others = self._parts
        while head.poll() is None:
            for one in [one for one in others if one[1].poll() is not None]:
                others.remove(one)
                _say("a part exited with %d\n%s" % (one[1].returncode, _end_of(one[0])))
            time.sleep(LOOK)
        _say("the head exited with %d\n%s" % (head.returncode, _end_of(written)))
        return FAILED

    def end(self) -> None:
        """Stop all that still runs, the command first."""
        left = [part for _, part in reversed(self._parts)]
        if self._command is not None:
            left.insert(0, self._command)
        for process in left:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + GRACE
        for process in left:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def _quietly(argv: list[str], log: str) -> subprocess.Popen[bytes]:
    with open(log, "wb") as file:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )


def _end_of(log: str) -> str:
    """Return the last lines of a log, below its name."""
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = file.read()[-LONGEST:].splitlines()[-LINES:]
    return "\n".join(["outputs/cluster/%s:" % os.path.basename(log)] + lines)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(argv: list[str]) -> None:
    """Run ``cluster SPEC [COMMAND...]``."""
    spec, command = json.loads(argv[0]), argv[1:]
    signal.signal(signal.SIGTERM, WHOLE.stop)
    cluster = Cluster(os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], "cluster"))
    try:
        cluster.start(spec["parts"])
        why = cluster.wait_for_all(spec["joined"], spec["seconds"])
        if why:
            _say("%s did not come up: %s" % (spec["name"], why))
            sys.exit(FAILED)
        _say(spec["ready"])
        os.environ.update(spec["env"])
        sys.exit(cluster.run(command) if command else cluster.keep())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        cluster.end()
