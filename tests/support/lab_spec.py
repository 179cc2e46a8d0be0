"""What the lab's modules share: the specification of a host, its boot scripts, and small tools."""

from __future__ import annotations

import ipaddress
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from support import gpu_tools

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAUNCHER = "launcher"
"""The name of this machine on hosts, and for `block_port`."""

TOOLS = ("bash", "ip", "nft", "nsenter", "rsync", "ssh", "ssh-keygen", "sshd", "tc", "unshare")
NAMESPACES = ("unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child")
DEADLINE = 30.0
#: How many times as long everything may take on a slow machine with other work. Tests say how long it
#: takes elsewhere; limits only end what hangs, and decide nothing else.
PATIENCE = 3.0

# Runs before chroot, with this machine's tools: a host boots whatever is hidden from it.
# Relative names after `cd`: overlay options have no escape for a comma or a colon in a path.
BOOT = r"""
set -eu
umask 022
cd "$HOST_DIR"
mount -t overlay overlay -o lowerdir="$HOST_DISK",upperdir=upper,workdir=work merged
mount --rbind /dev merged/dev
mount -t tmpfs -o mode=1777 tmpfs merged/dev/shm
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts merged/dev/pts
mount -t proc proc merged/proc
mount -t sysfs sysfs merged/sys
mount -t tmpfs -o mode=1777 tmpfs merged/tmp
mount -t tmpfs -o mode=755 tmpfs merged/run
if [ -n "$HOME_SIZE" ]; then
    mount -t tmpfs -o "mode=700,size=$HOME_SIZE" tmpfs merged/root
else
    mount --bind home merged/root
fi
mkdir -p merged/run/sshd
for shared in "$@"; do
    if [ -d "$shared" ]; then
        mkdir -p "merged$shared"
    else
        mkdir -p "merged${shared%/*}"
        : >>"merged$shared"
    fi
    mount --bind "$shared" "merged$shared"
    mount -o remount,bind,ro "merged$shared"
done
hostname "$HOST_NAME"
echo mounted
read -r go
ip -batch network.ip
nft -f network.nft
exec 4>>sshd.log
echo online
if [ -n "$NAMESPACES" ]; then
    cd merged
    pivot_root . .
    umount -l .
    cd ..
fi
exec chroot "${NAMESPACES:-merged}" env -i --default-signal PATH="$PATH" HOME=/root bash -c "$PID_1" >/dev/null
"""

# The host's pid 1. It starts one sshd per line of its standard input and exits when that input ends,
# so a lab never outlives its maker. bash, because it reaps orphans while it reads. setsid, because
# a daemon has its own session, and does not ignore SIGINT as a shell's background job does.
PID_1 = r"""
while read -r line; do
    setsid --fork /usr/sbin/sshd -D -e -f /etc/ssh/lab/sshd_config </dev/null 2>&4 4>&-
done
"""

SSHD_CONFIG = """\
Port {port}
HostKey /etc/ssh/lab/host_key
AuthorizedKeysFile {keys}
PermitRootLogin yes
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
UsePAM no
MaxStartups 1000
MaxSessions 200
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""

NETWORK_NFT = """\
table inet lab {{
    chain behind {{ type filter hook input priority 0; {behind} }}
    chain blocked {{ type filter hook input priority 1; }}
    chain lossy {{ type filter hook input priority 2; }}
}}
"""


class LabError(Exception):
    """The lab could not be made, or a host did not do what it was asked to."""


class Process(NamedTuple):
    """One process of a host: `pid` as the host counts."""

    pid: int
    argv: list[str]
    environ: dict[str, str]


@dataclass(frozen=True)
class HostSpec:
    """What a host is to be.

    port: the port of its sshd.
    interface: the name of its only network interface.
    own_name: the address that its /etc/hosts gives for its own name, as Debian's images do; "" for
        its real address. The names of other hosts always resolve to their real addresses.
    behind: the host that ssh must jump through. The host drops every packet from this machine.
    home_size: the size of /root, for example "8M". It is then a tmpfs, which a power cut empties.
    disk: the lower layer of its disk, instead of this machine's /. Nothing is shared with it then.
    families: "4", "6" or "46": the IP addresses that it has, beside loopback's.
    namespaces: users may have namespaces there. The kernel refuses them in a chroot, which the other
        hosts are; in this one `mount_shared` cannot mount.
    passwords: sshd accepts passwords, and the keys in each user's ~/.ssh/authorized_keys, which is
        empty at first; see `LabHost.add_user`.
    gpus: how many GPUs the fake of `gpu_tool` in /usr/local/bin has; no such file for 0.
    mig: how many MIG instances each of them is divided into, by index.
    """

    name: str
    port: int = 22
    interface: str = "eth0"
    own_name: str = "127.0.1.1"
    behind: str | None = None
    home_size: str | None = None
    gpus: int = 0
    gpu_tool: str = "nvidia-smi"
    mig: Mapping[int, int] = field(default_factory=dict)
    disk: Path | None = None
    passwords: bool = False
    families: str = "4"
    namespaces: bool = False

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """The UUIDs that the fake nvidia-smi reports, by index. They never change."""
        return gpu_tools.uuids(self.name, self.gpus)


@dataclass(frozen=True)
class Site:
    """What a host needs to know about its lab.

    addresses: by host name, and for LAUNCHER: the address of a machine, IPv4 if it has both.
    addresses_6: the IPv6 addresses, by name, of those that have one.
    prefix_length: of the network of all IPv4 addresses.

    is_large: hosts know each other's hardware addresses from the start. Learned ones share one table
    of all namespaces (net.ipv4.neigh.default.gc_thresh3, 1,024 entries by default), which the pairs
    of 33 hosts fill; permanent entries do not count.
    """

    root: Path
    bridge: str
    addresses: dict[str, str]
    share: tuple[Path, ...]
    addresses_6: dict[str, str]
    prefix_length: int = 24
    is_large: bool = False


def wait_until(condition: Callable[[], bool], what: str, timeout: float = DEADLINE) -> None:
    """Poll until `condition` holds. Raise LabError with `what` after `timeout` seconds, with patience."""
    limit = PATIENCE * timeout
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"not within {limit:g} s: {what}")
        time.sleep(0.01)


def sh(
    command: Sequence[str], *, check: bool = True, input: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command without our standard input, which may be a terminal, and our environment."""
    env = {"PATH": PATH, "HOME": "/root"}
    done = subprocess.run(command, input=input or b"", capture_output=True, env=env, check=False)
    if check and done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise LabError(f"exit {done.returncode} of {shlex.join(command)}: {said}")
    return done


def source(address: str) -> str:
    """Return what matches packets from an address, for nft."""
    return f"{'ip6' if ':' in address else 'ip'} saddr {address}"


def mac_of(address: str) -> str:
    """Return the hardware address that belongs to an address of a lab."""
    return "02:1a:" + ipaddress.ip_address(address).packed[-4:].hex(":")


def keygen(path: Path) -> list[str]:
    """Return the command that makes a key pair without a passphrase."""
    return ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path)]
