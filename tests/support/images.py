"""Tiny container images without a registry, and hosts of a lab that can start them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from support import ROOT
from support import lab as labs
from support.command import Launcher, end_followers

#: The image has links into /usr, which containers get of the host, and no programs of its own.
_FOLDERS = ("etc", "usr", "tmp", "proc", "sys", "dev", "root", "run", "var")
_LINKS = ("bin", "lib", "lib64", "sbin")


def write_image(
    path: Path,
    name: str,
    *,
    machine: str = "amd64",
    word: str = "inside",
    busybox: bool | Sequence[str] = False,
    python: str = "",
    config: Mapping[str, object] | None = None,
) -> str:
    """Write an image as ``docker save`` does; return its ID. ``word`` is what /etc/inside says, and a
    ``busybox`` that is linked statically lets it do without the host's programs: ``sh`` and ``true``, or
    these. ``python`` is a script that comes before the host's Python, and ``config`` what its author has
    set."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for folder in _FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for link in _LINKS:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
            archive.addfile(entry)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add(archive, "etc/inside", word.encode() + b"\n")
        if python:
            _add(archive, "opt/python3", python.encode(), 0o755)
        if busybox:
            for program in ("sh", "true") if busybox is True else busybox:
                data = Path("/usr/bin/busybox").read_bytes()
                _add(archive, f"usr/bin/{program}", data, 0o755)
    data = layer.getvalue()
    about = {
        "architecture": machine,
        "os": "linux",
        "config": {
            "Env": [f"PATH=/opt:{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin"],
            "Cmd": ["sh"],
            **(config or {}),
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]},
        "history": [{"created": "2026-01-01T00:00:00Z"}],
        "created": "2026-01-01T00:00:00Z",
    }
    text = json.dumps(about).encode()
    image_id = hashlib.sha256(text).hexdigest()
    manifest = [{"Config": f"{image_id}.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, f"{image_id}.json", text)
        _add(archive, "layer.tar", data)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return image_id


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def write_folder(host: labs.LabHost, place: str) -> None:
    """Write the same as a folder of a host, with places for what of the host is mounted."""
    script = (
        'mkdir -p "$1" && cd "$1" && mkdir -p %s && for l in %s; do ln -sfn usr/$l $l; done && '
        "echo inside >etc/inside && touch etc/hosts etc/resolv.conf"
    )
    host.run("sh", "-c", script % (" ".join(_FOLDERS), " ".join(_LINKS)), "sh", place)


#: What podman needs in a lab, where a host's disk is an overlay and control groups are of two kinds.
_PODMAN = """
set -e
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /etc/containers /var/lib/containers
cat >/etc/containers/containers.conf <<END
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
END
cat >/etc/containers/storage.conf <<END
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
mount -t tmpfs none /var/lib/containers
mount --make-rshared /
chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap
"""
#: A user whose containers need no rights.
_USER = """
set -e
u=$1
mkdir -p /home/$u/.config/containers /home/$u/.local/share/containers
mount -t tmpfs none /home/$u/.local/share/containers
printf '[storage]\\ndriver = "vfs"\\n' >/home/$u/.config/containers/storage.conf
chown -R $u: /home/$u/.config /home/$u/.local
"""


def with_podman(host: labs.LabHost) -> None:
    """Have podman work on a host, for root."""
    host.run("sh", "-c", _PODMAN)


def shared() -> list[Path]:
    """Return the folders of this machine that hosts need to have its Python."""
    prefix = Path(sys.prefix)
    return [prefix, *([] if prefix.is_relative_to(ROOT) else [ROOT])]


def bound() -> list[str]:
    """Return the mounts that give an image the programs and the Python of its host."""
    pyenv = Path("/root/.pyenv")
    return [f"{path}:ro" for path in ("/usr", *([pyenv] if pyenv.exists() else []), sys.prefix)]


@contextmanager
def command_for(hosts: labs.Lab, folder: Path) -> Iterator[Launcher]:
    """Yield the command, with an inventory of these hosts and an empty work folder; end its followers."""
    (folder / "inventory.yaml").write_text(labs.inventory(hosts, "/usr/bin/python3"))
    work = folder / "work"
    work.mkdir()
    yield Launcher(folder / "inventory.yaml", work, folder / "home")
    end_followers(folder)


@contextmanager
def podman_hosts(folder: Path, share: Sequence[Path] = ()) -> Iterator[labs.Lab]:
    """Give two hosts, lab1 and lab2, on which podman works; they ``share`` these folders with us."""
    specs = [labs.HostSpec(name, namespaces=True) for name in ("lab1", "lab2")]
    with labs.Lab(specs, folder, share=share) as standing:
        for host in standing.hosts.values():
            with_podman(host)
        yield standing


def with_user(host: labs.LabHost, name: str) -> None:
    """Have podman work for a user of the host, without rights."""
    host.run("sh", "-c", _USER, "sh", name)


def containers_on(host: labs.LabHost, *user: str) -> str:
    """Return the names of all containers of podman on a host."""
    said = host.run(*user, "podman", "ps", "--all", "--format", "{{.Names}} {{.Status}}")
    return said.stdout.decode().strip()


#: What busybox is in :func:`write_root`.
_APPLETS = ("sh", "cat", "echo", "true", "sleep", "mkdir", "setsid")


def has_static_busybox() -> bool:
    """Return whether there is a busybox that runs without any library."""
    place = Path("/usr/bin/busybox")
    return place.exists() and b"/ld-linux" not in place.read_bytes()


def write_root(path: Path) -> None:
    """Write a layer for ``ADD`` in a Dockerfile: a busybox that is linked statically, and folders."""
    with tarfile.open(path, "w") as archive:
        for folder in (*_FOLDERS, "bin"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add(archive, "bin/busybox", Path("/usr/bin/busybox").read_bytes(), 0o755)
        for applet in _APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)


def own_storage(folder: Path) -> dict[str, str]:
    """Return the environment in which podman on this machine keeps its images in a folder."""
    folder.mkdir(parents=True)
    conf, storage = folder / "storage.conf", folder / "images"
    conf.write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{storage}"\n'
    )
    return {"CONTAINERS_STORAGE_CONF": str(conf)}


def without_runtimes(folder: Path) -> dict[str, str]:
    """Return an environment whose PATH has all that this machine has but podman and docker."""
    folder.mkdir(parents=True)
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for one in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / one.name
            link.unlink(missing_ok=True)
            if one.name not in ("podman", "docker"):
                link.symlink_to(one)
    return {"PATH": str(folder)}
