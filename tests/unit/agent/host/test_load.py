"""How busy this host and its GPUs are. The tool of a vendor is a fake."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.agent.host import load
from support import ROOT, gpu_tools
from support import lab as labs


def test_the_kernel_counts() -> None:
    before = load.counts()
    assert set(before) == {"cpu", "memory", "network", "disk"}
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    line = load.described(before, load.counts(), 0.05, {})
    assert set(line) == set(before)
    assert 0 < line["cpu"] <= 100
    used, total = line["memory"]
    assert 0 < used < total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_is_unknown_or_impossible_is_left_out() -> None:
    before = {"cpu": [50, 100], "disk": {b"sda": [0, 0]}}
    now = {"cpu": [80, 140], "memory": [1, 2], "network": {b"eth0": [100, 950]}}
    assert load.described(before, now, 2.0, {}) == {"memory": [1, 2], "cpu": 75.0}
    assert load.described({}, {}, 2.0, {"0": [1.0, 2.0, 3.0, 4.0]}) == {
        "gpus": {"0": [1.0, 2.0, 3.0, 4.0]}
    }


def test_an_interface_that_comes_or_goes_hides_no_other_ones_count() -> None:
    """As those of containers do. One that was made anew counts from zero under the old name."""
    before = {"network": {b"eth0": [900, 900], b"gone": [5000, 7000], b"anew": [100, 100]}}
    now = {"network": {b"eth0": [1000, 1100], b"came": [9000, 9000], b"anew": [20, 30]}}
    assert load.described(before, now, 2.0, {}) == {"network": [50, 100]}
    assert load.described(before, {"network": {}}, 2.0, {}) == {"network": [0, 0]}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def install(script: str) -> None:
        file = tmp_path / "nvidia-smi"
        file.write_text(f"#!/bin/sh\n{script}")
        file.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return install


def until_said(loads: load.GpuLoads, indices: list[int]) -> dict[str, list[float | None]]:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if found := loads.take(indices, "nvidia"):
            return found
        time.sleep(0.01)
    raise AssertionError("the tool says nothing")


def reap(loads: load.GpuLoads) -> None:
    (pid,) = loads.pids
    os.waitpid(pid, 0)
    assert loads.reaped(pid)


def test_reports_since_the_last_look_are_one(tool: Callable[[str], None]) -> None:
    """Means of use and power, peaks of memory and heat; GPUs of others are left out."""
    reports = "0, 100, 500, 300.5, 60\\n2, 9, 1, 1, 1\\n0, 50, 400, 100.5, 70\\n1, [N/A], 7, [N/A], 40\\nx"
    tool(f"printf '{reports}'\nexec sleep 60\n")
    loads = load.GpuLoads(5.0)
    assert loads.take([0, 1001], "nvidia") == {}
    found = until_said(loads, [0, 1010])
    loads.close()
    reap(loads)
    assert found == {"0": [75.0, 500.0, 200.5, 70.0], "1": [None, 7.0, None, 40.0]}


def test_a_tool_that_ends_is_started_again_unless_it_said_nothing(
    tool: Callable[[str], None], tmp_path: Path
) -> None:
    count = f"echo >> {tmp_path}/starts\n"
    tool(f"{count}echo 0, 1, 2, 3, 4")
    loads = load.GpuLoads(5.0)
    for _ in range(2):
        loads.take([0], "nvidia")
        reap(loads)
    tool(f"{count}exit 9")
    loads.take([0], "nvidia")
    reap(loads)
    for _ in range(3):
        loads.take([0], "nvidia")
        assert loads.pids == set()
    assert (tmp_path / "starts").read_text().count("\n") == 3


def test_the_tool_dies_with_the_supervisor(tool: Callable[[str], None], tmp_path: Path) -> None:
    """Also where it hangs, and writes to no pipe that is closed."""
    tool(f"echo $$ > {tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 60")
    program = (
        "import signal\nfrom launcher.agent.host import load\n"
        "loads = load.GpuLoads(5.0)\nloads.take([0], 'nvidia')\nsignal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as supervisor:
        labs.wait_until((tmp_path / "pid").exists, "the tool", 30)
        supervisor.kill()
    pid = int((tmp_path / "pid").read_text())
    labs.wait_until(lambda: _has_ended(pid), "its end", 30)


def _has_ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


@pytest.mark.parametrize(
    ("name", "vendor", "second"),
    [("amd-smi", "amd", 301.0), ("xpu-smi", "intel", None)],
)
def test_other_vendors_say_the_same_below_heads(
    name: str, vendor: str, second: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In columns of their own, with others beside them. The tool is a fake."""
    file = tmp_path / name
    file.write_text(gpu_tools.other(name, ["GPU-1", "GPU-2", "GPU-3"]))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    loads = load.GpuLoads(5.0)
    assert loads.take([0, 1], vendor) == {}
    found: dict[str, list[float | None]] = {}
    deadline = time.monotonic() + 90
    while len(found) < 2:
        assert time.monotonic() < deadline, "the tool says nothing"
        found.update(loads.take([0, 1], vendor))
        time.sleep(0.01)
    loads.close()
    reap(loads)
    first = 301.0 if vendor == "amd" else 118.9
    assert found == {"0": [7.0, 0.0, first, 41.0], "1": [7.0, 0.0, second, 41.0]}


def test_a_tool_of_another_version_costs_what_it_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that are missing, or called a little otherwise, and lines that are none."""
    lines = [
        "oops",
        "1,2",
        "gpu,usage_gfx_activity,edge",
        "0,33,N/A",
        "1,zzz,50",
        "gpu",
        "2",
        "",
        "0",
    ]
    file = tmp_path / "amd-smi"
    file.write_text(
        "#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + "exec sleep 60\n"
    )
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    loads = load.GpuLoads(5.0)
    loads.take([0, 1, 2], "amd")
    found: dict[str, list[float | None]] = {}
    deadline = time.monotonic() + 90
    while "2" not in found:
        assert time.monotonic() < deadline
        found.update(loads.take([0, 1, 2], "amd"))
        time.sleep(0.2)
    loads.close()
    reap(loads)
    assert found["1"] == [None, None, None, 50.0]
    assert found["2"] == [None, None, None, None]


def test_hosts_without_a_tool_have_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for vendor in ("nvidia", "amd", "intel"):
        loads = load.GpuLoads(5.0)
        assert loads.take([], vendor) == loads.take([0], vendor) == {}
        assert loads.pids == set()


def test_the_fake_knows_the_query(tmp_path: Path) -> None:
    """As nvidia-smi documents it, in the form that is asked for."""
    from launcher.agent.host import nvidia

    words = nvidia.watching(5.0)
    assert words[0] == "nvidia-smi"
    assert f"{words[1]}\\ {words[2]}\\ {words[3]}\\ *)" in gpu_tools.nvidia_smi(["GPU-1"])
