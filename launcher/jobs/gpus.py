"""Decide which GPUs of a host a run may use: by its inventory, its environment and the job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Any

from ..spec import gpu_models
from ..spec import gpus as naming
from ..spec.errors import PlanError
from ..spec.frozen import frozen
from ..spec.model import OUTSIDE, Facts, Gpu, GpuUser, Host


@frozen
class Usable:
    """The GPUs of a host that a run may use, in the order in which it takes them.

    ``names`` is what the vendor's variable calls each, by index. ``outside`` are the GPUs that
    ``bound``, variables with value and origin, leaves out; without facts it is what they would bound.
    """

    gpus: tuple[Gpu, ...]
    names: Mapping[int, str] = field(default_factory=dict)
    vendor: str = naming.NVIDIA
    bound: str = ""
    outside: tuple[int, ...] = ()

    @property
    def indices(self) -> tuple[int, ...]:
        """The indices of the GPUs."""
        return tuple(gpu.index for gpu in self.gpus)


def usable(
    host: Host, facts: Facts | None, wanted: Sequence[str] = (), model: str | None = None
) -> Usable:
    """Return the GPUs that a run may use on a host: those of ``wanted``, if it names any, and of a
    ``model``, if it has to be one.

    Without facts (a dry run), or where no tool lists GPUs, the inventory is trusted. Raises PlanError
    if the inventory claims GPUs that do not exist, or that the environment leaves out.
    """
    found = facts.gpus if facts else ()
    vendor = found[0].vendor if found else naming.NVIDIA
    bound = _bound(host, facts, vendor)
    listed = found or _trusted(host, bound, wanted)
    _check_count(host, found, vendor)
    allowed, names = _within(bound, listed, vendor, not found)
    if host.gpu_ids:
        _check_named(host, listed, allowed, bound, vendor)
        allowed = chosen(host.gpu_ids, allowed)
    elif host.gpus is not None:
        allowed = _of_model(host.gpu_model, allowed, bool(found))[: host.gpus]
    if wanted:
        allowed = chosen(wanted, allowed)
    allowed = _of_model(model, allowed, facts is not None)
    there = {gpu.index for gpu in names}
    outside = tuple(gpu.index for gpu in listed if gpu.index not in there)
    text = "; ".join(one.text for one in bound)
    calls = {gpu.index: name for gpu, name in names.items()}
    return Usable(allowed, calls, vendor, text if outside or not found else "", outside)


def _of_model(model: str | None, listed: Sequence[Gpu], is_known: bool) -> tuple[Gpu, ...]:
    """Return the GPUs of a model; where nobody looked, those without a name are taken for it."""
    if model is None:
        return tuple(listed)
    return tuple(
        gpu
        for gpu in listed
        if gpu_models.is_of(model, gpu.name, gpu.memory) or not (gpu.name or is_known)
    )


#: MiB in use on a GPU without a process that count as use; a driver alone takes less.
IDLE_MEMORY = 1024
#: The pid of memory that no process holds, as far as the host shows.
NO_PROCESS = 0


def foreign(facts: Facts | None) -> dict[int, tuple[GpuUser, ...]]:
    """Return what uses GPUs that no run of launcher holds, by GPU: processes, or memory without one."""
    found: dict[int, tuple[GpuUser, ...]] = {}
    if facts is None:
        return found
    for use in facts.gpu_users:
        if use.run is None and not _is_leased(use.gpu, facts):
            found[use.gpu] = (*found.get(use.gpu, ()), use)
    with_process = {use.gpu for use in facts.gpu_users}
    for gpu in facts.gpus:
        alone = gpu.index not in with_process and not _is_leased(gpu.index, facts)
        if alone and gpu.memory_used > IDLE_MEMORY:
            found[gpu.index] = (GpuUser(gpu.index, NO_PROCESS, None, memory=gpu.memory_used),)
    return found


def _is_leased(gpu: int, facts: Facts) -> bool:
    leases = (index for index, holder in facts.leased.items() if OUTSIDE not in holder)
    return any(naming.are_one(gpu, index) for index in leases)


def with_foreign_held(facts: Facts) -> Facts:
    """Return the facts of a host on which what uses a GPU without a lease holds it, as a run would."""
    held = {
        gpu: {"user": uses[0].user or "", OUTSIDE: users_text(uses, facts.clock_offset)}
        for gpu, uses in foreign(facts).items()
    }
    return replace(facts, leased={**held, **facts.leased}) if held else facts


#: States of a GPU: nobody uses it, somebody holds its lock or works on it without one, or memory is in
#: use there and no process is to be seen.
FREE, HELD, FOREIGN, LEFT = "free", "held", "foreign", "left"


@frozen
class GpuState:
    """A GPU of a host and who uses it now; memory and what is ``used`` of it in MiB.

    ``percent`` of its time in which it computes, and ``celsius``, are known where somebody watches.
    """

    index: int
    name: str
    uuid: str
    vendor: str
    memory: int
    state: str
    user: str = ""
    run: str = ""
    command: str = ""
    pid: int | None = None
    used: int = 0
    since: float | None = None
    percent: int | None = None
    celsius: int | None = None


def states(facts: Facts) -> tuple[GpuState, ...]:
    """Return the GPUs of a host with who uses each."""
    strangers = foreign(facts)
    found = []
    for gpu in facts.gpus:
        own = {name: getattr(gpu, name) for name in ("index", "name", "uuid", "vendor", "memory")}
        leases = {i: holder for i, holder in facts.leased.items() if OUTSIDE not in holder}
        holders = [h for index, h in leases.items() if naming.are_one(index, gpu.index)]
        if holders:
            user, run = str(holders[0].get("user", "")), holders[0].get("run") or ""
            since = holders[0].get("since")
            found.append(
                GpuState(**own, state=HELD, user=user, run=run, used=gpu.memory_used, since=since)
            )
        elif uses := strangers.get(gpu.index):
            used = max(gpu.memory_used, sum(use.memory for use in uses))
            found.append(_used_outside(own, uses[0], used))
        else:
            found.append(GpuState(**own, state=FREE, used=gpu.memory_used))
    return tuple(found)


def _used_outside(own: Mapping[str, Any], first: GpuUser, used: int) -> GpuState:
    if first.pid == NO_PROCESS:
        return GpuState(**own, state=LEFT, used=used)
    return GpuState(
        **own,
        state=FOREIGN,
        user=first.user or "somebody in a container",
        command=first.command,
        pid=first.pid,
        used=used,
        since=first.since,
    )


#: A moment before the year 10000, in which calendars end: what hosts say may be later.
_LAST = 253_000_000_000.0


def users_text(uses: Iterable[GpuUser], clock_offset: float = 0.0) -> str:
    """Return ``bob (pid 4242 python-train, 40 GB, since 27 Nov 10:28)``; several users with commas.

    ``clock_offset`` is that of the host, whose times these are.
    """
    by_user: dict[str, list[GpuUser]] = {}
    for use in uses:
        nobody = "no process" if use.pid == NO_PROCESS else "somebody in a container"
        by_user.setdefault(use.user or nobody, []).append(use)
    parts = []
    for user, several in by_user.items():
        memory = sum(use.memory for use in several)
        notes = [f"pid {several[0].pid} {several[0].command}".rstrip()] if several[0].pid else []
        if memory:
            notes.append(f"{memory / 1024:.0f} GB" if memory >= 1024 else f"{memory} MB")
        if since := min((use.since for use in several if use.since), default=None):
            at = datetime.fromtimestamp(min(max(since - clock_offset, 0.0), _LAST))
            notes.append(f"since {at:%d %b %H:%M}")
        parts.append(f"{user} ({', '.join(notes)})")
    return ", ".join(parts)


def chosen(identities: Iterable[str], among: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Return the GPUs that are named, each once, in the order of the names."""
    found = (gpu for identity in identities for gpu in _named(identity, among))
    return tuple(dict.fromkeys(found))


def unknown(identities: Iterable[str], among: Sequence[Gpu]) -> tuple[str, ...]:
    """Return the names that no GPU has."""
    return tuple(identity for identity in identities if not _named(identity, among))


def _named(identity: str, among: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPU of a name: index, UUID or the beginning of one. A GPU stands for its MIG
    instances."""
    if naming.is_index(identity):
        index = naming.index_of(identity)
        exact = [gpu for gpu in among if gpu.index == index]
        return exact or [gpu for gpu in among if naming.parent_of(gpu.index) == index]
    found = [gpu for gpu in among if gpu.uuid.lower().startswith(identity.lower())]
    return found if len(found) == 1 else []


# -- what bounds them


@frozen
class _Variable:
    """A variable that bounds the GPUs of a host, and where it is set."""

    name: str
    value: str
    origin: str

    @property
    def text(self) -> str:
        return f"{self.name}={self.value} ({self.origin})"


def _bound(host: Host, facts: Facts | None, vendor: str) -> list[_Variable]:
    """Return the variables that bound a host's GPUs; the inventory's win over the login's."""
    found = []
    for name in naming.vendor_of(vendor).bounds:
        if name in host.env:
            found.append(_Variable(name, host.env[name], "inventory"))
        elif facts and name in facts.visible:
            found.append(_Variable(name, facts.visible[name], "environment of the host"))
    return found


def _within(
    bound: Sequence[_Variable], listed: Sequence[Gpu], vendor: str, by_uuid: bool
) -> tuple[tuple[Gpu, ...], dict[Gpu, str]]:
    """Return the GPUs that all variables let through, and what the vendor's own calls each.

    MIG instances have no number there, nor have GPUs ``by_uuid`` of which no more is known.
    """
    names = {
        gpu: gpu.uuid if naming.is_mig(gpu.index) or (by_uuid and gpu.uuid) else str(gpu.index)
        for gpu in listed
    }
    numbered_anew = False
    for variable in bound:
        inside = _listed_in(variable.value, names, numbered_anew)
        if variable.name == naming.vendor_of(vendor).variable:  # the run's own takes its place
            names = {gpu: names[gpu] for gpu in inside}
        else:
            names = {gpu: str(place) for place, gpu in enumerate(inside)}
            numbered_anew = True
    return tuple(names), names


def _listed_in(value: str, names: Mapping[Gpu, str], numbered_anew: bool) -> list[Gpu]:
    """Return the GPUs that a variable lists; as for CUDA, the first name of none ends the list.

    Where another variable has ``numbered_anew`` what it lets through, indices are those numbers.
    """
    found: list[Gpu] = []
    for name in (part.strip() for part in value.split(",")):
        there = [gpu for gpu, known in names.items() if known == name]
        if name and not there and not (numbered_anew and naming.is_index(name)):
            there = _named(name, list(names))
        if not there:
            break
        found += there
    return list(dict.fromkeys(found))


def _trusted(host: Host, bound: Sequence[_Variable], wanted: Sequence[str]) -> tuple[Gpu, ...]:
    """Return the GPUs that the inventory, its variables or the job name, where no tool lists any."""
    named = [v for one in bound for v in one.value.split(",") if v] if host.gpus != 0 else []
    for identities in (host.gpu_ids, named):
        if identities:
            return _made_of(identities)
    if host.gpus is None:
        return _made_of(wanted)
    return tuple(Gpu(index, host.gpu_model or "") for index in range(host.gpus))


def _made_of(identities: Iterable[str]) -> tuple[Gpu, ...]:
    """Return GPUs of these names; one of a UUID gets an index that is still free."""
    several = [identity.strip() for identity in identities]
    taken = {naming.index_of(one) for one in several if naming.is_index(one)}
    free = (index for index in range(len(several) + len(taken)) if index not in taken)
    return tuple(
        Gpu(naming.index_of(one), uuid=f"MIG {one}" if ":" in one else "")
        if naming.is_index(one)
        else Gpu(next(free), uuid=one)
        for one in several
    )


def _check_count(host: Host, found: Sequence[Gpu], vendor: str) -> None:
    there = _of_model(host.gpu_model, found, True)
    if host.gpus is not None and found and not host.gpu_ids and host.gpus > len(there):
        says, finds = f"{host.gpus} GPUs", str(len(found))
        if host.gpu_model:
            says, finds = (
                f"gpus: {host.gpu_model}:{host.gpus}",
                gpu_models.tally(g.name for g in found),
            )
        raise PlanError(
            f"{host.name}: the inventory says {says}, "
            f"{naming.vendor_of(vendor).tool} finds {finds}",
            f"set gpus: {len(there) or len(found)} in the inventory, or leave it out",
        )


def _check_named(
    host: Host,
    listed: Sequence[Gpu],
    allowed: Sequence[Gpu],
    bound: Sequence[_Variable],
    vendor: str,
) -> None:
    """Raise PlanError for a GPU of ``gpus:`` that does not exist, or that a variable leaves out."""
    missing = unknown(host.gpu_ids, listed)
    if missing:
        raise PlanError(
            f"{host.name}: gpus: names {', '.join(missing)}, {naming.vendor_of(vendor).tool} finds "
            f"GPU {naming.fold(gpu.index for gpu in listed)}",
            "name GPUs by index or UUID, as nvidia-smi -L shows them",
        )
    hidden = unknown(host.gpu_ids, allowed)
    if hidden:
        raise PlanError(
            f"{host.name}: gpus: names {', '.join(hidden)}, but "
            f"{'; '.join(one.text for one in bound)} leaves it out",
            "change gpus: in the inventory, or the variable",
        )
