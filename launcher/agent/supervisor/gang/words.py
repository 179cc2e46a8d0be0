"""What hosts that wait together may say to each other. Pure: only what fits is heard."""

from __future__ import annotations

from ...host import tickets
from .. import requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.messages import Message

#: What a host says of its queue.
_TICKET = {"run": str, "priority": int, "number": int, "hosts": int, "shares": [[int]]}
_TICKET_MORE = {
    "seconds": requests.NUMBER,
    "only": [int],
    "user": str,
    "part": int,
    "within": bool,
}
_STAND: Any = (
    {
        "tickets": [(_TICKET, _TICKET_MORE)],
        "leased": {str: ({}, {"run": str, "left": requests.NUMBER})},
        "outside": [int],
    },
    {},
)
_GIVEN: Any = ({"gpus": [int], "names": [str], "ports": [int]}, {})
#: What it says of projects; nothing, where it cannot tell.
_MEMBER = {"project": str, "run": str, "user": str, "gpus": int, "age": requests.NUMBER}
_MEMBER_MORE = {"preemptible": bool, "within": bool, "waits": bool}
_BOOK = {"project": str, "run": str, "user": str, "gpus": int, "preemptible": bool}
_SAID: Any = (
    {},
    {
        "members": [({**_MEMBER, **_MEMBER_MORE}, {})],
        "books": [({**_BOOK, "hosts": [str]}, {})],
        "user": str,
    },
)
_ASK: Any = (
    {"round": int, "do": str},
    {
        "project": str,
        "users": [str],
        "gpus": int,
        "preemptible": int,
        "within": int,
        "hosts": [str],
        "runs": [str],
    },
)
#: A word may have these fields.
_WORDS: dict[str, Any] = {
    "stand": _STAND,
    "held": int,
    "names": [str],
    "ports": [int],
    "refused": int,
    "begun": int,
    "lapsed": int,
    "over": str,
    "claim": int,
    "gpus": [int],
    "release": int,
    "rest": int,
    "port": int,
    "later": ({"hosts": [str], "address": str, "port": int, "addresses": [str]}, {}),
    "begin": int,
    "given": {str: _GIVEN},
    "known": int,
    "way": int,
    "met": int,
    "again": int,
    "aside": int,
    "ticket": ({"number": int, "hosts": int, "shares": [int]}, {"priority": int}),
    "said": _SAID,
    "ask": _ASK,
    "answer": ({"round": int, "do": str, "done": int}, {"later": int, "said": _SAID}),
    "lead": int,
    "leads": int,
    "promise": int,
    "promised": int,
    "agree": int,
    "agreed": int,
    "before": ({"number": int, "way": int, "given": {str: _GIVEN}}, {}),
    "disagreed": int,
    "seats": {str: int},
    "standing": ({"within": int, "held": str, "takes": [str]}, {}),
}
#: The fields that belong to others.
_NEEDS = {"held": ("names", "ports"), "claim": ("gpus",), "begin": ("given",), "agree": ("given",)}
#: What a host says of projects has all of this, or nothing.
_WHOLE = frozenset(("members", "books", "user"))
#: What a host has to know for each thing that it is asked for.
_FOR = {
    "enter": ("gpus", "within"),
    "lock": ("project", "users"),
    "write": ("project", "gpus", "hosts"),
    "tidy": ("runs",),
}
#: Most tickets of a host, lists of shares in one, and nodes in all of these.
MOST_TICKETS, MOST_SHARES, MOST_NODES = 512, 16, 1 << 16


def fault_of(word: Message) -> str:
    """Return what is wrong with a word of another host; "" for nothing."""
    for name, value in word.items():
        if name in _WORDS:
            fault = requests.fault(value, _WORDS[name], name)
            missing = [one for one in _NEEDS.get(name, ()) if one not in word]
            if fault or missing:
                return fault or "%s is missing" % missing[0]
    there = word.get("stand", {}).get("tickets", [])
    shares = [pair for one in there for pair in one["shares"]]
    if len(there) > MOST_TICKETS or any(len(one["shares"]) > MOST_SHARES for one in there):
        return "more than a host says"
    parts = [one.get("part") or 0 for one in there]
    fits = all(0 <= one <= tickets.MOST_SHARE for one in parts)
    if not fits or any(len(pair) != 2 or min(pair) <= 0 for pair in shares):
        return "not the shares of a run"
    if word.get("ticket", {}).get("priority", 0) not in tickets.PRIORITIES.values():
        return "not a priority"
    if sum(count for count, _ in shares) > MOST_NODES:
        return "more nodes than there are"
    return _fault_of_project(word)


def _fault_of_project(word: Message) -> str:
    """Return what is wrong with what a word says of projects."""
    for said in (word.get("said"), word.get("answer", {}).get("said")):
        if said and not said.keys() >= _WHOLE:
            return "not how projects stand"
    ask = word.get("ask")
    if ask and any(ask.get(name) is None for name in _FOR.get(ask["do"], ())):
        return "not all that is to be known"
    return ""
