"""Decides who runs what: hosts, ranks, GPUs, and argv and env of every process. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from .. import frameworks
from ..spec.errors import PlanError
from ..spec.frozen import frozen
from ..spec.model import Facts, Host, Job, Layout, Meeting, Node, NodePlan, Plan
from . import placement
from .interpolation import fill

LOOPBACK = "lo"
#: For what runs before the hosts have met.
NOWHERE = Meeting("", 0)


@frozen
class Offer:
    """A host with the GPUs that it could give now; ``taken`` says who holds the others."""

    host: Host
    gpus: tuple[int, ...]
    total: int
    taken: str = ""


def offers(hosts: Sequence[Host], facts: Mapping[str, Facts]) -> tuple[Offer, ...]:
    """What each host can give. Raises PlanError when the inventory promises more than is there."""
    return tuple(_offer(host, facts.get(host.name)) for host in hosts)


def _offer(host: Host, facts: Facts | None) -> Offer:
    found = [gpu.index for gpu in facts.gpus] if facts else []
    if host.gpus is not None and found and host.gpus > len(found):
        raise PlanError(
            f"{host.name}: the inventory says {host.gpus} GPUs, nvidia-smi finds {len(found)}",
            f"gpus: {len(found)} in the inventory, or leave it out",
        )
    count = len(found) if host.gpus is None else host.gpus
    indices = (found or list(range(count)))[:count]
    leased = facts.leased if facts else {}
    free = tuple(index for index in indices if index not in leased)
    holders = {
        f"{lease.get('user', '?')} ({lease.get('run', '?')})"
        for index, lease in leased.items()
        if index in indices
    }
    return Offer(host, free, count, ", ".join(sorted(holders)))


def layout(
    job: Job, hosts: Sequence[Host], facts: Mapping[str, Facts], run_id: str = "dry-run"
) -> Layout:
    """Nodes with their ranks and GPUs. Raises PlanError when the hosts cannot hold the job.

    ``resources.gpus`` alone chooses the fewest hosts: whole ones from the largest down, and for
    what is left the smallest that suffices. Otherwise ``num_nodes`` hosts (1 when not said; all
    that ``--hosts`` names), each with ``nproc_per_node`` processes, or one a GPU. Without facts
    (a dry run) the inventory's word is taken.
    """
    able = offers(hosts, facts)
    if job.roles:
        return _of_roles(job, able, facts, run_id)
    gpus, per_node = job.resources.gpus, job.resources.nproc_per_node
    if gpus and job.num_nodes is None and per_node is None:
        counts = _spread(able, gpus)
    else:
        counts = _by_hand(job, able)
    nodes: list[Node] = []
    offset = 0
    for offer, processes, with_gpus in counts:
        known = facts.get(offer.host.name)
        nodes.append(
            Node(
                host=offer.host,
                node_rank=len(nodes),
                local_world_size=processes,
                rank_offset=offset,
                gpus=offer.gpus[:processes] if with_gpus else (),
                root=known.root if known else offer.host.workdir,
                python=known.python if known else offer.host.python,
            )
        )
        offset += processes
    return Layout(run_id, tuple(nodes))


def _of_roles(job: Job, able: Sequence[Offer], facts: Mapping[str, Facts], run_id: str) -> Layout:
    """Nodes with the processes of roles, those of primary roles first."""
    rooms = []
    for offer in able:
        known = facts.get(offer.host.name)
        cpus, memory = (known.cpus, known.memory or None) if known else (None, None)
        rooms.append(placement.Room(offer.host.name, offer.gpus, cpus, memory))
    cast = frameworks.get(job.framework).cast or frameworks.Cast()
    places = placement.place(job.roles, rooms, job.num_nodes, cast.own_ranks, cast.first)
    nodes: list[Node] = []
    for placed in places:
        host = next(offer.host for offer in able if offer.host.name == placed.host)
        known = facts.get(host.name)
        nodes.append(
            Node(
                host=host,
                node_rank=len(nodes),
                local_world_size=sum(task.size for task in placed.tasks),
                rank_offset=placed.tasks[0].rank,
                gpus=tuple(gpu for task in placed.tasks for gpu in task.gpus),
                root=known.root if known else host.workdir,
                python=known.python if known else host.python,
                tasks=placed.tasks,
            )
        )
    return Layout(run_id, tuple(nodes))


_Counts = list[tuple[Offer, int, bool]]


def _spread(able: Sequence[Offer], gpus: int) -> _Counts:
    """``gpus`` over the fewest hosts; the last one is the smallest that suffices."""
    free = sum(len(offer.gpus) for offer in able)
    if free < gpus:
        raise PlanError(f"--gpus {gpus}: {_have(able, free)}", _what_would_fit(able, free))
    taken: dict[str, int] = {}
    left = gpus
    while left:
        open_offers = [offer for offer in able if offer.host.name not in taken and offer.gpus]
        enough = [offer for offer in open_offers if len(offer.gpus) >= left]
        if enough:
            chosen = min(enough, key=lambda offer: len(offer.gpus))
        else:
            chosen = max(open_offers, key=lambda offer: len(offer.gpus))
        taken[chosen.host.name] = min(left, len(chosen.gpus))
        left -= taken[chosen.host.name]
    return [(o, taken[o.host.name], True) for o in able if o.host.name in taken]


def _by_hand(job: Job, able: Sequence[Offer]) -> _Counts:
    gpus, per_node = job.resources.gpus, job.resources.nproc_per_node
    count = job.num_nodes or (len(able) if job.hosts else 1)
    if gpus and per_node and job.num_nodes is None and gpus % per_node == 0:
        count = gpus // per_node
    if gpus:
        if gpus % count and per_node is None:
            raise PlanError(
                f"--gpus {gpus} cannot be the same on {count} hosts",
                "leave out --nodes: --gpus alone finds hosts, also unequal ones",
            )
        if per_node is not None and gpus != per_node * count:
            raise PlanError(
                f"--gpus {gpus} is not --nodes {count} times --nproc-per-node {per_node}",
                "two of the three are enough",
            )
        per_node = gpus // count
    if count > len(able):
        names = ", ".join(offer.host.name for offer in able)
        raise PlanError(f"--nodes {count}: there are {len(able)} hosts ({names})")
    use_gpus = gpus != 0
    fitting = [offer for offer in able if _fits(offer, per_node, use_gpus, bool(gpus))]
    if len(fitting) < count:
        wanted = f"{per_node} processes" if per_node else "a free GPU"
        free = sum(len(offer.gpus) for offer in able)
        raise PlanError(
            f"{count} hosts with {wanted} each: {_have(able, free)}",
            "--gpus 0 starts CPU processes on hosts that have GPUs"
            if not gpus
            else _what_would_fit(able, free),
        )
    return [
        (offer, per_node or max(1, len(offer.gpus) if use_gpus else 1), _has_gpus(offer, use_gpus))
        for offer in fitting[:count]
    ]


def _has_gpus(offer: Offer, use_gpus: bool) -> bool:
    return use_gpus and offer.total > 0


def _fits(offer: Offer, per_node: int | None, use_gpus: bool, must_have: bool) -> bool:
    if not _has_gpus(offer, use_gpus):
        return not must_have
    return len(offer.gpus) >= (per_node or 1)


def _have(able: Sequence[Offer], free: int) -> str:
    parts = [
        f"{offer.host.name} {len(offer.gpus)} of {offer.total} free"
        + (f", held by {offer.taken}" if offer.taken else "")
        for offer in able
    ]
    return f"{free} GPUs are free ({'; '.join(parts)})"


def _what_would_fit(able: Sequence[Offer], free: int) -> str:
    total = sum(offer.total for offer in able)
    if not total:
        return "no GPUs found: say gpus: in the inventory, or start CPU processes by --nodes"
    return f"--gpus {free} would fit now" if free else f"all {total} are in use: try later"


# -- from a layout and a meeting point to processes


def run_dir(root: str, run_id: str) -> str:
    """The folder of a run on a host."""
    return posixpath.join(root, "runs", run_id)


def plan(job: Job, where: Layout, meeting: Meeting, agent: str, attempt: int = 0) -> Plan:
    """Argv and env of every process. ``agent`` is the name of the agent's folder."""
    framework = frameworks.get(job.framework)
    nodes = []
    for node in where.nodes:
        place = frameworks.Place(
            job=job,
            layout=where,
            node=node,
            meeting=meeting,
            agent=posixpath.join(node.root, "agent", agent, "start.py"),
            env=environment(job, where, node, meeting, attempt),
        )
        processes = framework.processes(place)
        nodes.append(NodePlan(node, tuple(fill(process, place) for process in processes)))
    return Plan(where, meeting, job.framework, tuple(nodes))


def ports_needed(job: Job, where: Layout) -> dict[str, int]:
    """How many ports the processes of each host need for themselves."""
    framework = frameworks.get(job.framework)
    counts = {node.host.name: framework.ports(node) for node in where.nodes}
    return {name: count for name, count in counts.items() if count}


def environment(
    job: Job, where: Layout, node: Node, meeting: Meeting, attempt: int
) -> dict[str, str]:
    """What every process of a node has: the host's, then the job's, then what is computed."""
    folder = run_dir(node.root, where.run_id)
    interface = node.host.interface or meeting.interfaces.get(node.host.name)
    chosen = {"PYTHONUNBUFFERED": "1"}
    if interface:
        chosen |= {"NCCL_SOCKET_IFNAME": interface, "GLOO_SOCKET_IFNAME": interface}
    computed = {
        "LAUNCHER_RUN_ID": where.run_id,
        "LAUNCHER_RUN_DIR": folder,
        "LAUNCHER_HOST": node.host.name,
        "LAUNCHER_NODE_RANK": str(node.node_rank),
        "LAUNCHER_ATTEMPT": str(attempt),
        "LAUNCHER_OUTPUT_DIR": posixpath.join(folder, "outputs"),
    }
    if node.gpus:
        computed["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, node.gpus))
    elif node.host.gpus is not None or job.resources.gpus == 0:
        computed["CUDA_VISIBLE_DEVICES"] = ""
    return {**chosen, **node.host.env, **job.envs, **computed}


def search_path(node: Node, run_id: str) -> tuple[str, ...]:
    """Folders in front of PATH: there ``python`` and ``python3`` mean the host's Python."""
    own = posixpath.join(run_dir(node.root, run_id), "bin")
    folder = posixpath.dirname(node.python)
    return (own, folder) if folder else (own,)


# -- where hosts can meet


def master_candidates(job: Job, master: Host, facts: Facts, alone: bool) -> tuple[str, ...]:
    """Addresses of the master that others may reach, best first.

    What the user says is the only one. Then: the address of the inventory's interface, the one
    that we reached it by, the one in the inventory, all others. Loopback may be among them: hosts
    of a sandbox share one machine, and a try from every host tells.
    """
    if job.master_addr:
        return (job.master_addr,)
    if alone:
        return ("127.0.0.1",)
    own = [ip for name, ip in facts.addresses if name == master.interface]
    reached = [facts.ssh_address] if facts.ssh_address and ":" not in facts.ssh_address else []
    named = [master.address] if master.address and master.address[0].isdigit() else []
    others = [ip for _, ip in facts.addresses]
    return tuple(dict.fromkeys([*own, *reached, *named, *others]))
