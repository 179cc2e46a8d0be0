"""Plan a run: its hosts, ranks and GPUs, and argv and env of every process."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from .. import frameworks
from ..spec.errors import PlanError
from ..spec.frozen import frozen
from ..spec.model import Facts, Host, Job, Layout, Meeting, Node, NodePlan, Plan, holder_text
from . import placement
from .interpolation import fill

LOOPBACK = "lo"
#: For what runs before the rendezvous.
NOWHERE = Meeting("", 0)
#: The most hosts that an error lists one by one.
LISTED = 8


@frozen
class Offer:
    """A host with its free GPUs; ``taken`` names who holds the others."""

    host: Host
    gpus: tuple[int, ...]
    total: int
    taken: str = ""


def offers(hosts: Sequence[Host], facts: Mapping[str, Facts]) -> tuple[Offer, ...]:
    """Return what each host offers. Raises PlanError if the inventory claims more GPUs than exist."""
    return tuple(_offer(host, facts.get(host.name)) for host in hosts)


def _offer(host: Host, facts: Facts | None) -> Offer:
    found = [gpu.index for gpu in facts.gpus] if facts else []
    if host.gpus is not None and found and host.gpus > len(found):
        raise PlanError(
            f"{host.name}: the inventory says {host.gpus} GPUs, nvidia-smi finds {len(found)}",
            f"set gpus: {len(found)} in the inventory, or leave it out",
        )
    count = len(found) if host.gpus is None else host.gpus
    indices = (found or list(range(count)))[:count]
    leased = facts.leased if facts else {}
    free = tuple(index for index in indices if index not in leased)
    holders = {holder_text(holder) for index, holder in leased.items() if index in indices}
    return Offer(host, free, count, ", ".join(sorted(holders)))


def layout(
    job: Job, hosts: Sequence[Host], facts: Mapping[str, Facts], run_id: str = "dry-run"
) -> Layout:
    """Return nodes with their ranks and GPUs. Raises PlanError if the job does not fit.

    ``resources.gpus`` alone chooses the fewest hosts: whole ones from the largest down, then the
    smallest that holds the rest. Otherwise the job gets ``num_nodes`` hosts (default: all that
    ``--hosts`` selects, else 1), each with ``nproc_per_node`` processes or one per GPU. Without
    facts (a dry run) the inventory is trusted.
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
    """Spread ``gpus`` over the fewest hosts; the last one is the smallest that suffices."""
    free = sum(len(offer.gpus) for offer in able)
    if free < gpus:
        raise PlanError(f"--gpus {gpus}: {_free_gpus(able)}", _what_would_fit(able))
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
            each = -(-gpus // count)
            raise PlanError(
                f"--gpus {gpus} is the total and cannot be split evenly over {count} hosts",
                f"--gpus {each * count} is {each} for each host; "
                "without --nodes, hosts may get different numbers",
            )
        if per_node is not None and gpus != per_node * count:
            raise PlanError(
                f"--gpus {gpus} contradicts --nodes {count} x --nproc-per-node {per_node} "
                f"(= {count * per_node})",
                "leave one of them out",
            )
        per_node = gpus // count
    if count > len(able):
        names = ", ".join(offer.host.name for offer in able)
        exist = f"are only {len(able)} hosts" if len(able) != 1 else "is only 1 host"
        raise PlanError(f"--nodes {count}: there {exist} ({names})")
    use_gpus = gpus != 0
    fitting = [offer for offer in able if _fits(offer, per_node, use_gpus, bool(gpus))]
    if len(fitting) < count:
        raise _too_few(able, count, per_node, bool(gpus))
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


def _too_few(able: Sequence[Offer], count: int, per_node: int | None, gpus: bool) -> PlanError:
    """Return the error that too few hosts have enough free GPUs."""
    if per_node is None:
        wanted = "a free GPU"
    else:
        wanted = f"{per_node} free GPU" + ("s" if per_node != 1 else "")
    hosts = "1 host" if count == 1 else f"{count} hosts"
    listed = [f"{offer.host.name} {len(offer.gpus)} of {offer.total} free" for offer in able]
    if len(listed) > LISTED:
        listed[LISTED:] = [f"and {len(listed) - LISTED} more"]
    hint = _what_would_fit(able) if gpus else "--gpus 0 starts CPU processes on hosts with GPUs"
    return PlanError(
        f"{hosts} with {wanted} each: {_free_gpus(able)} ({'; '.join(listed)})",
        hint,
    )


def _free_gpus(able: Sequence[Offer]) -> str:
    """Return how many GPUs are free, and who holds the others."""
    total = sum(offer.total for offer in able)
    free = sum(len(offer.gpus) for offer in able)
    holders = ", ".join(dict.fromkeys(offer.taken for offer in able if offer.taken))
    by = f" by {holders}" if holders else ""
    if not total:
        return "the hosts have no GPUs"
    if free == total:
        return f"the hosts have only {total} GPU{'s' if total != 1 else ''}"
    if free:
        others = f"; the others are in use{by}" if holders else ""
        return f"only {free} of {total} GPUs {'is' if free == 1 else 'are'} free{others}"
    if total == 1:
        return f"the only GPU is in use{by}"
    return f"{'both' if total == 2 else f'all {total}'} GPUs are in use{by}"


def _what_would_fit(able: Sequence[Offer]) -> str:
    if not any(offer.total for offer in able):
        return "set gpus: in the inventory, or start CPU processes with --nodes"
    free = sum(len(offer.gpus) for offer in able)
    return f"--gpus {free} would fit now" if free else "wait until they are free"


# -- from a layout and a meeting point to processes


def run_dir(root: str, run_id: str) -> str:
    """Return the folder of a run on a host."""
    return posixpath.join(root, "runs", run_id)


def plan(job: Job, where: Layout, meeting: Meeting, agent: str, attempt: int = 0) -> Plan:
    """Return argv and env of every process. ``agent`` is the name of the agent's folder."""
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
    """Return how many ports the processes of each host need for themselves."""
    framework = frameworks.get(job.framework)
    counts = {node.host.name: framework.ports(node) for node in where.nodes}
    return {name: count for name, count in counts.items() if count}


def environment(
    job: Job, where: Layout, node: Node, meeting: Meeting, attempt: int
) -> dict[str, str]:
    """Return the variables of a node's processes: the host's, the job's, then computed ones."""
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
    """Return the folders to put before PATH, so that ``python`` is the host's Python."""
    own = posixpath.join(run_dir(node.root, run_id), "bin")
    folder = posixpath.dirname(node.python)
    return (own, folder) if folder else (own,)


# -- the rendezvous


def master_candidates(job: Job, master: Host, facts: Facts, alone: bool) -> tuple[str, ...]:
    """Return addresses at which the others may reach the master, best first.

    An address from the user is the only one. Otherwise: the address of the inventory's interface,
    the one this machine connected to, the one in the inventory, and all others. Loopback stays in:
    hosts of a sandbox share one machine, and every host tries the address before it is used.
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
