"""If `ssh` gets in, launcher gets in, as the same user, with the same key, by the same route; and if
`ssh` is refused, so is launcher. OpenSSH's client is the oracle, real servers are at the other end.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from launcher.spec.ssh_config import ASYNCSSH, OPENSSH
from support import ROOT, ssh_cases
from support import lab as labs
from support.own_home import at_home
from support.ssh_cases import CONFIG, HOMES, KEYS, KNOWN, ROUTES, Case
from support.ssh_logins import by_launcher, by_openssh


@dataclass(frozen=True)
class Site:
    """What is prepared: a folder of files, and names to put into cases."""

    folder: Path
    names: Mapping[str, str]

    def fill(self, text: str, **more: str) -> str:
        return text.format(**self.names, **more)

    def config(self, case: Case) -> str:
        known, keys = self.fill(case.known), self.fill(case.keys)
        return self.fill(case.head + ssh_cases.BASE, known=known, keys=keys)


def keygen(file: Path, *options: str) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", file.name, "-f", file, *options]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def agent(socket: Path, *keys: Path) -> int:
    """Start an ssh-agent that has these keys; return its pid."""
    started = subprocess.run(
        ["ssh-agent", "-s", "-a", socket], check=True, capture_output=True, text=True
    ).stdout
    env = os.environ | {"SSH_AUTH_SOCK": str(socket)}
    subprocess.run(["ssh-add", "-q", *keys], check=True, env=env, stdin=subprocess.DEVNULL)
    return int(started.partition("SSH_AGENT_PID=")[2].partition(";")[0])


def sshd(host: labs.LabHost, port: int, *lines: str) -> None:
    """Start one more server on a host."""
    common = host.read("/etc/ssh/lab/sshd_config").decode().partition("\n")[2]
    own = (f"Port {port}", f"PidFile /run/sshd-{port}.pid", *lines)
    config = "\n".join((*own, common))
    host.write(f"/etc/ssh/lab/{port}", config.encode())
    host.spawn("/usr/sbin/sshd", "-D", "-f", f"/etc/ssh/lab/{port}")
    ready = f"exec 3<>/dev/tcp/127.0.0.1/{port} && read -r -t 5 line <&3"
    labs.wait_until(
        lambda: host.run("bash", "-c", ready, check=False).returncode == 0, f"port {port}"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    specs = (labs.HostSpec("gpu1"), labs.HostSpec("gate"), labs.HostSpec("inner", behind="gate"))
    d = tmp_path_factory.mktemp("ssh")
    with labs.Lab(specs, tmp_path_factory.mktemp("lab"), share=[Path(sys.prefix)]) as lab:
        names = {"d": str(d), **{name: host.address for name, host in lab.hosts.items()}}
        names["here"] = f"{names['gpu1'].rpartition('.')[0]}.1"
        six(lab, names)
        write_keys(d, lab)
        servers(d, lab)
        write_known(d, lab, names)
        names |= {name: str(d / f"{name}.sock") for name in ("right", "many", "wrong")}
        wrong = [d / f"wrong{n}" for n in range(1, 9)]
        pids = [
            agent(d / "right.sock", d / "key"),
            agent(d / "many.sock", *wrong, d / "key"),
            agent(d / "wrong.sock", *wrong),
        ]
        found = Site(d, names)
        (d / "plain").write_text(found.config(Case("")))
        try:
            yield found
        finally:
            for pid in pids:
                os.kill(pid, 15)


def six(lab: labs.Lab, names: dict[str, str]) -> None:
    """Give the hosts IPv6 addresses beside the others."""
    prefix = "fd81:{:x}:{:x}:".format(*map(int, names["here"].split(".")[1:3]))
    bridge = next(name for name in os.listdir("/sys/class/net") if name == lab._bridge)
    add = ["ip", "-6", "address", "add"]
    subprocess.run([*add, f"{prefix}:1/64", "dev", bridge, "nodad"], check=True)
    for index, (name, host) in enumerate(lab.hosts.items(), 0x11):
        names[f"{name}v6"] = address = str(ip_address(f"{prefix}:{index:x}"))
        host.run(*add, f"{address}/64", "dev", host.spec.interface, "nodad")


def write_keys(d: Path, lab: labs.Lab) -> None:
    shutil.copy(lab.identity_file, d / "key")
    for name in ("a key", "key-root-22-gpu1", "open-key"):
        shutil.copy(d / "key", d / name)
    (d / "open-key").chmod(0o644)
    shutil.copy(f"{lab.identity_file}.pub", d / "public")
    for n in range(1, 9):
        keygen(d / f"wrong{n}")
    (d / "garbage").write_text("no key\n")
    (d / "garbage").chmod(0o600)
    shutil.copy(d / "key", d / "locked")
    change = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", d / "locked"]
    subprocess.run(change, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    keygen(d / "ca")
    keygen(d / "signed")
    sign = ["ssh-keygen", "-q", "-s", d / "ca", "-I", "carol", "-n", "carol", d / "signed.pub"]
    subprocess.run(sign, check=True)
    shutil.copy(d / "signed", d / "bare")
    shutil.copy(d / "signed.pub", d / "bare.pub")
    more = d / "more"
    more.mkdir()
    (more / "10-user").write_text("Host gpu1\n  User alice\n")
    (more / "20-bad-port").write_text("Host gpu1\n  Port 1\n")
    (more / "15-port").write_text("Host gpu1\n  Port 22\n")


def servers(d: Path, lab: labs.Lab) -> None:
    gpu1, gate = lab.hosts["gpu1"], lab.hosts["gate"]
    for host in lab.hosts.values():
        config = host.read("/etc/ssh/lab/sshd_config") + b"ExposeAuthInfo yes\n"
        if host is gpu1:
            config += b"TrustedUserCAKeys /etc/ssh/lab/ca.pub\n"
            config += b"Match User carol\n  AuthorizedKeysFile none\n"
        host.write("/etc/ssh/lab/sshd_config", config)
        host.write("/etc/ssh/lab/ca.pub", (d / "ca.pub").read_bytes())
        host.stop_sshd()
        host.start_sshd()
    for user in ("alice", "carol"):
        gpu1.run("useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", user)
    sshd(gate, 2201, "AllowTcpForwarding no")
    public = gpu1.host_key.with_suffix(".pub").read_text()
    (d / "host.pub").write_text(public)
    sign = ["ssh-keygen", "-q", "-s", d / "ca", "-I", "gpu1", "-h", "-n", gpu1.address]
    subprocess.run([*sign, d / "host.pub"], check=True)
    gpu1.write("/etc/ssh/lab/host-cert.pub", (d / "host-cert.pub").read_bytes())
    sshd(gpu1, 2203, "HostCertificate /etc/ssh/lab/host-cert.pub")


def write_known(d: Path, lab: labs.Lab, names: Mapping[str, str]) -> None:
    def line(name: str, *hosts: str) -> str:
        key = lab.hosts[name].host_key.with_suffix(".pub").read_text().split()
        return f"{','.join(hosts)} {' '.join(key[:2])}\n"

    def write(file: str, text: str | bytes) -> None:
        (d / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    address = names["gpu1"]
    good = "".join(line(name, names[name]) for name in lab.hosts)
    ours = line("gpu1", address)
    wrong = f"{address} {' '.join((d / 'wrong1.pub').read_text().split()[:2])}\n"
    authority = " ".join((d / "ca.pub").read_text().split()[:2])
    write("known", good)
    write("k spaced", good)
    write("k-equals", f"=\n\n# a comment\n{good}")
    write("k-marker", f"@strange {ours}{good}")
    write("k-bytes", b"\xff\xfe\x00 ssh-rsa \xff\n" + good.encode())
    write("k-crlf", good.replace("\n", "\r\n"))
    write("k-hashed", good)
    hashing = ["ssh-keygen", "-q", "-H", "-f", d / "k-hashed"]
    subprocess.run(hashing, check=True, capture_output=True)
    write("k-pattern", line("gpu1", address.rpartition(".")[0] + ".*"))
    write("k-negated", line("gpu1", address.rpartition(".")[0] + ".*", f"!{address}"))
    write("k-alias", line("gpu1", "my-box"))
    write("k-name", line("gpu1", "gpu1"))
    write("k-empty", "")
    write("k-changed", wrong)
    write("k-both", wrong + ours)
    write("k-revoked", f"@revoked {ours}{ours}")
    keygen(d / "rsa", "-t", "rsa", "-b", "2048")
    write("k-rsa", f"{address} {' '.join((d / 'rsa.pub').read_text().split()[:2])}\n")
    write("k-authority", f"@cert-authority {names['gpu1']},[{names['gpu1']}]:2203 {authority}\n")
    other = " ".join((d / "wrong2.pub").read_text().split()[:2])
    write("k-authority-of-others", f"@cert-authority * {other}\n")
    write("k-port", line("gate", f"[{names['gate']}]:2201"))
    write("k-v6", good + "".join(line(name, names[f"{name}v6"]) for name in ("gpu1", "gate")))
    write("known.sh", f"case $1 in {address}) cat {d}/known ;; esac\n")


def given() -> str | None:
    """What `--transport` says, where it is not the default."""
    return labs.transport if labs.transport != ASYNCSSH else None


#: What ssh_config may say that our own `ssh` must not do: run the whole table with `--transport openssh`.
BY_OPENSSH = ("nothing special", "standard input is nothing", "in the background")


@pytest.mark.parametrize(
    ("name", "transport"),
    [
        *((name, None) for name in (*CONFIG, *KEYS, *KNOWN, *ROUTES)),
        *((name, OPENSSH) for name in BY_OPENSSH),
    ],
)
@pytest.mark.filterwarnings("ignore::launcher.transport.ssh.TransportNote")
def test_launcher_does_what_ssh_does(
    site: Site, name: str, transport: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case: Case = {**CONFIG, **KEYS, **KNOWN, **ROUTES}[name]
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for variable, value in case.env.items():
        monkeypatch.setenv(variable, site.fill(value))
    config = tmp_path / "config"
    config.write_text(site.config(case))
    oracle = by_openssh(config, case.target, [])
    assert (oracle is not None) == case.works, oracle
    ours = asyncio.run(by_launcher(config, case.target, transport or given()))
    assert (ours if isinstance(ours, list) else None) == oracle, ours


@pytest.mark.parametrize("name", HOMES)
def test_launcher_looks_where_ssh_looks(site: Site, name: str, tmp_path: Path) -> None:
    """In the home of the user database, and in /etc/ssh."""
    home = tmp_path / "me"
    home.mkdir()
    within = at_home(home, [])
    known, keys = site.fill("{d}/known"), site.fill("IdentityFile {d}/key\nIdentitiesOnly yes")
    parts = {
        "base": site.fill(ssh_cases.BASE, known=known, keys=keys),
        "nokeys": site.fill(ssh_cases.BASE, known=known, keys=""),
        "noknown": site.fill(ssh_cases.BASE, known="", keys=keys).replace(
            "  UserKnownHostsFile \n", ""
        ),
        "key": (site.folder / "key").read_text(),
        "known": (site.folder / "known").read_text(),
    }
    mounts = []
    for path, text in HOMES[name].items():
        file = tmp_path / "system" if path.startswith("/") else home / path
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_text(text.format(**site.names, **parts))
        file.chmod(0o600 if not text.startswith("#!") else 0o700)
        if path.startswith("/"):
            mounts.append(f"mount --bind {file} {path}; ")
    within[4] = "".join(mounts) + within[4]
    oracle = by_openssh(None, "gpu1", within)
    program = (
        "import asyncio, json, sys; from support import ssh_logins as t;"
        "print(json.dumps(asyncio.run(t.by_launcher(None, 'gpu1'))))"
    )
    env = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"}
    done = subprocess.run(
        [*within, sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env=env | {"PYTHONPATH": f"{ROOT}/tests:{ROOT}"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    ours = json.loads(done.stdout)
    assert (ours if isinstance(ours, list) else None) == oracle, ours
