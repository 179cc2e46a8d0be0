"""What a framework is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..model import Job, Layout, Meeting, Node, Process


@dataclass(frozen=True)
class Place:
    """One node, and everything that a framework may want to know about it.

    ``env`` is what every process there has in any case; paths are those of the host.
    """

    job: Job
    layout: Layout
    node: Node
    meeting: Meeting
    agent: str
    env: Mapping[str, str]

    def command(self) -> tuple[str, ...]:
        """The job's command as an argv: a Python script or ``-m module`` gets the interpreter."""
        if self.job.shell:
            return ("bash", "-ec", self.job.run[0])
        first = self.job.run[0]
        is_python = first == "-m" or first.endswith(".py")
        return (self.node.python, *self.job.run) if is_python else self.job.run

    def threads(self) -> dict[str, str]:
        """torchrun's own default, set before it, because it says so in five lines of asterisks."""
        return {"OMP_NUM_THREADS": "1"} if self.node.local_world_size > 1 else {}

    def rank_shim(self) -> tuple[str, ...]:
        """What to put in front of a rank that somebody else starts: own logs, own exit status."""
        return (self.node.python, "-I", "-S", self.agent, "rank", "--")


class Framework(Protocol):
    """Turns a node of a plan into the processes that are started there: none, one or many.

    ``computed`` names the variables that it sets, which a job may not; ``shell`` says whether a
    single text to run is a shell script. One with ``joins_hosts = True`` besides has a launcher that
    calls `ssh`: see :mod:`launcher.frameworks.joined`.
    """

    name: str
    about: str
    computed: frozenset[str]
    shell: bool

    def processes(self, place: Place) -> tuple[Process, ...]:
        """What to start on this node."""
        ...
