"""Decides what the exit of a process means for the run: success, failure, or its end, for a primary
process.

Without roles every process must exit with 0, and none is primary.
"""

from __future__ import annotations

from ..base.protocol import PRIMARY_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..base.messages import Message, ProcessSpec


class Outcomes:
    """The roles of the processes of one start, and which primary processes have succeeded."""

    def __init__(self, processes: Iterable[ProcessSpec]) -> None:
        self._processes: dict[str, Message] = {p["key"]: dict(p) for p in processes}
        self._done: set[str] = set()

    def about(self, key: str) -> Message:
        """Return the fields of a process for the journal when it starts."""
        process = self._processes.get(key, {})
        return {
            name: process[name] for name in ("primary", "primaries", "role") if process.get(name)
        }

    def exited(self, key: str, code: int) -> tuple[bool, Message]:
        """Note an exit; return whether it is a failure, and its fields for the journal."""
        process = self._processes.get(key, {})
        action = _action(process.get("on_exit") or {}, code)
        failed = action in ("fail", "restart") or (code != 0 and action != "complete")
        if process.get("primary") and not failed:
            self._done.add(key)
        return failed, ({"action": action} if action else {})

    def is_primary(self, key: str) -> bool:
        """Return whether this process of this host is primary."""
        return bool(self._processes.get(key, {}).get("primary"))

    def succeeded_elsewhere(self, key: str) -> None:
        """Note that a primary process on another host has succeeded."""
        self._done.add(key)

    def patience(self, key: str) -> float:
        """Return the seconds until a failure of this process counts: it may only have lost a primary
        process, which closes its connections a moment before it exits."""
        process = self._processes.get(key, {})
        return PRIMARY_PATIENCE if process.get("primaries") and not process.get("primary") else 0.0

    @property
    def over(self) -> bool:
        """Whether all primary processes of the run have succeeded, as far as this host knows."""
        primaries = [
            process["primaries"] for process in self._processes.values() if process.get("primaries")
        ]
        return bool(primaries) and len(self._done) == primaries[0]


def _action(on_exit: Mapping[str, list[tuple[int, int]]], code: int) -> str:
    """Return the job's action for an exit status, numbered as in a shell; "" for none."""
    status = code if code >= 0 else 128 - code
    for action, ranges in on_exit.items():
        if any(first <= status <= last for first, last in ranges):
            return action
    return ""
