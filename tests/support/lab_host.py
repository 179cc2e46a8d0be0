"""One host of a lab: its files, processes and power, and how it boots.

lab_faults.py breaks its network and its sshd; lab.py makes the network and keys that hosts share.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from support import gpu_tools
from support.lab_spec import (
    BOOT,
    DEADLINE,
    LAUNCHER,
    NAMESPACES,
    NETWORK_NFT,
    PATH,
    PATIENCE,
    PID_1,
    SSHD_CONFIG,
    HostSpec,
    LabError,
    Process,
    Site,
    mac_of,
    sh,
    source,
    wait_until,
)


class Host:
    """A host: what is on it, and its power."""

    def __init__(self, spec: HostSpec, site: Site, index: int) -> None:
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
        """The pid, on this machine, of the host's `unshare`. LabError while it is off."""
        if self._process is None:
            raise LabError(f"{self.name} is powered off")
        return self._process.pid

    @property
    def is_off(self) -> bool:
        """Whether it is powered off."""
        return self._process is None

    # Its files and processes, seen without its network or sshd.

    def run(
        self, *argv: str | Path, check: bool = True, input: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the host, in its /; return its output. Raise LabError if it fails."""
        return sh(self.inside(*argv), check=check, input=input)

    def inside(self, *argv: str | Path) -> list[str]:
        """Return what runs a command on the host, in its /, as one that this machine starts."""
        parts = ["--mount", "--uts", "--net", "--pid", "--root", "--wd"]
        return ["nsenter", f"--target={self._pid_1()}", *parts, "--", *map(str, argv)]

    def spawn(self, *argv: str | Path) -> int:
        """Start a command that belongs to nobody, as a daemon does; return its pid on the host.

        Return when the command itself runs, or has exited. Its streams are /dev/null.
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
        """Return the bytes of a file on the host."""
        return self.run("cat", "--", path).stdout

    def write(self, path: str | Path, data: bytes, mode: int = 0o644) -> None:
        """Write a file, and the folders above it. It appears whole."""
        script = (
            'mkdir -p -- "$(dirname -- "$1")" && t="$1.written" && cat >"$t" && '
            'chmod "$2" -- "$t" && mv -fT -- "$t" "$1"'
        )
        self.run("sh", "-c", script, "sh", path, f"{mode:o}", input=data)

    def exists(self, path: str | Path) -> bool:
        """Return whether the path leads to something on the host."""
        return self.run("test", "-e", path, check=False).returncode == 0

    def path(self, path: str | Path) -> Path:
        """Return where this machine sees a path of the host, while the host is up.

        An absolute symbolic link in it would lead to this machine's files: use `read` for those.
        """
        return Path(f"/proc/{self._pid_1()}/root", str(path).lstrip("/"))

    def _pid_1(self) -> int:
        """Return the pid, on this machine, of the host's pid 1. Raise LabError while it is off."""
        if self._init == 0:
            raise LabError(f"{self.name} is powered off")
        return self._init

    def processes(self) -> list[Process]:
        """Return what runs on the host, by its /proc, without pid 1, sshd and zombies."""
        return [
            Process(pid, _words(argv), dict(w.split("=", 1) for w in _words(env) if "=" in w))
            for pid, name, argv, env in self._all_processes()
            if pid != 1 and not name.startswith("sshd") and argv
        ]

    def _all_processes(self) -> Iterable[tuple[int, str, bytes, bytes]]:
        proc = self.path("/proc")
        for pid in sorted(int(entry) for entry in os.listdir(proc) if entry.isdigit()):
            here = proc / str(pid)
            # It may exit while we look.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                name, argv, env = (
                    (here / part).read_bytes() for part in ("comm", "cmdline", "environ")
                )
                yield pid, name.decode().strip(), argv, env

    def add_user(self, name: str, password: str, *, sudo: bool = False) -> None:
        """Add a user with a password, or give root one. With `sudo`, the password makes one root."""
        if name != "root":
            self.run("useradd", "--create-home", "--shell", "/bin/bash", name)
        self.run("chpasswd", input=f"{name}:{password}\n".encode())
        if sudo:
            self.write(f"/etc/sudoers.d/{name}", f"{name} ALL=(ALL:ALL) ALL\n".encode(), 0o440)

    def let_in(self, user: str, key: bytes) -> None:
        """Let whoever has the private half of ``key`` log in as a user of a host with `passwords`."""
        folder = "/root/.ssh" if user == "root" else f"/home/{user}/.ssh"
        self.write(f"{folder}/authorized_keys", key, 0o600)
        self.run("chmod", "700", folder)
        self.run("chown", "-R", f"{user}:", folder)

    def hide(self, path: str | Path) -> None:
        """Remove a path from the host's disk for good; this machine keeps it.

        Of a link, remove the link alone. What is in `share` or .pyenv cannot be removed.
        """
        self.run("rm", "-rf", "--", path)

    def mount_shared(self, folder: Path, place: str) -> None:
        """Mount a folder of this machine at a place of the host until the next boot, as NFS would."""
        self.run("mkdir", "-p", place)
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--"]
        sh([*inside, "mount", "--bind", str(folder), f"{self.dir}/merged{place}"])

    def read_only_home(self) -> None:
        """Make /root read-only until the next boot. Fail while a file is open for writing."""
        self.run("mount", "-o", "remount,bind,ro", "/root")

    # Its power.

    def power_cut(self) -> None:
        """Kill everything on it at once. As in a real power cut, its peers hear nothing."""
        self._pid_1()
        # The cable first: the kernel must not close the dead processes' connections politely.
        sh(["ip", "link", "delete", self._cable])
        self._kill()

    def boot(self) -> None:
        """Start it again, with the same files, key and address; return when sshd answers."""
        boot([self])

    def _kill(self) -> None:
        """Kill it, if it runs; return when nothing of it is left."""
        process, self._process = self._process, None
        if process is None:
            return
        # The kernel lets pid 1 be reaped only after every other process of its pid namespace, and
        # unshare waits for pid 1: so this waits for all of them.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._init or process.pid, signal.SIGKILL)
        process.wait(PATIENCE * DEADLINE)
        self._init = 0
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _answers(self) -> bool:
        if self.spec.behind:
            probe = "exec 3<>/dev/tcp/127.0.0.1/$0 && read -t 1 x <&3 && [[ $x == SSH-* ]]"
            return self.run("bash", "-c", probe, str(self.port), check=False).returncode == 0
        try:
            with socket.create_connection((self.address, self.port), timeout=1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    # Its boot, step by step: see boot.

    def _prepare(self, authorized_key: str) -> None:
        """Write the host's own files onto its disk, before it is mounted."""
        folders(self.dir, "work")
        folders(self.dir, "merged")
        folders(self.dir, "home")
        (self.dir / "home").chmod(0o700)
        put(self.dir, "upper/etc/hosts", self._hosts_file())
        # No DNS: a look-up fails at once, instead of waiting for a server that is unreachable.
        put(self.dir, "upper/etc/resolv.conf", "nameserver 127.0.0.1\n")
        put(self.dir, "upper/etc/hostname", f"{self.name}\n")
        with_passwords = self.spec.passwords
        config = SSHD_CONFIG.format(
            port=self.port,
            passwords="yes" if with_passwords else "no",
            keys=".ssh/authorized_keys" if with_passwords else "/etc/ssh/lab/authorized_keys",
        )
        put(self.dir, "upper/etc/ssh/lab/sshd_config", config)
        put(self.dir, "upper/etc/ssh/lab/authorized_keys", authorized_key)
        dev = self.spec.interface
        length = self._site.prefix_length
        ipv4 = f"address add {self.address}/{length} dev {dev}\n"
        ipv4 = ipv4 if "4" in self.spec.families else ""
        ipv6 = self._site.addresses_6.get(self.name)
        ipv6 = f"address add {ipv6}/64 dev {dev} nodad\n" if ipv6 else ""
        batch = f"link set lo up\n{ipv4}{ipv6}link set {dev} up\n"
        put(self.dir, "network.ip", batch + self._neighbours())
        behind = f"{source(self.launcher_address)} drop;" if self.spec.behind else ""
        put(self.dir, "network.nft", NETWORK_NFT.format(behind=behind))
        if self.spec.gpus:
            name, gpus = self.spec.gpu_tool, self.spec.gpu_uuids
            is_nvidia = name == "nvidia-smi"
            tool = (
                gpu_tools.nvidia_smi(gpus, self.spec.mig)
                if is_nvidia
                else gpu_tools.other(name, gpus)
            )
            put(self.dir, f"upper/usr/local/bin/{name}", tool, 0o755)

    def _neighbours(self) -> str:
        """Return lines for `ip -batch`: in a large lab, where others are; see `Site.is_large`."""
        others = self._site.addresses.values() if self._site.is_large else ()
        permanent = f"dev {self.spec.interface} nud permanent"
        return "".join(
            f"neighbour add {address} lladdr {mac_of(address)} {permanent}\n"
            for address in others
            if address != self.address
        )

    def _hosts_file(self) -> str:
        names = {"localhost": "127.0.0.1", self.name: self.spec.own_name or self.address}
        others = dict(self._site.addresses_6)
        others.pop(self.name, None)
        lines = [*(self._site.addresses | names).items(), *others.items()]
        return "".join(f"{address}\t{name}\n" for name, address in dict.fromkeys(lines))

    def _start(self) -> None:
        if self._process is not None:
            raise LabError(f"{self.name} is powered on already")
        env = {"PATH": PATH, "HOST_DIR": str(self.dir), "HOST_NAME": self.name, "PID_1": PID_1}
        env["HOME_SIZE"] = self.spec.home_size or ""
        env["NAMESPACES"] = "/" if self.spec.namespaces else ""
        env["HOST_DISK"] = str(self.spec.disk or "/")
        shared = [path for path in (Path("/root/.pyenv"), *self._site.share) if path.exists()]
        if self.spec.disk:
            shared = []
        with (self.dir / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [*NAMESPACES, "bash", "-c", BOOT, "boot", *map(str, shared)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                env=env,
                start_new_session=True,  # Ctrl-C is ours: we take the hosts down in order
            )

    def _find_init(self) -> None:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        self._init = int(children)

    def _cable_command(self) -> str:
        """Return lines for `ip -batch`. No IPv6: it would be a second route to a host behind another."""
        return (
            f"link add {self._cable} type veth"
            f" peer name {self.spec.interface} address {mac_of(self.address)} netns {self._init}\n"
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
        waiting = select.poll()  # select() takes no descriptor above 1,023
        waiting.register(stdout, select.POLLIN)
        ready = waiting.poll(PATIENCE * DEADLINE * 1000)
        if not ready or stdout.readline().decode().strip() != word:
            console = (self.dir / "console.log").read_text().strip()
            raise LabError(f"{self.name} is not {word}: {console[-2000:]}")


def boot(hosts: Iterable[Host]) -> None:
    """Start hosts at once: start each step on every host before awaiting it on any."""
    hosts = tuple(hosts)
    for host in hosts:
        host._start()
    for host in hosts:
        host._expect("mounted")
        host._find_init()
    sh(["ip", "-batch", "-"], input="".join(host._cable_command() for host in hosts).encode())
    for host in hosts:
        host._say("network")
    for host in hosts:
        host._expect("online")
        host._say("sshd")
    for host in hosts:
        what = f"sshd of {host.name} answers, see {host.dir / 'sshd.log'}"
        wait_until(host._answers, what)


def folders(root: Path, name: str) -> None:
    """Make a folder, and those between it and root, readable by all whatever the umask."""
    for part in (*reversed(Path(name).parents), Path(name)):
        (root / part).mkdir(parents=True, exist_ok=True)
        (root / part).chmod(0o755)


def put(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    """Write a file below root, and the folders between."""
    folders(root, str(Path(name).parent))
    (root / name).write_text(text)
    (root / name).chmod(mode)


def _words(data: bytes) -> list[str]:
    """Return the NUL-terminated words of /proc/PID/cmdline or environ."""
    return data.decode(errors="surrogateescape").split("\0")[:-1]
