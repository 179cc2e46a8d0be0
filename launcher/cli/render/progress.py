"""How far copies to or from several hosts are, and how long a quiet run has been quiet. Pure."""

from __future__ import annotations

from .tables import duration, size, took

#: Seconds before a rate means something.
SETTLED = 1.0


class Transfer:
    """Copies of one stage; ``began`` is by the clock of ``now``."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._hosts: dict[str, tuple[int, int]] = {}  # bytes, and per cent of them

    def update(self, host: str, total: int, percent: int) -> None:
        """Take how far one host is."""
        self._hosts[host] = (total, min(100, max(0, percent)))

    def text(self, now: float) -> str:
        """Return ``1.2 of 3.1 GB  38.0 MB/s  50 s left  slowest gpu2 39 %``; "" before anything."""
        if not self._hosts:
            return ""
        total = sum(of for of, _ in self._hosts.values())
        done = sum(of * percent // 100 for of, percent in self._hosts.values())
        parts = [f"{size(done)} of {size(total)}"]
        spent = now - self._began
        if spent >= SETTLED and done:
            rate = done / spent
            parts.append(f"{size(int(rate))}/s")
            if done < total:
                parts.append(f"{duration((total - done) / rate)} left")
        slowest, (_, percent) = min(self._hosts.items(), key=lambda item: item[1][1])
        parts.append(
            f"slowest {slowest} {percent} %" if len(self._hosts) > 1 else f"{slowest} {percent} %"
        )
        return "  ".join(parts)


def quiet_line(running: float, silent: float | None) -> str:
    """Return ``running 1 h 12  last output 38 s ago``; ``silent`` is None before any output."""
    last = "no output yet" if silent is None else f"last output {took(silent)} ago"
    return f"running {took(running)}  {last}"
