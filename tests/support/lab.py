"""Make real OpenSSH hosts on one Linux machine, and break them on request.

This module knows nothing of launcher, of pytest or of what runs on the hosts.

Each host is a set of namespaces (network, pid, mount, uts) with an overlay of this machine's `/`
as its disk, a cable to a bridge that only this lab uses, and its own sshd. Seen from outside it is
a machine with its own files, processes, address, names and host key. It has no route beyond the
lab, so it is offline.

A host shares with this machine the kernel, the clock, the devices, the processors, the memory and
(as the lower layer of its disk) every file that it has not changed. Its `/root`, `/tmp`, `/run` and
`/dev/shm` are its own; `/root/.pyenv` and the folders in `share` are this machine's, read-only.

The lower layer is not a live view: when a file is replaced here by a rename, as git and editors do,
a host that has read it keeps seeing the old one until it boots. A folder in `share` is live.

As a command, `PYTHONPATH=tests python -m support.lab up 3 --dir /tmp/x` prints the path of an
inventory and keeps the lab until Ctrl-C.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import ipaddress
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support.lab_faults import LabHost
from support.lab_host import boot
from support.lab_spec import (
    LAUNCHER,
    NAMESPACES,
    PATH,
    TOOLS,
    HostSpec,
    LabError,
    Process,
    Site,
    keygen,
    mac_of,
    sh,
    wait_until,
)

__all__ = [
    "LAUNCHER",
    "HostSpec",
    "Lab",
    "LabError",
    "LabHost",
    "Process",
    "inventory",
    "missing",
    "wait_until",
]

_MOST_HOSTS = 1000  # a bridge has at most 1,024 ports
_LARGE = 16  # with more hosts, all pairs leave little of the kernel's one table for other labs
_lab_numbers = itertools.count()


@functools.cache
def missing() -> str | None:
    """Return why no lab can be made on this machine, or None. The answer is cached."""
    if sys.platform != "linux":
        return "a lab needs Linux"
    if os.geteuid() != 0:
        return "a lab needs root"
    if absent := [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]:
        return f"a lab needs these commands: {', '.join(absent)}"
    probe = (
        "set -e; cd $0; mkdir u w m; mount -t overlay o -o lowerdir=/,upperdir=u,workdir=w m;"
        "mount -t proc proc m/proc; mount -t sysfs sysfs m/sys; ip link add v0 type veth;"
        "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; };"
        "add rule inet t c numgen random mod 100 < 1 drop';"
        "tc qdisc add dev v0 root tbf rate 1mbit burst 32k latency 50ms;"
        "ip link add b0 type bridge"
    )
    with tempfile.TemporaryDirectory() as folder:
        tried = sh([*NAMESPACES, "bash", "-c", probe, folder], check=False)
    if tried.returncode:
        said = tried.stderr.decode(errors="replace").strip()
        return f"a lab needs namespaces, overlay, veth, bridge, nftables and tbf: {said}"
    return None


class Lab:
    """Hosts, and what is needed to reach them: a context manager, or `up` and `down`.

    `root` holds the hosts' disks, logs and keys, and is kept for inspection afterwards. (With a
    ProxyJump, its path may have no space or quote: OpenSSH puts -F into a shell command unquoted.)
    Hosts see the folders in `share` at the same path, read-only.
    """

    def __init__(self, specs: Sequence[HostSpec], root: Path, share: Sequence[Path] = ()) -> None:
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names) or not 0 < len(names) <= _MOST_HOSTS:
            raise ValueError(f"a lab has 1 to {_MOST_HOSTS} hosts, each with its own name")
        if strangers := {spec.behind for spec in specs} - {None, *names}:
            raise ValueError(f"hosts to jump through are not in the lab: {strangers}")
        self.root = root.resolve()
        self.ssh_config = self.root / "ssh_config"
        self.known_hosts = self.root / "known_hosts"
        self.identity_file = self.root / "id_ed25519"
        self.hosts: dict[str, LabHost] = {}
        self.address = ""
        self._specs = tuple(specs)
        self._share = tuple(path.absolute() for path in share)
        # An interface name has at most 15 characters: lab, the pid, our number, the host's.
        self._bridge = f"lab{os.getpid():x}n{next(_lab_numbers) % 256:x}"
        self._maker = 0

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def up(self) -> None:
        """Start every host; return when every sshd answers. On failure leave nothing behind."""
        self._maker = os.getpid()
        atexit.register(self.down)
        try:
            self._lay_out()
            boot(self.hosts.values())
        except BaseException:
            self.down()
            raise

    def sent(self) -> int:
        """Return the bytes that this machine has sent to hosts."""
        counter = Path("/sys/class/net") / self._bridge / "statistics" / "tx_bytes"
        return int(counter.read_text())

    def down(self) -> None:
        """Kill the hosts and remove the network; keep the files under `root`."""
        atexit.unregister(self.down)
        if self._maker != os.getpid():  # not up, or a fork of the process that has the lab
            return
        self._maker = 0
        for host in self.hosts.values():
            host._kill()
        _remove_network(self._bridge)

    def _lay_out(self) -> None:
        _remove_ruins()
        self.root.mkdir(parents=True, exist_ok=True)
        network = _free_network(len(self._specs))
        prefix = str(network.network_address).rpartition(".")[0]
        families = {spec.name: spec.families for spec in self._specs}
        families = {LAUNCHER: "4" + "6" * ("6" in "".join(families.values())), **families}
        prefix_6 = f"fd1a:{prefix.replace('.', ':')}:"
        numbered = list(enumerate(families.items(), start=1))
        with_6 = {
            # as ssh writes it into known_hosts, also where a part of the prefix is 0
            name: str(ipaddress.ip_address(f"{prefix_6}:{n:x}"))
            for n, (name, has) in numbered
            if "6" in has
        }
        with_4 = {name: str(network[n]) for n, (name, has) in numbered if "4" in has}
        is_large = len(self._specs) > _LARGE
        length = network.prefixlen
        site = Site(self.root, self._bridge, with_6 | with_4, self._share, with_6, length, is_large)
        self.hosts = {s.name: LabHost(s, site, i) for i, s in enumerate(self._specs)}
        self.address = site.addresses[LAUNCHER]  # of this machine, as the hosts reach it
        self._make_bridge(site)
        self._make_keys()
        authorized = self.identity_file.with_suffix(".pub").read_text()
        for host in self.hosts.values():
            host._prepare(authorized)
        self.known_hosts.write_text("".join(map(_known_host, self.hosts.values())))
        self.ssh_config.write_text("\n".join(map(self._ssh_config_of, self.hosts.values())))

    def _make_bridge(self, site: Site) -> None:
        # A bridge without a live port has no carrier, and then this machine would notice every
        # unplugged cable of a lab of one host: so one port is always live.
        bridge, address = self._bridge, site.addresses[LAUNCHER]
        ipv6 = site.addresses_6.get(LAUNCHER)
        batch = (
            f"link add {bridge} address {mac_of(address)} type bridge\n"
            f"link set {bridge} addrgenmode none up\n"
            f"address add {address}/{site.prefix_length} dev {bridge}\n"
            f"link add {bridge}x type veth peer name {bridge}y\n"
            f"link set {bridge}y addrgenmode none up\n"
            f"link set {bridge}x addrgenmode none master {bridge} up\n"
        )
        batch += f"address add {ipv6}/64 dev {bridge} nodad\n" if ipv6 else ""
        if site.is_large:
            batch += "".join(
                f"neighbour add {host.address} lladdr {mac_of(host.address)} dev {bridge}"
                " nud permanent\n"
                for host in self.hosts.values()
            )
        sh(["ip", "-batch", "-"], input=batch.encode())

    def _make_keys(self) -> None:
        keys = [self.identity_file, *(host.host_key for host in self.hosts.values())]
        for key in keys:
            key.parent.mkdir(parents=True, exist_ok=True)
        started = [
            subprocess.Popen(keygen(key), stdin=subprocess.DEVNULL, env={"PATH": PATH})
            for key in keys
            if not key.exists()
        ]
        codes = [process.wait() for process in started]
        if any(codes):
            raise LabError(f"ssh-keygen failed: exits {codes}")

    def _ssh_config_of(self, host: LabHost) -> str:
        options = {
            "HostName": host.address,
            "Port": str(host.port),
            "User": "root",
            "IdentityFile": f'"{self.identity_file}"',
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": f'"{self.known_hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
        }
        if host.spec.behind:
            options["ProxyJump"] = host.spec.behind
        lines = (f"    {key} {value}\n" for key, value in options.items())
        return f"Host {host.name}\n{''.join(lines)}"


#: Who makes the connections of the inventories below; see `--transport` in conftest.py.
transport = "asyncssh"


def inventory(lab: Lab, python: str) -> str:
    """Return an inventory of a lab's hosts, as YAML; `python` is the interpreter to use there."""
    # A JSON string is a YAML string, whatever is in it.
    by = f", transport: {transport}" if transport != "asyncssh" else ""
    defaults = f"{{python: {json.dumps(python)}, user: root{by}}}"
    hosts = "".join(f"  {name}: {{}}\n" for name in lab.hosts)
    config = json.dumps(str(lab.ssh_config))
    return f"ssh_config: {config}\ndefaults: {defaults}\nhosts:\n{hosts}"


def _remove_network(bridge: str) -> None:
    """Remove a bridge, its live port and the cables to it, as far as they exist."""
    names = sorted(os.listdir("/sys/class/net"))
    # The letter, because ...n1 must not take ...n10h2 for its own.
    mine = [n for n in names if n == bridge or n[: len(bridge) + 1] in {bridge + c for c in "hxy"}]
    # A cable may just have gone with its host's network namespace: hence -force, unchecked.
    batch = "".join(f"link delete {name}\n" for name in mine)
    sh(["ip", "-force", "-batch", "-"], input=batch.encode(), check=False)


def _remove_ruins() -> None:
    """Remove the networks of labs whose process was killed; their hosts died with it."""
    for name in os.listdir("/sys/class/net"):
        bridge = re.fullmatch("lab([0-9a-f]+)n[0-9a-f]+", name)
        if bridge and not Path(f"/proc/{int(bridge[1], 16)}").exists():
            _remove_network(name)


def _known_host(host: LabHost) -> str:
    names = [host.name, host.address]
    if host.port != 22:  # sshd(8), SSH_KNOWN_HOSTS FILE FORMAT
        names = [f"[{name}]:{host.port}" for name in names]
    return f"{','.join(names)} {host.host_key.with_suffix('.pub').read_text()}"


def _free_network(hosts: int) -> ipaddress.IPv4Network:
    """Return a 10.x.y.0/24 that no route of this machine covers; for many hosts, a larger one."""
    length = next(n for n in range(24, 15, -1) if hosts + 3 <= 1 << (32 - n))
    routes = json.loads(sh(["ip", "-4", "-json", "route", "show", "table", "all"]).stdout)
    taken = [ipaddress.ip_network(r["dst"]) for r in routes if r["dst"] != "default"]
    # Two processes that look at the same time start in different places.
    for offset in range(100 * 256):
        x, y = divmod((os.getpid() * 257 + offset) % (100 * 256), 256)
        network = ipaddress.IPv4Network(f"10.{100 + x}.{y}.0/{length}", strict=False)
        if not any(network.overlaps(other) for other in taken):
            return network
    raise LabError(f"no subnet 10.100.0.0/{length} to 10.199.255.0/{length} is free")


def _main() -> int:
    parser = argparse.ArgumentParser(description="Real ssh hosts on this machine, until Ctrl-C.")
    parser.add_argument("action", choices=["up"])
    parser.add_argument("count", type=int, help="how many hosts: lab1, lab2, ...")
    parser.add_argument("--dir", type=Path, required=True, help="for disks, logs and keys")
    parser.add_argument("--python", default=sys.executable, help="the hosts' interpreter")
    parser.add_argument("--gpus", type=int, default=0, help="fake GPUs on each host")
    parser.add_argument("--share", type=Path, action="append", default=[], help="may be repeated")
    args = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    specs = [HostSpec(f"lab{index + 1}", gpus=args.gpus) for index in range(args.count)]
    with contextlib.suppress(KeyboardInterrupt), Lab(specs, args.dir, args.share) as lab:
        path = lab.root / "inventory.yaml"
        path.write_text(inventory(lab, args.python))
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # one that comes before the wait is kept
        print(path, flush=True)
        signal.sigwait(ends)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
