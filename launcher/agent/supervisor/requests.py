"""The requests that a supervisor accepts, checked before it acts on one.

This is the promise to launchers of other versions: add fields, with defaults, and remove none.
"""

from __future__ import annotations

from ..base import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..base.messages import Message

#: Requests that only a launcher makes: it is in touch.
OF_LAUNCHERS = (
    "start",
    "stop",
    "subscribe",
    "contact",
    "claim",
    "wait",
    "gather",
    "gang",
    "return",
    "move",
    "member",
    "preload",
    "stdin",
    "unattended",
)
NUMBER = (int, float)
TEXTS = {str: str}

_CONTAINER = {
    "runtime": str,
    "program": str,
    "image": str,
    "user": str,
    "groups": [int],
    "ulimits": [str],
    "rootless": bool,
    "ipc": bool,
    "mounts": [str],
    "devices": [str],
    "gpus": str,
    "home": str,
    "hosts": str,
}
#: A process to start. Fields in _OPTIONAL may be missing, or null.
_PROCESS = {"key": str, "argv": [str], "env": TEXTS, "cwd": str}
_PROCESS_MORE = {
    "rank": int,
    "limits": dict,
    "on_exit": {str: [[int]]},
    "primary": int,
    "primaries": int,
    "stdin": int,
    "container": (_CONTAINER, {}),
    "path": [str],
}
_HOST = {"host": str, "address": str, "names": [str]}
_SHARE = {"host": str, "hub": str, "address": str, "port": int, "hosts": [str], "folders": [str]}
_TICKET = {"number": int, "hosts": int, "shares": [int]}
_NOTHING: Message = {}
_RULES = {str: ({"quota": int, "users": [str]}, {"limit": int})}
#: What hosts that wait together know of the project of their run.
_PROJECT: Any = (
    {"name": str, "gpus": int, "rules": _RULES, "voters": TEXTS},
    {"preemptible": int, "min_runtime": NUMBER},
)
_NEWS = {"hub": str, "address": str, "port": int, "key": str, "hosts": int}

_SPEC = (
    {"run_id": str, "host": str, "grace": NUMBER},
    {
        "attempt": int,
        "orphan_timeout": NUMBER,
        "stall": NUMBER,
        "inside": bool,
        "own_hosts": bool,
        "keep": NUMBER,
        "place": str,
        "no_place": str,
        "unlike": [str],
    },
)

_START = (
    {"stage": str, "attempt": int, "processes": [(_PROCESS, _PROCESS_MORE)], "path": [str]},
    {
        "port": int,
        "ports": [int],
        "gpus": [int],
        "gpu_uuids": {str: int},
        "gpu_vendor": str,
        "news": (_NEWS, {}),
        "peer": dict,
        "share": (_SHARE, {}),
        "own_hosts": [(_HOST, {})],
        "elastic": str,
        "secrets": TEXTS,
        "own_path": str,
        "seconds": NUMBER,
        "stdin": NUMBER,
        "container": (_CONTAINER, {}),  # of all processes: of a launcher that knows one image
        "meets_by": str,
        "stay": int,
    },
)

#: One way to run: see launcher.agent.base.messages.Way.
_WAY: Any = {
    "counts": {str: int},
    "tokens": {str: {str: [str]}},
    "address": str,
    "interfaces": TEXTS,
    "addresses": TEXTS,
}

_MEETING: Any = {"address": str, "interfaces": TEXTS, "addresses": TEXTS}
#: Ways on any of some hosts: see launcher.agent.base.messages.AnyHosts.
_ANY_OF: Any = {
    "hosts": [str],
    "least": int,
    "most": int,
    "gpus": int,
    "tokens": {str: [{str: [str]}]},
    "heads": {str: (_MEETING, {})},
    "alone": {str: (_MEETING, {})},
    "marks": [[str]],
    "master": str,
    "names": {str: [str]},
}

#: The request to wait together with other hosts.
_GATHER: Any = (
    {
        "gang": (
            {"hosts": [str], "address": str, "port": int, "key": str},
            {
                "addresses": [str],
                "users": [str],
                "places": {str: [str]},
                "voters": [str],
                "seats": {str: int},
            },
        ),
        "gpus": {str: [int]},
        "names": TEXTS,
        "ports": [int],
    },
    {
        "ticket": (_TICKET, {}),
        "ways": [(_WAY, {})],
        "any_of": (_ANY_OF, {}),
        "starts": {str: _START},
        "counts": {str: int},
        "start": _START,
        "tokens": {str: {str: [str]}},
        "interfaces": TEXTS,
        "addresses": TEXTS,
        "seconds": NUMBER,
        "ignore_foreign": int,
        "packed": [str],
        "attempt": str,
        "void": [str],
        "project": _PROJECT,
        "rules": _RULES,
    },
)

_PRELOAD: Any = (
    {"modules": [str], "path": [str], "process": (_PROCESS, _PROCESS_MORE)},
    {"own_path": str, "secrets": TEXTS},
)
#: The requests to what is kept for other runs: whether it fits one, and then to be its supervisor. See
#: kept.py.
TAKE: Any = (
    {
        "key": str,
        "modules": [str],
        "stacks": bool,
        "command": str,
        "programs": str,
        "variables": TEXTS,
        "own_hosts": bool,
        "login": TEXTS,
    },
    {},
)
BEGIN: Any = (
    {"run_dir": str, "spec": _SPEC, "environ": TEXTS},
    {"group": str, "hosts": str},
)

#: By request: the fields that it must have, and those that it may have.
REQUESTS = {
    "start": _START,
    "claim": ({"gpus": [int]}, {}),
    "release": ({}, {}),
    "member": (
        {"project": str, "gpus": int},
        {"preemptible": int, "within": int, "min_runtime": NUMBER, "rules": _RULES},
    ),
    "preload": _PRELOAD,
    "wait": (
        {
            "ticket": (_TICKET, {}),
            "gpus": [int],
            "names": TEXTS,
            "start": _START,
            "tokens": {str: [str]},
            "ports": [int],
        },
        {"seconds": NUMBER, "ignore_foreign": int, "packed": [str], "rules": _RULES},
    ),
    "gather": _GATHER,
    "return": _GATHER,
    "gang": ({}, {}),
    "move": ({"ticket": (_TICKET, {})}, {}),
    "unattended": (
        {
            "host": str,
            "hosts": [str],
            "paths": [str],
            "urls": [str],
            "manifest": str,
            "headers": TEXTS,
            "seconds": NUMBER,
        },
        {},
    ),
    "stop": ({}, {"grace": NUMBER, "why": str, "attempt": int}),
    "next": ({"spec": _SPEC}, {}),
    "stay": ({}, {}),
    "subscribe": ({}, {"version": NUMBER}),
    "contact": ({}, {}),
    "stacks": ({"stamp": str}, {}),
    "stdin": ({"offset": int, "data": str}, {"end": int}),
    "rank-started": ({"key": str, "rank": int, "pid": int}, {}),
    "share-trouble": ({"code": str, "path": str, "other": str, "detail": str}, {}),
    "stored-alone": (
        {"attempt": int, "files": int, "bytes": int, "missing": int, "problem": str},
        {},
    ),
    "rank-exited": ({"key": str, "rank": int, "code": int}, {"at": NUMBER, "error": dict}),
}


class Refused(Exception):
    """The request cannot be done; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def checked(message: Message) -> str:
    """Return the operation of a message, one of REQUESTS. Raises Refused."""
    if "bad" in message:
        raise Refused(protocol.BAD_REQUEST, message["bad"])
    operation = message.get("op")
    if not isinstance(operation, str) or operation not in REQUESTS:
        raise Refused(protocol.UNKNOWN_REQUEST, "no request: %.80r" % (operation,))
    wrong = fault(message, REQUESTS[operation], "")
    if wrong:
        raise Refused(protocol.BAD_REQUEST, "%s: %s" % (operation, wrong))
    other = protocol.other_version(message.get("version"), "who asks")
    if other:
        raise Refused(protocol.OTHER_VERSION, other)
    for start in _starts(operation, message):
        if start.get("container"):
            _contain(start)
    return operation


def _starts(operation: str, message: Message) -> list[Message]:
    """Return the start requests that a checked message is or holds."""
    if operation == "start":
        return [message]
    if operation not in ("wait", "gather", "return"):
        return []
    found = [message.get("start")]
    if operation != "wait":
        found += (message.get("starts") or {}).values()
    return [one for one in found if one]


def _contain(start: Message) -> None:
    """Give each process of a start request the image that an earlier launcher names for all of them."""
    container, own = start.pop("container"), start.get("own_path")
    before = [*start["path"], *([own] if own else [])]
    for process in start["processes"]:
        if not process.get("container"):
            process.update(container=container, path=before)


def fault(value: Any, shape: Any, place: str) -> str:
    """Return what of a value does not have a shape as those above, at ``place``; "" for nothing."""
    parts: Iterable[tuple[str, Any, Any]]
    if isinstance(shape, type) or shape is NUMBER:
        fits = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
        return "" if fits else "%s cannot be %.80r" % (place, value)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return "%s is not a list" % place
        parts = (("%s[%d]" % (place, i), one, shape[0]) for i, one in enumerate(value))
    elif not isinstance(value, dict):
        return "%s is not an object" % place
    elif isinstance(shape, dict):
        (inner,) = shape.values()
        parts = (("%s.%s" % (place, name), one, inner) for name, one in value.items())
    else:
        required, optional = shape
        missing = [name for name in required if name not in value]
        if missing:
            return "%s is missing" % _inside(place, missing[0])
        known = dict(required, **optional)
        parts = [
            (_inside(place, name), value[name], inner)
            for name, inner in known.items()
            if value.get(name) is not None or (name in value and name in required)
        ]
    return next(filter(None, (fault(one, inner, name) for name, one, inner in parts)), "")


def _inside(place: str, name: str) -> str:
    return "%s.%s" % (place, name) if place else name
