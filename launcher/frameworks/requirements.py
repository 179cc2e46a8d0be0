"""What a framework cannot do without, and what to say about a host that lacks it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .. import frameworks
from . import Need


def modules_of(framework: str) -> tuple[str, ...]:
    """Return the modules without which it starts nothing."""
    return frameworks.get(framework).modules


def needs_of(framework: str) -> dict[str, Need]:
    """Return what else it cannot do without, by its probe."""
    return {need.probe: need for need in frameworks.get(framework).needs}


def first_of(framework: str, missing: Sequence[str]) -> list[str]:
    """Those of the missing that are told together: all modules, or else the first other thing."""
    needs = needs_of(framework)
    return [probe for probe in missing if probe not in needs] or [missing[0]]


def told(framework: str, python: str, version: str, missing: Sequence[str]) -> tuple[str, str]:
    """``(what is wrong, hint)`` for what :func:`first_of` gave."""
    need = needs_of(framework).get(missing[0])
    who = f"{python} (Python {version})"
    if need is not None:
        who = "this host" if need.probe.startswith("program:") else who
        return f"framework {framework} needs {need.says}, which {who} does not have", need.hint
    return (
        f"framework {framework} needs {' and '.join(missing)}, which {who} does not have",
        f"{python} -m pip install {' '.join(missing)} there or in the job's setup:, or "
        "set python: in the inventory to one that has it",
    )
