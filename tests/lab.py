"""Makes real OpenSSH hosts on one Linux machine, and breaks them on request.

It knows nothing of the launcher, of pytest or of what runs on the hosts.

Each host is a set of namespaces (network, pid, mount, uts) with an overlay of this machine's `/`
as its own disk, a cable to a bridge that only this lab uses, and its own sshd. To the outside it
is a machine: it has its own files, processes, address, names and host key. It has no route
beyond the lab, so it is offline.

What a host shares with this machine: the kernel, the clock, the devices, the processors and
memory, and (as the lower layer of its disk) every file that it has not changed. Its `/root`,
`/tmp`, `/run` and `/dev/shm` are its own; `/root/.pyenv` and the folders in `share` are this
machine's, read-only.

The lower layer is not a live view: a file that is replaced here by rename, as git and editors do,
stays the old one on a host that has read it, until that host boots. A folder in `share` is live.

As a command: `python tests/lab.py up 3 --dir /tmp/x` prints the path of an inventory and keeps
the lab until Ctrl-C.
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
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAUNCHER = "launcher"
"""The name by which hosts know this machine, and by which `block_port` takes it."""

_TOOLS = ("bash", "ip", "nft", "nsenter", "rsync", "ssh", "ssh-keygen", "sshd", "tc", "unshare")
_NAMESPACES = ("unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child")
_DEADLINE = 30.0
_MOST_HOSTS = 250  # of the 254 addresses of a /24
_lab_numbers = itertools.count()

# Runs before chroot, with this machine's tools, so that what a host hides cannot stop its boot.
# Relative names after `cd`: overlay options have no escape for a comma or a colon in a path.
_BOOT = r"""
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
exec chroot merged env -i --default-signal PATH="$PATH" HOME=/root bash -c "$PID_1" >/dev/null
"""

# The host's pid 1. It starts one sshd per line of its standard input and ends with that input, so
# a lab never outlives its maker. bash, because it reaps orphans while it reads. setsid, because a
# daemon has a session of its own, and not SIGINT ignored as a shell's background job has.
_PID_1 = r"""
while read -r line; do
    setsid --fork /usr/sbin/sshd -D -e -f /etc/ssh/lab/sshd_config </dev/null 2>&4 4>&-
done
"""

_SSHD_CONFIG = """\
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

_NETWORK_NFT = """\
table inet lab {{
    chain behind {{ type filter hook input priority 0; {behind} }}
    chain blocked {{ type filter hook input priority 1; }}
    chain lossy {{ type filter hook input priority 2; }}
}}
"""

_NVIDIA_SMI = r"""#!/bin/sh
# A FAKE nvidia-smi, made by tests/lab.py: there is no GPU behind it.
# Lines "pid, uuid, MiB" in /run/fake-gpu-apps are its compute processes.
gpus='{gpus}'
apps=/run/fake-gpu-apps
[ -r "$apps" ] || apps=/dev/null
case "$*" in
-L)
    echo "$gpus" | awk -F', ' '{{ printf "GPU %s: %s (UUID: %s)\n", $1, $2, $3 }}' ;;
'--query-gpu=index,name,uuid,memory.total,memory.used --format=csv,noheader,nounits')
    echo "$gpus" | awk -F', ' -v apps="$apps" '
        BEGIN {{ while ((getline line < apps) > 0) {{ split(line, a, ", *"); used[a[2]] += a[3] }} }}
        {{ print $0 ", " used[$3] + 0 }}' ;;
'--query-compute-apps=pid,gpu_uuid --format=csv,noheader,nounits')
    awk -F', *' '{{ print $1 ", " $2 }}' "$apps" ;;
*)
    echo "fake nvidia-smi: not supported: $*" >&2
    exit 2 ;;
esac
"""


class LabError(Exception):
    """The lab could not be made, or a host did not do what was asked of it."""


class Process(NamedTuple):
    """One process of a host: `pid` as the host counts."""

    pid: int
    argv: list[str]
    environ: dict[str, str]


@dataclass(frozen=True)
class HostSpec:
    """What a host shall be.

    port: where its sshd listens.
    interface: the name of its one network interface.
    own_name: the address to which its own /etc/hosts maps its own name, as Debian's images do;
        "" for its real one. The names of the other hosts resolve to their real addresses.
    behind: the host that ssh must jump through. This one drops every packet from the launcher.
    home_size: for example "8M": /root is a tmpfs of that size (so a power cut empties it).
    disk: the lower layer of its disk instead of this machine's /; nothing is shared with it then.
    passwords: its sshd takes passwords, and the keys in each user's own ~/.ssh/authorized_keys,
        which is empty at first; see `LabHost.add_user`.
    gpus: more than 0 puts a fake nvidia-smi with so many GPUs at /usr/local/bin.
    """

    name: str
    port: int = 22
    interface: str = "eth0"
    own_name: str = "127.0.1.1"
    behind: str | None = None
    home_size: str | None = None
    gpus: int = 0
    disk: Path | None = None
    passwords: bool = False

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """The UUIDs that the fake nvidia-smi reports, by index; the same on every run."""
        seeds = (f"{self.name}/{index}" for index in range(self.gpus))
        return tuple(f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, seed)}" for seed in seeds)


@dataclass(frozen=True)
class _Site:
    """What a host needs to know of its lab. `addresses` is by host name, and has LAUNCHER too."""

    root: Path
    bridge: str
    addresses: dict[str, str]
    share: tuple[Path, ...]


def wait_until(condition: Callable[[], bool], what: str, timeout: float = _DEADLINE) -> None:
    """Poll until `condition` holds; LabError with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"not within {timeout:g} s: {what}")
        time.sleep(0.01)


@functools.cache
def missing() -> str | None:
    """Why no lab can be made on this machine, or None when one can. The answer is remembered."""
    if sys.platform != "linux":
        return "a lab needs Linux"
    if os.geteuid() != 0:
        return "a lab needs root"
    if absent := [tool for tool in _TOOLS if shutil.which(tool, path=PATH) is None]:
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
        tried = _sh([*_NAMESPACES, "bash", "-c", probe, folder], check=False)
    if tried.returncode:
        said = tried.stderr.decode(errors="replace").strip()
        return f"a lab needs namespaces, overlay, veth, bridge, nftables and tbf: {said}"
    return None


class LabHost:
    """One host of a lab: what is on it, and the ways to break it."""

    def __init__(self, spec: HostSpec, site: _Site, index: int) -> None:
        self.spec = spec
        self.name = spec.name
        self.port = spec.port
        self.address = site.addresses[spec.name]
        self.launcher_address = site.addresses[LAUNCHER]
        self.dir = site.root / spec.name
        self.host_key = self.dir / "upper/etc/ssh/lab/host_key"
        self._site = site
        self._cable = f"{site.bridge}h{index:x}"
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __repr__(self) -> str:
        return f"<LabHost {self.name} {self.address}:{self.port}>"

    @property
    def pid(self) -> int:
        """The pid, on this machine, of the host's `unshare`: LabError while it is powered off."""
        if self._process is None:
            raise LabError(f"{self.name} is powered off")
        return self._process.pid

    # Its files and processes, seen without its network or sshd.

    def run(
        self, *argv: str | Path, check: bool = True, input: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the host, in its /, and capture its output. LabError if it fails."""
        inside = ["--mount", "--uts", "--net", "--pid", "--root", "--wd"]
        command = ["nsenter", f"--target={self._pid_1()}", *inside, "--", *map(str, argv)]
        return _sh(command, check=check, input=input)

    def spawn(self, *argv: str | Path) -> int:
        """Start a command on the host that is nobody's, as a daemon or a stray is: its pid there.

        Returns when the command itself runs, or has ended. Its streams are /dev/null.
        """
        # A shell's background job has SIGINT ignored. The marker is in the argv of each step.
        marker = "--default-signal"
        script = f'setsid env {marker} "$@" </dev/null >/dev/null 2>&1 & echo $!'
        pid = int(self.run("bash", "-c", script, "spawn", *argv).stdout)
        cmdline = self.path(f"/proc/{pid}/cmdline")

        def runs() -> bool:
            try:
                return marker.encode() not in cmdline.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                return True

        wait_until(runs, f"{argv} runs on {self.name}")
        return pid

    def read(self, path: str | Path) -> bytes:
        """The bytes of a file there."""
        return self.run("cat", "--", path).stdout

    def write(self, path: str | Path, data: bytes, mode: int = 0o644) -> None:
        """Write a file there, and the folders above it."""
        script = 'mkdir -p -- "$(dirname -- "$1")" && cat >"$1" && chmod "$2" -- "$1"'
        self.run("sh", "-c", script, "sh", path, f"{mode:o}", input=data)

    def exists(self, path: str | Path) -> bool:
        """Whether the path leads to something there."""
        return self.run("test", "-e", path, check=False).returncode == 0

    def path(self, path: str | Path) -> Path:
        """Where this machine sees the host's path, while the host is up.

        An absolute symbolic link on the way leads to this machine's files: use `read` there.
        """
        return Path(f"/proc/{self._pid_1()}/root", str(path).lstrip("/"))

    def _pid_1(self) -> int:
        """The pid, on this machine, of the host's pid 1: LabError while it is powered off."""
        if self._init == 0:
            raise LabError(f"{self.name} is powered off")
        return self._init

    def processes(self) -> list[Process]:
        """What runs there, by its own /proc: without pid 1, sshd's processes and zombies."""
        return [
            Process(pid, _words(argv), dict(w.split("=", 1) for w in _words(env) if "=" in w))
            for pid, name, argv, env in self._all_processes()
            if pid != 1 and not name.startswith("sshd") and argv
        ]

    def _all_processes(self) -> Iterable[tuple[int, str, bytes, bytes]]:
        proc = self.path("/proc")
        for pid in sorted(int(entry) for entry in os.listdir(proc) if entry.isdigit()):
            here = proc / str(pid)
            # It may end while we look.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                name, argv, env = (
                    (here / part).read_bytes() for part in ("comm", "cmdline", "environ")
                )
                yield pid, name.decode().strip(), argv, env

    def add_user(self, name: str, password: str, *, sudo: bool = False) -> None:
        """Give it a user who logs in by a password, and may be root by it; root may be the user."""
        if name != "root":
            self.run("useradd", "--create-home", "--shell", "/bin/bash", name)
        self.run("chpasswd", input=f"{name}:{password}\n".encode())
        if sudo:
            self.write(f"/etc/sudoers.d/{name}", f"{name} ALL=(ALL:ALL) ALL\n".encode(), 0o440)

    def hide(self, path: str | Path) -> None:
        """Remove a path from the host's disk for good: this machine's stays.

        Only that path: a link, and not what it leads to. What `share` and .pyenv hold cannot go.
        """
        self.run("rm", "-rf", "--", path)

    def read_only_home(self) -> None:
        """Make /root read-only until the next boot. Fails while a file is open for writing."""
        self.run("mount", "-o", "remount,bind,ro", "/root")

    # Its power.

    def power_cut(self) -> None:
        """Kill everything on it at once. As with a real one, its peers are told nothing."""
        self._pid_1()
        # The cable first: the kernel must not close the dead processes' connections politely.
        _sh(["ip", "link", "delete", self._cable])
        self._kill()

    def boot(self) -> None:
        """Start it again, with the same files, key and address; returns when sshd answers."""
        _boot([self])

    def _kill(self) -> None:
        """Kill it; returns when nothing of it runs. Harmless when nothing does."""
        process, self._process = self._process, None
        if process is None:
            return
        # Its pid 1 can be waited for only after every process of its pid namespace has ended, and
        # unshare waits for it: so this wait is for all of them.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._init or process.pid, signal.SIGKILL)
        process.wait(_DEADLINE)
        self._init = 0
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    # Its cable and its firewall.

    def unplug(self) -> None:
        """Pull the cable out of the switch."""
        _sh(["ip", "link", "set", self._cable, "down"])

    def plug(self) -> None:
        """Put the cable back."""
        _sh(["ip", "link", "set", self._cable, "up"])

    def block_port(self, port: int, from_host: str | None = None) -> None:
        """Drop what comes in for a TCP port, from everywhere or from one host (or LAUNCHER).

        Connections that stand are cut off too. The host still reaches its own port.
        """
        source = f"ip saddr {self._site.addresses[from_host]}" if from_host else ""
        self._drop("blocked", f"{source} tcp dport {port}")

    def drop_packets(self) -> None:
        """Drop everything that comes in from the launcher's machine."""
        self._drop("blocked", f"ip saddr {self.launcher_address}")

    def unblock(self) -> None:
        """Undo `block_port` and `drop_packets`."""
        self._net(["nft", "flush chain inet lab blocked"])

    def loss(self, percent: int) -> None:
        """Lose so many of a hundred packets that come in; 0 for none."""
        self._net(["nft", "flush chain inet lab lossy"])
        if percent:  # nft refuses the comparison that is always true
            self._drop("lossy", f"numgen random mod 100 < {percent}" if percent < 100 else "")

    def slow(self, mbit: float) -> None:
        """Limit the cable to so many Mbit/s in each direction; 0 for no limit."""
        # A bucket of 10 ms, and never less than a few packets: see tc-tbf(8) on burst and HZ.
        rate = ["rate", f"{mbit}mbit", "burst", f"{max(32_000, int(mbit * 1250))}"]
        shape = ["tbf", *rate, "latency", "100ms"]
        for dev, tc in ((self._cable, _sh), (self.spec.interface, self._net)):
            tc(["tc", "qdisc", "replace", "dev", dev, "root", *(shape if mbit else ["noqueue"])])

    def _drop(self, chain: str, match: str) -> None:
        self._net(["nft", f'add rule inet lab {chain} iifname != "lo" {match} drop'])

    def _net(self, command: Sequence[str]) -> None:
        """Run this machine's own tool on the host's network, whatever the host hides."""
        _sh(["nsenter", f"--target={self.pid}", "--net", "--", *command])

    # Its sshd.

    def freeze_sshd(self) -> None:
        """Stop the listener: connections are accepted by the kernel, and nobody speaks."""
        self._signal("STOP", [self._listener()])

    def thaw_sshd(self) -> None:
        """Let the listener go on."""
        self._signal("CONT", [self._listener()])

    def kill_sshd_sessions(self) -> None:
        """Kill sshd's process of every connection. The listener stays, and so do commands."""
        listener = self._listener()
        found = [pid for pid, name, *_ in self._all_processes() if name.startswith("sshd")]
        self._signal("KILL", [pid for pid in found if pid != listener])

    def stop_sshd(self) -> None:
        """Kill the listener: connections are refused. Those that stand stay."""
        listener = self._listener()
        self._signal("KILL", [listener])
        wait_until(lambda: not self.exists(f"/proc/{listener}"), f"end of {self.name}'s sshd")

    def start_sshd(self) -> None:
        """Start a listener; returns when it answers."""
        self._say("sshd")
        wait_until(self._answers, f"sshd of {self.name} answers, see {self.dir / 'sshd.log'}")

    def change_host_key(self) -> None:
        """Give it a new host key, for good: `known_hosts` no longer matches."""
        self.stop_sshd()
        fresh = self.dir / "fresh_key"
        _sh(_keygen(fresh))
        self.write("/etc/ssh/lab/host_key", fresh.read_bytes(), 0o600)
        for path in (fresh, fresh.with_suffix(".pub")):
            path.unlink()
        self.start_sshd()

    def _listener(self) -> int:
        return int(self.read("/run/sshd.pid"))

    def _signal(self, name: str, pids: Sequence[int]) -> None:
        if pids:  # and one that has just ended is no failure
            self.run("sh", "-c", f"kill -{name} {' '.join(map(str, pids))}", check=False)

    def _answers(self) -> bool:
        if self.spec.behind:
            probe = "exec 3<>/dev/tcp/127.0.0.1/$0 && read -t 1 x <&3 && [[ $x == SSH-* ]]"
            return self.run("bash", "-c", probe, str(self.port), check=False).returncode == 0
        try:
            with socket.create_connection((self.address, self.port), timeout=1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    # Its boot, step by step: see _boot.

    def _prepare(self, authorized_key: str) -> None:
        """Write what is this host's own onto its disk, before it is mounted."""
        _folders(self.dir, "work")
        _folders(self.dir, "merged")
        _folders(self.dir, "home")
        (self.dir / "home").chmod(0o700)
        _put(self.dir, "upper/etc/hosts", self._hosts_file())
        # A lab without DNS: a look-up fails at once, instead of waiting for a server out of reach.
        _put(self.dir, "upper/etc/resolv.conf", "nameserver 127.0.0.1\n")
        _put(self.dir, "upper/etc/hostname", f"{self.name}\n")
        with_passwords = self.spec.passwords
        config = _SSHD_CONFIG.format(
            port=self.port,
            passwords="yes" if with_passwords else "no",
            keys=".ssh/authorized_keys" if with_passwords else "/etc/ssh/lab/authorized_keys",
        )
        _put(self.dir, "upper/etc/ssh/lab/sshd_config", config)
        _put(self.dir, "upper/etc/ssh/lab/authorized_keys", authorized_key)
        dev = self.spec.interface
        batch = f"link set lo up\naddress add {self.address}/24 dev {dev}\nlink set {dev} up\n"
        _put(self.dir, "network.ip", batch)
        behind = f"ip saddr {self.launcher_address} drop;" if self.spec.behind else ""
        _put(self.dir, "network.nft", _NETWORK_NFT.format(behind=behind))
        if self.spec.gpus:
            uuids = enumerate(self.spec.gpu_uuids)
            gpus = "\n".join(f"{index}, NVIDIA Fake GPU, {name}, 81559" for index, name in uuids)
            _put(self.dir, "upper/usr/local/bin/nvidia-smi", _NVIDIA_SMI.format(gpus=gpus), 0o755)

    def _hosts_file(self) -> str:
        names = {"localhost": "127.0.0.1", self.name: self.spec.own_name or self.address}
        lines = (self._site.addresses | names).items()
        return "".join(f"{address}\t{name}\n" for name, address in lines)

    def _start(self) -> None:
        if self._process is not None:
            raise LabError(f"{self.name} is powered on already")
        env = {"PATH": PATH, "HOST_DIR": str(self.dir), "HOST_NAME": self.name, "PID_1": _PID_1}
        env["HOME_SIZE"] = self.spec.home_size or ""
        env["HOST_DISK"] = str(self.spec.disk or "/")
        shared = [path for path in (Path("/root/.pyenv"), *self._site.share) if path.exists()]
        if self.spec.disk:
            shared = []
        with (self.dir / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [*_NAMESPACES, "bash", "-c", _BOOT, "boot", *map(str, shared)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                env=env,
                start_new_session=True,  # Ctrl-C is for us: we take the hosts down in order
            )

    def _find_init(self) -> None:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        self._init = int(children)

    def _cable_command(self) -> str:
        """For `ip -batch`. No IPv6: it would be a second way to a host that is behind another."""
        mac = "02:1a:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))
        return (
            f"link add {self._cable} type veth"
            f" peer name {self.spec.interface} address {mac} netns {self._init}\n"
            f"link set {self._cable} addrgenmode none master {self._site.bridge} up\n"
        )

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise LabError(f"{self.name} is powered off")
        return process.stdin, process.stdout

    def _say(self, word: str) -> None:
        stdin, _ = self._pipes()
        stdin.write(f"{word}\n".encode())
        stdin.flush()

    def _expect(self, word: str) -> None:
        _, stdout = self._pipes()
        ready, _, _ = select.select([stdout], [], [], _DEADLINE)
        if not ready or stdout.readline().decode().strip() != word:
            console = (self.dir / "console.log").read_text().strip()
            raise LabError(f"{self.name} is not {word}: {console[-2000:]}")


class Lab:
    """Some hosts and the launcher's side of them: a context manager, or `up` and `down`.

    root is for the hosts' disks, logs and keys, and is left for a look afterwards. (`ssh -F` with a
    ProxyJump takes no space or quote in its path: OpenSSH puts -F into a shell command as it is.)
    `share` are folders of this machine that hosts have at the same path, read-only.
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
        """Start every host; returns when every sshd answers. On failure nothing is left."""
        self._maker = os.getpid()
        atexit.register(self.down)
        try:
            self._lay_out()
            _boot(self.hosts.values())
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Kill the hosts and remove the network; the files under `root` stay."""
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
        prefix = _free_prefix()
        addresses = {LAUNCHER: f"{prefix}.1"}
        addresses |= {s.name: f"{prefix}.{index + 2}" for index, s in enumerate(self._specs)}
        site = _Site(self.root, self._bridge, addresses, self._share)
        self.hosts = {s.name: LabHost(s, site, i) for i, s in enumerate(self._specs)}
        self._make_bridge(f"{prefix}.1/24")
        self._make_keys()
        authorized = self.identity_file.with_suffix(".pub").read_text()
        for host in self.hosts.values():
            host._prepare(authorized)
        self.known_hosts.write_text("".join(map(_known_host, self.hosts.values())))
        self.ssh_config.write_text("\n".join(map(self._ssh_config_of, self.hosts.values())))

    def _make_bridge(self, address: str) -> None:
        # A bridge without a live port has no carrier, and then this machine would notice every
        # unplugged cable of a lab of one host: so one port is always live.
        bridge = self._bridge
        batch = (
            f"link add {bridge} type bridge\n"
            f"link set {bridge} addrgenmode none up\n"
            f"address add {address} dev {bridge}\n"
            f"link add {bridge}x type veth peer name {bridge}y\n"
            f"link set {bridge}y addrgenmode none up\n"
            f"link set {bridge}x addrgenmode none master {bridge} up\n"
        )
        _sh(["ip", "-batch", "-"], input=batch.encode())

    def _make_keys(self) -> None:
        keys = [self.identity_file, *(host.host_key for host in self.hosts.values())]
        for key in keys:
            key.parent.mkdir(parents=True, exist_ok=True)
        started = [
            subprocess.Popen(_keygen(key), stdin=subprocess.DEVNULL, env={"PATH": PATH})
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


def inventory(lab: Lab, python: str) -> str:
    """The text of an inventory of a lab's hosts; `python` is the interpreter to use there."""
    # A JSON string is a YAML string, whatever is in it.
    defaults = f"{{python: {json.dumps(python)}, user: root}}"
    hosts = "".join(f"  {name}: {{}}\n" for name in lab.hosts)
    config = json.dumps(str(lab.ssh_config))
    return f"ssh_config: {config}\ndefaults: {defaults}\nhosts:\n{hosts}"


def _boot(hosts: Iterable[LabHost]) -> None:
    """Start hosts, all at once: each step is begun on every host before it is awaited on any."""
    hosts = tuple(hosts)
    for host in hosts:
        host._start()
    for host in hosts:
        host._expect("mounted")
        host._find_init()
    _sh(["ip", "-batch", "-"], input="".join(host._cable_command() for host in hosts).encode())
    for host in hosts:
        host._say("network")
    for host in hosts:
        host._expect("online")
        host._say("sshd")
    for host in hosts:
        what = f"sshd of {host.name} answers, see {host.dir / 'sshd.log'}"
        wait_until(host._answers, what)


def _sh(
    command: Sequence[str], *, check: bool = True, input: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    # Never our own standard input, which may be a terminal, nor our own environment.
    env = {"PATH": PATH, "HOME": "/root"}
    done = subprocess.run(command, input=input or b"", capture_output=True, env=env, check=False)
    if check and done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise LabError(f"exit {done.returncode} of {shlex.join(command)}: {said}")
    return done


def _folders(root: Path, name: str) -> None:
    """Make a folder and those between it and root, readable by all whatever the umask is."""
    for part in (*reversed(Path(name).parents), Path(name)):
        (root / part).mkdir(parents=True, exist_ok=True)
        (root / part).chmod(0o755)


def _put(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    _folders(root, str(Path(name).parent))
    (root / name).write_text(text)
    (root / name).chmod(mode)


def _words(data: bytes) -> list[str]:
    """The NUL-ended words of /proc/PID/cmdline or environ."""
    return data.decode(errors="surrogateescape").split("\0")[:-1]


def _remove_network(bridge: str) -> None:
    """Remove a bridge, its live port and the cables to it: those that are there."""
    names = sorted(os.listdir("/sys/class/net"))
    # The letter, because ...n1 must not take ...n10h2 for its own.
    mine = [n for n in names if n == bridge or n[: len(bridge) + 1] in {bridge + c for c in "hxy"}]
    # A cable may just have gone with its host's network namespace: hence -force, unchecked.
    batch = "".join(f"link delete {name}\n" for name in mine)
    _sh(["ip", "-force", "-batch", "-"], input=batch.encode(), check=False)


def _remove_ruins() -> None:
    """Remove the networks of labs whose process was killed; their hosts ended with it."""
    for name in os.listdir("/sys/class/net"):
        bridge = re.fullmatch("lab([0-9a-f]+)n[0-9a-f]+", name)
        if bridge and not Path(f"/proc/{int(bridge[1], 16)}").exists():
            _remove_network(name)


def _keygen(path: Path) -> list[str]:
    return ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path)]


def _known_host(host: LabHost) -> str:
    names = [host.name, host.address]
    if host.port != 22:  # sshd(8), SSH_KNOWN_HOSTS FILE FORMAT
        names = [f"[{name}]:{host.port}" for name in names]
    return f"{','.join(names)} {host.host_key.with_suffix('.pub').read_text()}"


def _free_prefix() -> str:
    """The first three numbers of a 10.x.y.0/24 that no route of this machine leads to."""
    routes = json.loads(_sh(["ip", "-4", "-json", "route", "show", "table", "all"]).stdout)
    taken = [ipaddress.ip_network(r["dst"]) for r in routes if r["dst"] != "default"]
    # Two processes that look at the same time begin at different places.
    for offset in range(100 * 256):
        x, y = divmod((os.getpid() * 257 + offset) % (100 * 256), 256)
        network = ipaddress.ip_network(f"10.{100 + x}.{y}.0/24")
        if not any(network.overlaps(other) for other in taken):
            return f"10.{100 + x}.{y}"
    raise LabError("no subnet 10.100.0.0/24 to 10.199.255.0/24 is free")


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
        print(path, flush=True)
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(_main())
