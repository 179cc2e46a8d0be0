"""Lay out a run: which hosts are which nodes, with which GPUs and ranks.

Roles are placed by :mod:`launcher.jobs.placement`; a job without roles is laid out here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import frameworks
from ..spec import gpu_models, nodeset
from ..spec.errors import GpusInUse, PlanError
from ..spec.frozen import frozen
from ..spec.gpus import are_one, fold, is_index, is_mig
from ..spec.model import OUTSIDE, Facts, Host, Job, Layout, Node, holder_text
from . import placement
from .environments import unable
from .gpus import Usable, foreign, unknown, usable

#: The most processes of one run, so that a slip of the finger costs an error and not all memory.
MOST_PROCESSES = 16_384
#: The most hosts that an error lists one by one.
LISTED = 8
#: Where the size of a job comes from that is run again: see ``Job.sources``.
RERUN = "rerun"
_KEEPS = "a rerun keeps the number of ranks"


@frozen
class Offer:
    """A host with its free GPUs; ``taken`` names who holds the others."""

    host: Host
    gpus: tuple[int, ...]
    total: int
    taken: str = ""
    usable: Usable = Usable(())

    def of(self, gpus: Sequence[int]) -> dict[str, Any]:
        """Return the fields of a node that has these GPUs."""
        calls = self.usable.names
        names = tuple(calls.get(index, str(index)) for index in gpus)
        return {"gpus": tuple(gpus), "gpu_names": names, "vendor": self.usable.vendor}


def offers(
    hosts: Sequence[Host], facts: Mapping[str, Facts], job: Job | None = None
) -> tuple[Offer, ...]:
    """Return what each host offers to a job. Raises PlanError if the inventory claims GPUs that do
    not exist."""
    return tuple(_offer(host, facts.get(host.name), job) for host in hosts)


def _offer(host: Host, facts: Facts | None, job: Job | None) -> Offer:
    wanted, model = (job.resources.gpu_ids, job.resources.gpu_model) if job else ((), None)
    there = usable(host, facts, wanted, model)
    leased = facts.leased if facts else {}
    holders = {
        index: holder
        for index in there.indices
        for held, holder in leased.items()
        if are_one(index, held)
    }
    free = tuple(index for index in there.indices if index not in holders)
    total = len(there.gpus)
    if not wanted and not (job and job.roles):
        free, total = _of_one_kind(free, there.indices)
    texts = {holder_text(holder) for holder in holders.values()}
    return Offer(host, free, total, ", ".join(sorted(texts)), there)


def _of_one_kind(free: tuple[int, ...], all_: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return the free GPUs that one program can use together, and how many there are in all.

    CUDA gives a process whole GPUs, or a single MIG instance.
    """
    whole = [index for index in all_ if not is_mig(index)]
    if whole or not all_:
        return tuple(index for index in free if not is_mig(index)), len(whole)
    return free[:1], 1


def _check_size(job: Job, hosts: int) -> None:
    count = sum(role.replicas for role in job.roles)
    count = max(count, (job.resources.nproc_per_node or 1) * min(job.num_nodes or 1, hosts))
    if count > MOST_PROCESSES:
        raise PlanError(
            f"{count:,} processes are more than a run may have ({MOST_PROCESSES:,})",
            "is --nproc-per-node, or replicas: of a role, what you meant?",
        )


def make_layout(
    job: Job,
    hosts: Sequence[Host],
    facts: Mapping[str, Facts],
    run_id: str = "dry-run",
    only_idle: bool = False,
) -> Layout:
    """Return nodes with their ranks and GPUs. Raises PlanError if the job does not fit.

    ``resources.gpus`` alone chooses the fewest hosts: whole ones from the largest down, then the
    smallest that holds the rest. Otherwise the job gets ``num_nodes`` hosts (default: all that
    ``--hosts`` selects, else 1), each with ``nproc_per_node`` processes or one per GPU. Without
    facts (a dry run) the inventory is trusted. GPUs on which somebody works outside launcher are
    taken last, and not at all with ``only_idle``. Raises GpusInUse for a job that would fit if all
    GPUs were free.
    """
    _check_size(job, len(hosts))
    try:
        return _on_free_gpus(job, hosts, facts, run_id, only_idle)
    except PlanError as error:
        if not _would_fit_if_free(job, hosts, facts, run_id):
            raise
        raise GpusInUse(error.message, _hint(error.hint, facts)) from None


def on_fewer(job: Job, count: int) -> Job:
    """Return an elastic job as if it wanted so many hosts: each of them has what it would have."""
    wanted = job.resources
    gpus = wanted.gpus and wanted.gpus * count // (job.num_nodes or 1)
    return replace(job, num_nodes=count, resources=replace(wanted, gpus=gpus))


def _hint(hint: str, facts: Mapping[str, Facts]) -> str:
    outside = any(OUTSIDE in one for known in facts.values() for one in known.leased.values())
    shares = "--ignore-foreign shares GPUs with programs outside launcher" if outside else ""
    return "; ".join(filter(None, (hint, shares)))


def _would_fit_if_free(
    job: Job, hosts: Sequence[Host], facts: Mapping[str, Facts], run_id: str
) -> bool:
    free = {name: replace(known, leased={}) for name, known in facts.items()}
    try:
        _laid_out(job, offers(hosts, free, job), free, run_id)
    except PlanError:
        return False
    return True


def _on_free_gpus(
    job: Job, hosts: Sequence[Host], facts: Mapping[str, Facts], run_id: str, only_idle: bool
) -> Layout:
    able = offers(hosts, facts, job)
    _check_model(job, able, facts)
    idle = tuple(_without_foreign(offer, facts.get(offer.host.name)) for offer in able)
    if idle == able or job.resources.gpu_ids:
        return _laid_out(job, able, facts, run_id)
    try:
        return _laid_out(job, idle, facts, run_id)
    except PlanError:
        if only_idle:
            raise
        return _laid_out(job, able, facts, run_id)


def _check_model(job: Job, able: Sequence[Offer], facts: Mapping[str, Facts]) -> None:
    """Raise PlanError for a model of GPUs that no host has."""
    model = job.resources.gpu_model
    if model is None or any(offer.total for offer in able):
        return
    there: dict[str, list[str]] = {}
    for offer in able:
        known = facts.get(offer.host.name)
        found = known.gpus if known else usable(offer.host, None).gpus
        if kinds := gpu_models.tally(gpu.name for gpu in found):
            there.setdefault(kinds, []).append(offer.host.name)
    listed = "; ".join(f"{nodeset.fold(names)} {kinds}" for kinds, names in there.items())
    raise PlanError(
        f"{_typed(job)}: no host has GPUs of that model", f"there are: {listed or 'none'}"
    )


def _without_foreign(offer: Offer, facts: Facts | None) -> Offer:
    used = foreign(facts)
    return replace(offer, gpus=tuple(index for index in offer.gpus if index not in used))


def _laid_out(job: Job, able: Sequence[Offer], facts: Mapping[str, Facts], run_id: str) -> Layout:
    """Return the layout of a job on what hosts offer. Raises PlanError."""
    if job.roles:
        return _of_roles(job, able, facts, run_id)
    gpus, per_node = job.resources.gpus, job.resources.nproc_per_node
    if job.resources.gpu_ids:
        counts = _named(job, able)
    elif gpus and job.num_nodes is None and per_node is None:
        counts = _spread(job, able, gpus)
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
                **offer.of(offer.gpus[:processes] if with_gpus else ()),
                root=known.root if known else offer.host.workdir,
                python=known.python if known else offer.host.python,
                containers=known.containers if known else {},
                pythons=known.pythons if known else {},
            )
        )
        offset += processes
        _check_mig(nodes[-1].host.name, nodes[-1].gpus)
    return Layout(run_id, tuple(nodes))


def _check_mig(host: str, gpus: Sequence[int]) -> None:
    """Raise PlanError for GPUs that CUDA does not give to one program."""
    if len(gpus) > 1 and any(map(is_mig, gpus)):
        raise PlanError(
            f"{host}: GPU {fold(gpus)} cannot be used together: CUDA gives a program whole GPUs, or "
            "a single MIG instance",
            "name one MIG instance, or start a run for each",
        )


def _of_roles(job: Job, able: Sequence[Offer], facts: Mapping[str, Facts], run_id: str) -> Layout:
    """Return nodes with the processes of roles, those of primary roles first. Raises PlanError."""
    capacities = []
    for offer in able:
        known = facts.get(offer.host.name)
        cpus, memory = (known.cpus, known.memory or None) if known else (None, None)
        lacks = unable(job, offer.host, known.pythons) if known else frozenset[str]()
        capacities.append(placement.Capacity(offer.host.name, offer.gpus, cpus, memory, lacks))
    cast = frameworks.get(job.framework).cast or frameworks.Cast()
    placed_hosts = placement.place(job.roles, capacities, job.num_nodes, cast.own_ranks, cast.first)
    nodes: list[Node] = []
    for placed in placed_hosts:
        offer = next(offer for offer in able if offer.host.name == placed.host)
        host = offer.host
        known = facts.get(host.name)
        for task in placed.tasks:
            _check_mig(host.name, task.gpus)
        nodes.append(
            Node(
                host=host,
                node_rank=len(nodes),
                local_world_size=sum(task.size for task in placed.tasks),
                rank_offset=placed.tasks[0].rank,
                **offer.of([gpu for task in placed.tasks for gpu in task.gpus]),
                root=known.root if known else host.workdir,
                python=known.python if known else host.python,
                containers=known.containers if known else {},
                pythons=known.pythons if known else {},
                tasks=placed.tasks,
            )
        )
    return Layout(run_id, tuple(nodes))


_Counts = list[tuple[Offer, int, bool]]


def _typed(job: Job) -> str:
    """Return the number of GPUs as the user wrote it: a flag, or a key of the file."""
    count = gpu_models.count_text(job.resources.gpu_model, job.resources.gpus or 0)
    return f"gpus: {count}" if _in_file(job) else f"--gpus {count}"


def _is_rerun(job: Job) -> bool:
    return job.sources.get("resources") == RERUN


def _in_file(job: Job) -> bool:
    return job.sources.get("resources") in ("file", "argument")


def _spread(job: Job, able: Sequence[Offer], gpus: int) -> _Counts:
    """Spread ``gpus`` over the fewest hosts; the last one is the smallest that suffices."""
    free = sum(len(offer.gpus) for offer in able)
    if free < gpus:
        model = job.resources.gpu_model
        never = sum(offer.total for offer in able) < gpus
        hint = _what_would_fit(able, model, never)
        if _is_rerun(job):
            hint = f"{_KEEPS}; {hint}"
        raise PlanError(f"{_typed(job)}: {_free_gpus(able, model, never)}", hint)
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
    return [(offer, taken[offer.host.name], True) for offer in able if offer.host.name in taken]


def _named(job: Job, able: Sequence[Offer]) -> _Counts:
    """Return the hosts that have all GPUs of ``gpu_ids``; UUIDs may be spread over several."""
    identities = job.resources.gpu_ids
    places = [identity for identity in identities if is_index(identity)]
    _check_identities(job, able)
    having = [o for o in able if o.usable.gpus and not unknown(places, o.usable.gpus)]
    usual = 1 if len(places) == len(identities) else len(having)
    count = job.num_nodes or (len(able) if job.hosts else usual)
    free = [offer for offer in having if len(offer.gpus) == offer.total]
    if len(free) < count:
        hosts = "1 host" if count == 1 else f"{count} hosts"
        listed = ", ".join(identities)
        if len(having) < count:
            names = ", ".join(offer.host.name for offer in having) or "none"
            raise PlanError(
                f"--gpu-ids {listed}: {hosts} wanted, and {names} has them all",
                "fewer --nodes, or other GPUs: launcher gpus shows what each host has",
            )
        raise PlanError(f"--gpu-ids {listed}: {_free_gpus(having)}", "wait, or name other GPUs")
    chosen_hosts = free[:count]
    for offer in chosen_hosts:
        per_node = job.resources.nproc_per_node
        if per_node not in (None, offer.total):
            raise PlanError(
                f"--nproc-per-node {per_node} contradicts --gpu-ids {','.join(identities)}: "
                f"{offer.host.name} has {offer.total} of them",
                "leave one of them out",
            )
    return [(offer, offer.total, True) for offer in chosen_hosts]


def _check_identities(job: Job, able: Sequence[Offer]) -> None:
    """Raise PlanError for a name of ``gpu_ids`` that no host knows."""
    everywhere = [gpu for offer in able for gpu in offer.usable.gpus]
    for identity in unknown(job.resources.gpu_ids, everywhere):
        if not any(gpu for gpu in everywhere if not unknown([identity], [gpu])):
            there = "; ".join(
                f"{offer.host.name} {fold(offer.usable.names) or 'none'}" for offer in able[:LISTED]
            )
            raise PlanError(f"--gpu-ids {identity}: no host has that GPU (usable: {there})")


def _by_hand(job: Job, able: Sequence[Offer]) -> _Counts:
    gpus, per_node = job.resources.gpus, job.resources.nproc_per_node
    count = job.num_nodes or (len(able) if job.hosts else 1)
    if gpus and per_node and job.num_nodes is None and gpus % per_node == 0:
        count = gpus // per_node
    if gpus:
        check_split(job, count)
        per_node = gpus // count
    if count > len(able):
        names = ", ".join(offer.host.name for offer in able)
        exist = f"are only {len(able)} hosts" if len(able) != 1 else "is only 1 host"
        raise PlanError(f"--nodes {count}: there {exist} ({names})")
    use_gpus = gpus != 0
    fitting = [offer for offer in able if _fits(offer, per_node, use_gpus, bool(gpus))]
    if len(fitting) < count:
        raise _too_few(job, able, count, per_node)
    return [
        (offer, per_node or max(1, len(offer.gpus) if use_gpus else 1), _has_gpus(offer, use_gpus))
        for offer in fitting[:count]
    ]


def check_split(job: Job, count: int) -> None:
    """Raise PlanError for a total of GPUs that so many hosts cannot share evenly."""
    gpus, per_node, typed = job.resources.gpus or 0, job.resources.nproc_per_node, _typed(job)
    if gpus % count and per_node is None:
        each = -(-gpus // count)
        whole = gpu_models.count_text(job.resources.gpu_model, each * count)
        key, nodes = ("gpus:", "num_nodes:") if _in_file(job) else ("--gpus", "--nodes")
        raise PlanError(
            f"{typed} is the total and cannot be split evenly over {count} hosts",
            f"{key} {whole} is {each} for each host; "
            f"without {nodes}, hosts may get different numbers",
        )
    if per_node is not None and gpus != per_node * count:
        raise PlanError(
            f"{typed} contradicts --nodes {count} x --nproc-per-node {per_node} "
            f"(= {count * per_node})",
            "leave one of them out",
        )


def _has_gpus(offer: Offer, use_gpus: bool) -> bool:
    return use_gpus and offer.total > 0


def _fits(offer: Offer, per_node: int | None, use_gpus: bool, must_have: bool) -> bool:
    if not _has_gpus(offer, use_gpus):
        return not must_have
    return len(offer.gpus) >= (per_node or 1)


def _too_few(job: Job, able: Sequence[Offer], count: int, per_node: int | None) -> PlanError:
    """Return the error that too few hosts have enough free GPUs."""
    model = job.resources.gpu_model
    kind = f"{model} GPU" if model else "GPU"
    if per_node is None:
        wanted = f"a free {kind}"
    else:
        wanted = f"{per_node} free {kind}" + ("s" if per_node != 1 else "")
    hosts = "1 host" if count == 1 else f"{count} hosts"
    listed = [f"{offer.host.name} {len(offer.gpus)} of {offer.total} free" for offer in able]
    if len(listed) > LISTED:
        listed[LISTED:] = [f"and {len(listed) - LISTED} more"]
    never = sum(offer.total >= (per_node or 1) for offer in able) < count
    hints = [_what_would_fit(able, model, never)] if job.resources.gpus or per_node else []
    if _is_rerun(job):
        hints.insert(0, _KEEPS)
    elif not job.resources.gpus:
        hints.append("--gpus 0 starts CPU processes on hosts with GPUs")
    return PlanError(
        f"{hosts} with {wanted} each: {_free_gpus(able, model)} ({'; '.join(listed)})",
        "; ".join(hints),
    )


def _free_gpus(able: Sequence[Offer], model: str | None = None, never: bool = False) -> str:
    """Return how many GPUs, of a model, are free, and who holds the others; ``never`` if all of them
    were too few."""
    kind = f"{model} GPU" if model else "GPU"
    total = sum(offer.total for offer in able)
    free = sum(len(offer.gpus) for offer in able)
    holders = ", ".join(dict.fromkeys(offer.taken for offer in able if offer.taken))
    by = f" by {holders}" if holders else ""
    if not total:
        return "the hosts have no GPUs"
    if never or free == total:
        return f"the hosts have only {total} {kind}{'s' if total != 1 else ''}"
    if free:
        others = f"; the others are in use{by}" if holders else ""
        return f"only {free} of {total} {kind}s {'is' if free == 1 else 'are'} free{others}"
    if total == 1:
        return f"the only {kind} is in use{by}"
    return f"{'both' if total == 2 else f'all {total}'} {kind}s are in use{by}"


def _what_would_fit(able: Sequence[Offer], model: str | None, never: bool) -> str:
    total = sum(offer.total for offer in able)
    if not total:
        return "set gpus: in the inventory, or start CPU processes with --nodes"
    free = sum(len(offer.gpus) for offer in able)
    fits, most = (gpu_models.count_text(model, count) for count in (free, total))
    if never and not free:
        return f"--gpus {most} would fit once they are free"
    later = f"; {most} once all are free" if never and free < total else ""
    return f"--gpus {fits} would fit now{later}" if free else "--wait forever waits for them"
