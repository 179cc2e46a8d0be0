"""Upgrade records of the previous release before they are decoded. Pure.

Until 0.1.0 a reason was an English sentence that ended with the name of a host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..spec.environments import Environment
from ..spec.typed_json import Mismatch, from_json
from .reasons import EndReason, Reason, StopReason

_SENTENCES: Mapping[str, StopReason | EndReason] = {
    "killed by the user": StopReason.KILLED_BY_USER,
    "a rank failed": StopReason.PROCESS_FAILED,
    "the lead has ended": StopReason.PRIMARY_FINISHED,
    "the group has finished": StopReason.GROUP_FINISHED,
    "too few hosts are left": StopReason.TOO_FEW_HOSTS,
    "lease expired": StopReason.ORPHAN_TIMEOUT,
    "login session ended": StopReason.LOGIN_SESSION_ENDED,
    "supervisor was terminated": StopReason.SUPERVISOR_TERMINATED,
    "launcher gave up": StopReason.LAUNCHER_FAILED,
    "its launcher had given up": StopReason.HOST_GIVEN_UP,
    "its launcher died before it took part": StopReason.SPARE_LEFT_OVER,
    "lead-exited-0": EndReason.PRIMARY_EXITED_0,
}
_STOPS = frozenset(StopReason)
#: Receipts had hyphens in place of blanks.
_KNOWN = {**_SENTENCES, **{text.replace(" ", "-"): code for text, code in _SENTENCES.items()}}
_RESTARTING = re.compile(r"(.+),[ -]starting[ -]again\Z")
_UNFIT = re.compile(r"it cannot take the place of \S+\Z")
_ON = re.compile(r"(.+?)[ -]on[ -](.+)\Z")
_KEYS = {"lead": "primary", "leads": "primaries"}


def event(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an event as this release writes it."""
    new = dict(record)
    match new.get("event"):
        case "LeaseExpired":
            new["event"] = "OrphanTimeoutExpired"
        case "ProcessStarted":
            new = _renamed(new)
        case "StopRequested":
            why = new.get("why")
            if not isinstance(why, str) or why in _STOPS:  # "stalled" is also why a run ended
                return new
            reason, origin = _reason(why)
            if not isinstance(reason.code, StopReason):
                reason = Reason(StopReason.OTHER, why)
            new["why"] = reason.code
            if reason.detail:
                new["detail"] = reason.detail
            if origin:
                new["origin"] = origin
        case "RunEnded":
            new = _with_reason(new)
    return new


def receipt(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a receipt as this release writes it."""
    return _with_reason(value)


def run(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of ``run.json`` as this release writes them."""
    new = dict(value)
    if "lease" in new:
        new["orphan_timeout"] = new.pop("lease")
    job = new.get("job")
    if isinstance(job, Mapping) and isinstance(job.get("roles"), list):
        new["job"] = {**job, "roles": [_renamed(role) for role in job["roles"]]}
    if isinstance(job, Mapping) and isinstance(nodes := new.get("nodes"), list):
        new["nodes"] = [_with_containers(node, job.get("environment")) for node in nodes]
    return new


def _with_containers(node: Any, environment: Any) -> Any:
    """Return a node of ``run.json`` with its images by their environments: it had one, that of the
    job."""
    if not isinstance(node, Mapping) or not isinstance(node.get("container"), Mapping):
        return node
    try:
        key = from_json(Environment, environment).key
    except Mismatch:
        return node  # what is wrong with the job is said where that is read
    rest = {name: value for name, value in node.items() if name != "container"}
    return {"containers": {key: node["container"]}, **rest}


def _renamed(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {_KEYS.get(name, name): one for name, one in value.items()}


def _with_reason(value: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(value.get("reason"), str):
        return dict(value)
    reason, host = _reason(value["reason"])
    if reason.code is StopReason.OTHER:
        return dict(value)  # the code of a plug-in's error, or of a later version
    return {**value, "reason": str(reason), **({"reason_host": host} if host else {})}


def _reason(text: str) -> tuple[Reason, str]:
    """Return the reason that a sentence stands for, and the host that it names."""
    found = _one(text)
    if found.detail != text:
        return found, ""
    if (on := _ON.match(text)) and (known := _one(on[1])).detail != on[1]:
        return known, on[2]
    return found, ""


def _one(text: str) -> Reason:
    if text in _KNOWN:
        return Reason(_KNOWN[text])
    if restarting := _RESTARTING.match(text):
        return Reason(StopReason.RESTARTING, restarting[1])
    if _UNFIT.match(text):
        return Reason(StopReason.SPARE_UNFIT)
    return Reason.parse(text)
