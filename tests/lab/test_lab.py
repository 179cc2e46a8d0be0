"""Proves that the lab is what it says: real, separate hosts that break as asked.

It tests nothing of the launcher.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from support import ROOT
from support.lab import LAUNCHER, HostSpec, Lab, LabError, LabHost, inventory, missing, wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

SOON = 0.2  # seconds to wait for an answer that shall not come
LONG = 10.0  # and for one that shall


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    specs = [
        HostSpec("plain", gpus=2),
        HostSpec("gate", port=2222, interface="ib0"),
        HostSpec("inner", behind="gate", home_size="8M"),
    ]
    # What separates the options of an overlay mount. Spaces: see the lab of the changed host key.
    root = tmp_path_factory.mktemp("lab") / "a,b:1"
    with Lab(specs, root, share=[Path(sys.prefix)]) as lab:
        yield lab


@pytest.fixture
def plain(lab: Lab) -> LabHost:
    return lab.hosts["plain"]


@pytest.fixture
def gate(lab: Lab) -> LabHost:
    return lab.hosts["gate"]


def ssh(lab: Lab, name: str, command: str) -> subprocess.CompletedProcess[str]:
    # The default key exchange of OpenSSH 9 (sntrup761) takes 0.25 s of processor time.
    options = ["-o", "ConnectTimeout=5", "-o", "KexAlgorithms=curve25519-sha256"]
    argv = ["ssh", "-F", str(lab.ssh_config), *options, name, command]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def answers(host: LabHost) -> bool:
    return greeting(host, LONG) == "SSH-"


def greeting(host: LabHost, timeout: float = SOON) -> str:
    """What sshd says first, or the name of the error."""
    try:
        with socket.create_connection((host.address, host.port), timeout) as link:
            return link.recv(4).decode()
    except OSError as error:
        return type(error).__name__


def reaches(host: LabHost, address: str, port: int, within: float = LONG) -> bool:
    """Whether `host` can open a TCP connection."""
    probe = ["timeout", str(within), "bash", "-c", 'exec 3<>"/dev/tcp/$0/$1"', address, str(port)]
    return host.run(*probe, check=False).returncode == 0


def address_of(name: str, on: LabHost) -> str:
    return on.run("getent", "ahostsv4", name).stdout.decode().split()[0]


def links(maker: int | None = None) -> set[str]:
    """What a process has made, this one by default: other labs may come and go meanwhile."""
    mine = f"lab{maker or os.getpid():x}n"
    return {name for name in os.listdir("/sys/class/net") if name.startswith(mine)}


@pytest.mark.parametrize("name", ["plain", "gate", "inner"])
def test_openssh_reaches_each_host(lab: Lab, name: str) -> None:
    done = ssh(lab, name, "hostname; ls -A ~; ip -brief link")
    assert done.stderr == ""
    assert done.stdout.splitlines()[:2] == [name, ".pyenv"]
    assert f"{lab.hosts[name].spec.interface}@" in done.stdout


def test_asyncssh_reaches_each_host(lab: Lab) -> None:
    async def hostname(name: str) -> str:
        async with asyncssh.connect(name, config=[str(lab.ssh_config)]) as connection:
            return str((await connection.run("hostname", check=True)).stdout).strip()

    async def hostnames() -> list[str]:
        return await asyncio.gather(*map(hostname, lab.hosts))

    assert asyncio.run(hostnames()) == list(lab.hosts)


def test_the_host_behind_is_reached_from_the_gate_only(lab: Lab, gate: LabHost) -> None:
    inner = lab.hosts["inner"]
    assert answers(gate)
    assert greeting(inner) == "TimeoutError"
    assert reaches(gate, inner.address, 22)


def test_names(lab: Lab) -> None:
    for host in lab.hosts.values():
        assert address_of(host.name, on=host) == "127.0.1.1"
        for other in lab.hosts.values():
            if other is not host:
                assert address_of(other.name, on=host) == other.address


def test_processes_are_the_hosts_own(plain: LabHost, gate: LabHost) -> None:
    pid = plain.spawn("bash", "-c", 'MARK=a=b exec -a "a b" sleep 1001')
    run = [(pid, ["a b", "1001"])]  # none while it becomes another program, and has no words
    wait_until(lambda: [(p.pid, p.argv) for p in plain.processes()] == run, "exec of sleep")
    assert plain.processes()[0].environ["MARK"] == "a=b"
    assert gate.processes() == []
    assert b"1001" not in gate.run("ps", "ax").stdout
    plain.run("kill", "-INT", str(pid))
    wait_until(lambda: plain.processes() == [], "end of the process")


def test_files_are_the_hosts_own(plain: LabHost, gate: LabHost) -> None:
    plain.write("/root/a folder/x", b"\0\n", mode=0o600)
    assert plain.read("/root/a folder/x") == plain.path("/root/a folder/x").read_bytes() == b"\0\n"
    assert plain.path("/root/a folder/x").stat().st_mode & 0o777 == 0o600
    assert not gate.exists("/root/a folder")
    assert not Path("/root/a folder").exists()
    assert not plain.exists("/root/.launcher")
    plain.run(sys.executable, "-c", "import asyncssh")
    with pytest.raises(LabError, match="Read-only file system"):
        plain.write(f"{sys.prefix}/x", b"")


def test_hidden_tools_are_gone_there_only(plain: LabHost, gate: LabHost) -> None:
    plain.hide("/usr/bin/rsync")
    assert not plain.exists("/usr/bin/rsync")
    assert gate.exists("/usr/bin/rsync")
    assert Path("/usr/bin/rsync").exists()


def test_power_cut_is_silent_and_boot_keeps_the_disk(lab: Lab, plain: LabHost) -> None:
    plain.write("/root/kept", b"1")
    plain.write("/tmp/lost", b"1")
    plain.spawn("sleep", "1002")
    with socket.create_connection((plain.address, plain.port), LONG) as link:
        while not link.recv(100).endswith(b"\n"):
            pass
        plain.power_cut()
        link.settimeout(SOON)
        with pytest.raises(TimeoutError):
            link.recv(100)
    assert greeting(plain) in {"TimeoutError", "OSError"}
    with pytest.raises(LabError, match="powered off"):
        plain.run("true")
    plain.boot()
    assert plain.read("/root/kept") == b"1"
    assert not plain.exists("/tmp/lost")
    assert plain.processes() == []
    assert ssh(lab, "plain", "hostname").stdout == "plain\n"


def test_unplug_and_plug(plain: LabHost) -> None:
    plain.unplug()
    assert greeting(plain) in {"TimeoutError", "OSError"}
    plain.plug()
    assert answers(plain)


def test_block_port(lab: Lab, plain: LabHost, gate: LabHost) -> None:
    assert reaches(plain, gate.address, 2222)
    gate.block_port(2222, from_host="plain")
    assert not reaches(plain, gate.address, 2222, within=SOON)
    assert answers(gate)
    gate.unblock()
    gate.block_port(2222, from_host=LAUNCHER)
    assert reaches(plain, gate.address, 2222)
    assert greeting(gate) == "TimeoutError"
    gate.block_port(2222)
    assert not reaches(plain, gate.address, 2222, within=SOON)
    assert reaches(gate, "127.0.0.1", 2222)
    gate.unblock()
    assert reaches(plain, gate.address, 2222)


def test_drop_packets(plain: LabHost, gate: LabHost) -> None:
    plain.drop_packets()
    assert greeting(plain) == "TimeoutError"
    assert reaches(gate, plain.address, 22)
    plain.unblock()
    assert answers(plain)


def test_loss(plain: LabHost) -> None:
    plain.loss(100)
    assert greeting(plain) == "TimeoutError"
    plain.loss(0)
    assert answers(plain)


def test_slow(plain: LabHost) -> None:
    def drain(address: str) -> float:
        """Seconds that 250 kB take from the host: 0.2 s at 10 Mbit/s."""
        with socket.socket() as server:
            # A small window: what we do not read stays on the host, however long we stand still.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            server.bind((address, 0))
            server.listen()
            server.settimeout(10 * LONG)
            sender = f"head -c 250000 /dev/zero >/dev/tcp/{address}/{server.getsockname()[1]}"
            plain.spawn("bash", "-c", sender)
            link, _ = server.accept()
            with link:
                began = time.monotonic()
                while link.recv(65536):
                    pass
            return time.monotonic() - began

    plain.slow(10)
    slow = drain(plain.launcher_address)
    assert b"tbf" in plain.run("tc", "qdisc", "show").stdout
    plain.slow(0)
    assert slow > 0.1
    assert b"tbf" not in plain.run("tc", "qdisc", "show").stdout
    drain(plain.launcher_address)


def test_frozen_stopped_and_thawed_sshd(plain: LabHost) -> None:
    plain.freeze_sshd()
    assert greeting(plain) == "TimeoutError"
    plain.thaw_sshd()
    assert answers(plain)
    plain.stop_sshd()
    assert greeting(plain) == "ConnectionRefusedError"
    plain.start_sshd()
    assert answers(plain)


def test_kill_sshd_sessions(plain: LabHost) -> None:
    with socket.create_connection((plain.address, plain.port), LONG) as link:
        assert link.recv(4) == b"SSH-"
        plain.kill_sshd_sessions()
        while link.recv(100):
            pass
    assert answers(plain)


def test_a_changed_host_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    with Lab([HostSpec("changed")], tmp_path / "it's a lab") as other:
        assert ssh(other, "changed", "true").returncode == 0
        other.hosts["changed"].change_host_key()
        done = ssh(other, "changed", "true")
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert ssh(lab, "plain", "true").returncode == 0  # two labs stood, and one does


def test_small_and_read_only_homes(lab: Lab, gate: LabHost) -> None:
    with pytest.raises(LabError, match="No space left on device"):
        lab.hosts["inner"].write("/root/big", bytes(9_000_000))
    gate.read_only_home()
    with pytest.raises(LabError, match="Read-only file system"):
        gate.write("/root/x", b"")
    gate.write("/tmp/x", b"")
    gate.power_cut()
    gate.boot()
    gate.write("/root/x", b"")


def test_fake_nvidia_smi(lab: Lab, plain: LabHost) -> None:
    first, second = plain.spec.gpu_uuids
    query = "nvidia-smi --query-{} --format=csv,noheader,nounits"
    gpus = query.format("gpu=index,name,uuid,memory.total,memory.used")
    apps = query.format("compute-apps=pid,gpu_uuid,used_memory")
    assert ssh(lab, "plain", "nvidia-smi -L").stdout.splitlines() == [
        f"GPU 0: NVIDIA Fake GPU (UUID: {first})",
        f"GPU 1: NVIDIA Fake GPU (UUID: {second})",
    ]
    assert ssh(lab, "plain", apps).stdout == ""
    plain.write("/run/fake-gpu-apps", f"12, {second}, 300\n13, {second}, 4\n".encode())
    assert ssh(lab, "plain", gpus).stdout.splitlines() == [
        f"0, NVIDIA Fake GPU, {first}, 81559, 0",
        f"1, NVIDIA Fake GPU, {second}, 81559, 304",
    ]
    assert ssh(lab, "plain", apps).stdout == f"12, {second}, 300\n13, {second}, 4\n"
    assert ssh(lab, "plain", "nvidia-smi --no-such").returncode == 2
    assert not lab.hosts["gate"].exists("/usr/local/bin/nvidia-smi")


@pytest.mark.usefixtures("by_asyncssh")  # the other one is a word more
def test_inventory(lab: Lab) -> None:
    assert inventory(lab, "/a b/python").splitlines() == [
        f'ssh_config: "{lab.ssh_config}"',
        'defaults: {python: "/a b/python", user: root}',
        "hosts:",
        "  plain: {}",
        "  gate: {}",
        "  inner: {}",
    ]


def test_nothing_is_left_after_down(tmp_path: Path) -> None:
    before = links()
    with Lab([HostSpec("brief")], tmp_path) as lab:
        host = lab.hosts["brief"]
        host.spawn("sleep", "1003")
        assert links() != before
        inside = host.path("/").parent  # /proc/PID of its pid 1, on this machine
        unshare = Path(f"/proc/{host.pid}")
        assert inside.exists()
        assert unshare.exists()
    assert links() == before
    assert not inside.exists()
    assert not unshare.exists()
    lab.down()  # once more is harmless


def test_nothing_is_left_after_a_failed_start(tmp_path: Path) -> None:
    before = links()
    with pytest.raises(LabError, match=r"bad is not mounted.*tmpfs"):
        Lab([HostSpec("good"), HostSpec("bad", home_size="much")], tmp_path).up()
    assert links() == before


def await_end(pid: str) -> None:
    # Of a zombie, which its new parent may not have reaped yet, there is no root.
    wait_until(lambda: not Path(f"/proc/{pid}/root/bin").exists(), f"end of {pid}")


def test_the_command_and_a_killed_maker(tmp_path: Path) -> None:
    makers = []
    command = [sys.executable, "-m", "support.lab"]
    command += ["up", "1", "--dir", str(tmp_path)]
    for end in (signal.SIGKILL, signal.SIGINT):
        with subprocess.Popen(
            command, cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True
        ) as maker:
            assert maker.stdout is not None
            written = Path(maker.stdout.readline().strip())
            assert written.read_text().endswith("lab1: {}\n")
            children = Path(f"/proc/{maker.pid}/task/{maker.pid}/children").read_text().split()
            assert len(children) == 1
            assert links(maker.pid)
            makers.append(maker.pid)
            maker.send_signal(end)
        await_end(children[0])
    assert not any(map(links, makers))  # the second lab swept up what the killed one had left
