"""Embedded SSH hosts on loopback: a cluster to try launcher on, without root and sshd.

The server is asyncssh's, with its own keys; ``inventory/local.yaml`` is its inventory.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..records.record_files import write, write_json
from ..spec.errors import InputError, LauncherError
from ..spec.frozen import frozen
from ..spec.home import home, make_home
from ..spec.model import Inventory
from ..transport.child_process import ChildProcess

#: Seconds for the hosts to start.
PATIENCE = 30.0


@frozen
class SandboxHost:
    """An embedded host."""

    name: str
    port: int
    home: str


def folder() -> Path:
    """Return the folder with the sandbox's keys, homes and ssh_config."""
    return home() / "sandbox"


def ssh_config() -> Path:
    """Return the ssh_config for the hosts."""
    return folder() / "ssh_config"


def hosts() -> tuple[SandboxHost, ...]:
    """Return the hosts that are up."""
    if not _is_up():
        return ()
    state = json.loads((folder() / "sandbox.json").read_text())
    return tuple(SandboxHost(**host) for host in state["hosts"])


def inventory(count: int) -> Path:
    """Write an inventory of ``count`` hosts into the sandbox's folder; return its path."""
    names = "local1" if count == 1 else f"local[1-{count}]"
    file = folder() / "inventory.yaml"
    write(file, f"sandbox: true\nhosts:\n  {names}:\n".encode())
    return file


def up(count: int) -> tuple[SandboxHost, ...]:
    """Start ``count`` hosts in the background. Raises LauncherError."""
    if sys.platform != "linux":
        raise LauncherError(
            "the sandbox needs Linux: its hosts run on this machine",
            "use an inventory with a Linux host instead",
        )
    if _is_up():
        raise InputError(
            f"{len(hosts())} sandbox hosts are up already", "stop them: launcher sandbox down"
        )
    place = folder()
    make_home()
    place.mkdir(mode=0o700, exist_ok=True)
    for stale in ("sandbox.json", "only-for-runs"):
        (place / stale).unlink(missing_ok=True)
    with open(place / "sandbox.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "launcher.fleet.sandbox", str(count)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        )
    deadline = time.monotonic() + PATIENCE
    while not (place / "sandbox.json").exists():
        if server.poll() is not None or time.monotonic() > deadline:
            log_lines = (place / "sandbox.log").read_text().strip().splitlines()
            reason = log_lines[-1] if log_lines else f"no answer in {PATIENCE:.0f} s"
            raise LauncherError(f"the sandbox did not start: {reason}")
        time.sleep(0.02)
    return hosts()


def down() -> int:
    """Stop the hosts; return how many there were."""
    found = hosts()
    if found:
        pid = json.loads((folder() / "sandbox.json").read_text())["pid"]
        os.kill(pid, signal.SIGTERM)
        with open(folder() / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the server holds it until it exits
    return len(found)


def sandbox_of(inventory: Inventory) -> AbstractContextManager[None]:
    """Keep the embedded hosts up inside this context, if the inventory uses them."""
    if not inventory.sandbox:
        return nullcontext()
    numbers = [host.name.removeprefix("local") for host in inventory.hosts]
    return for_a_run(max(int(n) if n.isdigit() else 1 for n in numbers))


@contextmanager
def for_a_run(count: int) -> Iterator[None]:
    """Keep hosts up while a run needs them.

    Runs share the hosts, and the last run stops them, unless the user started them.
    """
    make_home()
    folder().mkdir(mode=0o700, exist_ok=True)
    only_for_runs = folder() / "only-for-runs"
    with open(folder() / "users", "w") as users:
        with _one_at_a_time():
            if not _is_up():
                up(count)
                only_for_runs.touch()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with _one_at_a_time(), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no other run uses them
                if only_for_runs.exists():
                    down()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with open(folder() / "deciding", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_up() -> bool:
    """Return whether a server holds the lock, which a stale file cannot fake."""
    try:
        with open(folder() / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return (folder() / "sandbox.json").exists()
    return False


# -- the server, a process of its own


async def _serve(count: int) -> None:
    import asyncssh

    class Server(asyncssh.SSHServer):
        """Forwards ports of loopback, as a dashboard has; other machines are not reached from here."""

        def connection_requested(
            self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
        ) -> bool:
            if not _is_loopback(dest_host):
                raise asyncssh.ChannelOpenError(
                    asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED,
                    "embedded hosts forward loopback only",
                )
            return True

    place = folder()
    lock = open(place / "lock", "w")  # noqa: SIM115, ASYNC230  held until this process ends
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    login = asyncssh.generate_private_key("ssh-ed25519")
    write(place / "id_ed25519", login.export_private_key())
    public = login.export_public_key().decode()
    started, known, config = [], [], []
    for number in range(1, count + 1):
        name = f"local{number}"
        host_home = place / name
        host_home.mkdir(mode=0o700, exist_ok=True)
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.create_server(
            Server,
            "127.0.0.1",
            0,
            server_host_keys=[key],
            authorized_client_keys=asyncssh.import_authorized_keys(public),
            process_factory=_Shell(host_home).run,
            encoding=None,
            allow_scp=False,
            line_editor=False,
        )
        port = server.get_port()
        started.append({"name": name, "port": port, "home": str(host_home)})
        known.append(f"[127.0.0.1]:{port} {key.export_public_key().decode().strip()}\n")
        config.append(
            f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n"
            f'  IdentityFile "{place}/id_ed25519"\n  IdentitiesOnly yes\n'
            f'  UserKnownHostsFile "{place}/known_hosts"\n'
        )
    write(place / "known_hosts", "".join(known).encode())
    write(place / "ssh_config", "".join(config).encode())
    write_json(place / "sandbox.json", {"pid": os.getpid(), "hosts": started})
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    (place / "sandbox.json").unlink(missing_ok=True)


def _is_loopback(name: str) -> bool:
    """Return whether a host is this machine by its name or its address."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class _Shell:
    """The shell of an embedded host."""

    def __init__(self, host_home: Path) -> None:
        self.home = host_home

    async def run(self, process: object) -> None:
        """Run a command with its streams connected to the channel's."""
        import asyncssh

        assert isinstance(process, asyncssh.SSHServerProcess)
        peer = process.get_extra_info("peername") or ("127.0.0.1", 0)
        own = process.get_extra_info("sockname") or ("127.0.0.1", 0)
        env = {
            **{key: os.environ[key] for key in ("USER", "LANG") if key in os.environ},
            # python3 is the one that runs launcher, with its packages.
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
            "HOME": str(self.home),
            "SSH_CONNECTION": f"{peer[0]} {peer[1]} {own[0]} {own[1]}",
            "LAUNCHER_LOCK_SCOPE": str(self.home),
        }
        argv = ["/bin/sh", "-c", process.command or "exit 0"]
        spawn = partial(ChildProcess.start, cwd=self.home, env=env)
        if process.term_type:
            env["TERM"] = process.term_type
            ours, theirs = os.openpty()
            width, height, *_ = process.term_size
            termios.tcsetwinsize(ours, (height or 24, width or 80))
            # A session leader that opens a terminal controls it, and so gets its Ctrl-C.
            opened = ["/bin/sh", "-c", 'exec <>"$0" >&0 2>&0 && exec "$@"', os.ttyname(theirs)]
            child = await spawn([*opened, *argv], stdin=theirs, stderr=subprocess.DEVNULL)
            os.close(theirs)  # the terminal ends once the last process there has closed it
            keyboard, screen = os.fdopen(ours, "wb", 0), os.fdopen(os.dup(ours), "rb", 0)
            await process.redirect(stdin=keyboard, stdout=screen)
            pumps = _Pumps()
        else:
            pipe = subprocess.PIPE
            child = await spawn(argv, stdin=pipe, stdout=pipe)
            pumps = _Pumps((child.stdout, process.stdout), (child.stderr, process.stderr))
            pumps.feed(process.stdin, child.stdin)
        try:
            code = await child.wait()
            await pumps.finish()
            await process.stdout.drain()
            process.exit(code if code >= 0 else 255)
        finally:
            pumps.end()
            child.send_signal(signal.SIGTERM)


class _Pumps:
    """Moves bytes between a command and its channel. (asyncssh's own redirection of an asyncio stream
    reads it twice at once when the channel is full, and closes the connection.)"""

    def __init__(self, *outputs: tuple[Any, Any]) -> None:
        self._moved = 0
        self._outputs = [asyncio.ensure_future(self._pump(*each)) for each in outputs]
        self._input: asyncio.Future[None] | None = None

    def feed(self, source: Any, target: Any) -> None:
        """Move what the channel brings, too, and its end."""
        self._input = asyncio.ensure_future(self._pump(source, target, close=True))

    async def _pump(self, source: Any, target: Any, close: bool = False) -> None:
        try:
            with suppress(OSError):  # the other side is gone
                while data := await source.read(1 << 16):
                    target.write(data)
                    await target.drain()
                    self._moved += len(data)
        finally:
            if close:
                target.close()

    async def finish(self) -> None:
        """Wait for the rest; not for a child of the command that keeps its output open."""
        before = -1
        left = set(self._outputs)
        while left and before != self._moved:
            before = self._moved
            _, left = await asyncio.wait(left, timeout=1.0)

    def end(self) -> None:
        """Move nothing more."""
        for each in (*self._outputs, *filter(None, [self._input])):
            each.cancel()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
