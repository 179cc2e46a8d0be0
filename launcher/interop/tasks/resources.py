"""Translate the cores, memory and GPUs of a process into the resources of a role."""

from __future__ import annotations

import math
import re

import yaml

from ...jobs.roles import amount
from ...spec.yaml_document import YamlNode, text
from ..source import entries, unread
from .draft import JobDraft

_GPUS = ("gpu", "gpus", "nvidia.com/gpu")
_NAMES = {"cpu": "cpus", "memory": "memory", **dict.fromkeys(_GPUS, "gpus")}


def share(draft: JobDraft, node: YamlNode, unit: str = "") -> dict[str, int | str]:
    """Return the resources of a role. Raises DocumentError.

    ``cpu``, ``memory`` and ``gpu`` may be numbers, or may have ``requests`` and ``limits``; these may
    also enclose the three, as in Kubernetes. Limits win over requests. ``unit`` is appended to a
    memory size without a unit.
    """
    inside = entries(node, "resources")
    if "limits" in inside or "requests" in inside:  # {limits: {cpu: 2, memory: 1Gi}}
        unread(draft, node, ("limits", "requests"), "resources")
        if "limits" in inside and "requests" in inside:
            draft.note(inside["requests"][0], "requests are not carried over: the limits are used")
        return share(draft, inside["limits" if "limits" in inside else "requests"][1], unit)
    unread(draft, node, tuple(_NAMES), "resources")
    found: dict[str, int | str] = {}
    for name, (line, value) in inside.items():
        if name in _NAMES and (given := _limit(draft, value)):
            found[_NAMES[name]] = _checked(draft, line, _NAMES[name], given, unit)
    return found


def _limit(draft: JobDraft, node: YamlNode) -> str:
    if not isinstance(node.yaml, yaml.MappingNode):
        return text(node)
    unread(draft, node, ("limits", "limit", "requests", "request"), "a resource")
    known = ("limit", "request")
    inside = {k.rstrip("s"): one for k, one in entries(node).items() if k.rstrip("s") in known}
    _, chosen = inside.get("limit") or inside.get("request") or (0, None)
    if chosen is None:
        return ""
    if len(inside) > 1 and text(inside["request"][1]) != text(chosen):
        draft.note(inside["request"][0], "requests are not carried over: the limits are used")
    return text(chosen)


def _checked(draft: JobDraft, line: int, name: str, given: str, unit: str) -> int | str:
    if name == "memory":
        given = given + unit if given.isdigit() else given
        try:
            amount(given)
        except ValueError as error:
            raise draft.error(line, str(error)) from None
        return given
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?m?", given):
        raise draft.error(line, f"{name}: a number, not {given[:40]!r}")
    number = float(given.rstrip("m")) / (1000 if given.endswith("m") else 1)
    whole = math.ceil(number)
    if whole != number:
        draft.note(line, f"{name} must be whole: {given} is rounded up to {whole}")
    return max(1, whole) if name == "cpus" else whole
