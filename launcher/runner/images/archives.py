"""Images in files of this machine, and files of images that podman or docker has here."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...spec.containers import is_path
from ...spec.errors import InputError
from ...spec.frozen import frozen

#: Bytes of a manifest or configuration.
MOST = 1 << 24
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@frozen
class ImageFile:
    """A file that podman and docker can load, and the ID of the image in it."""

    path: Path
    id: str
    machine: str = ""


def read(path: Path) -> ImageFile:
    """Return what image a tar or an OCI folder holds. Raises InputError."""
    try:
        if path.is_dir():
            return ImageFile(path, *_in_folder(path))
        with tarfile.open(path) as archive:
            names = {os.path.normpath(member.name): member for member in archive}
            return ImageFile(path, *_found(lambda name: _member(archive, names, name)))
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"image: {path} is no image: {_reason(error)}",
            "podman save -o FILE NAME and docker save -o FILE NAME write one; so does skopeo copy "
            "docker://NAME oci-archive:FILE",
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    return (
        "it is no tar"
        if isinstance(error, tarfile.ReadError) and "\n" in str(error)
        else str(error)
    )


def _member(archive: tarfile.TarFile, names: Mapping[str, tarfile.TarInfo], name: str) -> bytes:
    file = archive.extractfile(names[name])
    if file is None:
        raise KeyError(name)
    return file.read(MOST)


def _in_folder(path: Path) -> tuple[str, str]:
    return _found(lambda name: (path / name).read_bytes()[:MOST])


def _found(content: Callable[[str], bytes]) -> tuple[str, str]:
    """Return ID and machine of an image in the form of docker, or of OCI."""
    try:
        manifest = json.loads(content("manifest.json"))
    except (KeyError, OSError):
        return _oci(content)
    if len(manifest) != 1:
        raise ValueError(f"{len(manifest)} images are in it, and a run takes one")
    config = content(os.path.normpath(manifest[0]["Config"]))
    return _of_config(config)


def _oci(content: Callable[[str], bytes]) -> tuple[str, str]:
    try:
        document = json.loads(content("index.json"))
    except (KeyError, OSError):
        raise ValueError("it has neither manifest.json nor index.json") from None
    for _ in range(4):  # an index of indices
        if "config" in document:
            return _of_config(content(_blob(document["config"])))
        document = json.loads(content(_blob(_fitting(document["manifests"]))))
    raise ValueError("its index leads nowhere")


def _fitting(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the manifest for machines like this one, or the first."""
    ours = _MACHINES.get(platform.machine(), platform.machine())
    mine = [one for one in manifests if one.get("platform", {}).get("architecture") == ours]
    return (mine or manifests)[0]


def _blob(about: Mapping[str, str]) -> str:
    found = _DIGEST.match(about["digest"])
    if not found:
        raise ValueError(f"{about['digest']!r} is no digest")
    return f"blobs/sha256/{found[1]}"


def _of_config(config: bytes) -> tuple[str, str]:
    machine = json.loads(config).get("architecture", "")
    return hashlib.sha256(config).hexdigest(), str(machine)


def of_path(text: str) -> ImageFile | None:
    """Return the image in a file or folder of this machine; None for a name, or a path of hosts.

    Raises InputError.
    """
    path = Path(text)
    if not is_path(text) or path.suffix == ".sif":
        return None
    is_image = path.is_file() or (path / "index.json").is_file()
    return read(path) if is_image else None


def packed(image: ImageFile, cache: Path) -> ImageFile:
    """Return an image as one file: a folder is packed into the cache."""
    if not image.path.is_dir():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    target, part = cache / f"{image.id}.tar", cache / f"{image.id}.{os.getpid()}.part"
    if not target.exists():
        with tarfile.open(part, "w") as archive:
            for entry in sorted(image.path.iterdir()):
                archive.add(entry, entry.name)
        part.replace(target)
    return ImageFile(target, image.id, image.machine)


def folder_size(path: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def written(cache: Path) -> int:
    """Return the bytes of files that are being written into a cache."""
    sizes = []
    for part in cache.glob("*.part"):
        with suppress(OSError):
            sizes.append(part.stat().st_size)
    return sum(sizes)


def saved_here(
    name: str,
    pinned: str,
    cache: Path,
    on_size: Callable[[int], None] = lambda size: None,
    kinds: Collection[str] = (),
) -> ImageFile | None:
    """Return a file of an image that podman or docker has on this machine, for machines of these
    ``kinds``; None where neither has. ``on_size`` gets about how large it will be."""
    for program in ("podman", "docker"):
        if not shutil.which(program):
            continue
        image_id = _id_of(program, pinned or name)
        if not image_id or (pinned and image_id != pinned):
            continue
        machine = _ran(program, "image", "inspect", "--format", "{{.Architecture}}", image_id)
        theirs = {its: kind for kind, its in _MACHINES.items()}.get(machine or "")
        if theirs and {*kinds} - {""} and theirs not in kinds:
            continue
        target = cache / f"{image_id}.tar"
        if not target.exists():
            cache.mkdir(parents=True, exist_ok=True)
            part = cache / f"{image_id}.{os.getpid()}.part"
            form = ["--format", "docker-archive"] if program == "podman" else []
            size = _ran(program, "image", "inspect", "--format", "{{.Size}}", image_id)
            on_size(int(size) if size and size.isdigit() else 0)
            is_it = not pinned or _id_of(program, name) == pinned  # its name may have moved
            saved = _ran(program, "save", *form, "--output", str(part), name if is_it else pinned)
            if saved is None:
                part.unlink(missing_ok=True)
                continue
            part.replace(target)
        return ImageFile(target, image_id)
    return None


def id_here(name: str) -> str:
    """Return the ID of an image that podman or docker has on this machine; "" where neither has."""
    there = (program for program in ("podman", "docker") if shutil.which(program))
    return next((found for program in there if (found := _id_of(program, name))), "")


def _id_of(program: str, name: str) -> str:
    """Return the ID of an image that a program has here, or ""."""
    found = _ran(program, "image", "inspect", "--format", "{{.Id}}", name)
    return found.rpartition(":")[2] if found else ""


def _ran(*argv: str) -> str | None:
    """Return what a program printed; None where it failed."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout.decode("utf-8", "replace").strip()
