"""Where an image is built. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...fleet.findings import images as found_images
from ...spec import nodeset
from ...spec.errors import ImageNotBuilt, InputError
from ...transport.answers.images import ImageBuild
from .dockerfiles import Base, machine_of

#: How runtimes call a Dockerfile's machine.
_CALLED = {"x86_64": "amd64", "aarch64": "arm64"}


def machine(there: Mapping[str, ImageBuild], image: str, bases: Sequence[Base]) -> str:
    """Return the machine that all hosts are, for which an image is built. Raises InputError."""
    kinds: dict[str, list[str]] = {}
    for host, answer in there.items():
        kinds.setdefault(answer.machine, []).append(host)
    if len(kinds) > 1:
        named = ", ".join(f"{kind} on {nodeset.fold(hosts)}" for kind, hosts in kinds.items())
        most = max(kinds.values(), key=len)
        raise InputError(
            f"image: {image} is built for one kind of machine, and hosts are of several: {named}",
            f"--hosts {nodeset.fold(most)} chooses those of one kind",
        )
    (found,) = kinds
    wanted, line = machine_of(bases)
    if wanted and wanted != found and "$" not in bases[-1].platform:
        raise InputError(
            f"{image}, line {line}: it is built for {bases[-1].platform}, and the hosts are {found}",
            f"leave --platform out, or say linux/{_CALLED.get(found, found)}",
        )
    return found


def place(
    here: ImageBuild | str, there: Mapping[str, ImageBuild], image: str, wanted: str
) -> str | None:
    """Return the host that builds an image for a machine, of those in order; None for this machine.
    ``here`` is this machine's answer, or why it gives none. Raises ImageNotBuilt."""
    if isinstance(here, ImageBuild) and here.state == "yours" and here.machine == wanted:
        return None
    for host, answer in there.items():
        if answer.state == "yours":
            return host
    reasons: dict[str, list[str]] = {}
    for host, answer in there.items():
        reasons.setdefault(_reason(host, answer), []).append(host)
    why = [f"{nodeset.fold(hosts)}: {reason}" for reason, hosts in reasons.items()]
    if isinstance(here, str):
        ours = here
    elif here.state == "yours":
        ours = f"it is {here.machine}, and the hosts are {wanted}"
    else:
        ours = _reason("this machine", here)
    raise ImageNotBuilt(
        f"nothing can build {image}: this machine: {ours}; {'; '.join(why)}",
        "apt install podman here, or on one of the hosts; the others get the image as it is",
    )


def _reason(host: str, answer: ImageBuild) -> str:
    if answer.code == "no-runtime":
        return "no podman and no docker"
    return found_images.trouble(host, answer.code, answer.said, "images").what
