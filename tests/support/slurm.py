"""A small Slurm on hosts of a lab: the controller on the first, a daemon on each.

It knows nothing of launcher. It trusts every user (``auth/none``), so it needs no
munge. There is no shared disk; a job's folder has to be on each host.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence

from support import lab as labs

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONFIG = """\
ClusterName=lab
SlurmctldHost={first}({address})
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
StateSaveLocation=/run/slurm/state
SlurmdSpoolDir=/run/slurm/spool
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=/run/slurm/slurmctld.log
SlurmdLogFile=/run/slurm/slurmd.log
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return why there can be no Slurm here, or ""."""
    absent = [name for name in PROGRAMS if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
    return f"no Slurm here ({', '.join(absent)}): apt-get install slurm-wlm" if absent else ""


class Slurm:
    """A cluster that starts when it is made, and stops with its hosts."""

    def __init__(self, hosts: Sequence[labs.LabHost], cpus: int) -> None:
        self.first = hosts[0]
        nodes = "\n".join(f"NodeName={h.name} NodeAddr={h.address} CPUs={cpus}" for h in hosts)
        config = CONFIG.format(first=self.first.name, address=self.first.address, nodes=nodes)
        for host in hosts:
            host.write("/etc/slurm/slurm.conf", config.encode())
            host.write("/etc/slurm/cgroup.conf", b"CgroupPlugin=cgroup/v1\n")
            host.run("mkdir", "-p", "/run/slurm/state", "/run/slurm/spool")
        self.first.run("/usr/sbin/slurmctld")
        for host in hosts:
            host.run("/usr/sbin/slurmd", "-N", host.name)
        labs.wait_until(lambda: self._idle() == len(hosts), "all nodes are idle")

    def _idle(self) -> int:
        told = self.first.run("sinfo", "--noheader", "--Node", "--format=%T", check=False)
        return told.stdout.decode().split().count("idle")

    def sbatch(self, folder: str, file: str, **env: str) -> tuple[int, str]:
        """Run a batch file to its end; return the exit code (negative: a signal), and the output."""
        words = [f"{name}={value}" for name, value in env.items()]
        submit = f"cd {folder} && env {shlex.join(words)} sbatch --parsable {file}"
        number = self.first.run("bash", "-c", submit).stdout.decode().strip()
        labs.wait_until(lambda: self._has_ended(number), f"the end of job {number}", 200)
        (code, signal) = re.findall(r" ExitCode=(\d+):(\d+)", self._job(number))[0]
        name = re.findall(r" StdOut=(\S+)", self._job(number))[0]
        return -int(signal) or int(code), self.first.read(name).decode()

    def _job(self, number: str) -> str:
        return self.first.run("scontrol", "--oneliner", "show", "job", number).stdout.decode()

    def _has_ended(self, number: str) -> bool:
        state = re.findall(r" JobState=(\w+)", self._job(number))[0]
        return state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
