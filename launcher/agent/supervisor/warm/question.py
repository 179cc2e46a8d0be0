"""The question to a process that is kept whether a run can use it: names, and digests of what must be
equal. A value that only an unlike run has never gets into the memory of what waits on. Pure.

The digests have a key, which each question draws anew.
"""

from __future__ import annotations

from ...base import lean
from ...base.protocol import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

    from .asked import Asked

#: Bytes of a key.
KEY = 16


def question(asked: Asked, programs: Dict[str, str], key: bytes) -> dict[str, Any]:
    """Return what tells whether what is kept is as ``asked`` for, with these programs first in PATH."""
    return {
        "key": key.hex(),
        "modules": asked.modules,
        "stacks": asked.stacks,
        "command": _digest(key, asked.argv),
        "programs": _digest(key, sorted(programs.items())),
        "variables": {name: _digest(key, [name, value]) for name, value in asked.env.items()},
    }


def unlike(
    asked: Asked, programs: Dict[str, str], theirs: Dict[str, Any]
) -> Tuple[str, str] | None:
    """Return why what is kept, with this ``asked`` of it, does not fit; None where it does."""
    if asked.modules != theirs["modules"]:
        return "other-modules", ",".join(asked.modules)
    ours = question(asked, programs, bytes.fromhex(theirs["key"]))
    if any(ours[name] != theirs[name] for name in ("stacks", "command", "programs")):
        return "other-command", ""
    known, wanted = ours["variables"], theirs["variables"]
    for name in sorted(known.keys() | wanted.keys()):
        if known.get(name) != wanted.get(name):
            return "other-variable", name
    return None


def _digest(key: bytes, value: object) -> str:
    text = lean.dumps(value).encode("ascii")
    return blake2b(text, key=key, digest_size=16).hexdigest()
