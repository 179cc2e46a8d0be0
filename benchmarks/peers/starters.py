"""What people start such a job with: how each is typed, what it needs there, and why it is missing here.

All start the same `rank.py` with the same Python on the same hosts. Not responsible for measuring.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..place import ROOT, Place, labs

from support import environments, projects, slurm  # isort: skip  # found by .place

#: Ranks on each host.
EACH = 2
#: Where the code is on every host before anything is measured. launcher brings its own.
CODE = "/root/code"
#: A folder of this machine that all hosts have mounted there, for those who need one.
SHARED = "/shared"
ON_HOSTS = Path(__file__).parent / "on_hosts"
#: Ray gives up after 30 or 60 seconds, which is how long it takes on processors that others use.
_RAY_PATIENCE = {
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "400",
    "RAY_gcs_server_request_timeout_seconds": "400",
}
#: It gives a daemon 30 seconds to be there, whatever it is told: then it is tried again.
_RAY_STARTS = 4
#: Set for all that is started, so that what is left here can be found.
MARK = "BENCHMARKED_PEER"


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Starter:
    """A way to start a job. `command` gets a kind of `rank.py`. `once` comes before everything; that, `before`
    and `after` each start are not measured. Where `on_host`, somebody types it on the first host."""

    name: str
    command: Callable[[str], Sequence[str]]
    missing: str = ""
    note: str = ""
    on_host: bool = False
    once: Callable[[], object] = _nothing
    before: Callable[[], None] = _nothing
    after: Callable[[], None] = _nothing


@dataclass
class Scene:
    """Hosts that are ready for all of them."""

    here: Place
    python: Path
    hosts: list[labs.LabHost] = field(init=False)

    def __post_init__(self) -> None:
        self.hosts = list(self.here.lab.hosts.values())
        self.first = self.hosts[0]
        self.world = EACH * len(self.hosts)
        self._ports = itertools.count(23456)
        scratch = self.here.scratch
        self.here.inventory.write_text(labs.inventory(self.here.lab, str(self.python)))
        self.shared = scratch / "shared"
        for folder in (self.shared, scratch / "bin"):
            folder.mkdir()
        for host in self.hosts:
            host.mount_shared(self.shared, SHARED)
            for file in ON_HOSTS.glob("*.py"):
                host.write(f"{CODE}/{file.name}", file.read_bytes())
        projects.introduce(self.here.lab)
        # What a user has in ~/.ssh/config, for all that call `ssh` with a name or an address.
        config = scratch / "ssh_config"
        text = self.here.lab.ssh_config.read_text()
        for host in self.hosts:
            text = text.replace(f"Host {host.name}\n", f"Host {host.name} {host.address}\n")
        config.write_text(text)
        ssh = scratch / "bin" / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        ssh.chmod(0o755)
        # `/tmp` is on every host, too: some start in the folder in which they were called.
        self.cwd = Path("/tmp")
        path = f"{scratch / 'bin'}:{self.python.parent}:{os.environ['PATH']}"
        self.env = {"PATH": path, "HOME": str(scratch), "LANG": "C.UTF-8", MARK: str(os.getpid())}

    def rank(self, kind: str, outputs: str = f"{CODE}/out") -> list[str]:
        """`rank.py`, as every host can run it; each start meets at a port of its own."""
        meet = f"{self.first.address}:{next(self._ports)}"
        return [str(self.python), f"{CODE}/rank.py", kind, meet, outputs]

    def on_first(self, *words: str | Path, **env: str) -> list[str]:
        """A command that somebody types who has logged in to the first host."""
        path = f"{self.python.parent}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        known = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "PYTHONPATH": CODE}
        known |= {MARK: self.env[MARK], **env}
        listed = [f"{name}={value}" for name, value in known.items()]
        at = ["env", "--ignore-environment", f"--chdir={CODE}", *listed]
        return self.first.inside(*at, *words)

    def torchrun(self, kind: str) -> str:
        """torchrun of one host, but for its `--node-rank`."""
        python, *script = self.rank(kind)
        return (
            f"{python} -m torch.distributed.run --nnodes {len(self.hosts)} --nproc-per-node {EACH}"
            f" --master-addr {self.first.address} --master-port {next(self._ports)}"
            " --node-rank {rank} " + " ".join(script)
        )

    def outputs(self) -> int:
        """How many files of ranks have come back here, and forget them."""
        folders = [self.shared / "out"]
        if (self.here.home / "runs").exists():
            folders.append(self.here.run_folder())
        found = [file for folder in folders for file in folder.rglob("rank-*")]
        names = {file.name for file in found if re.fullmatch(r"rank-\d+", file.name)}
        shutil.rmtree(self.shared / "out", ignore_errors=True)
        shutil.rmtree(self.here.home / "runs", ignore_errors=True)
        return len(names)


def starters(scene: Scene) -> list[Starter]:
    """All of them; those that cannot be here say why."""
    return [
        *_launcher(scene),
        *_by_ssh(scene),
        _mpirun(scene),
        _horovodrun(scene),
        _deepspeed(scene),
        _torchrunx(scene),
        *_slurm(scene),
        _ray(scene),
    ]


def _launcher(scene: Scene) -> list[Starter]:
    here = scene.here

    def command(framework: str, *more: str) -> Callable[[str], list[str]]:
        def typed(kind: str) -> list[str]:
            words = ("--framework", framework, "--nproc-per-node", str(EACH), *more)
            argv = here.launcher(
                len(scene.hosts), *words, "rank.py", kind, "-", "out", workdir=ON_HOSTS
            )
            env = [f"LAUNCHER_HOME={here.home}", f"PYTHONPATH={ROOT}"]
            return ["env", *env, *argv]

        return typed

    return [
        Starter("launcher", command("torch")),
        Starter("launcher-torchrun", command("torchrun"), note="`--framework torchrun`"),
        Starter(
            "launcher-timeout",
            command("torch", "--orphan-timeout", "5s"),
            note="`--orphan-timeout 5s`",
        ),
    ]


def _by_ssh(scene: Scene) -> list[Starter]:
    here, hosts = scene.here, scene.hosts
    lacks = environments.missing("peers")

    def hand(kind: str) -> list[str]:
        torchrun = scene.torchrun(kind)
        return here.by_ssh([torchrun.format(rank=rank) for rank in range(len(hosts))])

    def accelerate(kind: str) -> list[str]:
        python, *script = scene.rank(kind)
        there = (
            f"{python} -m accelerate.commands.launch --multi_gpu --mixed_precision no --dynamo_backend no"
            f" --num_machines {len(hosts)} --num_processes {scene.world}"
            f" --main_process_ip {scene.first.address} --main_process_port {next(scene._ports)}"
            " --machine_rank {rank} " + " ".join(script)
        )
        return here.by_ssh([there.format(rank=rank) for rank in range(len(hosts))])

    inventory = here.scratch / "ansible.ini"
    lines = [f"{host.name} node_rank={rank}\n" for rank, host in enumerate(hosts)]
    inventory.write_text("".join(lines))

    def ansible(kind: str) -> list[str]:
        settings = [
            f"ANSIBLE_HOME={here.scratch / 'ansible'}",
            f"ANSIBLE_SSH_ARGS=-F {here.lab.ssh_config} -o ControlMaster=auto -o ControlPersist=1s",
            f"ANSIBLE_PYTHON_INTERPRETER={scene.python}",
        ]
        torchrun = scene.torchrun(kind).replace("{rank}", "{{ node_rank }}")
        argv = ["ansible", "all", "-i", str(inventory), "-f", str(len(hosts))]
        return ["env", *settings, *argv, "-m", "ansible.builtin.command", "-a", torchrun]

    return [
        Starter("hand", hand, note="`ssh`, `torchrun` on each host"),
        Starter("accelerate", accelerate, lacks, note="`ssh`, `accelerate launch` on each host"),
        Starter("ansible", ansible, lacks, note="`ansible all -m command`, `torchrun`"),
    ]


def _mpirun(scene: Scene) -> Starter:
    network = f"{scene.first.address}/24"

    def command(kind: str) -> list[str]:
        slots = ",".join(f"{host.address}:{EACH}" for host in scene.hosts)
        nets = [f"--mca {name}_tcp_if_include {network}".split() for name in ("oob", "btl")]
        argv = ["mpirun", "--allow-run-as-root", "-np", str(scene.world), "-H", slots]
        return [*argv, *itertools.chain(*nets), *scene.rank(kind)]

    return Starter("mpirun", command, _lacks("mpirun"), note="Open MPI, over `ssh`")


def _horovodrun(scene: Scene) -> Starter:
    program = Path(sys.executable).parent / "horovodrun"
    missing = "" if program.exists() else "no horovodrun here: make horovod"

    def command(kind: str) -> list[str]:
        slots = ",".join(f"{host.address}:{EACH}" for host in scene.hosts)
        words = ("-np", str(scene.world), "-H", slots, "--gloo")
        return scene.on_first(program, *words, *scene.rank(kind))

    note = "`--gloo`, from the first host: it wants an interface that has one name everywhere"
    return Starter("horovodrun", command, missing, note, on_host=True)


def _deepspeed(scene: Scene) -> Starter:
    hostfile = scene.here.scratch / "hostfile"
    hostfile.write_text("".join(f"{host.name} slots={EACH}\n" for host in scene.hosts))

    def command(kind: str) -> list[str]:
        where = ["--hostfile", str(hostfile), "--launcher", "pdsh", "--no_local_rank"]
        meet = ["--master_addr", scene.first.address, "--master_port", str(next(scene._ports))]
        _, *script = scene.rank(kind)
        return ["env", "DS_ACCELERATOR=cpu", "deepspeed", *where, *meet, *script]

    missing = environments.missing("peers") or _lacks("pdsh")
    return Starter("deepspeed", command, missing, note="its own launcher, by `pdsh`")


def _torchrunx(scene: Scene) -> Starter:
    def command(kind: str) -> list[str]:
        python, _, *words = scene.rank(kind)
        addresses = ",".join(host.address for host in scene.hosts)
        return scene.on_first(python, f"{CODE}/by_torchrunx.py", addresses, str(EACH), *words)

    note = "from the first host: hosts look for the machine that starts by its own name"
    return Starter("torchrunx", command, environments.missing("peers"), note, on_host=True)


def _slurm(scene: Scene) -> list[Starter]:
    missing = slurm.missing()
    nodes = len(scene.hosts)

    def srun(kind: str) -> list[str]:
        sizes = (f"--nodes={nodes}", f"--ntasks={scene.world}", f"--ntasks-per-node={EACH}")
        return scene.on_first("srun", *sizes, *scene.rank(kind, f"{SHARED}/out"))

    def submitit(kind: str) -> list[str]:
        python, _, *words = scene.rank(kind, f"{SHARED}/out")
        return scene.on_first(python, f"{CODE}/by_submitit.py", str(nodes), str(EACH), *words)

    @functools.cache
    def cluster() -> slurm.Slurm:
        return slurm.Slurm(scene.hosts, cpus=EACH)

    def cancel() -> None:
        scene.first.run("scancel", "--signal=KILL", "--user=root", check=False)
        scene.first.run("scancel", "--user=root", check=False)
        queue = ("squeue", "--noheader")
        labs.wait_until(lambda: not scene.first.run(*queue).stdout.strip(), "no job in Slurm")

    lacks = missing or environments.missing("peers")
    note = "Slurm, from the first host; a folder that all hosts share"
    return [
        Starter("srun", srun, missing, note, True, once=cluster, after=cancel),
        Starter("submitit", submitit, lacks, note, True, once=cluster, after=cancel),
    ]


def _ray(scene: Scene) -> Starter:
    def start() -> None:
        ray = scene.python.parent / "ray"
        first = scene.first.address
        for host in scene.hosts:
            where = ["--head", "--port=6379", "--include-dashboard=false"]
            where = where if host is scene.first else [f"--address={first}:6379"]
            sizes = [f"--num-cpus={EACH}", "--object-store-memory=80000000"]
            env = ["HOME=/root", f"PATH={scene.python.parent}:/usr/bin:/bin"]
            env += [f"{name}={value}" for name, value in _RAY_PATIENCE.items()]
            words = [f"--node-ip-address={host.address}", *sizes, "--disable-usage-stats"]
            for left in range(_RAY_STARTS, 0, -1):
                if not host.run(
                    "env", *env, str(ray), "start", *where, *words, check=left == 1
                ).returncode:
                    break
                host.run("env", *env, str(ray), "stop", "--force", check=False)

    def command(kind: str) -> list[str]:
        python, _, *words = scene.rank(kind, f"{SHARED}/out")
        script = (f"{CODE}/by_ray.py", str(scene.world), *words)
        return scene.on_first(python, *script, RAY_DEDUP_LOGS="0", **_RAY_PATIENCE)

    note = "Ray Train on a cluster that is up, from the first host; a folder that all hosts share"
    return Starter("ray", command, environments.missing("peers"), note, True, before=start)


def _lacks(program: str) -> str:
    return "" if shutil.which(program) else f"no {program} here: apt-get install {program}"
