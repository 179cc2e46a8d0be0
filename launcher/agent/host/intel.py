"""Intel's GPUs, as ``xpu-smi`` lists them."""

from __future__ import annotations

from ..base import lean
from ..processes import processes
from .nvidia import number, said, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..base.messages import GpuFacts, GpuLoad

NAME, TOOL = "intel", "xpu-smi"
#: The keys of the list of processes, of versions 1 and 2.
_LISTS = ("device_util_by_proc_list", "process_list")


def _rows(properties: str, seconds: float) -> list[list[str]]:
    """Return numbered properties of all devices; the first one is the device's number."""
    answer = processes.output_of([TOOL, "discovery", "--dump", properties], seconds) or ""
    rows = [[field.strip('"') for field in row] for row in table(answer)]
    return [row for row in rows if row[0].isdigit() and len(row) == properties.count(",") + 1]


def listed(seconds: float) -> list[GpuFacts]:
    """Return the GPUs; memory is in MiB. What is used is only known of processes."""
    return [
        {
            "index": int(index),
            "name": name,
            "uuid": uuid,
            "memory": number(memory.split(" ")[0]),
            "memory_used": 0,
            "vendor": NAME,
        }
        for index, name, uuid, memory in _rows("1,2,4,16", seconds)
    ]


def apps_command() -> list[str]:
    """Return the command that lists the processes on GPUs; :func:`apps` reads its output."""
    return [TOOL, "ps", "-j"]


def apps(text: str) -> list[tuple[int, str, int]]:
    """Return ``[(pid, number of its GPU as text, MiB), ...]`` from the output of the command."""
    try:
        answer = lean.loads(text)
    except (ValueError, RecursionError):
        return []
    rows: Any = next((answer[k] for k in _LISTS if k in answer), ()) if answer else ()
    return [
        (row["process_id"], str(row["device_id"]), number(str(row.get("mem_size"))) >> 10)  # kB
        for row in rows
        # The tool uses each GPU itself while it looks.
        if isinstance(row.get("process_id"), int) and row.get("process_name") != TOOL
    ]


#: The heads of the columns of ``watching``: index, percent, MiB, watts, degrees Celsius.
WATCHED = (
    ("DeviceId",),
    ("GPU Utilization",),
    ("GPU Memory Used",),
    ("GPU Power",),
    ("GPU Core Temperature",),
)


def watching(seconds: float) -> list[str]:
    """Return the command that prints a line for each GPU again and again, below the heads of its
    columns."""
    return [TOOL, "dump", "-d", "-1", "-m", "0,1,3,18", "-i", str(max(1, int(seconds)))]


def load(seconds: float) -> dict[int, GpuLoad]:
    """Return what each GPU does over a second, as nvidia.py describes it."""
    metrics = [TOOL, "dump", "-d", "-1", "-m", "0,3,18", "-n", "1"]
    rows = table(processes.output_of(metrics, seconds) or "")
    return {
        int(row[1]): {"percent": said(row[2]), "celsius": said(row[3]), "memory": said(row[4])}
        for row in rows
        if len(row) == 5 and row[1].isdigit()
    }


def health(gpus: Iterable[GpuFacts]) -> dict[str, Any]:
    """Return ``{"driver": version, "ecc": {}}``; xpu-smi counts memory errors for root alone."""
    rows = _rows("1,8", 10.0)
    return {"driver": rows[0][1] if rows else None, "ecc": {}}


def is_failing() -> bool:
    """Return whether the tool fails where it lists no GPU."""
    return processes.output_of([TOOL, "discovery", "-j"]) is None
