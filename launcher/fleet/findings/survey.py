"""What `launcher check` measured: a survey of each host and a test of each pair.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ...spec.frozen import frozen
from ...spec.model import Facts, GpuUser
from ...spec.typed_json import from_json


@frozen
class Questions:
    """What a job needs on every host: paths, and modules that its Python must find with ``env``."""

    modules: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()


@frozen
class Room:
    """The size of a disk or memory, and how much of it is free."""

    total: int
    free: int
    files_free: int | None = None


@frozen
class Software:
    """What the host's Python has; None: not installed. ``missing`` lists wanted modules it lacks.

    With an ``error`` nothing is known; ``late`` means no answer in time, as on a busy host.
    """

    torch: str | None = None
    cuda: str | None = None
    hip: str | None = None
    nccl: str | None = None
    horovod: str | None = None
    missing: tuple[str, ...] = ()
    error: str = ""
    late: bool = False


@frozen
class Devices:
    """The GPUs beyond what a plan needs. ``xid`` has ``(bus, number, text)`` from the kernel log."""

    failing: bool = False
    tool: str = "nvidia-smi"  # what is failing
    driver: str | None = None
    ecc: Mapping[int, int] | None = None
    users: tuple[GpuUser, ...] = ()
    xid: tuple[tuple[str, int, str], ...] = ()
    log_readable: bool = True


@frozen
class Login:
    """The systemd-logind session in which the agent was started.

    ``kills``: processes that remain at its end are killed. ``lingers``: the user's services run
    without a session; ``bus``: they answer.
    """

    session: str
    user: str
    kills: bool
    lingers: bool
    bus: bool


@frozen
class IbPort:
    """A port of an InfiniBand or RoCE device; ``rate`` is in Gbit/s, ``gid_index`` -1 for no GID."""

    device: str
    port: int
    state: str
    rate: float
    layer: str
    gid: str = ""
    gid_index: int = -1


@frozen
class Interface:
    """A network interface that is up; ``speed`` is in Mbit/s, if the kernel knows it."""

    name: str
    address: str
    mtu: int | None
    speed: int | None


@frozen
class Survey:
    """A single host. ``latency`` is the best of some round trips through SSH."""

    facts: Facts
    latency: float
    os: str
    kernel: str
    memory: Room
    disk: Room | None
    shm: Room | None
    memlock: int  # the hard limit; -1 is none
    nofile: tuple[int, int]  # soft and hard
    own_addresses: tuple[str, ...]
    name_is_slow: bool
    interfaces: tuple[Interface, ...]
    infiniband: tuple[str, ...]
    firewall: tuple[str, tuple[str, ...]] | None
    software: Software
    devices: Devices
    orphans: tuple[Mapping[str, Any], ...] = ()
    old_folders: int = 0
    old_bytes: int = 0
    old_segments: tuple[int, int] = (0, 0)  # of shared memory: number and bytes
    no_paths: tuple[str, ...] = ()
    silent_paths: tuple[str, ...] = ()  # those of them that do not answer
    unfinished: tuple[str, ...] = ()  # runs of this machine that may still run there
    login: Login | None = None
    ib_ports: tuple[IbPort, ...] = ()
    own_hosts: str = ""  # as in Facts
    #: Container runtimes, and what is in the way of each: a code and words, or empty.
    runtimes: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The host's name in the inventory."""
        return self.facts.host


def survey_of(
    answer: Mapping[str, Any], facts: Facts, latency: float, unfinished: tuple[str, ...]
) -> Survey:
    """Return an agent's answer as values."""
    left, name, firewall = answer["leftovers"], answer["own_name"], answer["firewall"]
    return Survey(
        facts=facts,
        latency=latency,
        os=answer["os"],
        kernel=answer["kernel"],
        memory=Room(**answer["memory"]),
        disk=_room(answer["disk"]),
        shm=_room(answer["shm"]),
        memlock=answer["limits"]["memlock"][1],
        nofile=(answer["limits"]["nofile"][0], answer["limits"]["nofile"][1]),
        own_addresses=tuple(name["addresses"]),
        name_is_slow=name["slow"],
        interfaces=tuple(Interface(*interface) for interface in answer["interfaces"]),
        infiniband=tuple(answer["infiniband"]),
        ib_ports=from_json(tuple[IbPort, ...], answer.get("ib_ports", [])),
        firewall=(firewall["kind"], tuple(firewall["rules"])) if firewall else None,
        software=_software(answer["software"]),
        devices=_devices(answer["devices"]),
        orphans=tuple(left["orphans"]),
        old_folders=left["folders"],
        old_bytes=left["bytes"],
        old_segments=(left["shm"]["segments"], left["shm"]["bytes"]),
        no_paths=tuple(answer["no_paths"]),
        silent_paths=tuple(answer.get("silent_paths", ())),
        unfinished=unfinished,
        login=Login(**answer["login"]) if answer["login"] else None,
        own_hosts=str(answer.get("own_hosts", "")),
        runtimes=from_json(dict[str, tuple[str, str]], answer.get("runtimes", {})),
    )


def _room(value: Mapping[str, Any] | None) -> Room | None:
    return Room(value["total"], value["free"], value["files_free"]) if value else None


def _software(value: Mapping[str, Any]) -> Software:
    names = ("torch", "cuda", "hip", "nccl", "horovod")
    return Software(
        **{name: value.get(name) for name in names},
        missing=tuple(value.get("missing", ())),
        error=value.get("error", ""),
        late=value.get("late", False),
    )


def _devices(value: Mapping[str, Any]) -> Devices:
    return Devices(
        failing=value["failing"],
        tool=value.get("tool") or "nvidia-smi",
        driver=value.get("driver"),
        ecc={int(index): count for index, count in value.get("ecc", {}).items()},
        users=tuple(GpuUser(**user) for user in value.get("users", ())),
        xid=tuple((bus, number, text) for bus, number, text in value.get("xid", ())),
        log_readable=value.get("log_readable", True),
    )


@frozen
class PairTest:
    """How one host reaches another one, ``there``.

    ``address`` is the one of ``tried`` that answered best, None if none did; ``complete`` lists those
    that answered on all ports. ``closed`` maps the other ports to reasons; ``high`` is the port from
    the kernel's own range. ``mtu`` is the largest packet that arrived (None: not measured); ``large``
    is whether many packets through TCP arrived (None: unknown); ``bandwidth`` is in bytes per second
    (None: not measured, as for most pairs of many hosts).
    """

    host: str
    there: str
    tried: tuple[str, ...] = ()
    address: str | None = None
    complete: tuple[str, ...] = ()
    interface: str | None = None
    closed: Mapping[int, str] = field(default_factory=dict)
    high: int = 0
    mtu: int | None = None
    mtu_expected: int | None = None
    round_trip: float | None = None
    large: bool | None = None
    bandwidth: float | None = None
    names: tuple[str, ...] | None = ()  # what the other's name resolves to; None: no answer
    error: str = ""
    confirmed: bool = False  # it looked wrong, and was tried again alone
