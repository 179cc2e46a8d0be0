"""The values that everything else passes around: hosts, jobs, facts and plans.

Not responsible for how they are read, decided or carried out. All are frozen; all sizes are in
bytes and all times in seconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Secret:
    """A value that no text shows. Only :meth:`reveal` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that hands it to a process."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))


@dataclass(frozen=True)
class Host:
    """A machine of the inventory. What is None comes from ssh_config or from the probe."""

    name: str
    address: str | None = None
    user: str | None = None
    port: int | None = None
    proxy_jump: str | None = None
    identity_file: str | None = None
    gpus: int | None = None
    python: str = "python3"
    workdir: str = "~/.launcher/host"
    interface: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inventory:
    """All hosts that a person may use, in the order of the file."""

    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ssh_config: str | None = None
    sandbox: bool = False
    source: str = "inventory"

    def host(self, name: str) -> Host:
        """The host of that name. Raises KeyError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)


@dataclass(frozen=True)
class Resources:
    """How much of the hosts a job wants: all GPUs together, or processes on each node."""

    gpus: int | None = None
    nproc_per_node: int | None = None


@dataclass(frozen=True)
class Job:
    """What the user asked for. ``run`` is an argv, or a shell script where ``shell`` is true."""

    run: tuple[str, ...]
    shell: bool = False
    name: str | None = None
    workdir: str = "."
    num_nodes: int | None = None
    hosts: str | None = None
    resources: Resources = Resources()
    envs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    setup: str | None = None
    outputs: tuple[str, ...] = ()
    framework: str = "torchrun"
    master_addr: str | None = None
    master_port: tuple[int, int] = (20000, 32000)
    grace: float = 10.0
    sources: Mapping[str, str] = field(
        default_factory=dict
    )  # where each value came from: default, file, flag

    @property
    def script(self) -> str | None:
        """The file in workdir that is run, when it is one that has to be copied."""
        first = self.run[0]
        is_file = first.endswith(".py") or "/" in first
        return first if is_file and not self.shell and not first.startswith("/") else None


@dataclass(frozen=True)
class Gpu:
    """A GPU as ``nvidia-smi`` describes it; memory in MiB."""

    index: int
    name: str = ""
    uuid: str = ""
    memory: int = 0
    memory_used: int = 0


@dataclass(frozen=True)
class Facts:
    """What probing a host measured. ``clock_offset`` is its clock minus ours."""

    host: str
    hostname: str
    root: str
    python: str
    python_version: str
    cpus: int
    addresses: tuple[tuple[str, str], ...] = ()
    ssh_address: str | None = None
    disk_free: int = 0
    rsync: str | None = None
    gpus: tuple[Gpu, ...] = ()
    leased: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    clock_offset: float = 0.0
    strays: int = 0  # processes of earlier runs that had lost their supervisor, and were ended


@dataclass(frozen=True)
class Node:
    """A host's place in a plan. ``gpus`` are the indices that its processes may see."""

    host: Host
    node_rank: int
    local_world_size: int
    rank_offset: int
    gpus: tuple[int, ...] = ()
    root: str = "~/.launcher/host"  # where the agent keeps its files there
    python: str = "python3"

    @property
    def ranks(self) -> range:
        """The global ranks of this node."""
        return range(self.rank_offset, self.rank_offset + self.local_world_size)


@dataclass(frozen=True)
class Layout:
    """Who does what: nodes in order of node_rank. Known before the hosts have met."""

    run_id: str
    nodes: tuple[Node, ...]

    @property
    def world_size(self) -> int:
        """Processes in all."""
        return sum(node.local_world_size for node in self.nodes)

    @property
    def num_nodes(self) -> int:
        """Hosts in all."""
        return len(self.nodes)

    def host_of(self, key: str) -> str | None:
        """The host of a process by its key (``rank-3``, ``node-0``), or of one of its logs."""
        kind, _, number = key.partition(".")[0].rpartition("-")
        for node in self.nodes:
            if int(number) in (node.ranks if kind == "rank" else (node.node_rank,)):
                return node.host.name
        return None


@dataclass(frozen=True)
class Meeting:
    """Where the processes find each other, and through which interface of each host."""

    master_addr: str
    master_port: int | str
    interfaces: Mapping[str, str] = field(
        default_factory=dict
    )  # host -> interface towards the master
    addresses: Mapping[str, str] = field(default_factory=dict)  # host -> where the others find it
    ports: Mapping[str, tuple[int | str, ...]] = field(
        default_factory=dict
    )  # host -> ports that were free there, for frameworks whose processes listen

    def address_of(self, host: Host) -> str:
        """Where the others find a host; in a plan without a meeting, what the inventory says."""
        return self.addresses.get(host.name) or host.address or host.name


@dataclass(frozen=True)
class Process:
    """One thing that is started on a host. ``rank`` is None for a process that starts ranks itself."""

    key: str
    rank: int | None
    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class NodePlan:
    """What one host starts."""

    node: Node
    processes: tuple[Process, ...]


@dataclass(frozen=True)
class Plan:
    """Everything decided: for every host its processes with argv and env."""

    layout: Layout
    meeting: Meeting
    framework: str
    nodes: tuple[NodePlan, ...]


@dataclass(frozen=True)
class Request:
    """A job on hosts of an inventory, and how to treat it.

    ``pull_every`` is the time between two pulls of outputs during the run; a host that cannot be
    reached for ``lost_after`` is given up; one that nobody reaches for ``lease`` stops the run by
    itself (None: never). A run whose ranks do nothing for ``stall_timeout`` (None: for ever) is
    reported, and stopped with ``stop_stalled``. All times in seconds. A run that fails is
    started again at most ``max_restarts`` times. ``code_of`` is a run
    whose snapshot of the code is taken again. ``ask_passphrase`` is called
    with a key file whose passphrase is needed.
    """

    job: Job
    inventory: Inventory
    hosts: tuple[Host, ...]
    pull_every: float = 30.0
    lost_after: float = 300.0
    lease: float | None = None
    stall_timeout: float | None = None
    stop_stalled: bool = False
    max_restarts: int = 0
    command_line: tuple[str, ...] = ()
    code_of: str | None = None
    ask_passphrase: Callable[[str], Awaitable[str | None]] | None = None
