"""The shapes of the messages that protocol.py sends, for type checkers.

Nothing imports this at run time: it would slow down every start.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, NotRequired, Tuple, TypedDict

#: A message, request, answer or record as received: the sender may be of another version.
Message = Dict[str, Any]


class Limits(TypedDict, total=False):
    """What a process may use; 0 is no limit."""

    cpus: int
    memory: int  # bytes


class ProcessSpec(TypedDict):
    """A process that a host is asked to start."""

    key: str
    argv: List[str]
    env: Dict[str, str]
    cwd: str
    rank: NotRequired[int | None]
    role: NotRequired[str]
    index: NotRequired[int]
    #: Truthy for a primary process; and how many the run has, for every process.
    primary: NotRequired[int]
    primaries: NotRequired[int]
    #: By action, the ranges of exit statuses (first, last) that lead to it.
    on_exit: NotRequired[Dict[str, List[Tuple[int, int]]]]
    limits: NotRequired[Limits]
    #: Truthy for the process that reads the user's stdin.
    stdin: NotRequired[int]
    #: The image that it starts in, and the folders before that image's PATH.
    container: NotRequired[ContainerSpec]
    path: NotRequired[List[str]]


class BroadcastSpec(TypedDict):
    """How the supervisors of an attempt reach each other: all connect to the hub."""

    hub: str
    address: str
    port: int
    key: str
    hosts: int


class PeerSpec(TypedDict):
    """What a host needs to join the others of a run by TLS; ``head`` starts the framework."""

    host: str
    head: str
    hosts: List[str]
    secrets: List[str]
    grace: float
    authority: str
    certificate: str
    key: str


class ShareSpec(PeerSpec):
    """What a host needs to share ``folders``, below the run's folder, with the others: all connect to
    the hub."""

    hub: str
    address: str
    port: int
    folders: List[str]


class HostEntry(TypedDict):
    """A host of the run in an /etc/hosts: its name in the inventory, and all names to give it."""

    host: str
    address: str
    names: List[str]


class ContainerSpec(TypedDict):
    """The image that processes of a run start in on this host, and how; see containers.py.

    ``image`` is what the runtime calls it: its ID, or a path. ``mounts`` are SOURCE:PLACE or
    SOURCE:PLACE:ro. ``gpus`` is how GPUs get in; "" for none. ``hosts`` is its /etc/hosts.
    """

    runtime: str
    program: str
    image: str
    user: str
    groups: List[int]
    ulimits: List[str]
    rootless: bool
    ipc: bool
    mounts: List[str]
    devices: List[str]
    gpus: str
    home: str
    hosts: str


class SupervisorSpec(TypedDict):
    """What a supervisor knows of its run from the start; times in seconds, None is for ever."""

    run_id: str
    host: str
    grace: float
    attempt: NotRequired[int]
    orphan_timeout: NotRequired[float | None]
    stall: NotRequired[float | None]
    inside: NotRequired[bool]
    #: Whether the run's processes get an /etc/hosts of their own.
    own_hosts: NotRequired[bool]
    #: For how long what it has imported stays for other runs; its folder there, and why nothing that an
    #: earlier run has left could be used: a code and a detail.
    keep: NotRequired[float | None]
    place: NotRequired[str]
    no_place: NotRequired[str]  # why it has none
    unlike: NotRequired[List[str] | None]


class StartRequest(TypedDict):
    """The request to start a stage of an attempt: ``op`` is "start"."""

    op: str
    run: str
    stage: str
    attempt: int
    path: List[str]
    processes: List[ProcessSpec]
    own_path: NotRequired[str]
    secrets: NotRequired[Dict[str, str]]
    port: NotRequired[int | None]
    ports: NotRequired[List[int]]
    gpus: NotRequired[List[int]]
    gpu_uuids: NotRequired[Dict[str, int]]
    gpu_vendor: NotRequired[str]
    elastic: NotRequired[Literal["head", "member"]]
    news: NotRequired[BroadcastSpec]
    peer: NotRequired[PeerSpec]
    share: NotRequired[ShareSpec]
    own_hosts: NotRequired[List[HostEntry]]
    seconds: NotRequired[float | None]  # the longest that it runs
    #: Rank 0 has a stdin here, which ends when nobody speaks of it for so many seconds.
    stdin: NotRequired[float | None]
    #: Part of the path of a library that all ranks have loaded which are to meet: it is worth a word if
    #: they never do.
    meets_by: NotRequired[str]
    #: Another attempt may follow: what has imported modules ahead is kept for it.
    stay: NotRequired[int | None]


class PreloadRequest(TypedDict):
    """The request to import ``modules`` ahead of the ranks, ``op`` is "preload".

    ``process`` is like any of them; what differs between ranks may be missing.
    """

    modules: List[str]
    path: List[str]
    process: ProcessSpec
    own_path: NotRequired[str]
    secrets: NotRequired[Dict[str, str]]


class WaitRequest(TypedDict):
    """The request to wait for GPUs, ``op`` is "wait": all that a host needs to start the run by itself.

    ``gpus`` are those that the run may use, and ``names`` what programs call each of them. ``start``
    has a token in the place of every GPU, of its name and of every port; these come from the range
    ``ports``. The run waits for ``seconds`` at most (None: for ever). With ``ignore_foreign`` it takes
    GPUs that are used outside launcher, too. Of a word that begins with one of ``packed``, the rest is
    in base64, with tokens inside. By ``rules``, it knows which runs a quota covers.
    """

    ticket: Message
    gpus: List[int]
    names: Dict[str, str]
    start: StartRequest
    tokens: Dict[str, List[str]]
    ports: List[int]
    seconds: NotRequired[float | None]
    ignore_foreign: NotRequired[int]
    packed: NotRequired[List[str] | None]
    rules: NotRequired[Dict[str, ProjectRule] | None]


class Given(TypedDict):
    """What a run gets on one of several hosts: GPUs, what programs call each, and ports."""

    gpus: List[int]
    names: List[str]
    ports: List[int]


class GangSpec(TypedDict):
    """How the supervisors of a run that waits on several ``hosts`` reach each other: all connect to the
    first. ``address`` is where the others reach it, ``port`` where it listens until the run begins.
    Those that are no hosts of the run find it at one of its ``addresses``, if there are any, and tell it
    of the ``users`` that some project has. Of each host of the run that may lead later, ``places`` are
    addresses. The ``voters`` are those that decide who leads, where that may change while the run waits;
    they are the same in all requests of a run. ``seats`` are the ports at which they listen, as far as
    these are known."""

    hosts: List[str]
    address: str
    port: int
    key: str
    addresses: NotRequired[List[str] | None]
    users: NotRequired[List[str] | None]
    places: NotRequired[Dict[str, List[str]] | None]
    voters: NotRequired[List[str] | None]
    seats: NotRequired[Dict[str, int] | None]


class GangProject(TypedDict):
    """The project ``name`` of a run that its hosts start, which wants so many GPUs in all; an elastic
    one wants these at least. They know the ``rules`` of all projects, and of each host of the inventory
    which one decides for its machine."""

    name: str
    gpus: int
    rules: Dict[str, ProjectRule]
    voters: Dict[str, str]
    preemptible: NotRequired[int | None]
    min_runtime: NotRequired[float | None]


class Way(TypedDict):
    """One way to run. By host, ``counts`` are the numbers of GPUs that it needs, and ``tokens`` what
    stands for these, their names and its ports. All meet at ``address``; ``interfaces`` and
    ``addresses`` are those of that meeting."""

    counts: Dict[str, int]
    tokens: Dict[str, Dict[str, List[str]]]
    address: str
    interfaces: Dict[str, str]
    addresses: Dict[str, str]


class Meeting(TypedDict):
    """Where the hosts of a way meet: at the ``address`` of its first one. By host, ``interfaces`` lead
    there, and ``addresses`` are those at which the others reach it."""

    address: str
    interfaces: Dict[str, str]
    addresses: Dict[str, str]


class AnyHosts(TypedDict):
    """All ways to run on as few as the ``least`` and as many as the ``most`` of some ``hosts``, with so
    many ``gpus`` of each. By the number of hosts and their place, ``tokens`` are those of a way. By the
    first host, ``heads`` say where its hosts meet, and ``alone`` where a single one does.

    The ``marks`` of each place stand for a host's name, address and interface, and ``master`` for the
    address where they meet. By host, ``names`` are those in /etc/hosts."""

    hosts: List[str]
    least: int
    most: int
    gpus: int
    tokens: Dict[str, List[Dict[str, List[str]]]]
    heads: Dict[str, Meeting]
    alone: Dict[str, Meeting]
    marks: List[List[str]]
    master: str
    names: Dict[str, List[str]]


class GatherRequest(TypedDict):
    """The request to wait for GPUs with other hosts, ``op`` is "gather": see :class:`WaitRequest`.

    Without a ``ticket`` the run needs no GPUs of this host. By host, ``gpus`` are those that the run
    may use. ``ways`` are those to run it, and ``starts`` what this host starts in each that it is part
    of, by its number, with tokens of all hosts of that way. A run with too many to list has ``any_of``
    instead, and ``starts`` by the number of hosts and the place of this one: "8.0" is the first of 8.
    A run with only one way has the fields of that here instead, and ``start``; its hosts meet at the
    address of the gang. A run with a ``project``
    begins once most hosts of the gang let it: those that are in no way of it only witness.

    The text ``attempt`` is a token, too: it stands for the number of the attempt, so that the run can
    wait again by the same request once it has given its GPUs back.

    Nothing has begun by the requests with these keys that are ``void``, and nothing will.
    """

    ticket: NotRequired[Message | None]
    gang: GangSpec
    gpus: Dict[str, List[int]]
    names: Dict[str, str]
    ways: NotRequired[List[Way]]
    any_of: NotRequired[AnyHosts | None]
    starts: NotRequired[Dict[str, StartRequest]]
    counts: NotRequired[Dict[str, int]]
    start: NotRequired[StartRequest]
    tokens: NotRequired[Dict[str, Dict[str, List[str]]]]
    interfaces: NotRequired[Dict[str, str]]
    addresses: NotRequired[Dict[str, str]]
    ports: List[int]
    seconds: NotRequired[float | None]
    ignore_foreign: NotRequired[int]
    packed: NotRequired[List[str] | None]
    attempt: NotRequired[str | None]
    void: NotRequired[List[str] | None]
    project: NotRequired[GangProject | None]
    rules: NotRequired[Dict[str, ProjectRule] | None]


class ErrorReport(TypedDict):
    """What a process wrote about its own failure."""

    message: str
    traceback: str


class Holder(TypedDict, total=False):
    """Who holds a GPU, or has a run here, as the kernel knows it; ``run`` and ``since`` are what that
    user claims. What is not known is left out."""

    uid: int
    user: str
    run: str
    since: float
    left: float  # seconds until the run ends by itself


class TicketFacts(TypedDict):
    """The ticket of a waiting run, as its user claims it; ``user`` is what the kernel knows.

    ``waited`` and ``seconds``, the longest that it runs (None: unlimited), are in seconds. ``hosts`` is
    on how many hosts it waits; each pair of ``shares`` is a number of nodes and the GPUs of each.
    ``only`` are the GPUs of this host that it wants, where no others would do. ``aside``: it holds
    nobody back now. ``by_itself``: its hosts start it, whether its launcher lives or not. ``within``:
    it is within the quota of its project, and goes first. ``part``: how many GPUs of this host it needs,
    where it cannot choose, as its processes have their hosts. ``no_room``: the disk of this host is too
    full to write down that it begins. ``leads``: of several hosts, this one decides when it begins, and
    another would if it was gone. ``no_leader``: none does, as too few are in touch with each other;
    ``unsure``: none begins it, as one out of reach may have.
    """

    run: str
    user: NotRequired[str]
    priority: int
    number: int
    waited: float
    seconds: float | None
    hosts: int
    shares: List[List[int]]
    only: NotRequired[List[int]]
    aside: bool
    by_itself: NotRequired[bool]
    within: NotRequired[bool]
    part: NotRequired[int]
    no_room: NotRequired[bool]
    leads: NotRequired[bool]
    no_leader: NotRequired[bool]
    unsure: NotRequired[bool]


class MemberFacts(TypedDict):
    """A run that uses GPUs in a project's name, on all its hosts, or ``waits`` for them.

    ``user`` is what the kernel knows; the rest is what that user claims. It has used them for ``age``
    seconds. ``preemptible``: it may have to give them back. ``within``: its quota covers them. ``held``
    is the rule that keeps it waiting; empty for none.
    """

    project: str
    run: str
    user: str
    gpus: int
    age: float
    preemptible: bool
    within: bool
    waits: bool
    held: str


class TakeFacts(TypedDict):
    """Who asks a run to give its GPUs back, and the sum of the name of the run that is to have them."""

    user: str
    sum: str


class BookFacts(TypedDict):
    """What the book of a user on a host says of a run: GPUs on ``hosts``, in a project's name."""

    project: str
    run: str
    user: str
    gpus: int
    preemptible: bool
    hosts: List[str]


class ProjectRule(TypedDict):
    """What a project may have, and who may use it."""

    quota: int
    users: List[str]
    limit: NotRequired[int | None]


class MemberRequest(TypedDict):
    """The request to use GPUs in a project's name, ``op`` is "member": without a ``project``, no more.

    Whoever is within the quota of one of the projects in ``rules`` may take the GPUs of a run that is
    ``preemptible`` back, once it had them for ``min_runtime`` seconds.
    """

    project: str
    gpus: int
    preemptible: NotRequired[int]
    within: NotRequired[int]
    min_runtime: NotRequired[float]
    rules: NotRequired[Dict[str, ProjectRule]]


class GpuFacts(TypedDict):
    """One GPU, or a MIG instance of one; memory in MiB."""

    index: int
    name: str
    uuid: str
    memory: int
    memory_used: int
    vendor: str


class GpuLoad(TypedDict):
    """What a GPU does now: percent of its time, degrees, MiB in use; None is what its tool does not
    say."""

    percent: int | None
    celsius: int | None
    memory: int | None


class GpuUse(TypedDict):
    """A process on a GPU, of any user; memory in MiB, ``since`` in seconds since the epoch."""

    gpu: int
    pid: int
    user: str | None
    command: str
    run: str | None
    memory: int
    since: float | None


class HostFacts(TypedDict):
    """The answer to "probe"."""

    hostname: str
    user: str
    root: str
    machine: NotRequired[str]
    python: str
    python_version: str
    cpus: int
    addresses: List[Tuple[str, str]]
    ssh_address: str | None
    disk_free: int
    noexec: bool
    memory: int
    rsync: str | None
    gpus: List[GpuFacts]
    gpu_users: List[GpuUse]
    visible: Dict[str, str]
    leased: Dict[str, Holder]
    time: float
    strays: NotRequired[int]
    own_hosts: NotRequired[str]
    no_paths: NotRequired[List[str]]
    silent_paths: NotRequired[List[str]]


class HostNow(TypedDict):
    """The answer to "now"; ``gpus`` are by index."""

    gpus: Dict[str, GpuLoad]
    gpu_users: List[GpuUse]
    tickets: List[TicketFacts]
    leased: Dict[str, Holder]
    members: List[MemberFacts]
    runs: List[Holder]
    time: float


class Reached(TypedDict):
    """The result of one attempt to reach the rendezvous."""

    ok: bool
    ip: NotRequired[str]
    local: NotRequired[str]
    interface: NotRequired[str | None]
    error: NotRequired[str]
    why: NotRequired[str]
