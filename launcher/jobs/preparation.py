"""What bash prepares before the processes of a job start: modules, an environment, lines of its own."""

from __future__ import annotations

import shlex
from dataclasses import replace

from ..spec.model import Host, Job, Node, Process
from .activation import activation
from .environments import around, is_in_image, modules_on, on_host

#: What a login shell would have: environment modules are a function of the shell, and of those that it
#: starts. To define it takes longer than all else that is prepared, so whoever calls it first does so:
#: also a script behind "set -eu", which the files of modules do not always bear.
_LATER = """\
if type launcher_modules >/dev/null 2>&1; then unset -f module ml launcher_modules; fi
type module >/dev/null 2>&1 || for each in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh \\
  "$MODULESHOME/init/bash" "$LMOD_PKG/init/bash" \\
  /usr/share/modules/init/bash /usr/share/lmod/lmod/init/bash; do
  if [ -r "$each" ]; then
    launcher_start=$each
    eval "launcher_modules() {
      unset -f module ml launcher_modules
      local launcher_set=\\$-
      set +u
      . $(printf %q "$each")
      case \\$launcher_set in *u*) set -u;; esac
    }"
    module() { launcher_modules || :; module "$@"; }
    ml() { launcher_modules || :; ml "$@"; }
    export -f launcher_modules module ml
    break
  fi
done
"""
#: At once, for lines that may change where modules are; not in a function, to which what the file
#: declares would belong.
_NOW = """\
if type launcher_modules >/dev/null 2>&1; then
  unset -f module ml launcher_modules
  . "$launcher_start"
fi
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
#: Before lines of people: where these call ``exit``, a process that never began would have succeeded.
_WATCH = """\
trap 'launcher_code=$?
echo "launcher: %s ended with exit code $launcher_code before the command could start" >&2
[ "$launcher_code" != 0 ] || exit 1' EXIT
"""
#: Behind them; ``on_failure`` is what follows.
_CHECK = """
launcher_code=$?
trap - EXIT
if [ "$launcher_code" != 0 ]; then
  echo "launcher: %s ended with exit code $launcher_code" >&2
  %s
fi
"""
_FAILED = "{ launcher_code=1; %s; }\n"
_START = 'exec "$@"\n'
_FORGET = (
    "unset -f launcher_activate launcher_bases launcher_micromambas launcher_pixi launcher_tools; "
    "unset launcher_variables\n"
)
#: What bash is called meanwhile, by which a command behind it is found.
_NAME = "prepare"


def prepared(process: Process, job: Job, node: Node) -> Process:
    """Return the process behind what the host and the job prepare, which bash runs first.

    What a framework's own launcher starts, on whatever host, inherits what was prepared there.
    """
    role = process.task.role if process.task else ""
    script = _script(job, node, role, 'exit "$launcher_code"') + _last(job, 'exit "$launcher_code"')
    if not script:
        return process
    return replace(process, argv=(*_words(f"{script}{_START}"), *process.argv))


def visiting(job: Job, node: Node, role: str = "", first: str = "") -> tuple[str, ...]:
    """Return the words in front of a visitor's command, so that it finds what the processes of the run,
    or of a role, do, and before that what is in the folder ``first``. Where a part fails it says so, and
    the command runs all the same: to find out why."""
    script = _script(job, node, role, ":") + _last(job, ":")
    if script and first:
        script += f"PATH={shlex.quote(first)}:$PATH\n"
    return _words(f"{{\n{script}}} >&2\n{_START}") if script else ()


def for_setup(job: Job, node: Node, role: str = "") -> tuple[str, ...]:
    """Return the words in front of the setup of a job, or of a role: its environment, without the job's
    ``prepare:``, which may want what the setup makes."""
    if not around(job, node, role).is_activated:
        return ()
    return _words(_script(job, node, role, 'exit "$launcher_code"') + _START)


def on_trial(job: Job, node: Node, role: str = "") -> tuple[str, ...]:
    """Return the words in front of a program that looks what is there. Where a part fails, a line of
    stdout says so, and the program does not run."""
    if not around(job, node, role).is_activated:
        return ()
    return _words(f"{{\n{_script(job, node, role, 'exit 0')}}} 2>&1\n{_START}")


def again(job: Job, node: Node, role: str = "") -> str:
    """Return lines of bash for a shell whose startup files may have activated something else."""
    its = around(job, node, role)
    if its.environment is None or not its.environment.is_activated:
        return ""
    return f"{activation(its.environment, its.python)}\n{_FORGET}"


def behind(job: Job, host: Host, role: str = "") -> tuple[str, ...]:
    """Return what stands in front of the processes of a role on a host, for people."""
    environment, modules = on_host(job, host, role), modules_on(job, host, role)
    return (
        *(
            [f"prepare: of {host.name}"]
            if host.prepare and not is_in_image(job, host, role)
            else []
        ),
        *([f"module load {' '.join(modules)}"] if modules else []),
        *([str(environment)] if environment else []),
        *(["prepare:"] if job.prepare else []),
    )


def command_of(process: Process) -> tuple[str, ...]:
    """Return the command of a process without what is prepared in front of it."""
    argv = process.argv
    return argv[4:] if argv[:2] == ("bash", "-c") and argv[3:4] == (_NAME,) else argv


def _words(script: str) -> tuple[str, ...]:
    return ("bash", "-c", script, _NAME)


def _script(job: Job, node: Node, role: str, on_failure: str) -> str:
    """Return what bash runs first: the host's ``prepare:``, the ``modules:`` of a role, its environment.

    The environment comes behind the modules: what they put on PATH does not hide its Python. What a host
    prepares has no meaning in an image.
    """
    parts, host, its = [], node.host, around(job, node, role)
    of_host = "" if is_in_image(job, host, role) else host.prepare
    if of_host:
        where = f"prepare: of {host.name} in the inventory"
        parts.append(_WATCH % where + of_host + _CHECK % (where, on_failure))
    if its.modules:
        parts.append(f"launcher_load {shlex.join(its.modules)} || {_FAILED % on_failure}")
    if its.environment and its.environment.is_activated:
        parts.append(f"{activation(its.environment, its.python)} || {_FAILED % on_failure}")
    if not (parts or job.prepare):
        return ""
    is_asked = bool(of_host or its.modules or job.prepare)
    return _LATER + (_NOW if is_asked else "") + "".join(parts)


def _last(job: Job, on_failure: str) -> str:
    if not job.prepare:
        return ""
    return _WATCH % "prepare:" + job.prepare + _CHECK % ("prepare:", on_failure)
