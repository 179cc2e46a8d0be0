"""The image in which the processes of a run start on a host, and what the host's runtime needs."""

from __future__ import annotations

import re

from .frozen import frozen

#: What a job may ask for. ``auto``: the first that the host has and that takes an image of this kind.
AUTO = "auto"
RUNTIMES = (AUTO, "podman", "docker", "apptainer", "bwrap")
#: A file or folder that is an image, by its name.
_FILE = re.compile(r"(?:\.{0,2}/|~|.*\.(?:tar|tar\.gz|tgz|sif)\Z)", re.S)
#: Digits of an ID that people see.
SHORT = 12


@frozen
class ContainerSpec:
    """How processes start in an image on a host: what the host has answered, sent back to it."""

    runtime: str
    program: str
    image: str
    user: str
    groups: tuple[int, ...] = ()
    ulimits: tuple[str, ...] = ()
    rootless: bool = False
    ipc: bool = True
    mounts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    gpus: str = ""
    home: str = ""
    hosts: str = "/etc/hosts"


@frozen
class Container:
    """The image of a run on one host. ``id`` is the digest of its configuration, which stays the same
    wherever the image goes; "" for a folder or a file of apptainer."""

    id: str
    spec: ContainerSpec
    python: str = ""  # in the image
    python_version: str = ""

    @property
    def short(self) -> str:
        """What people see of the ID; the path of an image that has none."""
        return self.id[:SHORT] or self.spec.image


def image(text: str) -> str:
    """Return the name of an image, or the path of one. Raises ValueError."""
    text = text.removeprefix("docker://").strip()
    if not text or any(mark in text for mark in "\0\n\r\t ") or text.startswith("-"):
        raise ValueError(
            f"{text!r} is no image: a name such as pytorch/pytorch:2.9.1-cuda12.8, or the path of a "
            "tar, an OCI folder or a .sif"
        )
    if text.rpartition("/")[2].lower() in ("dockerfile", "containerfile"):
        raise ValueError(
            f"{text} describes an image, and launcher builds none: podman build -t NAME . here, and "
            "image: NAME"
        )
    return text


def is_path(text: str) -> bool:
    """Return whether an image is named by a path."""
    return _FILE.match(text) is not None


def runtime(text: str) -> str:
    """Return the name of a container runtime. Raises ValueError."""
    text = "apptainer" if text == "singularity" else text
    if text not in RUNTIMES:
        raise ValueError(f"{text!r} is no container runtime: {', '.join(RUNTIMES)}")
    return text


def mount(text: str) -> str:
    """Return what a container sees of a host: PATH, SOURCE:PLACE, or one of them with :ro behind.

    Raises ValueError.
    """
    source, _, rest = text.partition(":")
    place, _, mode = rest.partition(":")
    if place == "ro" and not mode:
        place, mode = "", "ro"
    if not source.startswith(("/", "~", "$")) or (place and not place.startswith("/")):
        raise ValueError(f"{text!r} cannot be mounted: /data, /data:/data:ro or ~/sets:/sets")
    if mode not in ("", "ro", "rw") or text.count(":") > 2:
        raise ValueError(f"{text!r} cannot be mounted: behind the places there is ro or nothing")
    return ":".join(one for one in (source, place, "ro" if mode == "ro" else "") if one)
