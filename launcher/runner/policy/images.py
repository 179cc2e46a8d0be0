"""What to say of hosts on which an image is missing, differs, or cannot be started; and which image of
theirs a word means. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from ...spec import nodeset
from ...spec.containers import SHORT
from ...spec.errors import HostError, InputError, NoEnvironment, suggestion
from ...spec.frozen import frozen
from ...transport.answers import Image, ImageRemoved, ImagesThere, ImageThere

#: By code of the host: what is in the way, and what to do. The words of the runtime may stand in both.
_TROUBLE = {
    "no-runtime": (
        "there is no container runtime that takes {image}",
        "apt install podman there, or docker, apptainer or bubblewrap",
    ),
    "no-subuid": (
        "podman has no user IDs for {user} in its containers: {said}",
        "as root there: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and "
        "apt install uidmap; then, as the user, podman system migrate",
    ),
    "denied": (
        "this user may not use docker: {said}",
        "as root there: usermod -aG docker USER, then log in again; or install podman, which needs none",
    ),
    "no-daemon": ("docker does not answer: {said}", "as root there: systemctl start docker"),
    "no-namespaces": (
        "the kernel refuses containers to this user: {said}",
        "as root there: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04), or "
        "kernel.unprivileged_userns_clone=1, user.max_user_namespaces=65536",
    ),
    "no-space": (
        "there is no room for the image: {said}",
        "podman system prune there frees what nothing uses; storage.conf names another place",
    ),
    "other-machine": (
        "{said}",
        "build or pull it for that machine: podman pull --arch, docker buildx",
    ),
    "no-mount": ("{said} cannot be mounted", "mounts: names paths that each host has"),
    "no-cdi": (
        "podman finds no description of the GPUs (CDI)",
        "as root there: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (NVIDIA's toolkit)",
    ),
    "cannot-start": ("{said}", "launcher exec --hosts {host} -- {runtime} info shows more"),
}


def trouble(found: Mapping[str, Image], image: str) -> NoEnvironment | None:
    """Return the error for hosts on which an image cannot be used, if there are any."""
    bad = {host: answer for host, answer in found.items() if answer.state == "trouble"}
    if not bad:
        return None
    host, answer = next(iter(bad.items()))
    others = [name for name, other in bad.items() if name != host]
    what, hint = _TROUBLE.get(answer.code, _TROUBLE["cannot-start"])
    known = {
        "host": host,
        "image": image,
        "said": answer.said,
        "user": "this user",
        "runtime": answer.runtime or "podman",
    }
    also = f"; nor on {nodeset.fold(others)}" if others else ""
    return NoEnvironment(host, f"image {image}: {what.format(**known)}{also}", hint.format(**known))


def missing(hosts: Mapping[str, str], image: str) -> HostError:
    """Return the error for hosts that lack an image which nobody can bring; by host, why not."""
    host, why = next(iter(hosts.items()))
    others = [name for name in hosts if name != host]
    also = f"; nor on {nodeset.fold(others)}" if others else ""
    reason = f", and it cannot be pulled: {why}" if why else ""
    return NoEnvironment(
        host,
        f"there is no image {image}{also}{reason}",
        f"podman save -o image.tar {image} where it is; --image ./image.tar brings it to all hosts",
    )


def different(ids: Mapping[str, str], image: str) -> NoEnvironment | None:
    """Return the error for hosts that have different images of one name, if they do."""
    by_id: dict[str, list[str]] = {}
    for host, image_id in ids.items():
        by_id.setdefault(image_id, []).append(host)
    if len(by_id) < 2:
        return None
    named = ", ".join(f"{one[:SHORT]} on {nodeset.fold(on)}" for one, on in by_id.items())
    few = min(by_id.values(), key=len)
    return NoEnvironment(
        few[0],
        f"hosts have different images called {image}: {named}",
        f"launcher exec --hosts {nodeset.fold(few)} -- podman rmi {image}, and the next run brings it; "
        "or name it by its digest",
    )


def changed(host: str, image: str, pinned: str) -> NoEnvironment:
    """Return the error for a host without the image that the run to be repeated has had."""
    return NoEnvironment(
        host,
        f"the run had {image} with ID {pinned[:SHORT]}, which is not there, and cannot be brought",
        "launcher run takes the new one; podman save where the old one is, and --image, take that",
    )


# -- images that hosts have

#: Registries that runtimes add to a name, and people leave out.
_USUAL = re.compile(r"(?:docker\.io/(?:library/)?|localhost/)")
#: An ID, or enough of it.
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})\Z")


@frozen
class Chosen:
    """The image that a word means, by host."""

    images: Mapping[str, ImageThere] = field(default_factory=dict)


def short_name(name: str) -> str:
    """Return the name of an image without the registry that everybody means."""
    return _USUAL.sub("", name, count=1)


def choose(there: Mapping[str, ImagesThere], text: str) -> Chosen:
    """Return the image that a name, a path or the beginning of an ID means, on each host that has it.

    Raises InputError where no host has it, or the word means several on one.
    """
    found: dict[str, ImageThere] = {}
    for host, its in there.items():
        fitting = [one for one in its.images if text in one.names]
        fitting = fitting or [one for one in its.images if _is_meant(one, text)]
        if len(fitting) > 1:
            ids = ", ".join(f"{one.label} ({one.id[:SHORT]}, {one.runtime})" for one in fitting)
            raise InputError(
                f"{text} may be any of several images on {host}: {ids}",
                "name it by more of its ID or name; two runtimes may have the same image",
            )
        if fitting:
            found[host] = fitting[0]
    if not found:
        names = {short_name(n) for its in there.values() for one in its.images for n in one.names}
        raise InputError(
            f"launcher knows of no image {text} on {nodeset.fold(there)}",
            suggestion(text, sorted(names)) or "launcher image ls shows those that it knows of",
        )
    return Chosen(found)


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
