"""The shapes of what protocol.py sends, and of the parts of it, for type checkers.

Nothing imports this at run time: a host has no time for it.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, NotRequired, Tuple, TypedDict

#: A message, request, answer or record as it came: of another version, so nothing is sure.
Message = Dict[str, Any]


class Limits(TypedDict, total=False):
    """What a process may have; 0 is without limit."""

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
    #: How many processes of the run are primary, for one of them; and the same for every process.
    primary: NotRequired[int]
    primaries: NotRequired[int]
    #: What exit statuses, from first to last, mean where they mean something else than usual.
    on_exit: NotRequired[Dict[str, List[Tuple[int, int]]]]
    limits: NotRequired[Limits]


class BroadcastSpec(TypedDict):
    """How the supervisors of an attempt reach each other: all dial the hub."""

    hub: str
    address: str
    port: int
    key: str
    hosts: int


class PeerSpec(TypedDict):
    """What a host needs to join the others of a run by TLS; ``lead`` starts the framework."""

    host: str
    lead: str
    hosts: List[str]
    secrets: List[str]
    grace: float
    authority: str
    certificate: str
    key: str


class SupervisorSpec(TypedDict):
    """What a supervisor knows of its run from the beginning; seconds, of which None is for ever."""

    run_id: str
    host: str
    grace: float
    attempt: NotRequired[int]
    orphan_timeout: NotRequired[float | None]
    stall: NotRequired[float | None]
    inside: NotRequired[bool]


class StartRequest(TypedDict):
    """Asks a supervisor to start a stage of an attempt: ``op`` is "start"."""

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
    elastic: NotRequired[Literal["head", "member"]]
    news: NotRequired[BroadcastSpec]
    peer: NotRequired[PeerSpec]


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


class GpuFacts(TypedDict):
    """One GPU; memory in MiB."""

    index: int
    name: str
    uuid: str
    memory: int
    memory_used: int


class HostFacts(TypedDict):
    """The answer to "probe"."""

    hostname: str
    root: str
    python: str
    python_version: str
    cpus: int
    addresses: List[Tuple[str, str]]
    ssh_address: str | None
    disk_free: int
    memory: int
    rsync: str | None
    gpus: List[GpuFacts]
    leased: Dict[str, Holder]
    time: float
    strays: NotRequired[int]


class Reached(TypedDict):
    """What came of one try to reach the meeting point."""

    ok: bool
    ip: NotRequired[str]
    local: NotRequired[str]
    interface: NotRequired[str | None]
    error: NotRequired[str]
    why: NotRequired[str]
