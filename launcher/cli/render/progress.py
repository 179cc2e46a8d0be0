"""How far copies to or from several hosts and what is read here are, and how long a quiet run has been
quiet. Pure."""

from __future__ import annotations

from ...spec.sizes import size
from .tables import duration, took

#: Seconds before a rate means something.
SETTLED = 1.0


def _speed(done: int, total: int | None, spent: float) -> list[str]:
    """Return ``38.0 MB/s`` and ``50 s left``, as far as these are known."""
    if spent < SETTLED or not done:
        return []
    rate = done / spent
    left = [f"{duration((total - done) / rate)} left"] if total and done < total else []
    return [f"{size(int(rate))}/s", *left]


def moved(done: int, total: int, spent: float) -> str:
    """Return ``1.2 GB of 3.1 GB, 38.0 MB/s, 50 s left``; a ``total`` of 0 is not known."""
    of = f" of {size(total)}" if total > done else ""
    return ", ".join([f"{size(done)}{of}", *_speed(done, total, spent)])


class Reading:
    """What is read on this machine; ``began`` is by the clock of ``now``."""

    def __init__(self, name: str, began: float) -> None:
        self.name, self._began, self._done = name, began, 0
        self._total: int | None = None

    def update(self, done: int, total: int | None) -> None:
        """Take how far it is."""
        self._done, self._total = done, total

    def text(self, now: float) -> str:
        """Return ``reading corpus  1.2 of 3.1 GB  38.0 MB/s  50 s left``."""
        of = "" if self._total is None else f" of {size(self._total)}"
        parts = [f"reading {self.name}", f"{size(self._done)}{of}"]
        return "  ".join(parts + _speed(self._done, self._total, now - self._began))


class Transfer:
    """Copies of one stage; ``began`` is by the clock of ``now``."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._hosts: dict[str, tuple[int, int, int]] = {}  # bytes, those that are done, per cent

    def update(self, host: str, total: int, percent: int, done: int | None = None) -> None:
        """Take how far one host is; its bytes are those of the per cent unless they are known."""
        percent = min(100, max(0, percent))
        self._hosts[host] = (total, total * percent // 100 if done is None else done, percent)

    def text(self, now: float) -> str:
        """Return ``1.2 of 3.1 GB  38.0 MB/s  50 s left  slowest gpu2 39 %``; "" before anything."""
        if not self._hosts:
            return ""
        total = sum(of for of, _, _ in self._hosts.values())
        done = sum(done for _, done, _ in self._hosts.values())
        parts = [f"{size(done)} of {size(total)}"]
        parts += _speed(done, total, now - self._began)
        slowest, (_, _, percent) = min(self._hosts.items(), key=lambda item: item[1][2])
        parts.append(
            f"slowest {slowest} {percent} %" if len(self._hosts) > 1 else f"{slowest} {percent} %"
        )
        return "  ".join(parts)


def quiet_line(running: float, silent: float | None) -> str:
    """Return ``running 1 h 12  last output 38 s ago``; ``silent`` is None before any output."""
    last = "no output yet" if silent is None else f"last output {took(silent)} ago"
    return f"running {took(running)}  {last}"
