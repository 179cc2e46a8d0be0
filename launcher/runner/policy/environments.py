"""What to say of hosts on which a job's environment is missing, or cannot be activated. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...spec import nodeset
from ...spec.environments import CONDA, Environment
from ...spec.errors import HostError, NoEnvironment, NoPython, PythonTooOld
from ...spec.model import Host


def missing(on: Host, environment: Environment, error: HostError) -> HostError:
    """Return the error for a host whose Python, that of an environment, cannot be used."""
    host, said = on.name, ""
    if environment == on.environment:
        said = f"environment: of {host} in the inventory names it; "
    if isinstance(error, PythonTooOld):
        return PythonTooOld(
            host,
            f"the {environment} has {error.message.rpartition(' is ')[2]}",
            f"{said}launcher needs 3.8 or newer on hosts: choose another environment",
        )
    if not isinstance(error, NoPython):
        return error
    if environment.is_named:
        hint = error.hint.replace(f"{CONDA}/", "conda: /" if said else "--conda /")
        return NoEnvironment(host, error.message, said + hint)
    place = environment.conda or environment.venv
    make = "conda create -p" if environment.conda else "python3 -m venv"
    return NoEnvironment(
        host,
        f"there is no Python in the {environment}",
        f"{said}{make} {place} there makes one; or choose hosts that have it: --hosts NAMES",
    )


def of_roles(lacking: Mapping[str, Mapping[str, HostError]]) -> HostError | None:
    """Return the error for hosts that lack environments of roles: why, by host and by role, "" for the
    job's own. The role that most hosts cannot have comes first."""
    by_role: dict[str, list[HostError]] = {}
    for whys in lacking.values():
        for role, why in whys.items():
            by_role.setdefault(role, []).append(why)
    if not by_role:
        return None
    role, failed = max(by_role.items(), key=lambda one: len(one[1]))
    error = first(failed)
    whose = f"role {role}: " if role else ""
    kind = type(error) if isinstance(error, NoEnvironment | PythonTooOld) else HostError
    return kind(error.host, f"{whose}{error.message}", error.hint)


def without_uv(host: str, machine: str) -> NoEnvironment:
    """Return the error for a host that cannot read a lock of uv."""
    return NoEnvironment(
        host,
        f"there is no uv, and none here that could be brought to it ({machine or 'unknown machine'})",
        "pip install uv on this machine, or there; a requirements.txt can be built by pip",
    )


#: What venv says on Debian, where it is a package of its own.
_NO_VENV = "ensurepip is not available"
#: What uv draws around its words, and how many of them are shown.
_FRAME, MOST = " ×╰─▶├│·", 300


def cause(log: str) -> str:
    """Return the line of a build's output that says why it failed; "" if none does."""
    if _NO_VENV in log:
        return f"{_NO_VENV} to this Python: apt install python3-venv there, or pip install uv"
    lines = log.splitlines()
    plain = [line for line in lines if line.lower().startswith("error:")]
    if plain:
        deeper = [line.partition(":")[2] for line in lines if line.lstrip().startswith("cause:")]
        return ": ".join(one.strip() for one in (plain[0][6:], *deeper[-1:]))[:MOST]
    drawn = [n for n, line in enumerate(lines) if "╰─▶" in line]
    drawn = drawn or [n for n, line in enumerate(lines) if "×" in line]
    if not drawn:
        return ""
    sentence = [lines[drawn[0]]]  # which uv wraps
    for line in lines[drawn[0] + 1 :]:
        if not line.startswith("    ") or "hint:" in line:
            break
        sentence.append(line)
    return " ".join(line.strip(_FRAME) for line in sentence)[:MOST]


def first(failed: Sequence[HostError]) -> HostError:
    """Return the first of several errors. If it is a missing environment: that of the first host by
    name, whichever answered first, with the other hosts that lack it as well."""
    if not isinstance(failed[0], NoEnvironment):
        return failed[0]
    by_host = {one.host: one for one in failed if isinstance(one, NoEnvironment)}
    host, *others = nodeset.ordered(by_host)
    error = by_host[host]
    return NoEnvironment(host, f"{error.message}{nor_on(others)}", error.hint)


def nor_on(others: Sequence[str]) -> str:
    """Return what to add to an error of one host that others have as well."""
    return f"; nor on {nodeset.fold(others)}" if others else ""


def failed(trouble: Mapping[str, str]) -> NoEnvironment | None:
    """Return the error for hosts that tell of trouble when they activate the environment, if any do."""
    if not trouble:
        return None
    host, *others = nodeset.ordered(trouble)
    said = trouble[host]
    hint = f"launcher exec --hosts {host} -- bash -lc 'module avail' shows which there are"
    if not said.startswith("modules:"):
        hint = f"look there: launcher exec --hosts {host} -- COMMAND; --no-check starts anyway"
    return NoEnvironment(host, f"{said}{nor_on(others)}", hint)
