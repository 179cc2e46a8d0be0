"""What a host says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...spec.errors import BadAnswer
from ...spec.frozen import frozen
from ...spec.model import Facts
from ...spec.typed_json import Mismatch, from_json
from .queue import Holder, require_users
from .reading import (
    LONGEST_PATH,
    MOST,
    read,
    require,
    require_address,
    require_folder,
    require_interface,
)


@frozen
class Surveyed:
    """What a check measured on a host: :class:`Facts`, and more."""

    facts: Mapping[str, Any]


@frozen
class Ended:
    """How many processes of earlier runs were killed."""

    ended: int


def read_facts(host: str, op: str, answer: Mapping[str, Any], clock_offset: float) -> Facts:
    """Return an agent's description of its host. Raises BadAnswer."""
    found = read(Facts, host, op, {**answer, "host": host, "clock_offset": clock_offset})
    try:
        _require_facts(found)
    except Mismatch as error:
        raise BadAnswer(host, f"its answer to {op}: {error}") from None
    return found


def _require_facts(found: Facts) -> None:
    require(max(len(found.gpus), len(found.addresses)) <= MOST, "gpus", "more than a host has")
    for name, address in found.addresses:
        require_interface(name, "addresses")
        require_address(address, "addresses")
    if found.ssh_address is not None:
        require_address(re.sub(r"%[\w.-]{1,15}\Z", "", found.ssh_address), "ssh_address")
    require_folder(found.root, "root")
    require(len(found.machine) <= 64, "machine", "is too long")
    require(len(found.no_paths) <= MOST, "no_paths", "more than a job needs")
    require(len(found.silent_paths) <= MOST, "silent_paths", "more than a job needs")
    require(len(found.own_hosts) <= 64, "own_hosts", "is too long")
    require(len(found.hostname) <= 255, "hostname", "is too long")
    require(len(found.user) <= 256, "user", "is too long")
    require(len(found.python) <= LONGEST_PATH, "python", "is too long")
    require(0 <= found.cpus <= 1 << 16, "cpus", f"not a number of CPUs: {found.cpus}")
    for name, value in found.visible.items():
        require(len(name) + len(value) <= LONGEST_PATH, "visible", "is too long")
    require_users(found.gpu_users)
    for gpu in found.gpus:
        require(0 <= gpu.index < MOST and gpu.memory >= 0, "gpus", "not a GPU")
    for holder in found.leased.values():
        from_json(Holder, holder)
