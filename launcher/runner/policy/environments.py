"""What to say of hosts on which a job's environment is missing, or cannot be activated. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...fleet import builders
from ...spec import nodeset
from ...spec.environments import CONDA, Environment
from ...spec.errors import HostError, NoEnvironment, NoPython, PythonTooOld
from ...spec.model import Host
from ...spec.patterns import pattern
from ...transport.answers.environments import Environment as EnvironmentThere


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


#: What makes something be there that builds an environment, by its kind.
_GET = {
    "uv": "pip install uv on this machine, or there; a requirements.txt can be built by pip",
    "conda": "put micromamba into ~/.local/bin of this machine, or there; or choose hosts that have "
    "one of them: --hosts NAMES",
    "pixi": "put pixi into ~/.pixi/bin of this machine, or there; or choose hosts that have it: "
    "--hosts NAMES",
}


#: What can be done for hosts without a network, by the kind of what builds.
_OFFLINE = {
    "conda": "a host without a network takes packages from a channel in a folder "
    "(channels: [file:///srv/channel]), or runs in an image: --image; ",
    "pixi": "a host without a network needs a mirror ([mirrors] in its ~/.pixi/config.toml), or runs "
    "in an image: --image; ",
}


def without_builder(host: str, wanted: Environment, machine: str) -> NoEnvironment:
    """Return the error for a host on which nothing can build an environment."""
    names, brought = builders.NAMES[wanted.builder], builders.BROUGHT[wanted.builder]
    none = "none" if names == brought else f"no {brought}"
    what = f"there is no {names}, and {none} here that could be brought to it"
    return NoEnvironment(host, f"{what} ({machine or 'unknown machine'})", _GET[wanted.builder])


def wheels_gone(host: str) -> NoEnvironment:
    """Return the error for a host that loses the wheels which it gets before it can build of them."""
    text = "the wheels that it gets for the environment are gone again before it can build"
    return NoEnvironment(
        host, text, "does somebody prune data sets there? launcher data ls shows them"
    )


def not_built(host: str, wanted: Environment, answer: EnvironmentThere, log: str) -> NoEnvironment:
    """Return the error for a host whose build failed: the words of the tool, and what to do."""
    why = cause(answer.log, wanted.builder) or answer.said or "it was killed"
    by = f" by {answer.tool}" if answer.tool and wanted.builder != "uv" else ""
    what = f"the environment of {wanted.recipe} cannot be built{by}"
    hint = f"all of its output: {log}"
    if wanted.builder == "pixi":
        hint = f"pixi lock --manifest-path {wanted.recipe} here brings the lock up to date; {hint}"
    elif wanted.builder == "conda":
        hint = f"correct {wanted.recipe}; {hint}"
    if server := unreachable(answer.log):
        why = f"{server} cannot be reached from there: {why}" if server not in why else why
        hint = f"{_OFFLINE.get(wanted.builder, '')}all of its output: {log}"
    return NoEnvironment(host, f"{what}: {why}", hint)


#: What venv says on Debian, where it is a package of its own.
_NO_VENV = "ensurepip is not available"
#: What uv draws around its words, and how many of them are shown.
_FRAME, MOST = " ×╰─▶├│·", 300


def cause(log: str, builder: str = "uv") -> str:
    """Return the line of a build's output that says why it failed; "" if none does."""
    if _NO_VENV in log:
        return f"{_NO_VENV} to this Python: apt install python3-venv there, or pip install uv"
    lines = log.splitlines()
    if builder == "conda" and (said := _of_conda(lines)):
        return said[:MOST]
    if builder == "pixi" and (said := _of_pixi(lines)):
        return said[:MOST]
    plain = [line for line in lines if line.lower().startswith("error:")]
    if plain:
        deeper = [line.partition(":")[2] for line in lines if line.lstrip().startswith("cause:")]
        return ": ".join(one.strip(" :") for one in (plain[0][6:], *deeper[-1:]))[:MOST]
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


def _of_pixi(lines: Sequence[str]) -> str:
    """Return the words of pixi, which draws them; the innermost cause comes last."""
    plain = [line for line in lines if line.startswith("error: ")]
    if plain:
        return plain[0].removeprefix("error: ")
    drawn = [n for n, line in enumerate(lines) if "× " in line]
    if not drawn:
        return ""
    found = [lines[drawn[0]].partition("× ")[2].strip()]
    for line in lines[drawn[0] + 1 :]:
        words = line.strip(_FRAME)
        if not words or words.startswith("help:"):
            break
        joins = "─▶" in line
        found.append(f": {words}" if joins else f" {words}")
    return "".join(found)


#: What conda calls an error, and what micromamba and mamba 2 write before one.
_CONDA = pattern(r"(?:\w+\.)*(\w+(?:Error|Exception|NotFound|Unsatisfiable\w*)): *(.*)")
_MAMBA = pattern(r"(?:error|critical) +libmamba +(.*)")
#: A line of a list of what cannot be had, and how much of such a list is told.
_ITEM, MOST_ITEMS = pattern(r"^[ \t│]*(?:[├└]─|-) +(.*)"), 3


def _of_conda(lines: Sequence[str]) -> str:
    """Return why conda or one of its kin gave up, with what it could not have; "" if it did not say."""
    pip = [line for line in lines if line.startswith("ERROR: ")]
    if pip and any(
        "pip" in line.lower() for line in lines if _CONDA.match(line) or "libmamba" in line
    ):
        return pip[0].removeprefix("ERROR: ")
    for number, line in enumerate(lines):
        said = _CONDA.match(line) or _MAMBA.match(line)
        if not said:
            continue
        words = str(said[said.lastindex or 0]).strip()
        items = []
        for below in lines[number + 1 :]:
            if item := _ITEM.match(below):
                items.append(item[1].strip().rstrip(".,;"))
            elif items or _MAMBA.match(below) or _CONDA.match(below):
                break
        named = "; ".join(items[:MOST_ITEMS])
        return f"{words.rstrip(':.')}: {named}" if named else words
    return ""


#: What a tool says where there is no network, and an address in its words.
_NO_NETWORK = pattern(
    r"could(?:n't| not) (?:resolve|connect)|connection (?:failed|refused|error)|failed to connect"
    r"|network is unreachable|name resolution|no route to host|dns error|error sending request"
    r"|newconnectionerror|timed out|timeout was reached",
    re.IGNORECASE,
)
_SERVER = pattern(r"https?://([^/\s\"'<>\])]+)|host='([^']+)'|host:? ([\w.-]+\.\w+)")


def unreachable(log: str) -> str:
    """Return the server that a build could not reach; "" if it failed for another reason."""
    for number, line in enumerate(lines := log.splitlines()):
        if _NO_NETWORK.search(line):
            for near in lines[max(0, number - 2) : number + 3]:
                if found := _SERVER.search(near):
                    return next(str(one) for one in found.groups() if one)
    return ""


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
