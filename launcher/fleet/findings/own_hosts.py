"""Say why a host cannot give a run's processes an /etc/hosts of their own (``own_hosts: true``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...spec.model import OWN_HOSTS_WORK, Host
from . import ERROR, Finding, found

#: Where users may have mount namespaces, or the host's own file is right, there is nothing to do.
INSTEAD = (
    "correct /etc/hosts itself (launcher bootstrap --with own-name does), and leave out own_hosts"
)
#: By the agent's code: what is in the way, and what an administrator may do about it.
_IN_THE_WAY: Mapping[str, tuple[str, str]] = {
    "apparmor": (
        "AppArmor keeps users from mounting in a namespace of their own",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 as root",
    ),
    "userns-clone": (
        "users may not have namespaces",
        "sysctl -w kernel.unprivileged_userns_clone=1 as root",
    ),
    "max-user-namespaces": (
        "users may not have namespaces",
        "sysctl -w user.max_user_namespaces=15000 as root",
    ),
    "refused": ("the kernel refuses a mount namespace, as in many containers", ""),
    "no-file": ("the host has no /etc/hosts", "make one"),
    "no-ctypes": ("its Python has no ctypes", "name another one by python: in the inventory"),
    "other-resolver": (
        "names are looked up elsewhere before /etc/hosts, as by nscd",
        'put files first in the line "hosts:" of /etc/nsswitch.conf, and stop nscd',
    ),
    "no-uvm": (
        "/dev/nvidia-uvm is missing, which CUDA makes with root's rights that are not there",
        "nvidia-modprobe -u -c=0 once after each boot",
    ),
    "silent": ("a trial took longer than 5 s", "look at its disk and its name server"),
}


def own_hosts(host: Host, code: str) -> Iterator[Finding]:
    """Check that a host which is to have ``own_hosts`` can; every run does this too."""
    if not host.own_hosts or code == OWN_HOSTS_WORK:
        return
    evidence, fix = _IN_THE_WAY.get(code, ("the host says only: " + (code or "nothing"), ""))
    fix = f"{fix}; or {INSTEAD}" if fix else INSTEAD
    yield found("NET-OWN-HOSTS", host.name, f"own_hosts is not possible: {evidence}", fix, ERROR)
