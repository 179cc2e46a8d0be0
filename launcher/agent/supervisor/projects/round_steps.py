"""The steps of a decision about a project, and how long they take."""

from __future__ import annotations

#: What a leader asks of each host: how projects stand there, and its lock and books.
LOOK, LOCK, WRITE, TIDY, UNLOCK = "look", "lock", "write", "tidy", "unlock"
#: What the hosts that would start the run are asked, before any book has it.
ENTER = "enter"
#: Seconds for a host to answer; and for a whole round, which is less than any host keeps a lock.
ANSWERS, WHOLE = 3.0, 18.0
#: Seconds for which a host waits for a lock that somebody else has.
LOCKED = 12.0
