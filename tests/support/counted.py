"""Run `launcher` and count its work, which is the same on every machine and at any load.

    COUNTS=FILE python -m support.counted run -i lab.yaml train.py

The file then holds JSON: how many requests went to agents, by operation; which programs were started
here; connections; files that were opened; modules that were imported.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any


class Counts:
    """What a process has done so far, told by Python's own audit events (PEP 578)."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._programs: Counter[str] = Counter()
        self._events: Counter[str] = Counter()

    def hear(self, event: str, values: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if event == "subprocess.Popen":
            self._programs[Path(os.fsdecode(values[0] or values[1][0])).name] += 1
        elif event in ("socket.connect", "open"):
            self._events[event] += 1

    def watch_requests(self) -> None:
        """Count the requests to agents, too."""
        from launcher.spec import startup

        startup.quicken()  # as the command does before it imports anything
        from launcher.transport.agent_client import Agent

        ask = Agent.ask

        async def counted(agent: Agent, op: str, *more: Any, **request: Any) -> dict[str, Any]:
            self._requests[op] += 1
            return await ask(agent, op, *more, **request)

        Agent.ask = counted  # type: ignore[method-assign]

    def write(self, file: Path) -> None:
        """Write what was counted."""
        own = [name for name in sys.modules if name.partition(".")[0] == "launcher"]
        counts = {
            "requests": dict(self._requests),
            "programs": dict(self._programs),
            "connections": self._events["socket.connect"],
            "opened": self._events["open"],
            "modules": len(sys.modules),
            "own_modules": len(own),
        }
        file.write_text(json.dumps(counts))


def main() -> None:
    """Call the command with the words of this one."""
    from launcher.cli import main as launcher

    counts = Counts()
    counts.watch_requests()
    atexit.register(counts.write, Path(os.environ["COUNTS"]))
    sys.addaudithook(counts.hear)
    launcher()


if __name__ == "__main__":
    main()
