"""Sweeps: one job with many values, each trial an ordinary run."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from ..frameworks.slurm import ELEMENT, number
from ..jobs import matrix, sweep_file
from ..jobs.matrix import Trial
from ..jobs.sweep_file import PRUNERS, SAMPLERS, Settings, Sweep, from_words
from ..records.reasons import EndReason
from ..records.receipt import Receipt
from ..records.sweep_folder import (
    PRUNED,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    SweepFolder,
    SweepRecord,
    SweepSummary,
    TrialRecord,
    names,
    new_record,
)
from ..records.trial_values import reader
from ..runner import notify
from ..runner.concurrency import beside, in_thread
from ..runner.files import code_copy
from ..runner.policy import sweep as policy
from ..runner.policy.sweep import Slot
from ..runner.policy.turn import can_wait
from ..runner.study import Study, is_needed
from ..spec import inventory as inventories
from ..spec.errors import DocumentError, InputError, LauncherError, PlanError, UnknownRun
from ..spec.files import read_text
from ..spec.frozen import frozen
from ..spec.model import Inventory, Job
from .arguments import RunOptions
from .async_handle import AsyncRunHandle
from .client import AsyncClient
from .jobs import layered_job, run_options

__all__ = [
    "PRUNERS",
    "SAMPLERS",
    "Listener",
    "Planned",
    "Settings",
    "Sweep",
    "SweepFolder",
    "SweepRecord",
    "SweepSummary",
    "TrialRecord",
    "Trials",
    "failures",
    "from_words",
    "load_sweep",
    "metric",
    "names",
    "new_record",
    "planned",
    "stop",
    "stop_runs",
]

#: Seconds between two looks at whether the sweep was asked to stop, and at the values of a trial.
LOOK, LOOK_AT_VALUES = 0.5, 2.0
#: Seconds between two times that the value of a running trial is recorded, and that its outputs are
#: brought where they hold it.
NOTE, PULL = 10.0, 5.0
#: A trial with one of these is not done again.
_DONE = (SUCCEEDED, PRUNED)

metric, failures = sweep_file.metric, sweep_file.failures


def load_sweep(path: str | os.PathLike[str]) -> Sweep:
    """Return the sweep of a job file, ``workdir`` resolved from its folder. Raises DocumentError."""
    found = sweep_file.load(read_text(path, "job file"), str(path))
    values = dict(found.values)
    values["workdir"] = str((Path(path).parent / values.get("workdir", ".")).resolve())
    return replace(found, values=values)


@frozen
class Planned:
    """A sweep whose trials are known, and ``layers`` of values of the job that they share.

    Of ``count`` trials that a sampler chooses one after the other, the first is an example.
    """

    sweep: Sweep
    layers: Mapping[str, Mapping[str, Any]]
    trials: tuple[Trial, ...]
    slots: tuple[Slot, ...]
    count: int
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of each trial's run, named as in a job file."""

    @property
    def is_chosen(self) -> bool:
        """Whether a sampler chooses each trial when it may start."""
        return self.sweep.settings.sampler == "tpe"

    def done(self, known: Mapping[str, TrialRecord]) -> int:
        """Return how many of its trials are not done again."""
        chosen = self.is_chosen  # then any that was done is one of them
        asked = known if chosen else {trial.id for trial in self.trials} & known.keys()
        return sum(known[one].status in _DONE for one in asked)

    def renewed(self, record: SweepRecord, known: Mapping[str, TrialRecord]) -> SweepRecord:
        """Return the record of a sweep that is resumed, whose job file may ask for something else now.

        Trials that it no longer asks for are still counted.
        """
        settings = self.sweep.settings
        asked = {trial.id for trial in self.trials}
        count = max(self.count, len(known)) if self.is_chosen else len(asked | known.keys())
        return replace(
            record,
            trials=count,
            parameters=tuple(self.sweep.matrix),
            metric=settings.metric,
            goal=settings.goal,
        )

    def job(self, trial: Trial, slot: Slot) -> Job:
        """Return the job of one trial. Raises InputError."""
        values = sweep_file.values_of(self.sweep, trial.params)
        job = layered_job({**self.layers, "file": values})
        name = f"{job.name or _stem(job)}-{trial.id}"
        hosts = ",".join(slot.hosts) if slot.hosts else job.hosts
        return replace(job, name=name, hosts=hosts)


def _stem(job: Job) -> str:
    stem = Path(job.script or "trial").stem
    return "".join(char if char.isalnum() else "-" for char in stem)[:30].strip("-") or "trial"


def _in_array(job: Job, sweep: str) -> Job:
    """Give the elements of an array of Slurm the number that they have in common."""
    if ELEMENT not in job.envs:
        return job
    return replace(job, envs={"SLURM_ARRAY_JOB_ID": number(sweep), **job.envs})


def planned(
    sweep: Sweep,
    layers: Mapping[str, Mapping[str, Any]],
    inventory: Inventory,
    options: Mapping[str, Any],
) -> Planned:
    """Decide on the trials of a sweep, and on the hosts that they share.

    ``layers`` are values as for :func:`layered_job`: those behind ``file``, or all where there is none,
    win over the sweep's file. ``options`` are those of a run, named as in a job file: each trial gets
    them, but for ``notify``, which tells of the whole sweep. The job of the first trial is made, so that
    what is wrong is reported before anything starts. Raises InputError.
    """
    notify.check(options.get("notify", ()))
    layers = layers if "file" in layers else {"file": {}, **layers}
    settings = sweep.settings
    sweep_file.check(settings, sweep.matrix)
    if is_needed(settings):
        Study(sweep.matrix, settings, ())  # without Optuna, nothing starts
    try:
        trials, count = _trials(sweep)
    except InputError as error:
        raise DocumentError(error.message, error.hint, *sweep.matrix_at) from None
    found = Planned(sweep, layers, tuple(trials), (Slot(),), count, options)
    job = found.job(trials[0], Slot())
    if job.resources.gpus or job.roles:
        slots = policy.chosen_by_launcher(settings.concurrency)
    else:
        hosts = [host.name for host in inventories.select(inventory, job.hosts)]
        slots = policy.slots(hosts, job.num_nodes, settings.concurrency)
    return replace(found, slots=slots)


def _trials(sweep: Sweep) -> tuple[list[Trial], int]:
    """Return the trials of a sweep, and how many there will be. Raises InputError."""
    settings, whole = sweep.settings, matrix.size(sweep.matrix)
    if settings.sampler == "tpe":
        count = min(one for one in (settings.max_trials, whole) if one is not None)
        matrix.check_count(count)
        return matrix.trials(sweep.matrix, "random", 1, settings.seed), count
    sampler = settings.sampler or ("random" if whole is None else "grid")
    trials = matrix.trials(sweep.matrix, sampler, settings.max_trials, settings.seed)
    return trials, len(trials)


class Listener:
    """Hears what happens to the trials of a sweep. Every method does nothing; override some."""

    def started(self, trial: TrialRecord) -> None:
        """A trial's run has begun."""

    def ended(self, trial: TrialRecord, receipt: Receipt) -> None:
        """A trial's run is over."""

    def waiting(self, trial: TrialRecord, receipt: Receipt) -> None:
        """A trial has no GPUs yet, as the receipt of its run says; it starts when another trial ends."""

    def left_out(self, hosts: frozenset[str]) -> None:
        """Hosts get no more trials: theirs failed one after the other."""


class Waiting:
    """The trials that have not started; behind these, ``count`` more that a study chooses when their
    time has come: it has learned from those before."""

    def __init__(self, trials: Iterable[Trial], study: Study | None = None, count: int = 0) -> None:
        self._trials, self._study, self._count = deque(trials), study, count

    def __bool__(self) -> bool:
        if not self._trials and self._study and self._count > 0:
            asked = self._study.ask()
            self._count = self._count - 1 if asked else 0
            self._trials.extend([asked] if asked else [])
        return bool(self._trials)

    def __len__(self) -> int:
        return len(self._trials) + self._count

    def popleft(self) -> Trial:
        """Return the next one."""
        return self._trials.popleft()

    def appendleft(self, trial: Trial) -> None:
        """Put one back that could not start."""
        self._trials.appendleft(trial)


class _Values:
    """The values of a trial that runs, as they come; ``last`` is the latest."""

    def __init__(self, trial: Trial, handle: AsyncRunHandle, metric: str | None) -> None:
        self.trial, self.handle = trial, handle
        self.last: float | None = None
        self._reader = reader(handle.folder, metric) if metric else None

    def look(self) -> list[tuple[int, float]]:
        """Return what came since the last look."""
        found = self._reader.look() if self._reader else []
        self.last = found[-1][1] if found else self.last
        return found


class Trials:
    """Runs the trials of a sweep that have not succeeded yet. Use it inside of its client."""

    def __init__(
        self, client: AsyncClient, folder: SweepFolder, plan: Planned, listener: Listener
    ) -> None:
        self._client, self._folder, self._plan, self._listener = client, folder, plan, listener
        self._known = folder.trials()
        settings = plan.sweep.settings
        needs = is_needed(settings)
        self._study = Study(plan.sweep.matrix, settings, self._known.values()) if needs else None
        self._pruned: set[str] = set()
        self._ended: list[TrialRecord] = []
        self._live: dict[asyncio.Task[TrialRecord | None], tuple[Trial, Slot]] = {}
        self._handles: dict[str, AsyncRunHandle] = {}
        self._claiming: set[str] = set()  # trials that launcher has yet to find GPUs for
        self._bad: frozenset[str] = frozenset()
        self._misfit: Receipt | None = None  # of the first trial that does not fit on the hosts
        self._is_stopping = self._is_let_go = False
        self._code: str | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._is_stopping

    def stop(self) -> None:
        """Stop all trials that run, without grace when asked again; no other one starts."""
        self._is_stopping = True
        for handle in self._handles.values():
            handle.request_stop()

    async def let_go(self) -> None:
        """Start no other trial, and leave those that run to processes in the background.

        A sweep that is resumed follows them. Raises LauncherError.
        """
        self._is_stopping = self._is_let_go = True
        await asyncio.gather(*(handle.detach() for handle in list(self._handles.values())))

    async def all(self) -> None:
        """Return when every trial has ended, or no other one may start.

        Raises LauncherError; PlanError where no trial fits on the hosts: only the first ones were tried.
        """
        waiting = self._waiting()
        free = deque(self._plan.slots)
        if len(waiting) > 1:
            self._code = await in_thread(self._keep_code, self._plan.trials[0])
        try:
            while self._live or self._may_start(waiting, free):
                while self._may_start(waiting, free):
                    trial, slot = waiting.popleft(), free.popleft()
                    self._claims(trial, slot)
                    task = asyncio.ensure_future(self._one(trial, slot))
                    self._live[task] = (trial, slot)
                done, _ = await asyncio.wait(
                    self._live, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    trial, slot = self._live.pop(task)
                    if task.cancelled():  # it was let go
                        continue
                    self._settle(task.result(), trial, slot, waiting, free)
                if self._folder.is_stopping and not self._is_stopping:
                    self.stop()
        finally:
            for task in self._live:
                task.cancel()
            await asyncio.gather(*self._live, return_exceptions=True)
            if not self._is_let_go:  # else a run in the background may have yet to copy it
                await in_thread(self._folder.forget_code)
        if self._misfit and self._none_fits:
            raise PlanError(self._misfit.error, self._misfit.hint)

    async def tell(self, text: str) -> list[str]:
        """Tell a person, where ``notify`` says so, that the sweep has ended; return what failed."""
        news = notify.News(self._folder.name, "ended", text)
        return await notify.tell(self._plan.options.get("notify", ()), news)

    def _keep_code(self, trial: Trial) -> str:
        """Copy the code as it is now: all trials execute the same, whatever is edited meanwhile."""
        place = self._folder.new_code()
        code_copy.keep(self._plan.job(trial, Slot()), place)
        return str(place)

    def _waiting(self) -> Waiting:
        """Return the trials that may start: those of the plan, or those that a sampler chooses."""
        if not self._study or not self._plan.is_chosen:
            return Waiting(trial for trial in self._plan.trials if not self._is_done(trial))
        again = [Trial(one.params) for one in self._known.values() if one.status not in _DONE]
        return Waiting(again, self._study, self._plan.count - len(self._known))

    def _is_done(self, trial: Trial) -> bool:
        known = self._known.get(trial.id)
        return known is not None and known.status in _DONE

    def _may_start(self, waiting: Waiting, free: deque[Slot]) -> bool:
        most = self._plan.sweep.settings.max_failures
        enough = policy.too_many(self._ended, self._plan.count, most)
        may = not self._is_stopping and not enough and bool(free and waiting)
        return may and not self._none_fits and not self._claiming

    @property
    def _none_fits(self) -> bool:
        """Whether no trial fits on the hosts: none that has ended did, and all others are as large."""
        return policy.none_fits(self._ended) and self._are_alike

    @functools.cached_property
    def _are_alike(self) -> bool:
        jobs = (self._plan.job(trial, Slot()) for trial in self._plan.trials)
        sizes = [(job.resources, job.num_nodes, job.roles) for job in jobs]
        return all(size == sizes[0] for size in sizes)

    def _settle(
        self,
        ended: TrialRecord | None,
        trial: Trial,
        slot: Slot,
        waiting: Waiting,
        free: deque[Slot],
    ) -> None:
        """Take note of a trial that ended; None means that its GPUs are in use."""
        if ended is None:
            waiting.appendleft(trial)
            if not self._live:  # nobody is left whose end could free GPUs
                free.extend(self._all_free_slots(free))
            return  # else the slot comes back with the next trial that ends
        self._ended.append(ended)
        bad = policy.left_out(self._ended)
        if bad - self._bad:
            self._listener.left_out(bad - self._bad)
        self._bad |= bad
        slots = [slot] if slot.hosts else self._all_free_slots(free)
        for one in slots:
            if not self._bad.intersection(one.hosts):
                free.append(one)

    def _all_free_slots(self, free: deque[Slot]) -> list[Slot]:
        """Return the slots without hosts of their own that neither a trial has, nor ``free``."""
        taken = len(self._live) + len(free)
        return [Slot()] * max(0, len(self._plan.slots) - taken)

    async def _one(self, trial: Trial, slot: Slot) -> TrialRecord | None:
        """Run one trial, or follow the run that an earlier process has started for it."""
        try:
            return await self._tried(trial, slot)
        finally:
            self._claiming.discard(trial.id)

    async def _tried(
        self, trial: Trial, slot: Slot, wait: float | None = 0.0
    ) -> TrialRecord | None:
        self._claims(trial, slot)
        record = TrialRecord(trial.id, trial.params)
        left = self._left_running(trial)
        job = _in_array(self._plan.job(trial, slot), self._folder.name)
        handle = left or await self._begin(job, wait)
        started = (self._known[trial.id].started if left else None) or time.time()
        record = replace(record, status=RUNNING, run=handle.name, started=started)
        self._handles[handle.name] = handle
        try:
            self._folder.note(record)
            self._listener.started(record)
            if self._is_stopping:
                handle.request_stop()
            values = _Values(trial, handle, self._plan.sweep.settings.metric)
            async with beside(self._watch(values, record)), beside(self._claimed(trial, handle)):
                receipt = await handle.wait()
            await self._hear(values)  # what came since the last look
        finally:
            del self._handles[handle.name]
        if left and receipt.reason == EndReason.LAUNCHER_DIED:  # before it had begun: begin now
            del self._known[trial.id]
            return await self._tried(trial, slot)
        if receipt.reason == EndReason.GPU_BUSY and (self._others_run() or can_wait(job)):
            if wait == 0.0:
                self._listener.waiting(record, receipt)
            await handle.rm()
            self._folder.note(TrialRecord(trial.id, trial.params))
            # One of them waits its turn behind other people's runs, and the others for that one.
            return None if self._others_run() else await self._tried(trial, slot, wait=None)
        metric = self._plan.sweep.settings.metric
        record = await asyncio.to_thread(record.ended, receipt, handle.folder, metric)
        if trial.id in self._pruned and record.status == STOPPED and not self._is_stopping:
            record = replace(record, status=PRUNED, reason=PRUNED)
        if self._study:
            self._study.tell(trial, record.status, record.value)
        if record.reason == EndReason.DOES_NOT_FIT and self._misfit is None:
            self._misfit = receipt
        self._folder.note(record)
        self._listener.ended(record, receipt)
        return record

    def _claims(self, trial: Trial, slot: Slot) -> None:
        """Let no other trial begin while this one claims GPUs: each would wait behind the other."""
        if not slot.hosts:
            self._claiming.add(trial.id)

    async def _claimed(self, trial: Trial, handle: AsyncRunHandle) -> None:
        if trial.id in self._claiming:
            with suppress(LauncherError):  # its end tells
                if await handle.wait_until_started() is None:
                    self._claiming.discard(trial.id)

    async def _begin(self, job: Job, wait: float | None) -> AsyncRunHandle:
        settings = self._plan.sweep.settings
        own = {name: one for name, one in self._plan.options.items() if name != "notify"}
        options: RunOptions = {**run_options(own), "wait": wait, "code_copy": self._code}
        if settings.pruner and (settings.metric or "").startswith(sweep_file.SCALAR_OF):
            options.setdefault("pull_every", PULL)
        return await self._client.run(job, **options)

    async def _watch(self, values: _Values, record: TrialRecord) -> None:
        """Record the values of a trial while it runs, and stop it when it falls behind."""
        noted = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_AT_VALUES)
            before = values.last
            falls_behind = await self._hear(values)
            if values.last != before and time.monotonic() > noted + NOTE:
                noted = time.monotonic()
                self._folder.note(replace(record, value=values.last))
            if falls_behind:
                self._pruned.add(values.trial.id)
                values.handle.request_stop()
                return  # asked twice, it would be killed without grace

    async def _hear(self, values: _Values) -> bool:
        """Pass on the values of a trial since the last look; return whether it falls behind."""
        study = self._study
        if study:
            study.begin(values.trial)
        points = await in_thread(values.look)
        if study is None or self._plan.sweep.settings.pruner is None:
            return False
        behind = [study.report(values.trial, *point) for point in points]  # all are reported
        return any(behind)

    def _others_run(self) -> bool:
        return len(self._live) > 1

    def _left_running(self, trial: Trial) -> AsyncRunHandle | None:
        """Return the run of a trial that was running when its sweep was killed, if there is one."""
        known = self._known.get(trial.id)
        if known is None or known.status != RUNNING:
            return None
        try:
            handle = self._client.attach_here(known.run)
        except (UnknownRun, LauncherError):
            return None
        ended = handle.receipt
        return handle if ended is None or ended.status == SUCCEEDED else None


def stop(folder: SweepFolder) -> bool:
    """Ask the process that runs a sweep to stop it; return False if there is none. Raises InputError."""
    if not folder.is_held:
        return False
    try:
        folder.request_stop()
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}") from None
    return True


async def stop_runs(client: AsyncClient, folder: SweepFolder) -> list[TrialRecord]:
    """Stop the runs that a sweep without a process has left running; return those that it stopped.

    One that has ended on its own counts as it ended. Raises LauncherError, once all others are stopped.
    """
    metric = folder.record().metric

    async def ended(trial: TrialRecord) -> TrialRecord:
        try:
            handle = client.attach_here(trial.run)
        except UnknownRun:  # somebody has removed it
            return TrialRecord(trial.id, trial.params)
        receipt = await handle.stop()  # also on hosts that were away when it ended
        return await asyncio.to_thread(trial.ended, receipt, handle.folder, metric)

    left = [trial for trial in folder.trials().values() if trial.status == RUNNING]
    found = await asyncio.gather(*map(ended, left), return_exceptions=True)
    known = [trial for trial in found if isinstance(trial, TrialRecord)]
    for trial in known:
        folder.note(trial)
    for error in found:
        if isinstance(error, BaseException):
            raise error
    return [trial for trial in known if trial.status == STOPPED]
