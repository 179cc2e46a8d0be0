"""What to say of hosts on which an image is missing, differs, or cannot be started; and which image of
theirs a word means. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from ...fleet.findings import images as found_images
from ...spec import nodeset
from ...spec.containers import SHORT, is_path
from ...spec.environments import Environment
from ...spec.errors import (
    DiskFull,
    HostError,
    InputError,
    LauncherError,
    NoEnvironment,
    suggestion,
)
from ...transport.answers.images import Image, ImageRemoved, ImagesThere, ImageThere
from .environments import nor_on


def trouble(found: Mapping[str, Image], image: str) -> HostError | None:
    """Return the error for hosts on which an image cannot be used, if there are any."""
    bad = {host: answer for host, answer in found.items() if answer.state == "trouble"}
    if not bad:
        return None
    host, *others = nodeset.ordered(bad)
    answer = bad[host]
    one = found_images.trouble(host, answer.code, answer.said, image, answer.runtime)
    kind = DiskFull if one.code == "IMAGE-ROOM" else NoEnvironment
    return kind(host, f"image {image}: {one.what}{nor_on(others)}", one.hint)


def of_roles(error: LauncherError, roles: Sequence[str]) -> LauncherError:
    """Return the error about an image in which only these roles of a job run."""
    if not roles:
        return error
    named = f"role{'s' * (len(roles) > 1)} {', '.join(roles)}"
    message = f"{named}: {error.message}"
    if isinstance(error, HostError):
        return type(error)(error.host, message, error.hint)
    return type(error)(message, error.hint)


def log(wanted: Environment, every: Sequence[Environment], roles: Sequence[str]) -> str:
    """Return the name of the file in the folder of a run with what the build of an image has printed: of
    several that are built, each has one."""
    built = [one for one in every if one.is_built]
    return "image.log" if len(built) < 2 or not roles else f"image-{roles[0]}.log"


def missing(hosts: Mapping[str, str], image: str) -> HostError:
    """Return the error for hosts that lack an image which nobody can bring; by host, why not."""
    host, *others = nodeset.ordered(hosts)
    reason = f", and it cannot be pulled: {hosts[host]}" if hosts[host] else ""
    hint = (
        f"podman save -o image.tar {image} where it is; --image ./image.tar brings it to all hosts"
    )
    if is_path(image):
        hint = (
            "such a path is that of a root folder or a .sif on each host; on this machine, that of a "
            "Dockerfile, a tar or an OCI folder"
        )
    return NoEnvironment(host, f"there is no image {image}{nor_on(others)}{reason}", hint)


def different(there: Mapping[str, Image], image: str) -> NoEnvironment | None:
    """Return the error for hosts of one kind that have different images of one name, if they do."""
    differ = found_images.different(there, image)
    return NoEnvironment(differ[0][0], differ[1].what, differ[1].hint) if differ else None


def of_several_kinds(
    machines: Mapping[str, str], why: Mapping[str, str], image: str
) -> NoEnvironment:
    """Return the error for hosts of several kinds that lack an image; by host, why it is not pulled."""
    by_kind: dict[str, list[str]] = {}
    for host, machine in machines.items():
        by_kind.setdefault(machine, []).append(host)
    named = ", ".join(f"{nodeset.fold(on)} ({kind})" for kind, on in by_kind.items())
    host, *_ = nodeset.ordered(machines)
    reason = f"; it cannot be pulled: {why[host]}" if why.get(host) else ""
    some = nodeset.fold(next(iter(by_kind.values())))
    return NoEnvironment(
        host,
        f"there is no image {image} on hosts of several kinds: {named}{reason}",
        f"launcher image load {shlex.quote(image)} --hosts {some}, and so for each kind: one file has "
        "it for one",
    )


def changed(host: str, image: str, pinned: str) -> NoEnvironment:
    """Return the error for a host without the image that the run to be repeated has had."""
    return NoEnvironment(
        host,
        f"the run had {image} with ID {pinned[:SHORT]}, which is not there, and cannot be brought",
        "launcher run takes the new one; podman save where the old one is, and --image, take that",
    )


def unsaved(host: str, image: str, on: str) -> NoEnvironment:
    """Return the error for a host that does not get an image which was just built elsewhere."""
    return NoEnvironment(
        host,
        f"{image} was built on {on}, which could not save it for others",
        f"is there room on {on}, in /var/tmp as well? podman save there says more",
    )


def nowhere(image: str, hosts: Sequence[str]) -> InputError:
    """Return the error for an image that neither this machine nor any host has."""
    return InputError(
        f"no image {image} in podman or docker of this machine, nor on {nodeset.fold(hosts)}",
        f"launcher image load {image} has hosts pull it; launcher image build makes one",
    )


def not_saved(host: str, image: str) -> NoEnvironment:
    """Return the error for a host that does not get an image, because nobody who has it can save it."""
    return NoEnvironment(
        host,
        f"{image} could not be saved where it is, and so not brought",
        "is there room, in /var/tmp as well? podman save there says more",
    )


def called_otherwise(host: str, image: str, pinned: str) -> NoEnvironment:
    """Return the error for a host that has an image, and calls another one so."""
    return NoEnvironment(
        host,
        f"the image is there, and {image} is the name of another one",
        f"launcher exec --hosts {host} -- podman tag {pinned[:SHORT]} {image}",
    )


# -- images that hosts have

#: Registries that runtimes add to a name, and people leave out.
_USUAL = re.compile(r"(?:docker\.io/(?:library/)?|localhost/)")
#: An ID, or enough of it.
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})\Z")


#: The image that a word means, by host: once for each runtime there that has it.
Chosen = Mapping[str, tuple[ImageThere, ...]]


def short_name(name: str) -> str:
    """Return the name of an image without the registry that everybody means."""
    return _USUAL.sub("", name, count=1)


def choose(there: Mapping[str, ImagesThere], text: str) -> Chosen:
    """Return the image that a name, a path or the beginning of an ID means, on each host that has it.

    Raises InputError where no host has it, or the word means several on one.
    """
    found: dict[str, tuple[ImageThere, ...]] = {}
    for host, its in there.items():
        fitting = [one for one in its.images if _is_meant(one, text)]
        if _number(fitting) > 1:
            fitting = [one for one in fitting if text in one.names] or fitting
        if _number(fitting) > 1:
            ids = ", ".join(f"{one.label} ({one.id[:SHORT]})" for one in fitting)
            raise InputError(
                f"{text} may be any of several images on {host}: {ids}",
                "name it by its whole name, or by more of its ID",
            )
        if fitting:
            found[host] = tuple(fitting)
    if not found:
        names = {short_name(n) for its in there.values() for one in its.images for n in one.names}
        silent = sorted({runtime for its in there.values() for runtime in its.trouble})
        hint = suggestion(text, sorted(names)) or "launcher image ls shows those that it knows of"
        if silent:
            hint = f"{' and '.join(silent)} did not answer everywhere: launcher image ls says why"
        raise InputError(f"launcher knows of no image {text} on {nodeset.fold(there)}", hint)
    return found


def _number(images: Sequence[ImageThere]) -> int:
    return len({one.id or one.label for one in images})


def _is_meant(image: ImageThere, text: str) -> bool:
    part = _ID.match(text)
    if part and image.id.startswith(part[1]):
        return True
    names = {*image.names, *map(short_name, image.names)}
    wanted = short_name(text)
    tagged = wanted if ":" in wanted.rpartition("/")[2] else f"{wanted}:latest"
    return bool(names & {text, wanted, tagged})


def stays(host: str, image: ImageThere, done: ImageRemoved) -> HostError | None:
    """Return why an image could not be removed from a host; None if it is gone."""
    if done.state == "used":
        by = ", ".join(done.by)
        runs = [one.removeprefix("run ") for one in done.by if one.startswith("run ")]
        begins = "a run that begins" in done.by
        hint = f"podman rm, or docker rm, removes a container there: {image.runtime} ps --all"
        if runs:
            hint = f"launcher stop {runs[0]} ends it"
        elif begins:
            hint = "launcher ls shows runs; one that waits or begins keeps its image"
        return HostError(host, f"{short_name(image.label)} is used by {by}, and stays", hint)
    if done.state == "of-host":
        hint = "delete it there, if nobody needs it"
        return HostError(host, f"{done.said} is a path of the host, and stays", hint)
    if done.state == "failed":
        found = trouble({host: Image("trouble", code=done.code, said=done.said)}, image.label)
        assert found
        return found
    return None
