"""Tickets of waiting runs: names of sockets, as GPU locks are.

A ticket says all that others must know to decide whose turn it is. Its holder is who could start the
run: its own supervisor where it waits on one host, or else a relay, which ends with its launcher. What
another user claims is read as a name with bounds, or not at all. See docs/decisions/0055-tickets.md.
"""

from __future__ import annotations

import errno
import time

from ..base import run_lock
from ..processes.processes import user_name
from . import gpu_locks, socket_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ..base.lean import Socket
    from ..base.messages import Message, TicketFacts
    from .socket_names import Seen

#: Tickets that are taken at most, in all and of one user; and names that are read for them.
MOST_TICKETS, MOST_OF_A_USER, MOST_READ = 512, 128, 2048
#: How near its turn a run is that hears of each end: that many tickets may be before its own, or as many
#: as there are locks. One further back looks every few seconds. With all watching all, a hundred
#: waiting runs would have ten thousand connections, and each end would wake all of them.
NEAR = 16
#: Priorities, by their letter.
PRIORITIES = {"l": -1, "n": 0, "h": 1}
#: Numbers beyond these are nonsense. A launcher takes at least as much: see its ``answers.py``.
MOST_NUMBER, MOST_SECONDS, MOST_HOSTS, MOST_SHARE = 1 << 40, 1 << 30, 1 << 12, 1 << 12
#: The longest list of shares; of a longer one the largest share counts for all.
LONGEST_SHARES = 12

#: What begins the field of a run that wants these very GPUs of the host, as a bit mask; and how many
#: GPUs it can name.
ONLY, MOST_ONLY = "g", 44

#: What begins the field of a run that needs so many GPUs of the host, and cannot choose.
PART = "p"
#: By what a ticket may say more, the field that says it.
FLAGS = {"no_room": "f", "leads": "l", "no_leader": "m", "unsure": "u"}
#: Most fields of a ticket, with those of later versions.
MOST_FIELDS = 16
#: Names that are tried for a ticket.
TRIES = 16

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def enter(run: str, ticket: Message) -> Socket:
    """Show a ticket until what is returned is closed. Raises OSError."""
    numbers = [
        ticket["number"],
        int(time.time() - ticket.get("waited", 0.0)),
        min(MOST_SECONDS - 1, max(1, int(ticket["seconds"]))) if ticket.get("seconds") else 0,
        ticket["hosts"],
    ]
    letter = next(one for one, value in PRIORITIES.items() if value == ticket.get("priority", 0))
    what = _only_text(ticket["only"]) if ticket.get("only") else _shares_text(ticket["shares"])
    parts = [letter, *map(written, numbers), what]
    if ticket.get("aside"):
        parts.append("a")
    if ticket.get("by_itself"):
        parts.append("s")
    if ticket.get("within"):
        parts.append("q")
    if ticket.get("part"):
        parts.append(PART + written(ticket["part"]))
    for name, letter in FLAGS.items():
        if ticket.get(name):
            parts.append(letter)
    for _ in range(TRIES):
        try:
            return socket_names.bind("wait/%s/%s" % (socket_names.short(run), ".".join(parts)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        numbers[1] -= 1  # a relay whose connection was lost still has that name
        parts[2] = written(numbers[1])
    raise OSError(errno.EADDRINUSE, "the ticket of %s is there already" % run)


def names() -> dict[str, Seen]:
    """Return the sockets of this host that say whose turn it is: locks, claims and tickets."""
    kinds = ("wait/", "gpu/", "until/", "of/")
    return {name: one for name, one in socket_names.seen().items() if name.startswith(kinds)}


def read(seen: Mapping[str, Seen], run: str = "") -> list[TicketFacts]:
    """Return the tickets among these names, that of a ``run`` first, with the user as the kernel knows
    it."""
    found: list[TicketFacts] = []
    of_user: dict[int | None, int] = {}
    mine = "wait/%s/" % socket_names.short(run)
    there = [name for name in seen if name.startswith("wait/")]
    for name in sorted(there, key=lambda name: (not name.startswith(mine), name))[:MOST_READ]:
        ticket = _read(name)
        if ticket is None:
            continue
        uid = socket_names.uid_of(seen[name])
        of_user[uid] = of_user.get(uid, 0) + 1
        if of_user[uid] <= MOST_OF_A_USER and len(found) < MOST_TICKETS:
            ticket["user"] = "?" if uid is None else user_name(uid)
            found.append(ticket)
    return found


def to_watch(seen: Iterable[str], run: str) -> list[str]:
    """Return those of the names whose end can begin the turn of a run: locks, and the tickets before its
    own. None, for a run that is far from its turn."""
    names = list(seen)
    locks = [name for name in names if name.startswith("gpu/") and name[4:].isdigit()]
    there = [(_read(name), name) for name in names if name.startswith("wait/")]
    short = socket_names.short(run)
    own = [_key(ticket) for ticket, _ in there if ticket and ticket["run"] == short]
    before = [
        name
        for ticket, name in there
        if ticket and ticket["run"] != short and not ticket["aside"]
        if not own or _key(ticket) < min(own)
    ]
    near = max(NEAR, len(locks))
    if len(before) > near:
        return [] if own else before[:near]
    return locks[: gpu_locks.MOST_GPUS] + before


def _key(ticket: TicketFacts) -> tuple[bool, int, int, str]:
    """Return the place of a ticket in the one order of all. Also in supervisor/stands.py."""
    return (not ticket["within"], -ticket["priority"], ticket["number"], ticket["run"])


def _read(name: str) -> TicketFacts | None:
    """Return what a name says; None for nonsense. Later versions may add fields."""
    parts = name.split("/")
    fields = parts[2].split(".") if len(parts) == 3 else []
    if not 6 <= len(fields) <= MOST_FIELDS or fields[0] not in PRIORITIES:
        return None
    if not run_lock.is_run_name(parts[1]) or len(parts[1]) > socket_names.LONGEST_RUN:
        return None
    try:
        number, since, seconds, hosts = [read_number(text) for text in fields[1:5]]
        only = _only(fields[5]) if fields[5].startswith(ONLY) else []
        shares = [[1, len(only)]] if only else _shares(fields[5])
        part = next((read_number(one[1:]) for one in fields[6:] if one.startswith(PART)), 0)
    except ValueError:
        return None
    bounded = abs(number) < MOST_NUMBER and since < MOST_NUMBER and seconds < MOST_SECONDS
    if (
        not bounded
        or not 0 <= part <= MOST_SHARE
        or not 0 < hosts < MOST_HOSTS
        or sum(count for count, _ in shares) > hosts
    ):
        return None
    return {
        "run": parts[1],
        "priority": PRIORITIES[fields[0]],
        "number": number,
        "waited": max(0.0, time.time() - since),
        "seconds": float(seconds) if seconds else None,
        "hosts": hosts,
        "shares": shares,
        "only": only,
        "aside": "a" in fields[6:],
        "by_itself": "s" in fields[6:],
        "within": "q" in fields[6:],
        "part": part,
        "no_room": FLAGS["no_room"] in fields[6:],
        "leads": FLAGS["leads"] in fields[6:],
        "no_leader": FLAGS["no_leader"] in fields[6:],
        "unsure": FLAGS["unsure"] in fields[6:],
    }


def _shares_text(shares: list[int]) -> str:
    """Return ``8x4+1x2`` for eight nodes with 4 GPUs and one with 2."""
    counts = [(shares.count(size), size) for size in sorted(set(shares), reverse=True)]
    text = "+".join("%dx%d" % one for one in counts)
    return text if len(text) <= LONGEST_SHARES else "%dx%d" % (len(shares), max(shares))


def _only_text(indices: list[int]) -> str:
    """Return ``gc`` for GPU 2 and 3. Raises OSError for one that does not fit."""
    if not all(0 <= index < MOST_ONLY for index in indices):
        raise OSError(errno.ENAMETOOLONG, "no ticket can name these GPUs")
    return "%s%x" % (ONLY, sum(1 << index for index in set(indices)))


def _only(text: str) -> list[int]:
    digits = text[len(ONLY) :]
    if not 0 < len(digits) <= MOST_ONLY // 4 or any(
        one not in "0123456789abcdef" for one in digits
    ):
        raise ValueError(text)
    mask = int(digits, 16)
    if not mask:
        raise ValueError(text)
    return [index for index in range(MOST_ONLY) if mask >> index & 1]


def _shares(text: str) -> list[list[int]]:
    shares: list[list[int]] = []
    for part in text.split("+"):
        count, _, size = part.partition("x")
        if not (count.isdigit() and size.isdigit() and len(count) < 6 and len(size) < 5):
            raise ValueError(text)
        shares.append([int(count), int(size)])
    if any(not (count and 0 < size <= MOST_SHARE) for count, size in shares):
        raise ValueError(text)
    return shares


def written(number: int) -> str:
    """Return a number in as few characters as possible."""
    digits, left = "", abs(number)
    while left or not digits:
        left, digit = divmod(left, 36)
        digits = _DIGITS[digit] + digits
    return "-" + digits if number < 0 else digits


def read_number(text: Any) -> int:
    """Return the number that :func:`written` wrote. Raises ValueError."""
    digits = text[1:] if text.startswith("-") else text
    if not 0 < len(digits) <= 8 or any(one not in _DIGITS for one in digits):
        raise ValueError(text)
    return int(text, 36)
