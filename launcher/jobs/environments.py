"""The environment of a job: its Python, and what a shell prepares before its processes start."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from ..spec.model import Host, Job, Process

#: What a login shell would have: environment modules are a function of the shell.
_MODULES = """\
type module >/dev/null 2>&1 || for each in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh \\
  "$MODULESHOME/init/bash" "$LMOD_PKG/init/bash" \\
  /usr/share/modules/init/bash /usr/share/lmod/lmod/init/bash; do
  if [ -r "$each" ]; then . "$each"; break; fi
done
launcher_load() {
  if ! type module >/dev/null 2>&1; then
    echo "launcher: modules: this host has no module command" >&2
    return 1
  fi
  for each do
    module load "$each" || { echo "launcher: modules: $each cannot be loaded here" >&2; return 1; }
  done
}
"""
#: Behind each part; ``on_failure`` is what follows.
_CHECK = """
launcher_code=$?
if [ "$launcher_code" != 0 ]; then
  echo "launcher: %s ended with exit code $launcher_code" >&2
  %s
fi
"""
_START = 'exec "$@"\n'


def with_python(hosts: Sequence[Host], job: Job) -> tuple[Host, ...]:
    """Return the hosts with the job's own Python, if it names one."""
    python = job.python
    return tuple(replace(host, python=python) for host in hosts) if python else tuple(hosts)


def prepared(process: Process, job: Job, host: Host) -> Process:
    """Return the process behind what the host and the job prepare, which bash runs first.

    What a framework's own launcher starts, on whatever host, inherits what was prepared there.
    """
    script = _script(job, host, 'exit "$launcher_code"')
    if not script:
        return process
    return replace(process, argv=("bash", "-c", script + _START, "prepare", *process.argv))


def visiting(job: Job, host: Host) -> tuple[str, ...]:
    """Return the words in front of a visitor's command, so that it finds what the processes of the run
    do. Where a part fails it says so, and the command runs all the same: to find out why."""
    script = _script(job, host, ":")
    return ("bash", "-c", f"{{\n{script}}} >&2\n{_START}", "prepare") if script else ()


def _script(job: Job, host: Host, on_failure: str) -> str:
    """Return what bash runs first: the host's ``prepare:``, the job's ``modules:``, its ``prepare:``."""
    parts = []
    if host.prepare:
        where = f"prepare: of {host.name} in the inventory"
        parts.append(host.prepare + _CHECK % (where, on_failure))
    if job.modules:
        parts.append(
            f"launcher_load {shlex.join(job.modules)} || {{ launcher_code=1; {on_failure}; }}\n"
        )
    if job.prepare:
        parts.append(job.prepare + _CHECK % ("prepare:", on_failure))
    return _MODULES + "".join(parts) if parts else ""
