"""How a run was taken up from its hosts, which another machine had started. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ..spec.frozen import frozen

#: Beside ``run.json``, in the folder of such a run.
FILE = "adopted.json"


@frozen
class Adoption:
    """What stands behind the record of a run that its hosts hold.

    ``attempt`` is the latest that they tell of. ``differing`` says of hosts of the run why they do
    not confirm the record. ``trusted``: a person has seen what it asks for, and lets this machine
    start processes by it.
    """

    attempt: int = 0
    differing: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False
