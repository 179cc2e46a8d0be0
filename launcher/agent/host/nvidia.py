"""NVIDIA's GPUs, as ``nvidia-smi`` lists them: the only interface that needs neither root nor a package.

amd.py and intel.py have the same functions for theirs; gpus.py says which of them is asked.
"""

from __future__ import annotations

from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..base.messages import GpuFacts, GpuLoad

NAME, TOOL = "nvidia", "nvidia-smi"
#: Indices of MIG instances start here, ten for each GPU: instance 3 of GPU 1 is 1013. As in
#: launcher/spec/gpus.py.
MIG, MIG_EACH = 1000, 10

_FORM = "--format=csv,noheader,nounits"
_FIELDS = "--query-gpu=index,name,uuid,memory.total,memory.used"
_HEALTH = "--query-gpu=uuid,driver_version,ecc.errors.uncorrected.volatile.total"


def listed(seconds: float) -> list[GpuFacts]:
    """Return the GPUs; of one that is divided, its MIG instances. Memory is in MiB."""
    rows = _rows([_FIELDS + ",mig.mode.current"], seconds)
    if rows is None:  # a driver older than MIG does not know the field
        rows = _rows([_FIELDS], seconds) or []
    known = [row for row in rows if len(row) >= 5 and row[0].isdigit()]
    divided = {int(row[0]) for row in known if row[5:] == ["Enabled"]}
    instances = _instances(seconds) if divided else []
    found = [_gpu(row) for row in known if int(row[0]) not in divided]
    found += [one for one in instances if (one["index"] - MIG) // MIG_EACH in divided]
    return found


def _gpu(row: list[str]) -> GpuFacts:
    index, name, uuid, total, used = row[:5]
    return {
        "index": int(index),
        "name": name,
        "uuid": uuid,
        "memory": number(total),
        "memory_used": number(used),
        "vendor": NAME,
    }


def _instances(seconds: float) -> list[GpuFacts]:
    """Return the MIG instances: lines ``MIG 1g.5gb Device 0: (UUID: MIG-...)`` below their GPU."""
    found: list[GpuFacts] = []
    parent, name = 0, ""
    for line in (processes.output_of([TOOL, "-L"], seconds) or "").splitlines():
        words = line.split()
        if line.startswith("GPU ") and words[1].rstrip(":").isdigit():
            parent = int(words[1].rstrip(":"))
            name = line.partition(":")[2].partition("(UUID:")[0].strip()
        elif words[:1] == ["MIG"] and words[2:3] == ["Device"] and words[3][:-1].isdigit():
            instance, memory = int(words[3][:-1]), words[1].rpartition(".")[2].lower()
            size = number(memory[:-2]) * 1024 if memory.endswith("gb") else 0
            if instance < MIG_EACH:
                found.append(
                    {
                        "index": MIG + MIG_EACH * parent + instance,
                        "name": "%s MIG %s" % (name, words[1]),
                        "uuid": words[-1].rstrip(")"),
                        "memory": size,
                        "memory_used": 0,
                        "vendor": NAME,
                    }
                )
    return found


def number(text: str) -> int:
    """Return the whole part of a number; 0 for what is none, such as ``[N/A]``."""
    return said(text) or 0


def said(text: str) -> int | None:
    """Return the whole part of a number; None for what is none, such as ``[N/A]``."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None


def _rows(query: list[str], seconds: float = 10.0) -> list[list[str]] | None:
    answer = processes.output_of([TOOL] + query + [_FORM], seconds)
    return None if answer is None else table(answer)


def table(text: str) -> list[list[str]]:
    """Return the fields of lines with commas."""
    return [[field.strip() for field in line.split(",")] for line in text.splitlines()]


def apps_command() -> list[str]:
    """Return the command that lists the processes on GPUs; :func:`apps` reads its output."""
    return [TOOL, "--query-compute-apps=pid,gpu_uuid,used_memory", _FORM]


def apps(text: str) -> list[tuple[int, str, int]]:
    """Return ``[(pid, UUID of its GPU, MiB), ...]`` from the output of the command."""
    return [
        (int(row[0]), row[1], number(row[2]) if len(row) > 2 else 0)
        for row in table(text)
        if len(row) >= 2 and row[0].isdigit()
    ]


def load(seconds: float) -> dict[int, GpuLoad]:
    """Return what each GPU does now: ``percent`` of its time in which it computes, ``celsius``, and
    ``memory`` in use in MiB. None is what the tool does not say."""
    rows = _rows(["--query-gpu=index,utilization.gpu,temperature.gpu,memory.used"], seconds) or []
    return {
        int(row[0]): {"percent": said(row[1]), "celsius": said(row[2]), "memory": said(row[3])}
        for row in rows
        if len(row) == 4 and row[0].isdigit()
    }


def watching(seconds: float) -> list[str]:
    """Return the command that prints a line for each GPU again and again: its index, percent of its time
    in which it computes, MiB in use, watts, degrees Celsius."""
    query = "--query-gpu=index,utilization.gpu,memory.used,power.draw,temperature.gpu"
    return [TOOL, query, _FORM, "-lms", str(int(seconds * 1000))]


def health(gpus: Iterable[GpuFacts]) -> dict[str, Any]:
    """Return ``{"driver": version, "ecc": {index: uncorrectable memory errors}}``."""
    index_of = {gpu["uuid"]: gpu["index"] for gpu in gpus}
    driver, ecc = None, {}
    for row in _rows([_HEALTH]) or []:
        if len(row) == 3:
            driver = row[1]
            if row[2].isdigit() and row[0] in index_of:
                ecc[str(index_of[row[0]])] = int(row[2])
    return {"driver": driver, "ecc": ecc}


def is_failing() -> bool:
    """Return whether the tool fails where it lists no GPU."""
    return processes.output_of([TOOL, "-L"]) is None
