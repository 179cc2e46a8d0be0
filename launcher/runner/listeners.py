"""What a program may listen to while a run happens."""

from __future__ import annotations

from collections.abc import Callable

from ..records import events as ev

#: Hears every event, as it happens.
OnEvent = Callable[[ev.Event], None]
#: Hears the new bytes of a log: host, name of the log, bytes.
OnLog = Callable[[str, str, bytes], None]


def ignore_event(event: ev.Event) -> None:
    """Listen to no event."""


def ignore_log(host: str, name: str, data: bytes) -> None:
    """Listen to no log."""
