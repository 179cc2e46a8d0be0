"""`launcher bootstrap --with horovod`: from hosts with torch to a run of Horovod over them.

The wheel that `make horovod` built here lies in the cache of the hosts: compiling it takes minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from support import lab as labs
from support.command import Launcher

horovod = pytest.importorskip("horovod", reason="horovod is not built here: make horovod")

HOSTS = (
    labs.HostSpec("one", interface="eth0", own_name="127.0.1.1"),
    labs.HostSpec("two", interface="enp3s0", own_name="127.0.1.1"),
)
ENVIRONMENT = "/root/it's mine"
THEIRS = "/opt/theirs"
BUILT_AS = (Path(horovod.__file__).parent / "built-as").read_text()

ADDS_UP = """
import horovod.torch as hvd, torch
hvd.init()
print(int(hvd.allreduce(torch.tensor(hvd.rank() + 1), op=hvd.Sum)))
"""


def wheels() -> Path:
    """Where the wheel is that is installed here."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(
        os.environ.get("LAUNCHER_WHEELS") or cache / "launcher/wheels", f"horovod-{BUILT_AS}"
    )


def make_environment(host: labs.LabHost) -> None:
    """One of its own, where nothing is installed."""
    host.run(sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT)


def give_packages(host: labs.LabHost) -> None:
    """All packages of the tests' environment but horovod: hosts have no network for torch's wheel."""
    spec = importlib.util.find_spec("torch")
    assert spec and spec.origin
    script = 'mkdir -p "$2" && ln -s "$1"/* "$2" && rm -f "$2"/horovod*'
    host.run("sh", "-c", script, "sh", Path(spec.origin).parent.parent, THEIRS)
    site = f"{ENVIRONMENT}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    host.write(f"{site}/theirs.pth", f"{THEIRS}\n".encode())


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[labs.Lab]:
    """Two hosts with everything but horovod; one has no torch either, the other no compiler."""
    if reason := labs.missing():
        pytest.skip(f"no lab of real hosts here: {reason}")
    share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
    with labs.Lab(HOSTS, tmp_path / "lab", share=share) as standing:
        for host in standing.hosts.values():
            make_environment(host)
            if "-openmpi" not in BUILT_AS:  # the wheel here is without MPI, so theirs shall be
                host.run("rm", "-f", "/usr/bin/mpicxx")
        give_packages(standing.hosts["two"])
        standing.hosts["two"].run("mv", "/usr/bin/g++", "/usr/bin/not-g++")
        yield standing


def bootstrap(launcher: Launcher, *words: str) -> tuple[int, dict[str, Any]]:
    """Its exit code and what it says of each host."""
    done = launcher.call(
        "bootstrap",
        "-i",
        str(launcher.inventory),
        "--json",
        "--with",
        "horovod",
        *words,
        timeout=110,
    )
    assert done.stdout, done.stderr
    return done.returncode, {host["host"]: host for host in json.loads(done.stdout)}


@pytest.mark.frameworks
def test_from_torch_to_a_run(hosts: labs.Lab, tmp_path: Path) -> None:
    """What is missing is told with its host; then both get horovod, and a second time nothing."""
    if not wheels().is_dir():
        pytest.skip(f"the wheel of this horovod is not kept here: {wheels()}")
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(labs.inventory(hosts, f"{ENVIRONMENT}/bin/python"))
    work = tmp_path / "work folder's"
    work.mkdir()
    launcher = Launcher(inventory, work, tmp_path / "home")
    one, two = hosts.hosts.values()

    code, told = bootstrap(launcher)
    assert code == 1
    (problem,) = told["one"]["problems"]
    assert f"there is no torch in {ENVIRONMENT}/bin/python" in problem["message"]
    assert problem["hint"] == f"{ENVIRONMENT}/bin/python -m pip install torch"
    (problem,) = told["two"]["problems"]
    assert "g++ is missing on two, and horovod must be compiled" in problem["message"]
    assert "apt-get install g++ cmake make python3-dev" in problem["hint"]
    assert not two.run("find", ENVIRONMENT, "-name", "horovod").stdout

    give_packages(one)
    two.run("mv", "/usr/bin/not-g++", "/usr/bin/g++")
    for host in (one, two):
        for file in wheels().glob("*.whl"):
            place = f"/root/.cache/launcher/wheels/horovod-{BUILT_AS}/{file.name}"
            host.write(place, file.read_bytes())
    code, told = bootstrap(launcher)
    assert code == 0, told
    assert [[c["step"] for c in told[name]["changes"]] for name in told] == [["horovod"]] * 2
    code, told = bootstrap(launcher)
    assert (code, [host["status"] for host in told.values()]) == (0, ["ready", "ready"])

    checked = launcher.call("check", "-i", str(inventory), "--no-pairs", "--json")
    assert checked.stdout.count('"horovod": "0.28.1"') == 2, checked.stdout
    script = launcher.script(ADDS_UP)
    ran = launcher.run("--nodes", "2", "--framework", "horovod", script)
    assert ran.code == 0, ran.out + ran.err
    assert [ran.log(f"rank-{rank}.out") for rank in (0, 1)] == [b"3\n"] * 2
