"""The values that all rooms share: hosts, jobs, facts and plans.

Sizes are in bytes and times in seconds, unless a name says otherwise.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from . import gpus as gpu_names
from .containers import Container
from .data import DataSet
from .environments import Environment
from .frozen import frozen
from .process_key import ProcessKey, ProcessKind


class Secret:
    """A value that is never printed; only ``reveal`` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, to pass it to a process and for nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))


@frozen
class Host:
    """A machine of the inventory. A field that is None comes from ssh_config or the probe."""

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
    transport: str | None = None
    gpu_ids: tuple[str, ...] = ()  # which GPUs: indices or UUIDs; gpus is then their number
    shares_machine: bool = False
    own_hosts: bool = False  # its processes get an /etc/hosts with the hosts of their run
    gpu_model: str | None = None  # use GPUs of this model alone
    prepare: str | None = None  # lines of bash before each process, in front of the job's own
    environment: Environment | None = None  # of jobs that name none, or this one by its name
    modules: tuple[str, ...] = ()  # of jobs that name none
    off: str | None = None  # why nothing may use the host for now
    data_limit: int | None = None  # most bytes of its data sets, as far as these can be deleted
    data_folder: str | None = None  # where its users share their data sets


#: Seconds for which a run keeps GPUs that its project has borrowed, unless the project says otherwise.
MIN_RUNTIME = 300.0


@frozen
class Project:
    """A share of the hosts' GPUs: ``quota`` of them are its own, and beyond these it may borrow up to
    ``limit`` (None: all that are free). ``users`` are those of the hosts. Its preemptible runs keep what
    they have borrowed for ``min_runtime`` seconds."""

    name: str
    quota: int
    users: tuple[str, ...]
    limit: int | None = None
    min_runtime: float = MIN_RUNTIME

    @property
    def most(self) -> float:
        """The most GPUs that it may have."""
        return float("inf") if self.limit is None else self.limit


@frozen
class Inventory:
    """The hosts that a user may use, in the order of the file."""

    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ssh_config: str | None = None
    sandbox: bool = False
    source: str = "inventory"
    notes: tuple[str, ...] = ()  # what could not be carried over from another format
    projects: tuple[Project, ...] = ()

    @property
    def on(self) -> tuple[Host, ...]:
        """The hosts that are not ``off``."""
        return tuple(host for host in self.hosts if host.off is None)

    @property
    def off(self) -> dict[str, str]:
        """Why hosts are off, by name."""
        return {host.name: host.off for host in self.hosts if host.off is not None}

    def project(self, name: str) -> Project:
        """Return the project of that name. Raises KeyError."""
        for project in self.projects:
            if project.name == name:
                return project
        raise KeyError(name)

    def host(self, name: str) -> Host:
        """Return the host of that name. Raises KeyError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)


@frozen
class Resources:
    """How much a job wants: GPUs in total, or processes on each node.

    ``gpu_ids`` are the GPUs that it uses on each of its hosts: indices or UUIDs. ``gpu_model`` is what
    all its GPUs have to be, such as ``A100``.
    """

    gpus: int | None = None
    nproc_per_node: int | None = None
    gpu_ids: tuple[str, ...] = ()
    gpu_model: str | None = None


@frozen
class Share:
    """What one process takes of a host. None: no limit."""

    gpus: int = 0
    cpus: int | None = None
    memory: int | None = None


@frozen
class Override:
    """The settings of one process that differ from its role's."""

    resources: Mapping[str, int] = field(default_factory=dict)
    run: tuple[str, ...] = ()
    shell: bool = False
    envs: Mapping[str, str] = field(default_factory=dict)


@frozen
class Role:
    """Processes of one kind. Without a ``run`` they start the job's.

    A primary role (``primary``) ends the run when all its processes have succeeded. ``on_exit`` maps
    complete, fail and restart to ranges (from, to) of exit codes.
    """

    name: str
    replicas: int = 1
    resources: Share = Share()
    overrides: Mapping[int, Override] = field(default_factory=dict)
    run: tuple[str, ...] = ()
    shell: bool = False
    envs: Mapping[str, str] = field(default_factory=dict)
    setup: str | None = None
    environment: Environment | None = None  # instead of the job's
    modules: tuple[str, ...] = ()  # instead of the job's
    spread: bool = False
    host: str | None = None  # the only one for its processes
    primary: bool = False
    on_exit: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def at(self, index: int) -> Role:
        """Return the role with the overrides of one process applied."""
        other = self.overrides.get(index)
        if other is None:
            return self
        resources = replace(self.resources, **other.resources)
        run, shell = (other.run, other.shell) if other.run else (self.run, self.shell)
        envs = {**self.envs, **other.envs}
        return replace(self, resources=resources, run=run, shell=shell, envs=envs)


#: How the folder of LAUNCHER_OUTPUT_DIR is called in a job.
OUTPUTS = "{{outputs}}"


def is_elsewhere(path: str) -> bool:
    """Return whether an output is outside of the run's folder: an absolute path, or one with ``~``."""
    return path.startswith(("/", "~"))


#: Among the ``outputs`` of a job: small files, wherever they are written.
AUTO = "auto"
#: How many bytes of each host that brings.
AUTO_BYTES = 100_000_000
#: Variables of sbatch with what ``#SBATCH --output`` and ``--error`` say.
SCRIPT_LOGS = ("SBATCH_OUTPUT", "SBATCH_ERROR")


@frozen
class Checkpoints:
    """Outputs that are kept as they are ``every`` so many seconds: what is at ``path``."""

    path: str
    every: float


@frozen
class Job:
    """What the user asked for. ``run`` is an argv, or a shell script where ``shell`` is true.

    With ``elastic``, torchrun starts on ``num_nodes`` hosts, continues with as few as ``elastic``
    when others are lost, and re-forms its group at most ``max_restarts`` times. ``launcher_options``
    are options of a typed start command (``torchrun ...``) for the framework's own launcher, and
    ``wrapper`` is what stood in front of it to choose an environment (``uv run``).
    """

    run: tuple[str, ...]
    shell: bool = False
    launcher_options: tuple[str, ...] = ()
    wrapper: tuple[str, ...] = ()
    name: str | None = None
    workdir: str = "."
    num_nodes: int | None = None
    hosts: str | None = None
    resources: Resources = Resources()
    envs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    setup: str | None = None
    python: str | None = None  # instead of the hosts' own
    environment: Environment | None = None  # with a Python of its own, instead of ``python``
    modules: tuple[str, ...] = ()  # loaded first
    prepare: str | None = None
    preload: tuple[str, ...] = ()  # modules that each host imports once, ahead of its ranks
    keep_warm: float | None = None  # seconds for which the next run may use what was imported
    include: tuple[str, ...] = ()  # copied although it is ignored, or an output
    share: tuple[str, ...] = ()  # folders that all hosts of a run have alike
    outputs: tuple[str, ...] = ()
    output_to: str = ""  # a store that gets all outputs
    output_credential: str = ""  # the name of what that store is written with
    output_unattended: bool = True  # hosts may write there with no launcher in touch
    checkpoints: Checkpoints | None = None
    bring: tuple[str, ...] = ()
    keep_on_host: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    data: tuple[DataSet, ...] = ()
    framework: str = "torchrun"
    roles: tuple[Role, ...] = ()
    master_addr: str | None = None
    master_port: tuple[int, int] = (20000, 32000)
    grace: float = 10.0
    max_restarts: int = 0
    min_nodes: int | None = None
    elastic: int | None = None
    #: Where each value came from: default, file, environment or flag.
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def output_paths(self) -> tuple[str, ...]:
        """The paths of the workdir that are outputs: never part of the code."""
        shared = (path for path in self.share if not path.startswith(OUTPUTS))
        own = (path for path in self.outputs if path != AUTO and not is_elsewhere(path))
        kept = [self.checkpoints.path] if self.checkpoints else []
        return tuple(dict.fromkeys([*own, *shared, *kept]))

    @property
    def paths_needed(self) -> tuple[str, ...]:
        """The paths that every host has to have: ``needs``, and data sets that hosts share."""
        shared = [one.shared_path for one in self.data]
        return tuple(dict.fromkeys([*self.needs, *filter(None, shared)]))

    @property
    def script_logs(self) -> tuple[str, str]:
        """The files of the workdir that a batch script's stdout and stderr go to, as patterns of Slurm;
        "" for none."""
        if self.framework != "sbatch":
            return "", ""
        output = self.envs.get(SCRIPT_LOGS[0], "")
        return output, self.envs.get(SCRIPT_LOGS[1], "") or output

    @property
    def outputs_elsewhere(self) -> tuple[str, ...]:
        """The outputs that are outside of the run's folder, by absolute paths or by ``~``."""
        return tuple(filter(is_elsewhere, self.outputs))

    @property
    def apart(self) -> tuple[str, ...]:
        """Patterns of what is in the workdir and never part of the code: outputs and data sets."""
        inside = [posixpath.relpath(one.source, self.workdir) for one in self.data if one.is_here]
        for one in (self.environment, *(role.environment for role in self.roles)):
            if one and one.image.startswith("/") and not one.is_built:  # a Dockerfile is code
                inside.append(posixpath.relpath(one.image, self.workdir))
        sets = [f"/{_escaped(path)}/" for path in inside if not path.startswith("..")]
        return (*self.output_paths, *sets)

    @property
    def brings_written(self) -> bool:
        """Whether small files are brought wherever the run writes them (``outputs: auto``)."""
        return AUTO in self.outputs

    @property
    def script(self) -> str | None:
        """The file in the workdir that the job runs, if it is one."""
        return None if self.shell else _file(self.run[0])

    @property
    def scripts(self) -> tuple[str, ...]:
        """The files in the workdir that the job and its roles run."""
        found = [self.script]
        for role in self.roles:
            parts = [role, *(role.at(index) for index in role.overrides)]
            found += [_file(part.run[0]) for part in parts if part.run and not part.shell]
        return tuple(dict.fromkeys(script for script in found if script))

    @property
    def has_several_environments(self) -> bool:
        """Whether processes on one host may run in different environments."""
        return any(role.environment for role in self.roles)

    def role(self, name: str) -> Role:
        """Return the role of that name. Raises KeyError."""
        for role in self.roles:
            if role.name == name:
                return role
        raise KeyError(name)


def _escaped(path: str) -> str:
    """Return the pattern of .gitignore that matches this path alone."""
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)


def _file(word: str) -> str | None:
    """Return a word if it names a file in the workdir."""
    is_file = word.endswith(".py") or "/" in word
    return word if is_file and not word.startswith("/") else None


@frozen
class Gpu:
    """A GPU, or a MIG instance of one, as its vendor's tool reports it; memory in MiB."""

    index: int
    name: str = ""
    uuid: str = ""
    memory: int = 0
    memory_used: int = 0
    vendor: str = gpu_names.NVIDIA


@frozen
class GpuUser:
    """A process on a GPU. ``run`` is the run it belongs to, if known; memory in MiB."""

    gpu: int
    pid: int
    user: str | None
    command: str = ""
    run: str | None = None
    memory: int = 0
    since: float | None = None  # by the host's clock


#: What a host says that can give a run's processes an /etc/hosts of their own.
OWN_HOSTS_WORK = "works"


@frozen
class Facts:
    """What probing a host measured. ``clock_offset`` is its clock minus this machine's."""

    host: str
    hostname: str
    root: str
    python: str
    python_version: str
    cpus: int
    addresses: tuple[tuple[str, str], ...] = ()
    ssh_address: str | None = None
    disk_free: int = 0
    memory: int = 0  # of the machine; 0: unknown
    rsync: str | None = None
    gpus: tuple[Gpu, ...] = ()
    leased: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    clock_offset: float = 0.0
    noexec: bool = False  # no file at workdir may be executed
    machine: str = ""  # equal for two hosts that are one machine
    strays: int = 0  # processes of earlier runs without a supervisor, which were killed
    visible: Mapping[str, str] = field(default_factory=dict)  # what bounds GPUs, of the login
    gpu_users: tuple[GpuUser, ...] = ()
    no_paths: tuple[str, ...] = ()  # those of the job's needs that are missing there
    silent_paths: tuple[str, ...] = ()  # those of them whose file system does not answer
    own_hosts: str = ""  # where asked: OWN_HOSTS_WORK, or a code of what is in the way
    #: By the key of an environment, an image of the run. If all runs in it, its Python is ``python``.
    containers: Mapping[str, Container] = field(default_factory=dict)
    #: By the key of an environment, its Python: of a job whose roles have different ones.
    pythons: Mapping[str, str] = field(default_factory=dict)
    user: str = ""  # the account there

    @property
    def has_own_hosts(self) -> bool:
        """Whether runs are to have an /etc/hosts of their own there, and can."""
        return self.own_hosts == OWN_HOSTS_WORK


#: What the holder of a GPU without a lease is: what is known of the programs that use it.
OUTSIDE = "outside"


def holder_text(holder: Mapping[str, Any]) -> str:
    """Return who holds a GPU: the user as the kernel of the host knows it, and the run claimed."""
    if OUTSIDE in holder:
        return f"{holder[OUTSIDE]} outside launcher"
    user, run = holder.get("user", "an unknown user"), holder.get("run")
    return f"{user} ({run})" if run else f"{user} (not by a run of launcher)"


@frozen
class Task:
    """A process of a role on a node; ``rank`` is the first of the ``size`` ranks it is or starts."""

    role: str
    index: int
    rank: int
    size: int = 1
    gpus: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """The text of the process's key: ``worker-2``, or ``rank-2`` without roles."""
        if self.role:
            return str(ProcessKey.of_role(self.role, self.index))
        return str(ProcessKey.of_rank(self.rank))


@frozen
class Node:
    """A host's place in a run. ``gpus`` are the indices of the GPUs that its processes may see."""

    host: Host
    node_rank: int
    local_world_size: int
    rank_offset: int
    gpus: tuple[int, ...] = ()
    root: str = "~/.launcher/host"  # where the agent keeps its files
    python: str = "python3"
    tasks: tuple[Task, ...] = ()  # of a job with roles
    vendor: str = gpu_names.NVIDIA  # of the GPUs
    gpu_names: tuple[str, ...] = ()  # what the vendor's variable calls each of ``gpus``
    #: As in Facts: the images in which its processes run, or some of them.
    containers: Mapping[str, Container] = field(default_factory=dict)
    pythons: Mapping[str, str] = field(default_factory=dict)  # as in Facts

    def visible(self, gpus: Iterable[int]) -> dict[str, str]:
        """Return the variables with which a process sees only these of the node's GPUs."""
        names = dict(zip(self.gpus, self.gpu_names, strict=False))
        return gpu_names.visible(self.vendor, [names.get(index, str(index)) for index in gpus])

    @property
    def gpu_labels(self) -> tuple[str, ...]:
        """What people call the GPUs: a UUID where a dry run does not know the index."""
        names = zip(self.gpus, self.gpu_names or map(str, self.gpus), strict=True)
        return tuple(
            name if not name.isdigit() and not gpu_names.is_mig(index) else gpu_names.name_of(index)
            for index, name in names
        )

    @property
    def ranks(self) -> range:
        """The global ranks of this node."""
        return range(self.rank_offset, self.rank_offset + self.local_world_size)


@frozen
class Layout:
    """Which hosts are which nodes, in order of node_rank; known before the rendezvous.

    While a run waits that may choose among hosts, ``nodes`` are all that may be ``wanted``, each with as
    many ranks as it would have; 0: these are the run's. Where those have unequal ``shares`` of GPUs, the
    largest first, each has what the largest share would be that it has room for. An elastic run may
    begin on as many as ``most`` of them, and ``wanted`` is the least.
    """

    run_id: str
    nodes: tuple[Node, ...]
    wanted: int = 0
    shares: tuple[int, ...] = ()
    most: int = 0

    @property
    def world_size(self) -> int:
        """The number of ranks in the run."""
        if self.shares and any(node.local_world_size > 1 for node in self.nodes):
            return sum(self.shares)
        return sum(node.local_world_size for node in self.nodes[: self.num_nodes])

    @property
    def num_nodes(self) -> int:
        """The number of hosts in the run."""
        return self.wanted or len(self.nodes)

    @property
    def largest(self) -> Layout:
        """This layout, if the run begins on as many hosts as it may."""
        return replace(self, wanted=self.most or self.wanted, most=0)

    def of(self, hosts: Collection[str], wanted: int = 0) -> Layout:
        """Return the layout on some of these hosts: their ranks count from 0 again."""
        nodes: list[Node] = []
        for node in self.nodes:
            if node.host.name in hosts:
                offset = sum(one.local_world_size for one in nodes)
                nodes.append(replace(node, node_rank=len(nodes), rank_offset=offset))
        return replace(
            self,
            nodes=tuple(nodes),
            wanted=wanted,
            shares=self.shares if wanted else (),
            most=min(self.most, len(nodes)) if wanted else 0,
        )

    @property
    def label_width(self) -> int:
        """The columns of a label that names the host and the process of a line: ``gpu1 [12]``."""
        hosts = max(len(node.host.name) for node in self.nodes)
        keys = [len(task.key) for node in self.nodes for task in node.tasks]
        return hosts + 1 + max(keys) if keys else hosts + len(str(self.world_size - 1)) + 3

    def keys_of(self, ranks: Collection[int]) -> set[str]:
        """Return the keys of the processes of some ranks: ``rank-3``, or ``worker-0`` of a role."""
        tasks = {task.key for node in self.nodes for task in node.tasks if task.rank in ranks}
        return tasks or {str(ProcessKey.of_rank(rank)) for rank in ranks}

    def host_of(self, key: str) -> str | None:
        """Return the host of a process by its key (``rank-3``, ``node-0``) or by one of its logs."""
        try:
            process = ProcessKey.parse(key.partition(".")[0])
        except ValueError:
            return None
        for node in self.nodes:
            if process.kind is ProcessKind.ROLE:
                found = any((t.role, t.index) == (process.role, process.index) for t in node.tasks)
            elif process.kind is ProcessKind.RANK:
                found = process.index in node.ranks
            else:
                found = process.index == node.node_rank
            if found:
                return node.host.name
        return None


@frozen
class Meeting:
    """Where the processes find each other: the outcome of the rendezvous."""

    master_addr: str
    master_port: int | str
    #: By host, its interface to the master.
    interfaces: Mapping[str, str] = field(default_factory=dict)
    #: By host, the address at which the others reach it.
    addresses: Mapping[str, str] = field(default_factory=dict)
    #: By host, free ports for frameworks whose processes listen.
    ports: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    news_port: int | None = None  # where the master's supervisor listens to the other supervisors
    share_port: int | None = None  # where it listens for shared folders, if the job has any
    clock_spread: float = 0.0  # seconds by which the hosts' clocks differ

    def address_of(self, host: Host) -> str:
        """Return the address of a host for the others; before a rendezvous, the inventory's."""
        return self.addresses.get(host.name) or host.address or host.name


@frozen
class Process:
    """A process to start on a host. ``rank`` is None for one that starts ranks itself."""

    key: str
    rank: int | None
    argv: tuple[str, ...]
    env: Mapping[str, str]
    task: Task | None = None  # of a job with roles


@frozen
class NodePlan:
    """What one host starts."""

    node: Node
    processes: tuple[Process, ...]


@frozen
class Plan:
    """Everything decided before the start: the processes of each host with argv and env."""

    layout: Layout
    meeting: Meeting
    framework: str
    nodes: tuple[NodePlan, ...]

    @property
    def ports(self) -> dict[str, list[int]]:
        """The free ports that the plan uses on each host, the master port first."""
        meeting, hosts = self.meeting, [node.host.name for node in self.layout.nodes]
        found = {host: [int(port) for port in meeting.ports.get(host, ())] for host in hosts}
        found[hosts[0]].insert(0, int(meeting.master_port))
        return found


@frozen
class Request:
    """A job on hosts of an inventory, and how to treat it. All times are in seconds."""

    job: Job
    inventory: Inventory
    #: Those that the job may use, in order: the first ones run it, the others are spares.
    hosts: tuple[Host, ...]
    #: How often outputs are pulled during the run.
    pull_every: float = 30.0
    #: A host that was unreachable for so long is lost.
    lost_after: float = 300.0
    #: A host that no launcher contacted for so long stops the run; None: never.
    orphan_timeout: float | None = None
    #: A run whose ranks did nothing for so long is reported (None: after 10 minutes), and stopped if
    #: ``stop_stalled``.
    stall_timeout: float | None = None
    stop_stalled: bool = False
    #: How often a run that failed or lost a host is started again: with a spare, or else on the hosts
    #: that are left, if these are at least ``min_nodes`` (None: never).
    max_restarts: int = 0
    min_nodes: int | None = None
    #: Whether hosts on which the run would fail are refused before the start.
    check: bool = True
    #: How long the run waits for its turn where its GPUs are in use; None: as long as it takes.
    wait: float | None = 0.0
    #: Runs of a higher one, from -1 to 1, get their turn first.
    priority: int = 0
    #: The run is ended so long after its start; None: never.
    time_limit: float | None = None
    #: The run takes no place in the queue before this moment, in seconds since the epoch.
    not_before: float | None = None
    #: The project in whose name it uses GPUs; without one it is bound by no quota.
    project: str | None = None
    #: Whether it may borrow GPUs beyond the quota of its project, and give them back when asked to.
    preemptible: bool = False
    #: What travels between this machine and the hosts keeps to so many bytes a second; 0: no limit.
    max_rate: int = 0
    #: Whether the run may share GPUs with programs outside launcher, where no others are free.
    ignore_foreign: bool = False
    #: What was typed, for ``show``.
    command_line: tuple[str, ...] = ()
    #: The run whose snapshot of the code is used again.
    code_of: str | None = None
    #: A folder here with a copy of the code, which is used in place of the job's workdir.
    code_copy: str | None = None
    #: The run whose outputs the hosts get before the start.
    resume_from: str | None = None
    #: Patterns of these outputs: without any, all of them.
    resume_paths: tuple[str, ...] = ()
    #: Columns of the terminal that shows the run; None: there is none.
    columns: int | None = None
    #: Whether rank 0 reads what this program has on its stdin.
    stdin: bool = False
    #: Called with a key file, returns its passphrase; None: nobody can be asked.
    ask_passphrase: Callable[[str], Awaitable[str | None]] | None = None
