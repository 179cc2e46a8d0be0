"""What is in the way of a job's image on a host: the sentences of a run that fails, and of a check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ...spec import nodeset
from ...spec.containers import SHORT, is_recipe
from ...spec.frozen import frozen
from . import ERROR, OK, WARNING, Finding, found

if TYPE_CHECKING:  # a run imports this file, but not the surveys
    from ...transport.answers.images import Image
    from .survey import Survey

#: By code of the host: the code of the finding, what is in the way, and what to do. The words of the
#: runtime may stand in both.
_TROUBLE = {
    "no-runtime": (
        "RUNTIME-MISSING",
        "there is no container runtime that takes {image}",
        "apt install podman there, or docker, apptainer or bubblewrap",
    ),
    "no-subuid": (
        "RUNTIME-SUBUID",
        "podman has no user IDs for this user in its containers: {said}",
        "as root there: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and "
        "apt install uidmap; then, as the user, podman system migrate",
    ),
    "denied": (
        "RUNTIME-DENIED",
        "this user may not use docker: {said}",
        "as root there: usermod -aG docker USER, then log in again; or install podman, which needs none",
    ),
    "no-daemon": (
        "RUNTIME-DAEMON",
        "docker does not answer: {said}",
        "as root there: systemctl start docker",
    ),
    "no-namespaces": (
        "RUNTIME-NAMESPACES",
        "the kernel refuses containers to this user: {said}",
        "as root there: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04), or "
        "kernel.unprivileged_userns_clone=1, user.max_user_namespaces=65536",
    ),
    "no-space": (
        "IMAGE-ROOM",
        "there is no room for the image: {said}",
        "podman system prune there frees what nothing uses; storage.conf names another place",
    ),
    "other-machine": (
        "IMAGE-MACHINE",
        "{said}",
        "build or pull it for that machine: podman pull --arch, docker buildx",
    ),
    "no-shell": (
        "IMAGE-SHELL",
        "the image has no sh, by which programs are started",
        "take one that has it: for many without, there is a variant with a shell, such as :debug",
    ),
    "no-mount": (
        "IMAGE-MOUNT",
        "{said} cannot be mounted",
        "mounts: names paths that each host has",
    ),
    "no-cdi": (
        "RUNTIME-CDI",
        "podman finds no description of the GPUs (CDI)",
        "as root there: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (NVIDIA's toolkit)",
    ),
    "cannot-start": (
        "RUNTIME-BROKEN",
        "{said}",
        "launcher exec --hosts {host} -- {runtime} info shows more",
    ),
}
#: By the runtimes that a host looked for: which to install, where not any will do.
_INSTALL = {
    "podman, docker": "apt install podman there, or docker",
    "podman": "apt install podman there, or leave runtime: out",
    "docker": "install docker there, or leave runtime: out",
    "apptainer": "install apptainer there, which alone starts a .sif",
    "bwrap": "apt install bubblewrap there, which starts a root folder of the host; on this machine, "
    "an image is a Dockerfile, a tar or an OCI folder",
}
#: Runtimes that take images by name: one of them that works is enough.
_BY_NAME = ("podman", "docker")


@frozen
class Trouble:
    """What keeps a host from starting an image: a code of a finding, and two sentences."""

    code: str
    what: str
    hint: str


def trouble(host: str, code: str, said: str, image: str, runtime: str = "") -> Trouble:
    """Return what is in the way on a host, by the code that it has answered."""
    finding, what, hint = _TROUBLE.get(code, _TROUBLE["cannot-start"])
    hint = _INSTALL.get(said, hint) if code == "no-runtime" else hint
    known = {"host": host, "image": image, "said": said, "runtime": runtime or "podman"}
    return Trouble(finding, what.format(**known), hint.format(**known))


def different(there: Mapping[str, Image], image: str) -> tuple[list[str], Trouble] | None:
    """Return which hosts have another image of that name than most of their kind of machine, if the IDs
    of hosts differ: a name that stands for several kinds has an ID for each."""
    by_machine: dict[str, dict[str, list[str]]] = {}
    for host, answer in there.items():
        by_machine.setdefault(answer.machine, {}).setdefault(answer.id, []).append(host)
    by_id = next((ids for ids in by_machine.values() if len(ids) > 1), None)
    if by_id is None:
        return None
    named = ", ".join(f"{one[:SHORT]} on {nodeset.fold(on)}" for one, on in by_id.items())
    few = min(by_id.values(), key=len)
    what = f"hosts have different images called {image}: {named}"
    hint = f"launcher exec --hosts {nodeset.fold(few)} -- podman rmi {image}, and the next run brings it"
    return few, Trouble("IMAGE-DIFFERS", what, f"{hint}; or name it by its digest")


def of_image(
    image: str,
    there: Mapping[str, Image],
    chosen: frozenset[str] | None,
    roles: Sequence[str] = (),
) -> Iterator[Finding]:
    """Yield what is in the way of a job's image, or that of some roles; on hosts that it would not get,
    that is a warning. ``chosen`` is None where nobody knows which it gets."""
    whose = f"role{'s' * (len(roles) > 1)} {', '.join(roles)}: " if roles else ""
    machines = {answer.machine for answer in there.values()}
    for host, answer in there.items():
        kind = f", {answer.machine}" if len(machines) > 1 else ""
        level = ERROR if chosen is None or host in chosen else WARNING
        if answer.state == "trouble":
            one = trouble(host, answer.code, answer.said, image, answer.runtime)
            yield found(one.code, host, whose + one.what, one.hint, level=level)
        elif answer.state == "there":
            its = f" ({answer.id[:SHORT]}{kind})" if answer.id else ""
            has = f"{whose}{answer.runtime} has {image}{its}"
            yield found("JOB-IMAGE", host, has, level=OK)
        else:
            would, how = ("build it, and bring", "build") if is_recipe(image) else ("bring", "load")
            yield found(
                "JOB-IMAGE",
                host,
                f"{whose}{image} is not there; a run would {would} it to {answer.runtime}",
                f"launcher image {how} {image} brings it ahead of the run",
                level=OK,
            )
    good = {host: answer for host, answer in there.items() if answer.state == "there"}
    if differ := different(good, image):
        few, one = differ
        yield found(one.code, few, whose + one.what, one.hint)


def of_runtimes(survey: Survey) -> Iterator[Finding]:
    """Yield what is wrong with the runtimes of a host on which none works that takes images by name."""
    known = {name: why for name, why in survey.runtimes.items() if name in _BY_NAME}
    if not all(why for why, _ in known.values()):
        return
    for name, (code, said) in known.items():
        one = trouble(survey.host, code, said, "images", name)
        yield found(one.code, survey.host, one.what, one.hint, level=WARNING)
