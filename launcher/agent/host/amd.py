"""AMD's GPUs, as ``amd-smi`` lists them, or ``rocm-smi`` where there is only that.

A GPU's UUID is the number that ROCr calls it by: ``GPU-`` and the serial number of its chip.
"""

from __future__ import annotations

from ..base import lean
from ..processes import processes
from .nvidia import number, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..base.messages import GpuFacts, GpuLoad

NAME, TOOL, OLDER_TOOL = "amd", "amd-smi", "rocm-smi"
_LOAD_OF_ROCM = ["--showuse", "--showtemp", "--showmeminfo", "vram", "--json"]
_OF_ROCM = ["--showproductname", "--showmeminfo", "vram", "--showuniqueid", "--json"]


def listed(seconds: float) -> list[GpuFacts]:
    """Return the GPUs; memory is in MiB."""
    asked = [  # both at once: each is a Python that takes half a second to start
        processes.begin([TOOL, "static", "--asic", "--json"]),
        processes.begin([TOOL, "metric", "--mem-usage", "--json"]),
    ]
    chips, memories = [_gpus(processes.output(one, seconds) if one else None) for one in asked]
    if not chips:
        return _of_rocm(seconds)
    found: list[GpuFacts] = []
    for index, about in sorted(chips.items()):
        chip = _part(about, "asic")
        memory = _part(memories.get(index, {}), "mem_usage")
        found.append(
            {
                "index": index,
                "name": str(chip.get("market_name", "AMD GPU")),
                "uuid": _uuid(chip.get("asic_serial")),
                "memory": _value(memory.get("total_vram")),
                "memory_used": _value(memory.get("used_vram")),
                "vendor": NAME,
            }
        )
    return found


def _gpus(text: str | None) -> dict[int, dict[str, Any]]:
    """Return what amd-smi says of each GPU; from ROCm 7 on its list is inside of an object."""
    answer = _loads(text)
    rows = answer.get("gpu_data") if isinstance(answer, dict) else answer
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {row["gpu"]: row for row in known if isinstance(row.get("gpu"), int)}


def _loads(text: str | None) -> Any:
    try:
        return lean.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _part(value: dict[str, Any], name: str) -> dict[str, Any]:
    part = value.get(name)
    return part if isinstance(part, dict) else {}


def _value(value: Any) -> int:
    return number(_bare(value))


def _bare(value: Any) -> str:
    """Return a number of amd-smi as text: ``{"value": 42, "unit": "%"}``, 42 or "N/A"."""
    return str(value.get("value") if isinstance(value, dict) else value)


def _uuid(serial: Any) -> str:
    text = str(serial).lower()
    return "GPU-" + text[2:] if text.startswith("0x") else ""


def _of_rocm(seconds: float) -> list[GpuFacts]:
    return [
        {
            "index": index,
            "name": str(card.get("Card Series") or card.get("Card series") or "AMD GPU"),
            "uuid": _uuid(card.get("Unique ID")),
            "memory": number(str(card.get("VRAM Total Memory (B)"))) >> 20,
            "memory_used": number(str(card.get("VRAM Total Used Memory (B)"))) >> 20,
            "vendor": NAME,
        }
        for index, card in _cards(_OF_ROCM, seconds)
    ]


def _cards(query: list[str], seconds: float) -> list[tuple[int, dict[str, Any]]]:
    """Return what rocm-smi says of ``card0``, ``card1``, ..."""
    answer = _loads(processes.output_of([OLDER_TOOL] + query, seconds))
    rows = answer.items() if isinstance(answer, dict) else ()
    cards = [(name[4:], card) for name, card in rows if name.startswith("card")]
    return sorted(
        (int(place), card) for place, card in cards if place.isdigit() and isinstance(card, dict)
    )


def apps_command() -> list[str]:
    """Return the command that lists the processes on GPUs; :func:`apps` reads its output."""
    if processes.is_program(TOOL):
        return [TOOL, "process", "--json"]
    return [OLDER_TOOL, "--showpidgpus"]


def apps(text: str) -> list[tuple[int, str, int]]:
    """Return ``[(pid, index of its GPU as text, MiB), ...]`` from the output of the command."""
    if text.lstrip()[:1] not in ("[", "{"):
        return _apps_of_rocm(text)
    found = []
    for index, about in _gpus(text).items():
        rows = about.get("process_list")
        for row in rows if isinstance(rows, list) else ():
            info = _part(row, "process_info") if isinstance(row, dict) else {}
            if isinstance(info.get("pid"), int):
                used = _value(_part(info, "memory_usage").get("vram_mem"))
                found.append((info["pid"], str(index), used >> 20))
    return found


def _apps_of_rocm(text: str) -> list[tuple[int, str, int]]:
    """Read ``PID 4242 is using 2 DRM device(s):`` and the indices in the line below."""
    found: list[tuple[int, str, int]] = []
    pid = 0
    for line in text.splitlines():
        words = line.replace("[", " ").replace("]", " ").replace(",", " ").split()
        if words[:1] == ["PID"] and words[1:2] and words[1].isdigit():
            pid = int(words[1])
        elif pid and words and all(word.isdigit() for word in words):
            found += [(pid, word, 0) for word in words]
        else:
            pid = 0
    return found


#: The heads of the columns of ``watching``: index, percent, MiB, watts, degrees Celsius.
WATCHED = (
    ("gpu",),
    ("gfx_activity",),
    ("used_vram",),
    ("socket_power", "current_socket_power", "average_socket_power"),
    ("hotspot", "edge"),
)


def watching(seconds: float) -> list[str]:
    """Return the command that prints a line for each GPU again and again, below the heads of its
    columns. rocm-smi has no such mode."""
    parts = ["--usage", "--power", "--temperature", "--mem-usage"]
    return [TOOL, "metric"] + parts + ["--csv", "--watch", str(max(1, int(seconds)))]


def load(seconds: float) -> dict[int, GpuLoad]:
    """Return what each GPU does now, as nvidia.py describes it."""
    if not processes.is_program(TOOL):
        return {index: _load_of(card) for index, card in _cards(_LOAD_OF_ROCM, seconds)}
    metrics = [TOOL, "metric", "--usage", "--temperature", "--mem-usage", "--json"]
    found: dict[int, GpuLoad] = {}
    for index, one in _gpus(processes.output_of(metrics, seconds)).items():
        heat = _part(one, "temperature")
        found[index] = {
            "percent": said(_bare(_part(one, "usage").get("gfx_activity"))),
            "celsius": _first(_bare(heat.get(sensor)) for sensor in ("hotspot", "edge")),
            "memory": said(_bare(_part(one, "mem_usage").get("used_vram"))),
        }
    return found


def _load_of(card: dict[str, Any]) -> GpuLoad:
    used = said(str(card.get("VRAM Total Used Memory (B)")))
    sensors = ("junction", "edge")
    return {
        "percent": said(str(card.get("GPU use (%)"))),
        "celsius": _first(str(card.get("Temperature (Sensor %s) (C)" % one)) for one in sensors),
        "memory": None if used is None else used >> 20,
    }


def _first(texts: Iterable[str]) -> int | None:
    """Return the first of these that is a number."""
    return next((found for found in map(said, texts) if found is not None), None)


def health(gpus: Iterable[GpuFacts]) -> dict[str, Any]:
    """Return ``{"driver": version, "ecc": {index: uncorrectable memory errors}}``."""
    answer = _gpus(processes.output_of([TOOL, "metric", "--ecc", "--json"]))
    counts = {
        str(index): _value(_part(one, "ecc").get("total_uncorrectable_count"))
        for index, one in answer.items()
    }
    try:
        with open("/sys/module/amdgpu/version") as file:
            driver: str | None = file.read().strip()
    except OSError:  # the driver of the kernel itself has no version
        driver = None
    return {"driver": driver, "ecc": counts}


def is_failing() -> bool:
    """Return whether the tool fails where it lists no GPU."""
    tool = [TOOL, "list"] if processes.is_program(TOOL) else [OLDER_TOOL, "--showid"]
    return processes.output_of(tool) is None
