"""A machine with a kernel of its own, for what namespaces cannot show: Debian with systemd, in qemu.

It knows nothing of launcher. Its disk and kernel are made once, from the mirror that this
machine's own apt uses, and kept outside the clone; each boot writes to a scratch copy. It
is offline: loopback forwards one port to its sshd, and that is all. By default the processor is
emulated, which needs no rights and is slow; `LAUNCHER_VM_ACCEL=kvm` uses the hardware, if it may.

As a command: `PYTHONPATH=tests python -m support.vm` makes disk and kernel, and prints where they are.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from support import freshroot
from support.freshroot import NoRoot

#: What is on the disk besides Debian's smallest. No udev: all devices are known beforehand.
INSTALLED = (
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "dbus-user-session",
    "openssh-server",
    "python3",
    "rsync",
    "iproute2",
    "busybox-static",
)
#: Units that would only take time and processor.
_MASKED = (
    "getty.target",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "motd-news.timer",
)
KERNEL = "linux-image-cloud-amd64"
#: What the disk and the network of a virtual machine need, and Debian does not build in.
MODULES = ("virtio_pci", "virtio_blk", "virtio_net")
#: Who can log in with the key, besides root: the test says what becomes of them.
USERS = ("ann", "ben")
#: Part of the folder's name: a new one when what is above or below changes.
VERSION = 1
#: Seconds from power on to sshd's first word, with two busy cores that are emulated.
BOOT = 400.0

_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for name in $(/bin/busybox cat /modules); do /bin/busybox insmod /$name.ko; done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox sh
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
"""

_NETWORK = """[Unit]
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/bin/ip link set lo up
ExecStart=/bin/ip link set eth0 up
ExecStart=/bin/ip address add 10.0.2.15/24 dev eth0
[Install]
WantedBy=multi-user.target
"""


def place() -> Path:
    """Return the folder of disk, kernel and keys for this machine's suite. Raise NoRoot."""
    return freshroot.cache() / f"vm-{freshroot.suite()}-{VERSION}"


def missing() -> str:
    """Return why no such machine can be started here now, or ""."""
    if shutil.which("qemu-system-x86_64") is None:
        return "qemu-system-x86_64 is not installed (Debian: qemu-system-x86)"
    with contextlib.suppress(NoRoot):
        if place().is_dir():
            return ""
    return "no disk and kernel for it: make vm, or PYTHONPATH=tests python -m support.vm"


def make() -> Path:
    """Return the folder; make what is in it if it is not there. Raise NoRoot."""
    target = place()
    if target.is_dir():
        return target
    freshroot.require("debootstrap", "mke2fs", "ssh-keygen", "dpkg-deb")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        root, found = Path(scratch, "root"), Path(scratch, "vm")
        found.mkdir()
        freshroot.run(
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(INSTALLED)}",
            freshroot.suite(),
            str(root),
            freshroot.mirror(),
        )
        _kernel(root, Path(scratch), found)
        freshroot.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(found / "key"))
        _settle(root, (found / "key.pub").read_text())
        (found / "host_key.pub").write_text((root / "etc/ssh/ssh_host_ed25519_key.pub").read_text())
        freshroot.run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(found / "disk"), "1G")
        with contextlib.suppress(OSError):  # somebody else was faster
            found.rename(target)
    return target


def _settle(root: Path, key: str) -> None:
    """Set up users and network; mask what waits for hardware that the machine does not have."""
    for home in (Path("root"), *(Path("home", name) for name in USERS)):
        if home.parts[0] == "home":
            freshroot.chroot(root, "useradd", "--create-home", "--shell", "/bin/bash", home.name)
        (root / home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        (root / home / ".ssh/authorized_keys").write_text(key)
        owner = "root" if home.parts[0] == "root" else home.name
        freshroot.chroot(root, "chown", "-R", f"{owner}:", f"/{home}/.ssh")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n10.0.2.15 guest\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 rw 0 0\n")
    (root / "etc/systemd/system/network.service").write_text(_NETWORK)
    freshroot.chroot(root, "systemctl", "enable", "--quiet", "network", "ssh")
    freshroot.chroot(root, "systemctl", "mask", "--quiet", *_MASKED)
    freshroot.chroot(root, "systemctl", "set-default", "--quiet", "multi-user.target")


def _kernel(root: Path, scratch: Path, found: Path) -> None:
    """Unpack the kernel; build an initrd with its modules, which mounts the real disk."""
    archives = root / "var/cache/apt/archives"
    freshroot.chroot(root, "apt-get", "-qq", "update")
    install = ["install", "-y", "-qq", "--no-install-recommends", "--download-only"]
    freshroot.chroot(root, "apt-get", *install, KERNEL)
    (package,) = archives.glob("linux-image-*.*.*-cloud-amd64_*.deb")
    unpacked, first = scratch / "kernel", scratch / "first"
    freshroot.run("dpkg-deb", "--extract", str(package), str(unpacked))
    (image,) = unpacked.glob("boot/vmlinuz-*")
    shutil.copy(image, found / "vmlinuz")
    freshroot.chroot(root, "apt-get", "clean")
    for lists in (root / "var/lib/apt/lists").glob("*_*"):
        lists.unlink()
    for name in ("bin", "proc", "dev", "root"):
        (first / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", first / "bin/busybox")
    modules = {path.stem: path for path in unpacked.glob("lib/modules/*/kernel/**/*.ko")}
    order = _in_order(modules)
    for name in order:
        shutil.copy(modules[name], first / f"{name}.ko")
    (first / "modules").write_text("\n".join(order) + "\n")
    (first / "init").write_text(_INIT)
    (first / "init").chmod(0o755)
    files = "\n".join(str(path.relative_to(first)) for path in [first, *first.rglob("*")])
    with (found / "initrd").open("wb") as file:
        busybox = [str(first / "bin/busybox"), "cpio", "-o", "-H", "newc"]
        subprocess.run(
            busybox,
            input=files.encode(),
            stdout=file,
            stderr=subprocess.DEVNULL,
            cwd=first,
            check=True,
        )


def _in_order(modules: dict[str, Path]) -> list[str]:
    """Return ``MODULES``, each behind those that it depends on by its modinfo(8)."""
    order: list[str] = []

    def add(name: str) -> None:
        if name in order or name not in modules:
            return  # what is no file is built in
        told = re.search(rb"\0depends=([^\0]*)\0", modules[name].read_bytes())
        for other in filter(None, told[1].decode().split(",") if told else ()):
            add(other.replace("-", "_"))
        order.append(name)

    for name in MODULES:
        add(name)
    return order


class Machine:
    """A machine that runs until the context exits. ``port`` on loopback is its sshd."""

    def __init__(self, scratch: Path) -> None:
        self.key, self.folder = scratch / "key", place()
        shutil.copy(self.folder / "key", self.key)
        self.key.chmod(0o600)
        self.port = _free_port()
        self.known_hosts = scratch / "known_hosts"
        told = (self.folder / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {told[0]} {told[1]}\n")
        self.console = scratch / "console"
        self._scratch = scratch
        self._process: subprocess.Popen[bytes] | None = None
        self._root: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Machine:
        forward = f"hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:22"
        disk = f"file={self.folder / 'disk'},format=raw,if=virtio,snapshot=on"
        accel = os.environ.get("LAUNCHER_VM_ACCEL", "tcg,thread=multi")
        self._process = subprocess.Popen(
            [
                "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                "-no-reboot", "-machine", "pc", "-accel", accel, "-cpu", "max", "-smp", "2",
                "-m", "1024", "-kernel", str(self.folder / "vmlinuz"),
                "-initrd", str(self.folder / "initrd"), "-drive", disk,
                "-nic", f"user,model=virtio-net-pci,restrict=on,{forward}",
                "-serial", f"file:{self.console}",
                "-append", "console=ttyS0 net.ifnames=0 mitigations=off random.trust_cpu=on",
            ],
            stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(self._scratch)},
        )  # fmt: skip
        try:
            self._await_boot()
            self._root = subprocess.Popen(
                self.ssh("root", "-M", "-S", "control", "-N"),
                cwd=self._scratch,
                stdin=subprocess.DEVNULL,
            )
            self._await("root's login", (self._scratch / "control").exists)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in filter(None, (self._root, self._process)):
            process.kill()
            process.wait()

    def _await_boot(self) -> None:
        """Wait for sshd's banner: qemu accepts connections long before the guest does."""

        def speaks() -> bool:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 5) as connection,
            ):
                connection.settimeout(10)
                return connection.recv(8).startswith(b"SSH-")
            return False

        self._await("sshd", speaks)

    def _await(self, what: str, is_there: Callable[[], bool]) -> None:
        assert self._process is not None
        deadline = time.monotonic() + BOOT
        while not is_there():
            if self._process.poll() is not None:
                raise RuntimeError(f"qemu ended with {self._process.returncode}: {self._tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {what} after {BOOT:.0f} s: {self._tail()}")
            time.sleep(0.2)

    def _tail(self) -> str:
        if not self.console.exists():
            return "it wrote nothing"
        return self.console.read_text(errors="replace")[-2000:]

    def ssh(self, user: str, *options: str) -> list[str]:
        """Return the command that logs in as ``user``."""
        known = f"UserKnownHostsFile={self.known_hosts}"
        common = ["-F", "/dev/null", "-i", str(self.key), "-p", str(self.port)]
        common += ["-o", known, "-o", "BatchMode=yes"]
        return ["ssh", *common, *options, f"{user}@127.0.0.1"]

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command as root, all in one session; return its output."""
        done = subprocess.run(
            [*self.ssh("root", "-S", "control"), shlex.join(words)],
            cwd=self._scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{shlex.join(words)}: {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def login(self, user: str) -> Iterator[None]:
        """Keep an idle session of ``user`` until the context exits."""
        command = [*self.ssh(user), "echo in; exec cat"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin and process.stdout
            if process.stdout.readline() != b"in\n":
                raise RuntimeError(f"{user} cannot log in")
            yield
            process.stdin.close()

    def inventory(self, user: str) -> str:
        """Return an inventory of this machine alone."""
        config = self._scratch / "ssh_config"
        config.write_text(f"UserKnownHostsFile {self.known_hosts}\nIdentityFile {self.key}\n")
        return (
            f"ssh_config: {config}\nhosts:\n  guest: {{address: 127.0.0.1, port: {self.port}, "
            f"user: {user}, python: /usr/bin/python3, workdir: runs}}\n"
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    try:
        print(make())
    except NoRoot as error:
        sys.exit(str(error))
