"""Functions over ranks: called on every rank of a run, with what they return brought back.

    with launcher.processes(client, nodes=2, nproc_per_node=2) as ranks:
        results = ranks(train, config)

Each call is an ordinary run. The workdir is the code that travels; the function and its arguments are
added to it, and what a rank returns is a file among the outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack

from ...records.receipt import Receipt
from ...spec import given
from ...spec.errors import FunctionFailed, InputError
from ...spec.model import Job
from ..arguments import FunctionJob, RunOptions
from ..client import AsyncClient, Client
from ..jobs import job_of_words
from . import call
from .call import Returns

if TYPE_CHECKING:
    from ...runner.listeners import OnEvent, OnLog
    from ..handles import RecordedRun, RunHandle

P = ParamSpec("P")
T = TypeVar("T")


class Ranks:
    """Calls functions on every rank of a run, a run for each call. ``processes`` makes it."""

    def __init__(
        self, client: Client, job: Job, returns: Returns, options: Mapping[str, Any]
    ) -> None:
        """``options`` are arguments of ``Client.run``. Raises InputError for another client."""
        if not callable(getattr(client, "run", None)) or isinstance(client, AsyncClient):
            hint = 'with launcher.Client("inventory/lab.yaml") as client: ...'
            raise InputError(f"client: {client!r:.80} is no launcher.Client", hint)
        self._client, self._job, self._returns, self._options = client, job, returns, options

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: every call has ended, or its run goes on."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> list[T]:
        """Call a function on every rank, wait, and return what each rank returned, in their order.

        Ctrl-C lets go of the run, which goes on: ``launcher.results`` waits for it again. Raises
        FunctionFailed, InputError.
        """
        run = self.start(function, *args, **kwargs)
        try:
            return results(run)
        except KeyboardInterrupt as interrupt:
            if run.detach() is None:
                interrupt.add_note(
                    f"{run.name} goes on: launcher.results(client.attach({run.name!r}))"
                )
            raise

    def start(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RunHandle:
        """Start a run that calls a function on every rank, and return its handle for ``results``.

        Raises InputError.
        """
        workdir = Path(self._job.workdir)
        files = call.files_of(
            function, args, kwargs, workdir, self._returns, may_import_more=self._may_import_more()
        )
        return self._client.run(
            replace(self._job, name=self._job.name or _name_of(function)),
            add_files=files,
            **self._options,
        )

    def _may_import_more(self) -> bool:
        """Return whether ranks may have modules that are neither installed here nor in the workdir."""
        job, hosts = self._job, self._client.inventory.hosts
        said = (job.python, job.environment, job.setup, job.prepare, job.modules)
        return any(said) or any("PYTHONPATH" in one for one in (job.envs, *(h.env for h in hosts)))


def _name_of(function: Callable[..., Any]) -> str:
    """Return how a run of a function is called: by its name, as far as a folder may be."""
    name = getattr(function, "__name__", type(function).__name__)
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "function"


def processes(
    client: Client,
    *,
    returns: Returns = "pickle",
    detach: bool = False,
    options: RunOptions | None = None,
    on_event: OnEvent | None = None,
    on_log: OnLog | None = None,
    **job: Unpack[FunctionJob],
) -> Ranks:
    """Return what calls functions on every rank of runs of a client.

    ``job`` says on how many ranks: its keys are those of ``FunctionJob``. With ``returns="json"``
    functions return JSON values, and nothing that a host sends is unpickled. ``detach``, callbacks and
    options are those of ``Client.run``. Raises InputError.
    """
    how = {"detach": detach, "on_event": on_event, "on_log": on_log}
    how |= given.values(RunOptions, options or {})
    return Ranks(client, job_of(job), returns, how)


def job_of(wanted: FunctionJob) -> Job:
    """Return the job of a function: each rank is a process with torch's variables. Raises InputError."""
    given.names(FunctionJob, wanted)
    return job_of_words(("-m", call.PACKAGE), {**wanted, "framework": "torch"})


def results(run: RunHandle) -> list[Any]:
    """Wait for the run of a function, and return what each rank returned, in their order.

    It may be a run of another program of this machine, from ``Client.attach``. Raises FunctionFailed,
    and InputError for a run that this machine has not started with a function.
    """
    returns = call.returns_of(run.folder / "added")
    if returns is None:
        raise InputError(
            f"{run.name} calls no function, or another machine started it",
            "launcher.processes starts one",
        )
    receipt = run.wait()
    attempt = run.state().attempt
    if receipt.status != "succeeded":
        raise _failed(run, receipt, attempt)
    return [_value(run, receipt, attempt, rank, returns) for rank in range(receipt.world_size)]


def _value(run: RecordedRun, receipt: Receipt, attempt: int, rank: int, returns: str) -> Any:
    try:
        return call.value_of(run.folder / "outputs", attempt, rank, returns)
    except FileNotFoundError:
        hint = (
            "" if receipt.outputs_complete else f"launcher pull {run.name} brings what is missing"
        )
        why = (
            f"rank {rank} ended without returning"
            if not hint
            else f"what rank {rank} returned is not here"
        )
        raise FunctionFailed(run.name, why, hint) from None
    except Exception as error:  # whatever loading a value raises
        raise FunctionFailed(
            run.name,
            f"what rank {rank} returned cannot be loaded here: {type(error).__name__}: {error}",
            "return plain values, and tensors of the CPU",
        ) from error


def _failed(run: RecordedRun, receipt: Receipt, attempt: int) -> FunctionFailed:
    """Return the error of the rank that failed first, with its traceback as a note."""
    first = receipt.failure
    if first is None:
        why = receipt.error or f"the run ended as {receipt.status} ({receipt.reason})"
        return FunctionFailed(run.name, why, receipt.hint)
    said = (
        call.error_of(run.folder / "outputs", attempt, first.rank)
        if first.rank is not None
        else None
    )
    what = f"{said.type}: {said.message}" if said else first.cause or first.meaning
    failed = FunctionFailed(run.name, f"{first.key} on {first.host}: {what}", first.hint)
    failed.rank, failed.host = first.rank, first.host
    if said:
        failed.traceback = said.traceback
        failed.add_note(said.traceback.rstrip())
    return failed
