"""Checks of other packages: entry points of the group ``launcher.checks``.

Each gets what was measured on a host, and yields findings about it. Their codes begin with its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...spec.model import Host
from ...spec.plugins import Plugins, Unusable, function_of
from . import LEVELS, Finding, found

if TYPE_CHECKING:
    from .survey import Survey

Check = Callable[["Survey", Host], Iterable[Finding]]


PLUGINS: Plugins[Check] = Plugins("launcher.checks", "check", function_of("a survey and a host"))


def of_plugins(checks: Mapping[str, Check | Unusable], survey: Survey, host: Host) -> list[Finding]:
    """Return what checks find on a host; one that cannot be used, or fails, is a finding itself."""
    findings = []
    for name, check in checks.items():
        if isinstance(check, Unusable):
            evidence = f"{PLUGINS.described(name)} cannot be used: {check}"
            findings.append(found("PLUGIN-BROKEN", host.name, evidence, check.hint))
            continue
        try:
            findings += [_checked(one, name, host) for one in check(survey, host)]
        except (Exception, SystemExit) as error:  # whatever a plug-in does
            broken = PLUGINS.failed(name, error)
            findings.append(found("PLUGIN-BROKEN", host.name, broken.message, broken.hint))
    return findings


def _checked(one: Any, name: str, host: Host) -> Finding:
    """Return a finding of a check if it is one. Raises ValueError."""
    if not isinstance(one, Finding):
        raise ValueError(f"{one!r} is not a Finding")
    prefix = name.upper()
    if not re.fullmatch(rf"{re.escape(prefix)}(-[A-Z0-9]+)+", one.code):
        raise ValueError(f'the code "{one.code}" does not begin with {prefix}-')
    if one.level not in LEVELS:
        raise ValueError(f'the level "{one.level}" is none of {", ".join(LEVELS)}')
    if not isinstance(one.evidence, str) or not isinstance(one.fix, str):
        raise ValueError("evidence and fix are texts")
    return replace(one, hosts=(host.name,), there=(), value="")
