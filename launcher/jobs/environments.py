"""The environment of a job: its Python, and what a shell prepares before its processes start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..spec.model import Host, Job, Process

#: What a login shell would have: environment modules are a function of the shell.
_MODULES = """\
type module >/dev/null 2>&1 || for each in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh \\
  /usr/share/modules/init/bash /usr/share/lmod/lmod/init/bash; do
  if [ -r "$each" ]; then . "$each"; break; fi
done
"""
_CHECK = """
launcher_code=$?
if [ "$launcher_code" != 0 ]; then
  echo "launcher: prepare: ended with exit code $launcher_code" >&2
  exit "$launcher_code"
fi
exec "$@"
"""


def with_python(hosts: Sequence[Host], job: Job) -> tuple[Host, ...]:
    """Return the hosts with the job's own Python, if it names one."""
    python = job.python
    return tuple(replace(host, python=python) for host in hosts) if python else tuple(hosts)


def prepared(process: Process, job: Job) -> Process:
    """Return the process behind the job's ``prepare:``, which bash runs first.

    What a framework's own launcher starts, on whatever host, inherits what was prepared there.
    """
    if not job.prepare:
        return process
    script = f"{_MODULES}{job.prepare}{_CHECK}"
    return replace(process, argv=("bash", "-c", script, "prepare", *process.argv))
