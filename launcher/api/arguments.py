"""What clients take by name: options of runs, and values of their jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class RunOptions(TypedDict, total=False):
    """Options of a run. All times are in seconds."""

    pull_every: float
    """Bring outputs back this often during the run. Default: 30."""
    lost_after: float
    """Treat a host as lost after this long without an answer. Default: 300."""
    orphan_timeout: float | None
    """Hosts stop the run when no launcher contacted them for this long. Default: never."""
    stall_timeout: float | None
    """Report when no rank makes progress for this long. Default: 600."""
    stop_stalled: bool
    """Stop a run that stalls. Default: False."""
    notify: Sequence[str]
    """Tell a person about the end, a stall and lost hosts: by webhooks (URLs, which get JSON),
    ``desktop``, ``NAME:WHERE`` for a plug-in, and commands for ``sh``. It stays on this
    machine. Default: nobody."""
    tags: Sequence[str]
    """Words to find the run by: ``Wanted(tags=...)``. Default: none."""
    note: str
    """A text about the run. Default: none."""
    code_copy: str | None
    """A folder here with a copy of the job's workdir, as a sweep makes it, to execute in its place.
    Default: none."""
    max_rate: int
    """What travels between this machine and the hosts keeps to so many bytes a second. Default: 0, no
    limit."""
    columns: int
    """Columns of the terminal that shows the run: what its ranks print may fit beside labels."""
    check: bool
    """Check the hosts before the start, and refuse those that cannot run the job. Default: True."""
    wait: float | None
    """Wait for GPUs in use for this long; None: for as long as it takes. Default: 0,
    fail at once."""
    priority: int
    """Whose turn comes first: 1 before 0 before -1. Default: 0."""
    continue_from: str
    """Give the hosts the outputs of an earlier run first, at the same paths: ``RUN``, or ``RUN:PATH``
    for some of them. Default: none."""
    time_limit: float | None
    """Hosts end the run after this long. Others can plan with it. Default: never."""
    not_before: float | None
    """Begin at this moment at the earliest, in seconds since the epoch. Default: at once."""
    stdin: bool
    """Rank 0 reads what this program has on its stdin. Default: False, it reads nothing."""
    project: str | None
    """The project of the inventory in whose name it uses GPUs. Default: none, and no quota."""
    preemptible: bool
    """Borrow GPUs beyond the quota of the project, and give them back when others need them: the run
    then waits again, and continues. Default: False."""
    ignore_foreign: bool
    """Share GPUs with programs outside launcher, where no others are free. Default: False."""


class FunctionJob(TypedDict, total=False):
    """Where processes run, and in what: ``nodes``, ``nproc_per_node`` and ``gpus`` as the options of
    ``launcher run``, the others as the keys of a job file."""

    nodes: int
    """So many hosts. Default: all of the inventory."""
    nproc_per_node: int
    """So many ranks on each. Default: one for each GPU, or one."""
    gpus: int | str
    """So many GPUs in all, or of a model: ``A100:4``."""
    workdir: str
    """The code that travels. Default: the current folder."""
    name: str
    """Start of the run's name. Default: that of the function."""
    hosts: str
    python: str
    envs: Mapping[str, str | int | float]
    """Environment variables. Numbers, True and False are written as in a job file."""
    env: Mapping[str, str | int | float]
    """Another name of ``envs``."""
    secrets: Mapping[str, Any]
    setup: str
    outputs: Sequence[str]
    resources: Mapping[str, Any]
    max_restarts: int
    min_nodes: int
    grace: float


class RunArguments(RunOptions, FunctionJob, total=False):
    """What ``Client.run`` takes: options of a run and, with a command in place of a ``Job``, values of
    its job."""

    framework: str
    """How its processes are started. Default: ``torchrun``."""


class RerunOptions(TypedDict, total=False):
    """What may differ when a run is run again."""

    arguments: Sequence[str] | None
    """They take the place of those of its script."""
    hosts: str | None
    """Other hosts of its inventory, as ``--hosts`` selects them."""
    gpus: int | str | None
    """Another total of GPUs, also of one model (``A100:4``), for which launcher chooses the hosts."""
    from_checkpoint: bool
    """Give the hosts the outputs of the run first, as after a restart: a script that loads its
    checkpoint from there continues. Default: False."""
    tags: Sequence[str]
    """Words to find the new run by. Default: none."""
    note: str
    """A text about the new run. Default: none."""
