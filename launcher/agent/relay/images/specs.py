"""Says how programs start in an image on this host: what of the host they get."""

from __future__ import annotations

import os

from ...base.protocol import Refused
from ...processes.containers import BWRAP, CDI, OF_RUNTIME, PODMAN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.messages import ContainerSpec, Message


def made(root: str, runtime: str, program: str, image: str, request: Message) -> ContainerSpec:
    """Return how programs start in an image, as a launcher asks for it. Raises Refused."""
    home = os.path.join(root, "home")
    os.makedirs(home, mode=0o700, exist_ok=True)
    places = [root, os.path.realpath(root), "/tmp", os.environ.get("TMPDIR", "/tmp")]
    mounts = ["%s:%s" % (place, place) for place in dict.fromkeys(places)]
    for mount in request["mounts"]:
        source, _, rest = mount.partition(":")
        source = os.path.expanduser(os.path.expandvars(source))
        if not os.path.exists(source):
            raise Refused("no-mount", source)
        place = rest if rest and rest != "ro" else ""
        mode = ":ro" if rest == "ro" else ""
        mounts.append("%s:%s%s" % (source, place or source, mode))
    for place in request.get("places", []):  # of data sets: links, where the host has them
        mounts.append("%s:%s" % (place, place))
    if any(mount.count(":") > 2 for mount in mounts):
        raise Refused("no-mount", "a path with a colon cannot be mounted")
    vendor = request.get("gpus") or ""
    if runtime == BWRAP:
        _make_places(image, [mount.split(":")[1] for mount in mounts])
    return {
        "runtime": runtime,
        "program": program,
        "image": image,
        "user": "%d:%d" % (os.getuid(), os.getgid()),
        "groups": sorted({*os.getgroups()} - {os.getgid()}),
        "ulimits": _limits(),
        "rootless": os.getuid() != 0,
        "ipc": os.path.isdir("/dev/mqueue"),
        "mounts": mounts,
        "devices": _devices(vendor),
        "gpus": _gpus(runtime) if vendor == "nvidia" else "",
        "home": home,
        "hosts": "/etc/hosts",
    }


def _limits() -> list[str]:
    """Return the limits of this login that matter to NCCL and data loaders, as docker takes them."""
    import resource

    found = []
    for name in ("memlock", "stack", "nofile"):
        soft, hard = resource.getrlimit(getattr(resource, "RLIMIT_" + name.upper()))
        found.append("%s=%d:%d" % (name, soft, hard))
    return found


def _make_places(image: str, places: list[str]) -> None:
    """Make the folders in an image's folder at which others are mounted. Raises Refused."""
    for place in places:
        target = os.path.join(image, place.lstrip("/"))
        try:
            os.makedirs(target, exist_ok=True)
        except OSError as error:
            why = "%s cannot be made in %s: %s" % (place, image, error.strerror)
            raise Refused("no-mount", why) from None


def _devices(vendor: str) -> list[str]:
    """Return the devices that programs outside would use: of the network, and of GPUs but NVIDIA's."""
    wanted = ["/dev/infiniband"]
    wanted += {"amd": ["/dev/kfd", "/dev/dri"], "intel": ["/dev/dri"]}.get(vendor, [])
    return [path for path in wanted if os.path.exists(path)]


def _gpus(runtime: str) -> str:
    """Return how NVIDIA's GPUs get into a container. Raises Refused."""
    if runtime != PODMAN:
        return OF_RUNTIME
    for folder in ("/etc/cdi", "/var/run/cdi"):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            try:
                with open(os.path.join(folder, name)) as file:
                    if "nvidia.com/gpu" in file.read(1 << 16):
                        return CDI
            except OSError:
                continue
    raise Refused("no-cdi", "")
