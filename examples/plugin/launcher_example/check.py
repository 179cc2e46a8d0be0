"""A check: is a host's kernel too old? Codes begin with the name of the entry point, ``kernel``."""

import re
from collections.abc import Iterator

from launcher.api.plugins import Finding, Host, Survey

OLDEST = (5, 10)


def kernel(survey: Survey, host: Host) -> Iterator[Finding]:
    """Yield a warning for a kernel older than our drivers need."""
    if tuple(map(int, re.findall(r"\d+", survey.kernel)[:2])) < OLDEST:
        evidence = f"Linux {survey.kernel} is older than {OLDEST[0]}.{OLDEST[1]}"
        yield Finding("KERNEL-OLD", "warning", (host.name,), evidence, "update and reboot it")
