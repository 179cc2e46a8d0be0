"""Try a job on more and more hosts, and compare the rates."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..fleet.sandbox import sandbox_of
from ..records.receipt import Receipt
from ..runner.requests import make_request
from ..runner.scaling.compare import Comparison, Row, Trial, caution, compare
from ..runner.scaling.rates import pattern
from ..spec import nodeset
from ..spec.errors import InputError
from ..spec.inventory import select
from ..spec.model import Inventory, Job, Request

if TYPE_CHECKING:
    from ..runner.scaling.trials import Trials as Trials
    from .arguments import RunOptions

__all__ = [
    "Comparison",
    "Row",
    "Trial",
    "caution",
    "compare",
    "pattern",
    "requests_for",
    "sandbox_of",
    "trials_of",
]

#: Seconds after which hosts stop a trial on their own when the process that follows it is gone.
ORPHAN_TIMEOUT = 60.0
#: Options of a run that a trial has: it is over before the others could matter.
OF_TRIALS = frozenset({"check", "ignore_foreign", "lost_after", "priority", "project"})


def requests_for(
    job: Job,
    inventory: Inventory,
    sizes: str | None = None,
    *,
    command_line: tuple[str, ...] = (),
    ask_passphrase: Callable[[str], Awaitable[str | None]] | None = None,
    options: RunOptions | None = None,
) -> list[Request]:
    """Return a request for every number of hosts, all validated before the first one starts.

    ``sizes`` are numbers such as ``1,2,4-8``; None takes powers of two and all hosts. Of the run's
    ``options`` a trial has those of :data:`OF_TRIALS`. Raises InputError.
    """
    if job.roles:
        raise InputError(
            "the job's roles fix the number of processes, so more hosts change nothing",
            "launcher scale needs a job without roles:",
        )
    if job.resources.gpus:
        raise InputError(
            f"gpus: {job.resources.gpus} is the total over all hosts, the same in every trial",
            "give the number for each host instead: nproc_per_node",
        )
    found = []
    for number in _sizes(sizes, len(select(inventory, job.hosts))):
        one = replace(job, num_nodes=number, elastic=None, max_restarts=0, min_nodes=None)
        given = {name: value for name, value in (options or {}).items() if name in OF_TRIALS}
        asking = {"command_line": command_line, "ask_passphrase": ask_passphrase}
        found.append(make_request(one, inventory, orphan_timeout=ORPHAN_TIMEOUT, **asking, **given))
    return found


def _sizes(text: str | None, hosts: int) -> list[int]:
    if text is None:
        powers = [1 << place for place in range(hosts.bit_length()) if 1 << place <= hosts]
        return sorted({*powers, hosts})
    try:
        found = sorted(nodeset.expand_ranks(text))
    except ValueError as error:
        raise InputError(f"--nodes: {error}", "--nodes 1,2,4") from None
    if not found or found[0] < 1:
        raise InputError(f"--nodes {text}: a trial needs at least 1 host", "--nodes 1,2,4")
    return found


def trials_of(
    seconds: float,
    warmup: float,
    own: re.Pattern[str] | None = None,
    per_rank: bool = False,
    *,
    started: Callable[[int, str], None] = lambda nodes, run: None,
    ended: Callable[[Trial, Receipt], None] = lambda trial, receipt: None,
) -> Trials:
    """Return trials: ``all(requests)`` runs one after the other, ``stop()`` ends them early.

    ``seconds`` count from the start of all processes, ``warmup`` from the first rate. ``own`` is the
    format of a rate; with ``per_rank`` it is one rank's. ``started`` gets the number of hosts and the
    run's name, ``ended`` each trial and its receipt.
    """
    from ..runner.scaling.trials import (  # imports asyncssh, which takes a third of a second
        Terms,
        Trials,
    )

    return Trials(Terms(seconds, warmup, own, per_rank), started, ended)
