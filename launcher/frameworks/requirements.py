"""What a framework needs on every host, and the message about a host that lacks it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .. import frameworks
from ..spec.environments import Environment
from ..spec.model import Job
from . import Need


def modules_of(job: Job) -> tuple[str, ...]:
    """Return the modules without which a job's framework cannot start anything on a host.

    What a wrapper brings, such as ``uv run``, nobody knows before.
    """
    return () if job.wrapper else frameworks.get(job.framework).modules


def needs_of(framework: str) -> dict[str, Need]:
    """Return what else a framework needs, by probe."""
    return {need.probe: need for need in frameworks.get(framework).needs}


def first_of(framework: str, missing: Sequence[str]) -> list[str]:
    """Return the missing probes to report together: all modules, or else the first other one."""
    needs = needs_of(framework)
    return [probe for probe in missing if probe not in needs] or [missing[0]]


def describe_missing(
    framework: str,
    python: str,
    version: str,
    missing: Sequence[str],
    image: str = "",
    environment: Environment | None = None,
) -> tuple[str, str]:
    """Return a message and a hint about probes that :func:`first_of` returned, in an image or not.

    ``environment`` is that of the processes, if the job or the host names one.
    """
    need = needs_of(framework).get(missing[0])
    if image:
        what = need.says if need else " and ".join(missing)
        adds = "" if need else f", such as RUN pip install {' '.join(missing)}"
        return (
            f"framework {framework} needs {what}, which image {image} does not have",
            f"take an image that has it, or add it in the Dockerfile of this one{adds}",
        )
    who = f"{python} (Python {version})"
    if need is not None:
        who = "this host" if need.probe.startswith("program:") else who
        return f"framework {framework} needs {need.says}, which {who} does not have", need.hint
    is_built = environment is not None and environment.recipe
    who = f"the {environment}" if is_built else who
    what = f"framework {framework} needs {' and '.join(missing)}, which {who} does not have"
    if environment is not None and is_built:
        return what, f"{_how_to_add(environment, ' '.join(missing))}: hosts build it anew then"
    return (
        what,
        f"python: or --python names one that has it (venv:DIR, conda:NAME); launcher bootstrap "
        f"--requirements FILE makes one; {python} -m pip install {' '.join(missing)} adds it there",
    )


def _how_to_add(environment: Environment, names: str) -> str:
    recipe = environment.recipe
    if environment.pixi:
        return f"pixi add {names} in {recipe}"
    if environment.uv and not recipe.endswith((".txt", ".in")):
        return f"uv add {names} in {recipe}, or uv lock if its pyproject.toml has it"
    return f"add {names} to {recipe}"
