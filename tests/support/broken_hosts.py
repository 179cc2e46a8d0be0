"""Break on hosts of a lab everything that a check of single hosts looks for, and repair it.

It knows nothing of launcher but its folders and its environment on a host. nvidia-smi,
dmesg, packages, InfiniBand and odd interpreters are fakes on these hosts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from support import lab as labs

PYTHON = sys.executable
SPECS = (
    *(
        labs.HostSpec(name, own_name="")
        for name in (
            "well",
            "rsync",
            "key",
            "new",
            "frozen",
            "off",
            "refused",
            "login",
            "shm",
            "clock",
            "old",
            "broken",
            "mute",
            "handshake",
            "readonly",
        )
    ),
    labs.HostSpec("name"),
    labs.HostSpec("disk", own_name="", home_size="12M"),
    labs.HostSpec("folders", own_name="", home_size="60M"),
    labs.HostSpec("gpu", own_name="", gpus=4),
    labs.HostSpec("driver", own_name="", gpus=1),
    labs.HostSpec("silent", own_name=""),
    labs.HostSpec("torch", own_name=""),
    labs.HostSpec("python", own_name=""),
)

#: A FAKE interpreter: the agent runs in it after a few words of the shell and of Python.
_ODD = f"""#!/bin/sh
case $5 in *start.py) ;; *) exec {PYTHON} "$@" ;; esac
SHELL_WORDS
exec {PYTHON} -I -S -c '
import _socket, os, sys, time
PYTHON_WORDS
exec(os.environ.pop("LAUNCHER_START"))
' "$5" "$6" "$7"
"""
#: Two minutes ahead, of another version, with few open files and little memory to lock, and where
#: nobody may listen.
_CLOCK = _ODD.replace("SHELL_WORDS", "ulimit -n 256; ulimit -l 64").replace(
    "PYTHON_WORDS",
    """\
real = time.time
time.time = lambda: real() + 120
sys.version_info = (3, 9, 1)
def refused(*_):
    raise PermissionError(1, "Operation not permitted")
class Deaf(_socket.socket):
    __slots__ = ()
    listen = refused
_socket.socket = Deaf""",
)
_OLD = _ODD.replace("SHELL_WORDS", "").replace("PYTHON_WORDS", "sys.version_info = (3, 6, 15)")
#: What InfiniBand looks like, in a copy of /sys/class: nothing can be made in the kernel's own.
_INFINIBAND = """\
cp -a /sys/class /tmp/class 2>/dev/null
mkdir -p /tmp/class/infiniband/mlx5_0 && mount --bind /tmp/class /sys/class"""
_OLD_KEX = b"KexAlgorithms diffie-hellman-group1-sha1\n"
#: A FAKE torch: what can be seen of one without importing it.
_TORCH = "__version__ = '{version}'\ncuda = '{cuda}'\n"
_XID = "NVRM: Xid (PCI:0000:4f:00): 79, pid=0, GPU has fallen off the bus.\n"
_APP_XID = "NVRM: Xid (PCI:0000:4f:00): 31, pid=4, MMU Fault\n"


def _fake_torch(host: labs.LabHost, version: str, cuda: str) -> None:
    host.write("/srv/fake/torch/__init__.py", b"raise ImportError('a check never imports torch')")
    host.write("/srv/fake/torch/version.py", _TORCH.format(version=version, cuda=cuda).encode())


def _fake_package(host: labs.LabHost, name: str, version: str) -> None:
    """Write the metadata of a package, and nothing else."""
    host.write(f"/srv/fake/{name}/__init__.py", b"")
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    host.write(f"/srv/fake/{name.replace('-', '_')}-{version}.dist-info/METADATA", text.encode())


def _configure(host: labs.LabHost, first: bytes, config: bytes) -> None:
    """Change sshd_config, with something in front."""
    host.stop_sshd()
    host.write("/etc/ssh/lab/sshd_config", first + config)
    host.start_sshd()


def _name_leads_to(host: labs.LabHost, address: str) -> None:
    lines = host.read("/etc/hosts").decode().splitlines()
    kept = [line for line in lines if line.split()[1] != host.name]
    kept += [f"{address}\t{host.name}"] if address else []
    host.write("/etc/hosts", ("\n".join(kept) + "\n").encode())


def break_all(lab: labs.Lab) -> None:
    """Break everything at once, each fault on a host or two."""
    hosts = lab.hosts
    hosts["rsync"].hide("/usr/bin/rsync")
    hosts["key"].change_host_key()
    known = lab.known_hosts.read_text().splitlines(keepends=True)
    lab.known_hosts.write_text("".join(line for line in known if not line.startswith("new,")))
    hosts["frozen"].freeze_sshd()
    hosts["off"].power_cut()
    hosts["refused"].stop_sshd()
    hosts["login"].write("/etc/ssh/lab/authorized_keys", b"\n")
    hosts["shm"].run("mount", "-o", "remount,size=64M", "/dev/shm")
    hosts["shm"].write("/dev/shm/vader_segment.shm.0.1.0", b"x" * (8 << 20), 0o600)
    hosts["shm"].write("/dev/shm/my-data", b"x" * (1 << 20), 0o600)
    hosts["clock"].write("/usr/local/bin/fake-clock", _CLOCK.encode(), 0o755)
    hosts["clock"].run("sh", "-c", _INFINIBAND)
    hosts["old"].write("/usr/local/bin/old-python", _OLD.encode(), 0o755)
    hosts["broken"].write(
        "/usr/local/bin/broken-python", b"#!/bin/sh\necho libc.so.7: missing >&2; exit 127\n", 0o755
    )
    _configure(hosts["handshake"], _OLD_KEX, hosts["handshake"].read("/etc/ssh/lab/sshd_config"))
    hosts["readonly"].run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/mnt")
    for name, nccl, horovod in (("driver", "2.27.3", "0.28.1"), ("torch", "2.21.5", "0.27.0")):
        _fake_package(hosts[name], "nvidia-nccl-cu13", nccl)
        _fake_package(hosts[name], "horovod", horovod)
    hosts["folders"].write("/root/.launcher/host/runs/old/outputs/big", bytes(32 << 20))
    gpu = hosts["gpu"]
    _fake_torch(gpu, "2.13.0+cpu", "")
    stranger = gpu.spawn("setpriv", "--reuid", "nobody", "sleep", "3000")
    gpu.write("/run/fake-gpu-apps", f"{stranger}, {gpu.spec.gpu_uuids[2]}, 300\n".encode())
    gpu.write("/run/fake-gpu-health", b"580.95 3\n")
    gpu.write("/usr/local/bin/dmesg", f"#!/bin/sh\necho '{_XID}{_APP_XID}'\n".encode(), 0o755)
    gpu.spawn("env", "LAUNCHER_RUN_DIR=/root/.launcher/host/runs/old-run-1", "sleep", "3000")
    _fake_torch(hosts["driver"], "2.13.0", "13.0")
    hosts["driver"].write("/run/fake-gpu-health", b"570.10 0\n")
    hosts["silent"].write("/usr/local/bin/nvidia-smi", b"#!/bin/sh\nexit 9\n", 0o755)
    _name_leads_to(hosts["silent"], "10.255.1.1")
    _name_leads_to(hosts["torch"], "")
    _name_leads_to(hosts["rsync"], "")
    hosts["well"]._drop("blocked", "udp dport 53")  # a DNS server that never answers
    hosts["rsync"].write("/etc/resolv.conf", f"nameserver {hosts['well'].address}\n".encode())
    _fake_torch(hosts["torch"], "2.11.0", "12.8")


def repair_all(lab: labs.Lab) -> None:
    """Repair everything as the fixes say."""
    hosts = lab.hosts
    hosts["rsync"].write("/usr/bin/rsync", Path("/usr/bin/rsync").read_bytes(), 0o755)
    kept = [
        line
        for line in lab.known_hosts.read_text().splitlines()
        if not line.startswith(("key,", "new,"))
    ]
    for host in (hosts["key"], hosts["new"]):
        public = host.run("ssh-keygen", "-y", "-f", "/etc/ssh/lab/host_key").stdout.decode()
        kept.append(f"{host.name},{host.address} {public.strip()}")
    lab.known_hosts.write_text("\n".join(kept) + "\n")
    hosts["frozen"].thaw_sshd()
    hosts["off"].boot()
    hosts["refused"].start_sshd()
    authorized = lab.identity_file.with_suffix(".pub").read_bytes()
    hosts["login"].write("/etc/ssh/lab/authorized_keys", authorized)
    hosts["shm"].run("mount", "-o", "remount,size=2G", "/dev/shm")
    hosts["shm"].run("rm", "/dev/shm/vader_segment.shm.0.1.0")
    hosts["clock"].run("umount", "/sys/class")
    config = hosts["handshake"].read("/etc/ssh/lab/sshd_config")
    _configure(hosts["handshake"], b"", config.removeprefix(_OLD_KEX))
    for name in ("driver", "torch"):
        hosts[name].run("sh", "-c", "rm -rf /srv/fake/*.dist-info /srv/fake/horovod")
    hosts["folders"].run("rm", "-rf", "/root/.launcher/host/runs/old")
    for name in ("name", "silent", "torch", "rsync"):
        _name_leads_to(hosts[name], hosts[name].address)
    hosts["rsync"].write("/etc/resolv.conf", b"nameserver 127.0.0.1\n")
    _fake_torch(hosts["gpu"], "2.13.0", "13.0")
    hosts["gpu"].hide("/run/fake-gpu-apps")
    hosts["gpu"].write("/run/fake-gpu-health", b"580.95 0\n")
    hosts["gpu"].write("/usr/local/bin/dmesg", f"#!/bin/sh\necho '{_APP_XID}'\n".encode(), 0o755)
    hosts["driver"].write("/run/fake-gpu-health", b"580.95 0\n")
    hosts["silent"].hide("/usr/local/bin/nvidia-smi")


def inventory_of(lab: labs.Lab, settings: dict[str, dict[str, Any]]) -> str:
    """Return an inventory; `settings` by host is `BROKEN` or `REPAIRED`."""
    lines = [f"  {name}: {json.dumps(settings.get(name, {}))}\n" for name in lab.hosts]
    return (
        f"ssh_config: {json.dumps(str(lab.ssh_config))}\n"
        f"defaults: {{python: {json.dumps(PYTHON)}, user: root}}\nhosts:\n{''.join(lines)}"
    )


_FAKE = {"env": {"PYTHONPATH": "/srv/fake"}}
BROKEN = {
    "clock": {"python": "/usr/local/bin/fake-clock"},
    "old": {"python": "/usr/local/bin/old-python"},
    "broken": {"python": "/usr/local/bin/broken-python"},
    "mute": {"env": {"PYTHONHOME": "/nowhere"}},
    "readonly": {"workdir": "/mnt/launcher"},
    "gpu": {"gpus": 8, **_FAKE},
    "driver": _FAKE,
    "torch": _FAKE,
    "python": {"python": "/nowhere/python"},
    "well": {"interface": "et1"},
    "shm": {"python": "/usr/bin/python3"},
}
REPAIRED = {
    "gpu": {"gpus": 4, **_FAKE},
    "driver": _FAKE,
    "disk": {"workdir": "/var/tmp/launcher"},
    "folders": {"workdir": "/var/tmp/launcher"},
}
