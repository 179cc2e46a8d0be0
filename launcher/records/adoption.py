"""How a run was taken up from its hosts, which another machine had started. Pure."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import field

from ..spec.frozen import frozen
from ..spec.model import Job

#: Beside ``run.json``, in the folder of such a run.
FILE = "adopted.json"


@frozen
class Adoption:
    """What stands behind the record of a run that its hosts hold.

    ``attempt`` is the latest that they tell of. ``differing`` says of hosts of the run why they do
    not confirm the record. ``trusted``: a person has seen what it asks for, and lets this machine
    start processes by it.
    """

    attempt: int = 0
    differing: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False


def doubts(adoption: Adoption | None, secrets: tuple[str, ...], job: Job) -> tuple[str, ...]:
    """Return why a person has to agree before processes of a run are started again, each in a line.

    Empty for a run that this machine has started, for one that a person trusts, and where all hosts
    hold the same record and nothing of this machine is sent by it.
    """
    if adoption is None or adoption.trusted:
        return ()
    found = [f"{host}: {why}" for host, why in sorted(adoption.differing.items())]
    if secrets:
        found.append(f"it sends values of your environment: {', '.join(secrets)}")
    return (*found, *uses(job))


def uses(job: Job) -> tuple[str, ...]:
    """Return what a job takes from this machine, writes there, or does with its credentials."""
    found = [
        f"it gives hosts {one.source} as data set {one.name}{_by(one.credential)}"
        for one in job.data
        if one.source
    ]
    named = (job.environment, *(role.environment for role in job.roles))
    for one in dict.fromkeys(one for one in named if one and one.is_built):
        place = one.context or posixpath.dirname(one.image)
        what = f"it builds an image of {one.image} with the files in {place}"
        found.append(f"{what}, here or on a host")
    if job.output_to:
        by = _by(job.output_credential) or ", with your credentials"
        found.append(f"it stores outputs in {job.output_to}{by}")
    if any(job.script_logs):
        files = " and ".join(dict.fromkeys(filter(None, job.script_logs)))
        found.append(f"it writes what the script prints to {files} in {job.workdir} here")
    return tuple(found)


def _by(credential: str) -> str:
    return f", with your credential {credential}" if credential else ""


def commands(job: Job) -> tuple[str, ...]:
    """Return every command of a job, as its record has it."""
    parts = [("setup", job.setup), ("run", _words(job.run))]
    for role in job.roles:
        parts += [(f"{role.name} setup", role.setup), (f"{role.name} run", _words(role.run))]
        parts += [(f"{role.name}-{i} run", _words(one.run)) for i, one in role.overrides.items()]
    return tuple(f"{name}: {text}" for name, text in parts if text)


def _words(argv: tuple[str, ...]) -> str:
    return argv[0] if len(argv) == 1 else shlex.join(argv)
