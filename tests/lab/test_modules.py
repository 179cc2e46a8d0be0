"""Modules by the real Environment Modules: in ranks, visitors and checks, and where a host lacks one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher

pytestmark = pytest.mark.skipif(
    not Path("/usr/share/modules/init/bash").exists(),
    reason="needs environment-modules (sh tests/support/install-system-packages.sh test)",
)
PLACE = "/srv/modulefiles"
FILES = {
    "cuda/12.4": "prepend-path PATH /srv/cuda/12.4/bin\nsetenv CUDA_HOME /srv/cuda/12.4\n",
    "nccl/2.21": "prereq cuda\nprepend-path LD_LIBRARY_PATH /srv/nccl/lib\n",
}
SHOW = "import os\nprint(*(os.environ[n] for n in ('CUDA_HOME', 'LD_LIBRARY_PATH', 'LOADEDMODULES')))\n"


@pytest.fixture
def launcher(own: labs.Lab, tmp_path: Path) -> Launcher:
    """The command, and hosts whose modules are in a folder that their inventory names."""
    text = labs.inventory(own, "/usr/bin/python3")
    (tmp_path / "inventory.yaml").write_text(
        text.replace("defaults: {", f"defaults: {{prepare: module use {PLACE}, ", 1)
    )
    work = tmp_path / "work"
    work.mkdir()
    for host in own.hosts.values():
        for name, lines in FILES.items():
            host.run("mkdir", "-p", f"{PLACE}/{name.partition('/')[0]}")
            host.write(f"{PLACE}/{name}", f"#%Module1.0\n{lines}".encode())
    return Launcher(tmp_path / "inventory.yaml", work, tmp_path / "home")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "own", [(labs.HostSpec("lab1"), labs.HostSpec("lab2"))], indirect=True, ids=["two hosts"]
)
def test_modules_are_loaded_wherever_the_job_runs_and_named_where_they_are_missing(
    launcher: Launcher, own: labs.Lab
) -> None:
    launcher.script(SHOW, "show.py")
    job = "run: python show.py\nframework: env\nnum_nodes: 2\nmodules: [cuda/12.4, nccl/2.21]\n"
    (launcher.work / "job.yaml").write_text(job)
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    for node in (0, 1):
        shown = ran.log(f"node-{node}.out").decode().split()
        assert shown[0] == "/srv/cuda/12.4"
        assert shown[1].startswith("/srv/nccl/lib")
        assert shown[2].split(":") == ["cuda/12.4", "nccl/2.21"]
    visited = launcher.call("exec", "-", "--node", "1", "--", "sh", "-c", "echo $CUDA_HOME $PATH")
    assert "lab2 │ /srv/cuda/12.4 /srv/cuda/12.4/bin:" in visited.stdout, visited.stderr
    checked = launcher.call("check", "--no-pairs", "--job", "job.yaml", "--json")
    assert "cannot be loaded" not in checked.stdout

    own.hosts["lab2"].run("rm", f"{PLACE}/nccl/2.21")
    ran = launcher.run("job.yaml")
    assert (ran.code, ran.receipts[-1]["reason"]) == (125, "no-environment")
    assert "lab2: modules: nccl/2.21 cannot be loaded here" in ran.err
    assert "/srv/cuda" not in ran.out
    checked = launcher.call("check", "--no-pairs", "--job", "job.yaml", "--json")
    (found,) = [
        one
        for one in json.loads(checked.stdout)["findings"]
        if "nccl/2.21 cannot be loaded" in one["evidence"]
    ]
    assert found["hosts"] == ["lab2"]
