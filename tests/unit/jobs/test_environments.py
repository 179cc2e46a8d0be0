"""What bash prepares in front of a process, by a real bash. Its ``module`` is a fake, named as one."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from launcher.jobs import job_file
from launcher.jobs.environments import prepared, visiting
from launcher.spec.errors import InputError
from launcher.spec.inventory import load as load_inventory
from launcher.spec.model import Host, Job, Process

#: A FAKE of Environment Modules: it knows "cuda" and "nccl" alone.
FAKE = """
module() {
  case $2 in cuda/12.4|nccl) export LOADED="$LOADED $1:$2";; *) echo "no $2" >&2; return 1;; esac
}
"""
SHOW = ("sh", "-c", 'echo "ran$LOADED $ORDER"')


def _ran(job: Job, host: Host, visits: bool = False) -> tuple[int, str, str]:
    if visits:
        argv: tuple[str, ...] = (*visiting(job, host), *SHOW)
    else:
        argv = prepared(Process("rank-0", 0, SHOW, {}), job, host).argv
    env = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def _host(prepare: str = FAKE) -> Host:
    return Host("gpu1", prepare=prepare)


def test_host_then_modules_then_job() -> None:
    host = _host(f"{FAKE}echo hi; ORDER=host")
    job = Job(("x",), modules=("cuda/12.4", "nccl"), prepare='export ORDER="$ORDER job $LOADED"')
    expected = "ran load:cuda/12.4 load:nccl host job  load:cuda/12.4 load:nccl\n"
    assert _ran(job, host) == (0, f"hi\n{expected}", "")
    assert _ran(job, host, visits=True) == (0, expected, "hi\n")  # output of a visitor is its own


@pytest.mark.parametrize(
    ("job", "host", "code", "said"),
    [
        ({"modules": ("cuda/13",)}, _host(), 1, "no cuda/13\nlauncher: modules: cuda/13 cannot be"),
        ({"modules": ("cuda",)}, Host("gpu1"), 1, "modules: this host has no module command"),
        ({"prepare": "(exit 3)"}, Host("gpu1"), 3, "launcher: prepare: ended with exit code 3"),
        ({}, _host("(exit 4)"), 4, "prepare: of gpu1 in the inventory ended with exit code 4"),
    ],
)
def test_a_process_does_not_start_behind_a_failure_and_a_visitor_does(
    job: dict[str, Any], host: Host, code: int, said: str
) -> None:
    wanted = Job(("x",), **job)
    found, out, err = _ran(wanted, host)
    assert (found, out) == (code, "")
    assert said in err
    found, out, err = _ran(wanted, host, visits=True)
    assert (found, out.startswith("ran")) == (0, True)
    assert said in err


def test_without_any_of_it_nothing_stands_in_front() -> None:
    process = Process("rank-0", 0, SHOW, {})
    assert prepared(process, Job(("x",)), Host("gpu1")) is process
    assert visiting(Job(("x",)), Host("gpu1")) == ()


def test_files_say_it() -> None:
    values = job_file.load("run: t.py\nmodules: [cuda/12.4, nccl]\n", "job.yaml")
    assert values["modules"] == ("cuda/12.4", "nccl")
    with pytest.raises(InputError, match=r"job\.yaml:2: 'a;b' cannot be the name of a module"):
        job_file.load("run: t.py\nmodules: a;b\n", "job.yaml")
    inventory = load_inventory("defaults: {prepare: module use /opt/mod}\nhosts: [gpu1]\n", "i")
    assert inventory.hosts[0].prepare == "module use /opt/mod"
