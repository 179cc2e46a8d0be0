"""Projects on this host: which runs use GPUs in whose name, and who takes some back.

What a run says of itself is the name of a socket, as a lock and a ticket are: the kernel knows whose it
is, and frees it with its holder. See docs/decisions/0066-projects.md.
"""

from __future__ import annotations

import binascii
import errno
import time

from ..base import run_lock
from ..processes.processes import user_name
from . import socket_names, tickets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..base.lean import Socket
    from ..base.messages import MemberFacts, Message, TakeFacts
    from .socket_names import Seen

#: Longest name of a project: it is a part of the name of a socket. Also in launcher.spec.inventory.
LONGEST = 20
#: Claims that are taken at most, in all and of one user; and names that are read for them.
MOST, MOST_OF_A_USER, MOST_READ = 2048, 128, 20_000
#: Numbers beyond these are nonsense.
MOST_GPUS, MOST_NUMBER = 1 << 16, 1 << 40
#: What a claim says, by its letter: the run waits, may give its GPUs back, is within its quota.
WAITS, PREEMPTIBLE, WITHIN = "w", "p", "q"
#: Why a waiting run is held back, by the letter in its claim. ``turns.py`` knows other reasons.
HELD = {"k": "quota", "l": "limit", "m": "no-majority"}


def is_project(text: object) -> bool:
    """Return whether a text may be the name of a project."""
    return run_lock.is_run_name(text) and len(str(text)) <= LONGEST


def enter(run: str, project: str, gpus: int, flags: str = "", since: float = 0.0) -> Socket:
    """Show that a run uses ``gpus`` in a project's name, or wants them, until what is returned is
    closed. Raises OSError."""
    text = "%s.%s.%s" % (tickets.written(gpus), tickets.written(int(since)), flags)
    name = "of/%s/%s/%s" % (project, socket_names.short(run), text)
    for attempt in range(tickets.TRIES):  # a relay whose connection was lost still has that name
        try:
            return socket_names.bind(name + "x" * attempt)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "the claim of %s is there already" % run)


def ask_back(victim: str, run: str) -> Socket:
    """Ask a run to give its GPUs to another one, until what is returned is closed. Raises OSError."""
    return socket_names.bind("take/%s/%s" % (socket_names.short(victim), sum_of(run)))


def beside(run: str, ticket: Message) -> list[Socket]:
    """Show of which project a waiting run is, and whom it asks for GPUs. What cannot be shown is not
    worth the place in the queue."""
    found: list[Socket] = []
    member = ticket.get("member")
    try:
        if member:
            found.append(enter(run, member["project"], member["gpus"], member["flags"]))
        for victim in ticket.get("takes") or []:
            found.append(ask_back(victim, run))
    except OSError:
        pass
    return found


def sum_of(run: str) -> str:
    """Return what a request calls the run that it is for: two names would not fit."""
    return "%08x" % binascii.crc32(socket_names.short(run).encode())


def members(seen: Mapping[str, Seen]) -> list[MemberFacts]:
    """Return the runs of projects among these names, with the user as the kernel knows it.

    Raises OSError where these are too many: what is left out would not be counted.
    """
    found: list[MemberFacts] = []
    of_user: dict[int, int] = {}
    names = sorted(name for name in seen if name.startswith("of/"))
    if len(names) > MOST_READ:
        raise OSError(errno.E2BIG, "too many claims of projects")
    for name in names:
        one = _read(name)
        uid = socket_names.uid_of(seen[name]) if one else None
        if one is None or uid is None:  # nobody vouches for it
            continue
        of_user[uid] = of_user.get(uid, 0) + 1
        if of_user[uid] <= MOST_OF_A_USER and len(found) < MOST:
            one["user"] = user_name(uid)
            found.append(one)
    return found


def takes(seen: Mapping[str, Seen], victim: str) -> list[TakeFacts]:
    """Return who asks a run to give its GPUs back: the user, as the kernel knows it, and the sum of the
    run's name."""
    mark = "take/%s/" % socket_names.short(victim)
    found: list[TakeFacts] = []
    for name in sorted(name for name in seen if name.startswith(mark))[:MOST]:
        uid = socket_names.uid_of(seen[name])
        if uid is not None:
            found.append({"user": user_name(uid), "sum": name[len(mark) :]})
    return found


def _read(name: str) -> MemberFacts | None:
    """Return what a name says; None for nonsense. Later versions may add flags."""
    parts = name.split("/")
    fields = parts[3].split(".") if len(parts) == 4 else []
    if len(fields) != 3 or not is_project(parts[1]) or not run_lock.is_run_name(parts[2]):
        return None
    if len(parts[2]) > socket_names.LONGEST_RUN:
        return None
    try:
        gpus, since = tickets.read_number(fields[0]), tickets.read_number(fields[1])
    except ValueError:
        return None
    if not 0 < gpus < MOST_GPUS or not 0 <= since < MOST_NUMBER:
        return None
    flags = fields[2]
    return {
        "project": parts[1],
        "run": parts[2],
        "user": "?",
        "gpus": gpus,
        "age": max(0.0, time.time() - since) if since else 0.0,
        "preemptible": PREEMPTIBLE in flags,
        "within": WITHIN in flags,
        "waits": WAITS in flags,
        "held": next((HELD[one] for one in flags if one in HELD), ""),
    }
