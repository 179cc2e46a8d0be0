"""`launcher check`, each host by itself: every fault is caused on a real host, found by its code, and
gone after what the fix says. nvidia-smi, dmesg, packages, InfiniBand and odd interpreters are fakes on
the test's hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lab as labs
import pytest
from conftest import ROOT, Launcher

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
case $3 in *start.py) ;; *) exec {PYTHON} "$@" ;; esac
SHELL_WORDS
exec {PYTHON} -I -S -c '
import runpy, socket, sys, time
PYTHON_WORDS
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
' "$3" "$4" "$5"
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
socket.socket.listen = refused""",
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
    """As far as metadata tells of one."""
    host.write(f"/srv/fake/{name}/__init__.py", b"")
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    host.write(f"/srv/fake/{name.replace('-', '_')}-{version}.dist-info/METADATA", text.encode())


def _configure(host: labs.LabHost, first: bytes, config: bytes) -> None:
    """Another sshd_config, with something in front."""
    host.stop_sshd()
    host.write("/etc/ssh/lab/sshd_config", first + config)
    host.start_sshd()


def _name_leads_to(host: labs.LabHost, address: str) -> None:
    lines = host.read("/etc/hosts").decode().splitlines()
    kept = [line for line in lines if line.split()[1] != host.name]
    kept += [f"{address}\t{host.name}"] if address else []
    host.write("/etc/hosts", ("\n".join(kept) + "\n").encode())


def _break(lab: labs.Lab) -> None:
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


def _repair(lab: labs.Lab) -> None:
    """What the fixes say."""
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


def _inventory(lab: labs.Lab, settings: dict[str, dict[str, Any]]) -> str:
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


ALONE = ("--no-pairs",)


@dataclass
class Checked:
    """What one `launcher check` said."""

    code: int
    told: dict[str, Any]
    text: str = ""

    def of(self, host: str) -> dict[str, dict[str, Any]]:
        """The findings of a host, by code."""
        return {f["code"]: f for f in self.told["findings"] if host in f["hosts"]}


#: As a user calls it, but for less patience with a host that does not answer.
_HURRIED = "import launcher.ssh as s; s.PATIENCE = 4.0; from launcher.cli import main; main()"
#: And on a machine that is two minutes behind: a FAKE clock.
_BEHIND = "import time; real = time.time; time.time = lambda: real() - 120; " + _HURRIED


def check(launcher: Launcher, *words: str, program: str = _HURRIED) -> Checked:
    """What `launcher check` tells a program."""
    done = subprocess.run(
        [sys.executable, "-c", program, "check", "-i", launcher.inventory, "--json", *words],
        cwd=launcher.work,
        env=launcher.environment(),
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    return Checked(done.returncode, json.loads(done.stdout))


@dataclass
class Story:
    """The same hosts broken, and repaired."""

    broken: Checked
    shown: subprocess.CompletedProcess[str]
    fixed: Checked
    after: Checked
    orphan_lives: bool
    behind: Checked
    between: Checked


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    reason = labs.missing()
    if reason:
        pytest.skip(f"no lab of real hosts here: {reason}")
    place = tmp_path_factory.mktemp("check")
    share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
    with labs.Lab(SPECS, place / "lab", share=share) as lab:
        launcher = Launcher(place / "inventory.yaml", place, place / "home")
        launcher.inventory.write_text(_inventory(lab, BROKEN))
        _break(lab)
        mark = launcher.home / "unfinished" / "old-run-2.json"
        mark.parent.mkdir(parents=True)
        mark.write_text('["well"]')
        with ThreadPoolExecutor() as both:
            words = (*ALONE, "--hosts", "well,name,login,gpu,shm,torch")
            seen = both.submit(launcher.call, "check", "-i", str(launcher.inventory), *words)
            broken = check(launcher, *ALONE)
            shown = seen.result()
        between = check(launcher, "--hosts", "well,clock")
        _repair(lab)
        launcher.inventory.write_text(_inventory(lab, REPAIRED))
        fixed = check(launcher, *ALONE, "--fix", "--hosts", "gpu,well")
        alive = any("sleep" in p.argv and "LAUNCHER_RUN_DIR" in p.environ
                    for p in lab.hosts["gpu"].processes())  # fmt: skip
        after = check(launcher, *ALONE)
        behind = check(launcher, *ALONE, "--hosts", "name,disk", program=_BEHIND)
        yield Story(broken, shown, fixed, after, alive, behind, between)


#: Host, code, level, what the evidence says, what the fix says.
CAUSED = [
    ("rsync", "RSYNC-MISSING", "error", "no rsync", "apt install rsync"),
    ("key", "SSH-KEY-CHANGED", "error", "not the one in known_hosts", "ssh-keygen -R"),
    ("new", "SSH-KEY-UNKNOWN", "error", "is not in known_hosts", "compare the fingerprint"),
    ("frozen", "SSH-FROZEN", "error", "does not speak", "frozen"),
    ("off", "SSH-UNREACHABLE", "error", "", ""),
    ("refused", "SSH-REFUSED", "error", "nobody listens", "is sshd running"),
    ("login", "SSH-LOGIN", "error", "does not let root in", "ssh-copy-id login"),
    ("python", "PYTHON-MISSING", "error", "/nowhere/python", "python: in the inventory"),
    ("old", "PYTHON-OLD", "error", "old-python is Python 3.6", "3.8 or newer"),
    ("broken", "HOST-BROKEN", "error", "libc.so.7: missing", "broken-python -V"),
    ("mute", "PYTHON-SILENT", "error", "did not answer within", "import site"),
    ("handshake", "SSH-BROKEN", "error", "broke off: ", "does `ssh handshake` work"),
    ("readonly", "DISK-READ-ONLY", "error", "Read-only file system", "that you may write"),
    ("clock", "LIMIT-MEMLOCK", "warning", "64 KiB may be locked", "memlock unlimited"),
    ("clock", "SET-PYTHON", "warning", "Python 3.9 on clock", "same version"),
    ("torch", "SET-NCCL", "warning", "NCCL 2.21.5 on torch", "same version"),
    ("torch", "SET-HOROVOD", "warning", "horovod 0.27.0 on torch", "same version"),
    ("driver", "SET-DRIVER", "warning", "driver 570 on driver", "same driver"),
    ("disk", "DISK-FULL", "error", "MB free at /root", "workdir:"),
    ("folders", "DISK-LOW", "warning", "MB free at /root", "workdir:"),
    ("folders", "LEFT-FOLDERS", "warning", "1 folders of ended runs hold 34 MB", "launcher rm"),
    ("shm", "DISK-SHM", "warning", "67 MB free in /dev/shm", "remount"),
    ("shm", "TORCH-MISSING", "warning", "/usr/bin/python3", "-m pip install torch"),
    ("clock", "LIMIT-NOFILE", "warning", "256 open files", "nofile"),
    ("clock", "CLOCK-OFFSET", "error", "120.0 s ahead", "set-ntp"),
    ("name", "NET-LOOPBACK-NAME", "warning", "leads to 127.0.1.1", "/etc/hosts"),
    ("silent", "NET-NAME-WRONG", "warning", "leads to 10.255.1.1", "/etc/hosts"),
    ("torch", "NET-NAME-UNKNOWN", "warning", "cannot resolve its own name", "/etc/hosts"),
    ("rsync", "NET-NAME-SLOW", "warning", "not resolve within 2 s", "resolv.conf"),
    ("well", "NET-INTERFACE-UNKNOWN", "error", "interface: et1; up there: eth0", "interface: eth0"),
    ("gpu", "GPU-COUNT", "error", "says 8 GPUs, nvidia-smi finds 4", "gpus: 4"),
    ("gpu", "GPU-ECC", "error", "GPU 3: 3 uncorrectable", "ROW_REMAPPER"),
    ("gpu", "GPU-XID", "warning", "Xid 79 at 0000:4f:00", "resets"),
    ("gpu", "GPU-FOREIGN", "warning", "nobody uses GPU 2 without launcher", "ask nobody"),
    ("gpu", "TORCH-NO-CUDA", "error", "2.13.0+cpu was built without CUDA", "CUDA build"),
    ("gpu", "LEFT-ORPHANS", "warning", "of old-run-1: pid", "--fix"),
    ("well", "LEFT-UNFINISHED", "warning", "old-run-2 was given up", "--fix"),
    (
        "driver",
        "DRIVER-OLD",
        "error",
        "driver 570.10; torch 2.13.0 with CUDA 13.0 needs 580.65",
        "",
    ),
    ("silent", "GPU-SILENT", "warning", "nvidia-smi is there and fails", "nvidia-smi"),
    ("torch", "SET-TORCH", "warning", "torch 2.11.0 on torch", "same version"),
    ("torch", "SET-CUDA", "warning", "CUDA 12.8 on torch", "same version"),
]


@pytest.mark.parametrize(("host", "code", "level", "evidence", "fix"), CAUSED)
def test_each_fault_is_found(
    story: Story, host: str, code: str, level: str, evidence: str, fix: str
) -> None:
    found = story.broken.of(host)[code]
    assert found["level"] == level
    assert evidence in found["evidence"]
    assert fix in found["fix"]


def test_nothing_else_is_found(story: Story) -> None:
    """Nor a program's own Xid, nor a second finding for the same thing."""
    expected = {(host, code) for host, code, *_ in CAUSED if not code.startswith("SET-")}
    alone = [f for f in story.broken.told["findings"] if not f["code"].startswith(("SET-", "NET-"))]
    names = {(host, f["code"]) for f in alone for host in f["hosts"]}
    assert names == {pair for pair in expected if not pair[1].startswith("NET-")}
    assert story.broken.code == 1
    assert not any("Xid 31" in f["evidence"] for f in story.broken.told["findings"])


def test_odd_ones_out_are_folded(story: Story) -> None:
    (torch,) = [f for f in story.broken.told["findings"] if f["code"] == "SET-TORCH"]
    assert torch["evidence"].endswith("torch 2.11.0 on torch")
    assert torch["evidence"].startswith("torch 2.13.0+cpu on ")


def test_green_after_the_fixes(story: Story) -> None:
    """All that was broken is whole; a fake torch on two hosts is all that still differs."""
    codes = {f["code"] for f in story.after.told["findings"]}
    assert codes <= {"SET-TORCH", "SET-CUDA", "SET-GPUS", "DISK-LOW", "NET-NAME-PRIVATE"}, codes
    assert story.after.code == 0


def test_a_clock_of_ours_that_is_wrong(story: Story) -> None:
    """All hosts agree with each other: it is not they who are told to set their clocks."""
    (clock,) = [f for f in story.behind.told["findings"] if f["code"] == "CLOCK-OFFSET"]
    assert clock["hosts"] == ["this machine"]
    assert clock["evidence"] == "its clock is 120.0 s behind the others'"
    assert (clock["level"], story.behind.code) == ("error", 1)


def test_a_pair_that_cannot_be_tried(story: Story) -> None:
    (pair,) = [f for f in story.between.told["findings"] if f["code"] == "NET-UNTESTED"]
    assert (pair["hosts"], pair["there"], pair["level"]) == (["well"], ["clock"], "warning")
    assert pair["evidence"] == "clock could not listen"


def test_fix_ends_what_was_left(story: Story) -> None:
    assert sorted(story.fixed.told["fixed"]) == [
        "gpu: ended 1 processes of earlier runs",
        "well: ended old-run-2",
    ]
    assert not story.orphan_lives
    assert "LEFT-ORPHANS" not in story.fixed.of("gpu")


def test_what_a_person_sees(story: Story) -> None:
    lines = story.shown.stdout.splitlines()
    assert lines[0].split()[:3] == ["hosts", "python", "torch"] or lines[0].startswith("hosts")
    assert "error    SSH-LOGIN  login" in lines
    assert story.shown.stderr == ""
    assert "\x1b" not in story.shown.stdout
    assert max(map(len, lines)) <= 110
    assert story.shown.returncode == 1
