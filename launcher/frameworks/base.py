"""What a framework is given and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import ClassVar

from ..spec.errors import PlanError
from ..spec.frozen import frozen
from ..spec.model import Job, Layout, Meeting, Node, Process, Task


def _nobody(names: frozenset[str]) -> frozenset[str]:
    return frozenset()


@frozen
class Cast:
    """The roles that a framework knows.

    ``most`` names them with how many there may be (None: any number); empty: any name will do.
    ``primaries`` says, of the names that a job has, which roles end the run, where the job does not.
    ``first``: these stand in front of all others, at the meeting point.
    ``own_ranks``: each process starts ranks of its own, one a GPU. ``shares_gpus``: where each has
    one GPU, each sees those of all, as torch's scripts expect, which take the one of LOCAL_RANK.
    """

    most: Mapping[str, int | None] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    primaries: Callable[[frozenset[str]], frozenset[str]] = _nobody
    first: tuple[str, ...] = ()
    own_ranks: bool = False
    shares_gpus: bool = False


@frozen
class Need:
    """What every host must have, where there is more to say than how to install a module.

    ``probe`` is the name of a module, or ``program:NAME``, one on PATH, or ``linked:PACKAGE:LIBRARY``,
    an extension in it that needs such a library. ``says`` names it for a person, ``hint`` says how to
    get it.
    """

    probe: str
    says: str
    hint: str


@frozen
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

    def command(self, task: Task | None = None) -> tuple[str, ...]:
        """The command as an argv: a Python script or ``-m module`` gets the interpreter. The job's,
        or that of a process of a role."""
        run, shell = self.job.run, self.job.shell
        if task is not None and task.role:
            role = self.job.role(task.role).at(task.index)
            run, shell = (role.run, role.shell) if role.run else (run, shell)
        if shell:
            return ("bash", "-ec", run[0])
        is_python = run[0] == "-m" or run[0].endswith(".py")
        return (self.node.python, *run) if is_python else run

    def tasks(self, node: Node | None = None) -> tuple[Task, ...]:
        """The processes of this node, or of another one: without roles, one a rank."""
        node = node or self.node
        gpus = node.gpus if len(node.gpus) == node.local_world_size else ()
        ranks = enumerate(node.ranks)
        return node.tasks or tuple(Task("", rank, rank, 1, gpus[n : n + 1]) for n, rank in ranks)

    def process(self, task: Task, env: Mapping[str, str]) -> Process:
        """The process of a task, with ``env`` besides what every process has."""
        own = task if task.role else None
        return Process(task.key, task.rank, self.command(task), {**self.env, **env}, own)

    def require_equal_hosts(self, who: str) -> None:
        """Raises PlanError where hosts have different numbers of processes."""
        nodes = self.layout.nodes
        if len({node.local_world_size for node in nodes}) > 1:
            told = ", ".join(f"{node.host.name} {node.local_world_size}" for node in nodes)
            raise PlanError(
                f"{who} wants as many processes on every host: {told}",
                "--nodes and --nproc-per-node say so; torchrun and torch take unequal hosts",
            )

    def threads(self) -> dict[str, str]:
        """torchrun's own default, set before it, because it says so in five lines of asterisks."""
        return {"OMP_NUM_THREADS": "1"} if self.node.local_world_size > 1 else {}

    def rank_shim(self) -> tuple[str, ...]:
        """What to put in front of a rank that somebody else starts: own logs, own exit status."""
        return (self.node.python, "-I", "-S", self.agent, "rank", "--")


class Framework(ABC):
    """Turn a node of a plan into the processes to start there: none, one or many.

    A subclass sets ``name`` and implements :meth:`processes`; everything else has a default.
    """

    #: What a job writes after ``framework:``.
    name: ClassVar[str] = ""
    #: One line for people: what is started, and where.
    about: ClassVar[str] = ""
    #: Variables that it sets itself, which a job therefore may not set.
    computed: ClassVar[frozenset[str]] = frozenset()
    #: Whether a ``run:`` of a single string is a shell script.
    shell: ClassVar[bool] = False
    #: The roles that it takes; None: all its ranks are alike.
    cast: ClassVar[Cast | None] = None
    #: Python modules without which it starts nothing.
    modules: ClassVar[tuple[str, ...]] = ()
    #: Python modules that directly started ranks need if their script imports them.
    imports: ClassVar[tuple[str, ...]] = ()
    #: What else every host must have. A host that lacks any of these is reported before the start.
    needs: ClassVar[tuple[Need, ...]] = ()
    #: Which ``runner/allreduce/with_*.py`` exchanges data between hosts as its training would.
    allreduce: ClassVar[str | None] = None
    #: Whether it has a launcher of its own that calls ``ssh``: see :mod:`launcher.frameworks.rsh`.
    joins_hosts: ClassVar[bool] = False

    def ports(self, node: Node) -> int:
        """Return how many ports of their own its processes on ``node`` need. The host finds free
        ones, and they come as ``place.meeting.ports``."""
        return 0

    @abstractmethod
    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return what to start on this node. Raises PlanError."""
