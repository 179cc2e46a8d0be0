"""How busy this host and its GPUs are, as the kernel and the vendors' tools count it."""

from __future__ import annotations

import os

from ..base.lean import prctl
from ..processes import processes
from . import gpu_locks, gpus, nvidia

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..base.messages import Message

#: Bytes of a sector in /proc/diskstats, whatever a disk calls one.
SECTOR = 512
#: Most bytes to keep of a line that a tool has not ended yet.
LINE = 4096
#: Begins of names that stand for other disks, or for memory.
_NOT_DISKS = (b"loop", b"ram", b"zram", b"dm-", b"md", b"sr", b"fd")


def counts() -> Message:
    """Return what the kernel counts since the start: ``cpu``, ticks of all processors, busy and in all;
    by interface and disk, ``network``, bytes received and sent, and ``disk``, bytes read and written;
    and ``memory``, bytes in use and in all. What cannot be read is left out."""
    found: Message = {}
    for name, count in (("cpu", _cpu), ("memory", _memory), ("network", _network), ("disk", _disk)):
        try:
            found[name] = count()
        except (OSError, ValueError, IndexError, KeyError):
            continue
    return found


def described(before: Message, now: Message, seconds: float, gpus: Message) -> Message:
    """Return a line of metrics: ``cpu``, percent of all processors' time; ``memory``, bytes in use
    and in all; ``network``, received and sent, and ``disk``, read and written, in bytes a second; and
    ``gpus``. Interfaces and disks that came or went in between are not counted."""
    line: Message = {"memory": now["memory"]} if "memory" in now else {}
    if "cpu" in before and "cpu" in now:
        busy, ticks = _grown(before["cpu"], now["cpu"])
        if ticks > 0:
            line["cpu"] = round(100 * min(max(0, busy), ticks) / ticks, 1)  # iowait may shrink
    for name in ("network", "disk"):
        if name in before and name in now and seconds > 0:
            parts = [
                _grown(old, now[name][of]) for of, old in before[name].items() if of in now[name]
            ]
            whole = [part for part in parts if min(part) >= 0]  # else another one has its name now
            line[name] = [round(sum(part[at] for part in whole) / seconds) for at in (0, 1)]
    return dict(line, gpus=gpus) if gpus else line


def _grown(before: list[int], now: list[int]) -> tuple[int, int]:
    return now[0] - before[0], now[1] - before[1]


def _lines(path: str) -> Iterator[list[bytes]]:
    with open(path, "rb") as file:
        for line in file:
            yield line.split()


def _cpu() -> list[int]:
    """From proc(5): user, nice, system, idle, iowait, irq, softirq, steal, and guests in user."""
    ticks = [int(word) for word in next(_lines("/proc/stat"))[1:9]]
    return [sum(ticks) - ticks[3] - ticks[4], sum(ticks)]


def _memory() -> list[int]:
    sizes = {words[0]: int(words[1]) << 10 for words in _lines("/proc/meminfo") if len(words) > 1}
    total = sizes[b"MemTotal:"]
    return [total - sizes[b"MemAvailable:"], total]


def _network() -> dict[bytes, list[int]]:
    """Count what has come in and gone out, but for what stays on this host."""
    found = {}
    with open("/proc/net/dev", "rb") as file:
        for line in file:
            name, colon, rest = line.partition(b":")
            if colon and name.strip() != b"lo":
                words = rest.split()
                found[name.strip()] = [int(words[0]), int(words[8])]
    return found


def _disk() -> dict[bytes, list[int]]:
    whole = {os.fsencode(name) for name in os.listdir("/sys/block")}
    return {
        words[2]: [int(words[5]) * SECTOR, int(words[9]) * SECTOR]
        for words in _lines("/proc/diskstats")
        if words[2] in whole and not words[2].startswith(_NOT_DISKS)
    }


class GpuLoads:
    """Reads what a vendor's tool says of GPUs every ``seconds``. One tool runs for the whole run: its
    start costs more than all that it says."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._tool: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._names: Any = None  # of the columns that count, where the tool heads its lines
        self._places: list[int] | None = None  # where they are
        self._has_said = True  # anything, since it was last started
        self._is_over = False

    def take(self, indices: Iterable[int], vendor: str) -> Message:
        """Return, by GPU, the mean percent of its time in which it computed, the most MiB in use, mean
        watts, and most degrees Celsius since the last look; None is not known. Start the tool first."""
        wanted = {gpu_locks.parent_of(index) for index in indices}
        if self._tool is None:
            self._start(wanted, gpus.vendor(vendor))
            return {}
        found: dict[int, list[list[float | None]]] = {}
        for row in self._rows(self._read().decode("utf-8", "replace")):
            if len(row) == 5 and row[0].isdigit() and int(row[0]) in wanted:
                found.setdefault(int(row[0]), []).append([_number(word) for word in row[1:]])
        return {str(gpu): _merged(reports) for gpu, reports in sorted(found.items())}

    def _start(self, wanted: set[int], vendor: Any) -> None:
        """Start the tool, unless it ended without a word before."""
        watching = getattr(vendor, "watching", None)
        if self._is_over or not (wanted and watching and self._has_said):
            return
        import subprocess

        try:
            self._tool = subprocess.Popen(
                watching(self._seconds),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                preexec_fn=_die_with_parent,
                env=dict(os.environ, PYTHONUNBUFFERED="1"),  # some are scripts, and say things late
            )
        except OSError:
            self._is_over = True
            return
        self._tool.returncode = 0  # the supervisor waits for it, not subprocess
        self._has_said, self._rest = False, b""
        self._names, self._places = getattr(vendor, "WATCHED", None), None
        os.set_blocking(self._pipe().fileno(), False)

    def _rows(self, text: str) -> Iterable[list[str]]:
        """Return index, percent, MiB, watts and degrees of each report, by the heads of its columns if
        it has any: tools of several versions have others beside them."""
        if self._names is None:
            return nvidia.table(text)
        import csv

        found = []
        for words in csv.reader(text.splitlines()):
            row = [word.strip() for word in words]
            places = [_place(row, names) for names in self._names]
            if places[0] >= 0:
                self._places = places
            elif self._places and len(row) > max(self._places):
                found.append([row[place] if place >= 0 else "" for place in self._places])
        return found

    def _pipe(self) -> Any:
        return self._tool.stdout if self._tool else None

    def _read(self) -> bytes:
        """Return the lines that have come."""
        try:
            data = os.read(self._pipe().fileno(), 1 << 20)
        except BlockingIOError:
            return b""
        self._has_said = self._has_said or bool(data)
        whole, _, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest[-LINE:]
        return whole

    @property
    def pids(self) -> set[int]:
        """The tool."""
        return {self._tool.pid} if self._tool else set()

    def reaped(self, pid: int) -> bool:
        """Return whether ``pid`` was the tool."""
        if pid not in self.pids:
            return False
        self._read()
        self._pipe().close()
        self._tool = None
        return True

    def close(self) -> None:
        """Kill the tool."""
        self._is_over = True
        processes.send(self.pids, 9)


def _die_with_parent() -> None:
    prctl(processes.PR_SET_PDEATHSIG, 9)


def _place(row: list[str], names: tuple[str, ...]) -> int:
    """Return where the first of these names is a head, its end or its beginning; -1 for nowhere."""
    for name in names:
        likes = [
            (head == name, head.endswith("_" + name), head.startswith(name + " ")) for head in row
        ]
        for how in range(3):
            for place, like in enumerate(likes):
                if like[how]:
                    return place
    return -1


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:  # such as [N/A]
        return None
    return value if abs(value) < 1e9 else None


def _merged(reports: list[list[float | None]]) -> list[float | None]:
    def said(column: int) -> list[float]:
        return [value for value in (report[column] for report in reports) if value is not None]

    return [_mean(said(0)), max(said(1), default=None), _mean(said(2)), max(said(3), default=None)]


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
