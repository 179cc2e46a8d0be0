"""The interface of a framework: what it is given, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field
from itertools import pairwise
from typing import ClassVar

from ..spec.errors import PlanError
from ..spec.frozen import frozen
from ..spec.model import Job, Layout, Meeting, Node, Process, Task


def _nobody(names: frozenset[str]) -> frozenset[str]:
    return frozenset()


#: Start a rank on any host: the launcher sends the same command to all hosts, while their paths,
#: Pythons and interfaces differ. ``LAUNCHER_NODE`` is set where another host's environment came along.
RANK_ANYWHERE = 'exec "${LAUNCHER_NODE:-$LAUNCHER_RUN_DIR}/relay/rank" "$@"'


def starts_ranks(argv: tuple[str, ...]) -> bool:
    """Return whether a process starts ranks through the shim."""
    shims = (before.endswith("/start.py") and word == "rank" for before, word in pairwise(argv))
    return RANK_ANYWHERE in argv or any(shims)


@frozen
class Cast:
    """The roles that a framework accepts."""

    #: The most processes of each role (None: no limit). Empty: roles may have any name.
    most: Mapping[str, int | None] = field(default_factory=dict)
    #: The roles that a job must have.
    needs: tuple[str, ...] = ()
    #: Returns, of a job's roles, those that end the run, unless the job says so itself.
    primaries: Callable[[frozenset[str]], frozenset[str]] = _nobody
    #: The roles whose processes come first, on the head node.
    first: tuple[str, ...] = ()
    #: Whether each process starts ranks of its own, one per GPU.
    own_ranks: bool = False
    #: Whether processes with one GPU each see the GPUs of all: torch's scripts select theirs by
    #: LOCAL_RANK.
    shares_gpus: bool = False


@frozen
class Need:
    """Something that every host must have, with a better hint than to install a module."""

    #: A module, ``program:NAME`` (a program on PATH) or ``linked:PACKAGE:LIBRARY`` (an extension of
    #: the package that is linked to the library).
    probe: str
    #: Its name for people.
    says: str
    #: How to get it.
    hint: str


@frozen
class Place:
    """One node of a plan, and everything that a framework needs to know about it."""

    job: Job
    layout: Layout
    node: Node
    meeting: Meeting
    #: The path of the agent on the host.
    agent: str
    #: The variables of every process there.
    env: Mapping[str, str]

    def command(self, task: Task | None = None) -> tuple[str, ...]:
        """Return the job's command, or a task's, as an argv.

        A Python script and ``-m module`` are run by the host's Python, or that of the job's wrapper.
        """
        run, shell = self.job.run, self.job.shell
        if task is not None and task.role:
            role = self.job.role(task.role).at(task.index)
            run, shell = (role.run, role.shell) if role.run else (run, shell)
        if shell:
            return ("bash", "-ec", run[0])
        is_python = run[0] == "-m" or run[0].endswith(".py")
        python = "python" if self.job.wrapper else self.node.python
        return (python, *run) if is_python else run

    def python(self) -> tuple[str, ...]:
        """Return the Python that runs the framework's own launcher: the host's, or the wrapper's."""
        return (*self.job.wrapper, "python") if self.job.wrapper else (self.node.python,)

    def tasks(self, node: Node | None = None) -> tuple[Task, ...]:
        """Return the tasks of a node (this one by default); without roles, one per rank."""
        node = node or self.node
        gpus = node.gpus if len(node.gpus) == node.local_world_size else ()
        ranks = enumerate(node.ranks)
        return node.tasks or tuple(Task("", rank, rank, 1, gpus[n : n + 1]) for n, rank in ranks)

    def process(self, task: Task, env: Mapping[str, str]) -> Process:
        """Return the process of a task, with ``env`` added to the variables of every process."""
        own = task if task.role else None
        return Process(task.key, task.rank, self.command(task), {**self.env, **env}, own)

    def require_equal_hosts(self, who: str) -> None:
        """Raise PlanError if hosts have different numbers of processes."""
        nodes = self.layout.nodes
        if len({node.local_world_size for node in nodes}) > 1:
            counts = ", ".join(f"{node.host.name} {node.local_world_size}" for node in nodes)
            raise PlanError(
                f"{who} needs the same number of processes on every host: {counts}",
                "set --nodes and --nproc-per-node; or use torchrun or torch, which take unequal hosts",
            )

    def threads(self) -> dict[str, str]:
        """Return torchrun's default number of threads: unset, torchrun prints five lines about it."""
        return {"OMP_NUM_THREADS": "1"} if self.node.local_world_size > 1 else {}

    def rank_shim(self) -> tuple[str, ...]:
        """Return the command to put in front of a rank that another launcher starts.

        It gives the rank a log and an exit status of its own.
        """
        return (self.node.python, "-I", "-S", self.agent, "rank", "--")


class Framework(ABC):
    """Turn a node of a plan into the processes to start there: none, one or many.

    A subclass sets ``name`` and implements :meth:`processes`; everything else has a default.
    :mod:`launcher.frameworks` has an example.
    """

    #: What a job writes after ``framework:``.
    name: ClassVar[str] = ""
    #: One line for people: what is started, and where.
    about: ClassVar[str] = ""
    #: Variables that the framework sets, and a job may not.
    computed: ClassVar[frozenset[str]] = frozenset()
    #: Whether a ``run:`` of a single string is a shell script.
    shell: ClassVar[bool] = False
    #: The roles that it accepts; None: none, as all its ranks are alike.
    cast: ClassVar[Cast | None] = None
    #: Python modules without which it cannot start anything.
    modules: ClassVar[tuple[str, ...]] = ()
    #: Python modules that ranks need only if their script imports them.
    imports: ClassVar[tuple[str, ...]] = ()
    #: What else every host must have; hosts that lack any of it are reported before the start.
    needs: ClassVar[tuple[Need, ...]] = ()
    #: Which ``runner/allreduce/with_*.py`` exchanges data between hosts as its training does.
    allreduce: ClassVar[str | None] = None
    #: Whether a rank is a Python that launcher starts, which may be forked from one that has imported
    #: modules already.
    preloads: ClassVar[bool] = False
    #: Whether it has a launcher of its own that calls ``ssh``: see :mod:`launcher.frameworks.rsh`.
    joins_hosts: ClassVar[bool] = False
    #: Whether its own launcher may be started by a command that chooses an environment, as ``uv run``.
    takes_wrapper: ClassVar[bool] = False
    #: Shell scripts that are first in PATH, by their names: they pass over themselves.
    programs: ClassVar[Mapping[str, str]] = {}
    #: Part of the path of a library that ranks have loaded which are to meet; "" where they may as well
    #: work alone. Its user is told if none of them ever has a connection to another.
    meets_by: ClassVar[str] = ""
    #: What begins a word in whose rest the numbers of GPUs or ports are, in URL-safe base64.
    packed: ClassVar[tuple[str, ...]] = ()
    #: The versions of IP by which its processes can reach each other.
    ip_versions: ClassVar[frozenset[int]] = frozenset({4, 6})

    def ports(self, node: Node) -> int:
        """Return how many ports the processes on ``node`` need for themselves.

        The host finds free ones; :meth:`processes` gets them as ``place.meeting.ports``.
        """
        return 0

    @abstractmethod
    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return what to start on this node. Raises PlanError."""
