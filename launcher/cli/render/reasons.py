"""Sentences for the codes of why a run ended."""

from __future__ import annotations

from collections.abc import Mapping

from ...records.reasons import EndReason, StopReason

_SENTENCES: Mapping[str, str] = {
    EndReason.HOST_UNREACHABLE: "{host} became unreachable",
    EndReason.SUPERVISOR_SILENT: "the supervisor of {host} did not stop the run in time",
    EndReason.SUPERVISOR_DIED: "the supervisor of {host} died",
    StopReason.HOST_GIVEN_UP: "{host} could not be reached when the run ended",
    StopReason.KILLED_BY_USER: "its user killed it",
    StopReason.LAUNCHER_FAILED: "the launcher that followed it failed, and stopped it",
    StopReason.LOGIN_SESSION_ENDED: "the login session on {host} ended",
    StopReason.ORPHAN_TIMEOUT: "no launcher contacted {host} for too long",
    StopReason.OTHER: "{detail}",
    StopReason.PROCESS_FAILED: "a process on {host} failed; how is not recorded here",
    StopReason.RESTARTING: "its launcher died while restarting it after {detail}",
    StopReason.STALLED: "it stalled",
    StopReason.SUPERVISOR_TERMINATED: "somebody terminated the supervisor of {host}",
    StopReason.TIME_LIMIT: "its time limit was over",
    StopReason.PREEMPTED: "it gave back GPUs that its project had borrowed",
    StopReason.HOSTS_PARTED: "its turn came, and not all of its hosts could be told",
    StopReason.NOT_NEEDED: "it began on other hosts",
    StopReason.WAIT_OVER: "its GPUs were in use for as long as --wait allowed",
    StopReason.TOO_FEW_HOSTS: "too few hosts were left",
}


def sentence(reason: str, host: str | None, detail: str = "") -> str:
    """Return what a receipt's reason means; empty if the code says it all."""
    known = _SENTENCES.get(reason, "")
    return known.format(host=host or "a host", detail=detail or "a failure")
