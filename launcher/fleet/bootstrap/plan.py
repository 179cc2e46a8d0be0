"""Decide which changes a bare host needs before jobs can run on it.

What a host has already needs no change, so a second bootstrap does nothing.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import shlex
from collections.abc import Iterable
from dataclasses import replace

from ...spec.errors import InputError, suggestion
from ...spec.frozen import frozen
from ...transport.agent_bundle import OLDEST_PYTHON
from . import recipes
from .inspection import RED_HAT_MPI, Look

#: The default place of the environment for jobs.
VENV = "~/.launcher/venv"
HOROVOD = "horovod==0.28.1"
#: What horovod is compiled with, and its packages on Debian and on Red Hat.
_TOOLS = {
    "g++": ("g++", "gcc-c++"),
    "cmake": ("cmake", "cmake"),
    "make": ("make", "make"),
    "Python.h": ("{python}-dev", "{python}-devel"),
}


@frozen
class Step:
    """A step of bootstrap. It comes after ``needs``; an optional one runs on request.

    A step that is not ``there`` changes nothing on the hosts.
    """

    name: str
    about: str
    needs: tuple[str, ...] = ()
    optional: bool = False
    there: bool = True


STEPS = (
    Step("key", "your public key, so that logging in needs no password"),
    Step("rsync", "rsync, which copies code and outputs"),
    Step("python", "Python 3.8 or newer with its venv module"),
    Step("venv", "a virtual environment for jobs", ("python",)),
    Step("requirements", "what the job imports, into that environment", ("venv",)),
    Step("openmpi", "Open MPI and its headers", optional=True),
    Step("horovod", "horovod, built for the environment", ("venv", "openmpi"), optional=True),
    Step("own-name", "the host's own name resolves to its address, not 127.0.1.1", optional=True),
    Step("interface", "interface: in the inventory, by which hosts reach each other", there=False),
)
NAMES = tuple(step.name for step in STEPS)
#: The steps that a host's agent needs.
USUAL = frozenset(step.name for step in STEPS if step.there and not step.optional)


@frozen
class Goal:
    """What the user asked for on one host.

    ``python`` is the inventory's; ``key`` is a line for authorized_keys, None if logging in works
    without it; ``requirements`` is the text of a requirements file; ``build_horovod`` is the script
    that builds horovod.
    """

    steps: frozenset[str]
    python: str
    key: str | None = None
    requirements: str | None = None
    venv: str | None = None
    build_horovod: str = ""


@frozen
class Change:
    """A change on a host: sh runs ``script``, as root if ``root`` is true.

    ``upload`` is text that ``script`` finds in the file ``upload_to``. ``what`` follows the host's name,
    as in "gpu1: install rsync".
    """

    step: str
    what: str
    script: str
    root: bool = False
    upload: str | None = None
    upload_to: str = ""


@frozen
class Problem:
    """A step that cannot be done on a host, and what to do about it."""

    step: str
    message: str
    hint: str


@frozen
class Decision:
    """What one host needs. ``notes`` are for its owner; bootstrap does nothing about them."""

    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def needs_root(self) -> bool:
        """Whether any change needs root."""
        return any(change.root for change in self.changes)


def chosen(skip: Iterable[str], only: Iterable[str], more: Iterable[str]) -> frozenset[str]:
    """Return the steps that flags select. Raises InputError for an unknown name."""
    skip, only, more = set(skip), set(only), set(more)
    for name in sorted(skip | only | more):
        if name not in NAMES:
            hint = suggestion(name, NAMES) or f"steps: {', '.join(NAMES)}"
            raise InputError(f'there is no step "{name}"', hint)
    usual = {step.name for step in STEPS if not step.optional}
    return frozenset((only or usual) - skip | more)


def requirement_lines(text: str, source: str) -> str:
    """Return the text of a requirements file, checked to stand alone. Raises InputError."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        names_a_file = words and (
            re.match(r"(-r|-c|-e|--requirement|--constraint|--editable)(=|\Z)", words[0])
            or words[0].startswith((".", "file:"))
        )
        if names_a_file:
            raise InputError(
                f"{source}:{number}: {line.strip()!r} refers to another file on this machine",
                "only this file is copied to the hosts: name packages in it (see pip freeze)",
            )
    return text


def venv_of(goal: Goal) -> str:
    """Return where the environment for jobs is, or will be, on a host."""
    return goal.venv or _environment(goal.python) or VENV


def is_venv_ours(goal: Goal) -> bool:
    """Return whether launcher makes that environment, rather than the inventory naming one."""
    return bool(goal.venv) or not _environment(goal.python)


def _environment(python: str) -> str | None:
    """Return the environment of an interpreter's path; None for a name or the system's Python."""
    found = re.fullmatch(r"(.+)/bin/python[0-9.]*", python)
    return found[1] if found and found[1] not in ("/usr", "/usr/local") else None


def decide(look: Look, goal: Goal) -> Decision:
    """Return everything that a host needs, in the order in which to do it."""
    parts = {
        "key": _key,
        "rsync": _rsync,
        "python": _python,
        "venv": _venv,
        "requirements": _requirements,
        "openmpi": _openmpi,
        "horovod": _horovod,
        "own-name": _own_name,
    }
    steps = goal.steps - _IN_VENV if look.weakness else goal.steps
    found = [item for name in parts if name in steps for item in parts[name](look, goal)]
    if look.weakness and goal.steps & _IN_VENV and _wants_venv(goal):
        found.append(_unsafe(look, goal))
    return Decision(
        tuple(item for item in found if isinstance(item, Change)),
        tuple(item for item in found if isinstance(item, Problem)),
        tuple(_notes(look, goal)),
    )


#: Steps that execute something of the environment.
_IN_VENV = frozenset({"venv", "requirements", "horovod"})


def _unsafe(look: Look, goal: Goal) -> Problem:
    return Problem(
        "venv",
        f"the environment {_at_home(look, venv_of(goal))} could be changed by other users: "
        f"{look.weakness}",
        "chmod go-w that folder, or choose another: --venv DIR",
    )


def without_root(decision: Decision, why: str) -> Decision:
    """Turn the changes that need root into problems for the host's admin."""
    problems = [
        Problem(
            change.step,
            f"cannot {change.what}: {why}",
            f"ask the admin, or skip it: --skip {change.step}",
        )
        for change in decision.changes
        if change.root
    ]
    changes = tuple(change for change in decision.changes if not change.root)
    return replace(decision, changes=changes, problems=(*decision.problems, *problems))


def blocked(step: str, failed: Iterable[str]) -> str | None:
    """Return the failed step that a step needs, or None."""
    needs = next(known.needs for known in STEPS if known.name == step)
    return next((name for name in failed if name in needs), None)


_Found = Iterable[Change | Problem]


def _key(look: Look, goal: Goal) -> _Found:
    if goal.key is None or look.key:
        return
    line = shlex.quote(goal.key.strip())
    yield Change(
        "key",
        f"add your public key ({_comment(goal.key)}) to ~/.ssh/authorized_keys",
        'set -e; umask 077; mkdir -p "$HOME/.ssh"; f="$HOME/.ssh/authorized_keys"\n'
        'if [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ]; then echo >>"$f"; fi\n'
        f"printf '%s\\n' {line} >>\"$f\"\n"
        'chmod go-w "$HOME/.ssh" "$f"\n'  # sshd(8): StrictModes
        'if command -v restorecon >/dev/null; then restorecon -R "$HOME/.ssh"; fi',
    )


def _comment(key: str) -> str:
    words = key.split(None, 2)
    return words[2].strip() if len(words) > 2 else words[0]


def _rsync(look: Look, goal: Goal) -> _Found:
    if not look.rsync:
        yield _install(look, "rsync", "rsync")


def _python(look: Look, goal: Goal) -> _Found:
    own = _environment(goal.python)
    name = "python3" if own else posixpath.basename(goal.python)
    found = look.base if own else look.python
    if own and look.python and look.python.version >= OLDEST_PYTHON:
        return
    if not re.fullmatch(r"python3(\.\d+)?", name):
        if found is None:
            yield Problem("python", f"there is no {goal.python}", "set python: in the inventory")
    elif found is None:
        packages = (name, f"{name}-venv") if _is_debian(look) else (name,)
        yield _install(look, "python", *packages)
    elif found.version < OLDEST_PYTHON:
        yield Problem(
            "python",
            f"{name} is only {'.'.join(map(str, found.version))}",
            "install 3.8 or newer beside it, and set python: in the inventory",
        )
    elif not found.venv and found.path.startswith("/usr/bin/") and _is_debian(look):
        yield _install(look, "python", f"{name}-venv")


def _wants_venv(goal: Goal) -> bool:
    named = goal.venv or goal.requirements is not None or _environment(goal.python)
    return bool(named or "horovod" in goal.steps)


def _venv(look: Look, goal: Goal) -> _Found:
    if look.venv or not _wants_venv(goal):
        return
    place = _at_home(look, venv_of(goal))
    base = look.base if _environment(goal.python) else look.python
    python = shlex.quote(base.path if base else "python3")
    folder = shlex.quote(place)
    make = f"{python} -m venv {folder}"
    if look.uv and base and not base.venv:  # uv needs no ensurepip
        make = f"{shlex.quote(look.uv)} venv --quiet --seed --python {python} {folder}"
    there = f"{folder}/bin/python -c 0 2>/dev/null"  # another host of this home was faster
    yield Change("venv", f"create the environment {place}", f"{_in_turn(place)}{there} || {make}")


def _in_turn(place: str) -> str:
    folder, name = posixpath.split(place)
    return recipes.IN_TURN.format(folder=shlex.quote(folder), name=shlex.quote(name))


def _requirements(look: Look, goal: Goal) -> _Found:
    if goal.requirements is None:
        return
    lines = [line.split("#")[0].strip() for line in goal.requirements.splitlines()]
    digest = hashlib.sha256(goal.requirements.encode()).hexdigest()
    if look.requirements == digest or not any(lines):
        return
    place = _at_home(look, venv_of(goal))
    file = f"{place}/requirements-{digest[:12]}-{look.hostname}.txt"
    count = sum(1 for line in lines if line and not line.startswith("-"))
    with_what = " with uv" if look.uv else ""
    yield Change(
        "requirements",
        f"install the {count} requirement{'' if count == 1 else 's'} into {place}{with_what}",
        f"trap 'rm -f '{shlex.quote(shlex.quote(file))} EXIT\n{_in_turn(place)}"
        f"{_installer(look, place)} -r {shlex.quote(file)}\n"
        f"echo {digest} >{shlex.quote(place)}/.launcher-requirements",
        upload=goal.requirements,
        upload_to=file,
    )


def _installer(look: Look, place: str) -> str:
    python = shlex.quote(f"{place}/bin/python")
    if look.uv:
        return f"{shlex.quote(look.uv)} pip install --quiet --python {python}"
    return f"{python} -m pip install --quiet --disable-pip-version-check --no-input"


def _openmpi(look: Look, goal: Goal) -> _Found:
    if look.mpirun and "mpicxx" in look.tools:
        return
    if _is_debian(look):
        yield _install(look, "openmpi", "openmpi-bin", "libopenmpi-dev")
    else:
        yield _install(look, "openmpi", "openmpi", "openmpi-devel")


def _horovod(look: Look, goal: Goal) -> _Found:
    if look.horovod and ("mpi" in look.horovod.split() or "openmpi" not in goal.steps):
        return
    place = _at_home(look, venv_of(goal))
    name = posixpath.basename(goal.python) if not _environment(goal.python) else "python3"
    which = 0 if _is_debian(look) else 1
    missing = [names[which] for tool, names in _TOOLS.items() if tool not in look.tools]
    if missing:
        packages = [package.format(python=name) for package in missing]
        yield _install(look, "horovod", *packages)
    python = shlex.quote(f"{place}/bin/python")
    yield Change(
        "horovod",
        f"build {HOROVOD} for the torch in {place} (takes minutes)",
        f"{_in_turn(place)}set -- {python}\n{goal.build_horovod}",
    )


def _own_name(look: Look, goal: Goal) -> _Found:
    if not look.own_address.startswith("127."):
        return
    if not look.address or look.address.startswith("127."):
        yield Problem(
            "own-name",
            f"no address of {look.hostname} is known but {look.address}",
            "add its address to /etc/hosts by hand",
        )
        return
    values = shlex.join([f"n={look.hostname}", "-v", f"a={look.address}"])
    yield Change(
        "own-name",
        f"make its name {look.hostname} resolve to {look.address}, not {look.own_address}",
        "set -e; cp -p /etc/hosts /etc/hosts.before-launcher\n"
        f"new=$(awk -v {values} {shlex.quote(recipes.MOVE_NAMES)} /etc/hosts)\n"
        "printf '%s\\n' \"$new\" >/etc/hosts",
        root=True,
    )


def _notes(look: Look, goal: Goal) -> Iterable[str]:
    place = venv_of(goal)
    if not _environment(goal.python) and (goal.requirements is not None or goal.venv):
        yield f"to use it in runs, set `python: {place}/bin/python` in the inventory"
    if "openmpi" in goal.steps and _hides_mpi(look):
        yield (
            f"{RED_HAT_MPI} is not on PATH; for runs to find mpirun, set "
            f"`env: {{PATH: {RED_HAT_MPI}:/usr/bin:/bin}}` in the inventory"
        )
    if look.own_address.startswith("127.") and "own-name" not in goal.steps:
        yield (
            f"its own name resolves to {look.own_address}; launcher works around it, "
            "other programs may not: --with own-name"
        )
    if look.driverless_gpu:
        yield (
            "it has an NVIDIA GPU but no driver, which bootstrap never installs: ask the admin to "
            "install the distribution's (Debian: nvidia-driver; Ubuntu: ubuntu-drivers install; "
            "RHEL: NVIDIA's repository) and to reboot"
        )


def _hides_mpi(look: Look) -> bool:
    """Return whether mpirun is, or will be, in a folder that is not on PATH."""
    if look.mpirun:
        return posixpath.dirname(look.mpirun) == RED_HAT_MPI
    return bool(look.manager) and not _is_debian(look)


def _at_home(look: Look, path: str) -> str:
    if path.startswith("~/"):
        return look.home + path[1:]
    return path if path.startswith("/") else f"{look.home}/{path}"


def _is_debian(look: Look) -> bool:
    return look.manager == "apt-get"


def _install(look: Look, step: str, *packages: str) -> Change | Problem:
    names = shlex.join(packages)
    what = f"install {', '.join(packages)}"
    if _is_debian(look):
        return Change(step, what, recipes.APT.format(names=names), root=True)
    if look.manager:
        script = f"LC_ALL=C {look.manager} install -y -q {names}"
        return Change(step, what, script, root=True)
    return Problem(
        step,
        f"cannot {what}: {look.title or 'its system'} has no apt-get, dnf or yum",
        f"install it by hand, then use --skip {step}",
    )
