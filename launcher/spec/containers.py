"""The image in which the processes of a run start on a host, and what the host's runtime needs."""

from __future__ import annotations

import re

from .frozen import frozen

#: What a job may ask for. ``auto``: the first that the host has and that takes an image of this kind.
AUTO = "auto"
RUNTIMES = (AUTO, "podman", "docker", "apptainer", "bwrap")
#: A file or folder that is an image, by its name.
_FILE = re.compile(r"(?:\.{0,2}/|\.{1,2}\Z|~|.*\.(?:tar|tar\.gz|tgz|sif)\Z)", re.S)
#: A file of which an image is built, by its name: Dockerfile, Containerfile.gpu, train.Dockerfile.
_RECIPE = re.compile(r"(?:.+\.)?(?:docker|container)file(?:\..+)?\Z", re.I | re.S)
#: What a folder of such a file is looked through for, in this order.
RECIPES = ("Dockerfile", "Containerfile", "dockerfile", "containerfile")
#: The name of an argument of a build.
_ARGUMENT = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
#: Small letters and digits, in parts; then a tag.
_TAG = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::[\w][\w.-]{0,127})?\Z",
    re.ASCII,
)
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
    bad = "\0\n\r\t" if is_path(text) else "\0\n\r\t "
    if not text or any(mark in text for mark in bad) or text.startswith("-"):
        raise ValueError(
            f"{text!r} is no image: a name such as pytorch/pytorch:2.9.1-cuda12.8, or the path of a "
            "Dockerfile, a tar, an OCI folder or a .sif"
        )
    return text


def is_path(text: str) -> bool:
    """Return whether an image is named by a path."""
    return _FILE.match(text) is not None or is_recipe(text)


def is_recipe(text: str) -> bool:
    """Return whether a path is that of a file of which an image is built, by its name."""
    name = text.rpartition("/")[2]
    other = (".dockerignore", ".tar", ".tar.gz", ".tgz", ".sif")
    return _RECIPE.match(name) is not None and not name.endswith(other)


def build_argument(text: str) -> str:
    """Return an argument of a build, as NAME=VALUE. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals or not _ARGUMENT.match(name) or any(mark in value for mark in "\0\n"):
        raise ValueError(f"{text!r} is no argument of a build: NAME=VALUE")
    return text


def build_context(text: str) -> str:
    """Return the folder whose files a build may copy. Raises ValueError."""
    if not text.strip() or "\0" in text or "://" in text:
        raise ValueError(f"{text!r} is no folder of this machine")
    return text


def build_name(text: str) -> str:
    """Return the name that an image gets once it is built. Raises ValueError."""
    if not _TAG.match(text) or len(text) > 200:
        raise ValueError(f"{text!r} is no name of an image: such as train or lab/train:2")
    return text


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
