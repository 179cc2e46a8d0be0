"""Decide how a run ended, and why its remaining processes are stopped. Nothing else decides. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from ...records.events import Failure
from ...records.reasons import OF_SETUP, EndReason, Reason, StopReason
from ...records.state import SKEW, Expiry, Loss, RunState, Stop, is_setup
from ...spec.errors import LauncherDied, LauncherError
from ...spec.frozen import frozen
from ...spec.model import Layout
from . import elastic

#: Seconds until SSH keepalives reveal that a host is gone, and a margin.
NOTICED = 12.0
#: Exit codes of a run that launcher, or its user, stopped.
BY_LAUNCHER, BY_USER = 125, 130
#: EX_IOERR of sysexits.h: the run succeeded, and not all of its outputs are here.
OUTPUTS_MISSING = 74

_NO_MEMORY = re.compile(
    rb"out of memory|OutOfMemoryError|MemoryError|Cannot allocate memory|can't allocate memory"
)


@frozen
class Outcome:
    """How a run ended. ``host`` is the one that the reason is about, if it is about one."""

    status: str
    reason: Reason
    exit_code: int
    host: str | None = None


def decide(
    state: RunState,
    layout: Layout,
    *,
    elastic_from: int | None = None,
    asked: StopReason | None = None,
    error: BaseException | None = None,
    last_words: bytes = b"",
    mending: bool = False,
) -> Outcome:
    """Return how a run that is over ended.

    The first failure decides; a stop by the user decides when nothing had failed before it. When a
    host is lost, what fails elsewhere afterwards, or shortly before we notice, is its consequence;
    so is what fails or is lost after a host has stopped on its own.

    Args:
        elastic_from: the least number of hosts of an elastic group.
        asked: why this process was asked to stop the run.
        error: what went wrong in this process.
        last_words: the last output of the process that failed first.
        mending: a lost host was being replaced. A stop then ended the run, and not the loss.
    """
    failure = state.failure
    if isinstance(error, LauncherDied) and not error.begun:
        return _of_error(error)  # whoever asks for its end, and whatever became of its hosts
    if elastic_from and (left := elastic.finished_on(state, layout)):
        detail = f"{left}-of-{layout.num_nodes}-hosts"
        return Outcome("succeeded", Reason(EndReason.FINISHED_ON, detail), 0)
    asked = _wish(state, layout, asked)
    if state.expired and (failure is None or failure.time > _first(state.expired) - SKEW):
        host = min(state.expired, key=lambda name: state.expired[name].time)
        return Outcome("stopped", Reason(StopReason.ORPHAN_TIMEOUT), BY_LAUNCHER, host)
    if mending and asked is not None and error is None:
        return Outcome("stopped", Reason(asked), BY_USER)
    if state.lost and (failure is None or (asked is None and _follows(failure, state.lost))):
        host, loss = next(iter(state.lost.items()))
        return Outcome("lost", Reason.parse(loss.reason), BY_LAUNCHER, host)
    if asked is not None and failure is None:
        return Outcome("stopped", Reason(asked), BY_USER)
    if failure is not None:
        return Outcome("failed", _reason_of(failure, last_words), failure.exit_code, failure.host)
    if error is not None:
        return _of_error(error)
    return _without_failure(state)


def with_outputs(outcome: Outcome, state: RunState, incomplete: Collection[str]) -> Outcome:
    """Return the outcome; its exit code is never 0 where outputs of these hosts are not all here.

    Hosts that the run did without in the end are no part of its success.
    """
    if outcome.exit_code or not {*incomplete} - {*state.lost, *state.departed}:
        return outcome
    return replace(outcome, exit_code=OUTPUTS_MISSING)


def stop_reason(
    state: RunState,
    layout: Layout,
    *,
    elastic_from: int | None = None,
    asked: StopReason | None = None,
    error: BaseException | None = None,
) -> StopReason:
    """Return why the remaining processes are stopped when a run is over."""
    if asked is not None:
        return asked
    if state.failure:
        return StopReason.PROCESS_FAILED
    if state.expired:
        return StopReason.ORPHAN_TIMEOUT
    if state.primary_ended is not None:
        return StopReason.PRIMARY_FINISHED
    least = elastic_from if layout.nodes else None  # before it has hosts there is no group
    if least and elastic.head_has_finished(state, layout):
        return StopReason.GROUP_FINISHED
    if elastic.too_few(state, layout, least) if least else state.lost:
        return StopReason.TOO_FEW_HOSTS
    stalled = isinstance(error, LauncherError) and error.code == EndReason.STALLED
    return StopReason.STALLED if stalled else StopReason.LAUNCHER_FAILED


def _reason_of(failure: Failure, last_words: bytes) -> Reason:
    reason = failure.reason
    if is_setup(failure.key):
        return Reason(OF_SETUP[EndReason(reason.code)], reason.detail)
    return Reason(EndReason.OUT_OF_MEMORY) if _NO_MEMORY.search(last_words) else reason


def _of_error(error: BaseException) -> Outcome:
    if not isinstance(error, LauncherError):
        return Outcome("failed", Reason(EndReason.INTERNAL_ERROR), BY_LAUNCHER)
    host = getattr(error, "host", None)
    return Outcome("failed", Reason.parse(error.code), error.exit_code, host)


def _wish(state: RunState, layout: Layout, asked: StopReason | None) -> StopReason | None:
    """Return why the user stopped the run; None when nobody did, or everything was done before.

    The process that writes the receipt may not be the one that stopped the run: then the stop that
    the hosts recorded counts.
    """
    if state.all_succeeded(layout.num_nodes):
        asked = None
    stop = _recorded_stop(state)
    return stop.why if asked is None and stop and stop.why is StopReason.BY_USER else asked


def _without_failure(state: RunState) -> Outcome:
    """Return how a run ended in which nothing went wrong here, and no process failed."""
    everybody = all(p.well for p in state.processes.values())
    if state.primary_ended is not None and not everybody:
        return Outcome("succeeded", Reason(EndReason.PRIMARY_EXITED_0), 0)
    if stop := _recorded_stop(state):
        return Outcome("stopped", Reason(stop.why, stop.detail), BY_LAUNCHER, stop.host)
    return Outcome("succeeded", Reason(EndReason.ALL_EXITED_0), 0)


def _recorded_stop(state: RunState) -> Stop | None:
    """Return the stop that the hosts recorded, unless the run had finished."""
    processes = state.processes.values()
    finished = state.has_begun and all(process.is_done for process in processes)
    if (
        state.stop and state.stop.why is StopReason.GROUP_FINISHED
    ):  # of those that had not yet exited
        finished = all(process.well for process in processes)
    return None if finished or state.primary_ended is not None else state.stop


def _first(expired: Mapping[str, Expiry]) -> float:
    return min(expiry.time for expiry in expired.values())


def _follows(failure: Failure, lost: Mapping[str, Loss]) -> bool:
    if failure.host in lost:
        return False
    return failure.time > min(loss.since for loss in lost.values()) - NOTICED
