"""Which GPUs of its hosts a run has not taken, and why; and those that it shares. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...jobs.gpus import foreign, usable, users_text
from ...records.events import GpusPassedOver
from ...records.reasons import PassedOver
from ...spec.gpus import are_one, is_mig
from ...spec.model import OUTSIDE, Facts, Job, Node, holder_text


def passed_over(job: Job, node: Node, facts: Facts, now: float) -> list[GpusPassedOver]:
    """Return what to tell about the GPUs of a host: also who holds them, where the job takes what is
    free and so has another size than on another day."""
    if job.resources.gpus == 0:
        return []
    host, found = node.host.name, []
    there = usable(node.host, facts, (), job.resources.gpu_model)
    if there.outside:
        why = PassedOver.ENVIRONMENT
        found.append(GpusPassedOver(now, host, there.outside, why, there.bound))
    taken = total = 0
    if takes_what_is_free(job) and not any(map(is_mig, there.indices)):
        taken, total = len(node.gpus), len(there.indices)
        found += _held(there.indices, node, facts, now)
    uses = {index: use for index, use in foreign(facts).items() if index in there.indices}
    awaited = {index for index, holder in facts.leased.items() if OUTSIDE in holder}
    for gpus, why in (
        (set(uses) & set(node.gpus) - awaited, PassedOver.SHARED),
        (set(uses) - set(node.gpus), PassedOver.FOREIGN),
    ):
        if gpus:
            by = users_text(use for index in sorted(gpus) for use in uses[index])
            counts = (taken, total) if why is PassedOver.FOREIGN else (0, 0)
            found.append(GpusPassedOver(now, host, tuple(sorted(gpus)), why, by, *counts))
    return found


def takes_what_is_free(job: Job) -> bool:
    """Return whether the number of a job's ranks is that of the GPUs that happen to be free."""
    wanted = job.resources
    named = wanted.gpus is not None or wanted.nproc_per_node or wanted.gpu_ids
    return not (named or job.roles)


def _held(indices: Sequence[int], node: Node, facts: Facts, now: float) -> Iterable[GpusPassedOver]:
    holders = {
        index: holder_text(holder)
        for index in indices
        for held, holder in facts.leased.items()
        if are_one(index, held) and index not in node.gpus and OUTSIDE not in holder
    }
    if holders:
        by = ", ".join(sorted(set(holders.values())))
        counts = (len(node.gpus), len(indices))
        gpus = tuple(sorted(holders))
        yield GpusPassedOver(now, node.host.name, gpus, PassedOver.HELD, by, *counts)
