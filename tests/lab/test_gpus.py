"""GPUs: leased to one run at a time, and which of them a run really used. nvidia-smi is a fake."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from support import gpu_tools
from support import lab as labs
from support.command import Launcher
from support.waiting import LONG_SETUP, TAKE

FOUR = (labs.HostSpec("gpu1", gpus=4),)

HOLD = (
    "import os, pathlib, time\n"
    "print('has', os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n"
    "while not pathlib.Path('/tmp/go').exists():\n    time.sleep(0.02)\n"
)


def _line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout
    return process.stdout.readline().decode()


def _inventory(lab: labs.Lab) -> str:
    """Without ``gpus:``, so that they are found."""
    return labs.inventory(lab, "python3")


@pytest.mark.parametrize("own", [FOUR], indirect=True)
def test_two_runs_share_a_host_and_never_a_gpu(own: labs.Lab, launcher: Launcher) -> None:
    """A third one is told who holds what; when they have ended, all are free again."""
    launcher.inventory.write_text(_inventory(own))
    name = launcher.script(HOLD)
    host = own.hosts["gpu1"]
    running = []
    try:
        for expected in ("has 0,1", "has 2,3"):
            running.append(launcher.start("--gpus", "2", "--framework", "env", f"python3 {name}"))
            assert expected in _line(running[-1])
        refused = launcher.run("--gpus", "2", "--framework", "env", "true")
        assert refused.code == 75
        assert "all 4 GPUs are in use by root (" in refused.err
        host.write("/tmp/go", b"")
        for process in running:
            process.communicate(timeout=30)
        after = launcher.run("--gpus", "4", "--framework", "env", "echo $CUDA_VISIBLE_DEVICES")
        assert "0,1,2,3" in after.out, after.err
    finally:
        host.write("/tmp/go", b"")
        for process in running:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("own", [FOUR], indirect=True)
def test_the_receipt_tells_which_gpus_were_used(own: labs.Lab, launcher: Launcher) -> None:
    """Two are allotted, one is used; a stranger's process on another does not count."""
    launcher.inventory.write_text(_inventory(own))
    host = own.hosts["gpu1"]
    name = launcher.script(
        "import os, pathlib, time\n"
        "if os.environ['RANK'] == '0':\n    print('pid', os.getpid(), flush=True)\n"
        "while not pathlib.Path('/tmp/go').exists():\n    time.sleep(0.02)\n"
    )
    process = launcher.start("--gpus", "2", "--framework", "torch", name)
    try:
        pid = _line(process).split()[-1]
        uuids = own.hosts["gpu1"].spec.gpu_uuids
        apps = f"{pid}, {uuids[1]}, 700\n1, {uuids[3]}, 90\n"
        host.write("/run/fake-gpu-apps", apps.encode())
        (events,) = launcher.home.glob("runs/*/events.jsonl")
        labs.wait_until(lambda: b"GpusUsed" in events.read_bytes(), "a look at the GPUs", 30)
        host.write("/tmp/go", b"")
        _, shown = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    (receipt,) = launcher.home.glob("runs/*/receipt.json")
    told = json.loads(receipt.read_text())["hosts"][0]
    assert (told["gpus"], told["gpus_used"]) == ([0, 1], [1])
    assert b"0-1 (used 1)" in shown


SHOW = "echo has $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"


@pytest.mark.parametrize("own", [(labs.HostSpec("gpu1", gpus=4, mig={3: 2}),)], indirect=True)
def test_gpus_as_people_have_them(own: labs.Lab, launcher: Launcher) -> None:
    """A login's variable bounds them, a job names them, and a MIG instance is leased by itself."""
    launcher.inventory.write_text(_inventory(own))
    host = own.hosts["gpu1"]
    show = ("--framework", "env", SHOW)
    named = launcher.run("--gpu-ids", "2", *show)
    assert "has 2 PCI_BUS_ID" in named.out, named.err
    uuid = gpu_tools.mig_uuid(host.spec.gpu_uuids[3], 1)
    hold = ("--framework", "env", f"python3 {launcher.script(HOLD)}")
    process = launcher.start("--gpu-ids", "3:1", *hold)
    try:
        assert f"has {uuid}" in _line(process)
        refused = launcher.run("--gpu-ids", uuid, "--framework", "env", "true")
        assert "the only GPU is in use by root (" in refused.err
        beside = launcher.run("--gpu-ids", "3:0", *show)
        assert gpu_tools.mig_uuid(host.spec.gpu_uuids[3], 0) in beside.out, beside.err
    finally:
        host.write("/tmp/go", b"")
        process.communicate(timeout=30)
    rc = host.read("/root/.bashrc") if host.exists("/root/.bashrc") else b""
    host.write("/root/.bashrc", b"export CUDA_VISIBLE_DEVICES=1,2\n" + rc)
    bounded = launcher.run(*show)
    assert "has 1,2 PCI_BUS_ID" in bounded.out, bounded.err
    assert "CUDA_VISIBLE_DEVICES=1,2 (environment of the host)" in bounded.err


OTHERS = (
    labs.HostSpec("amd1", gpus=2, gpu_tool="amd-smi"),
    labs.HostSpec("intel1", gpus=2, gpu_tool="xpu-smi"),
)


@pytest.mark.parametrize("own", [OTHERS], indirect=True)
def test_gpus_of_other_vendors_are_leased_and_watched(own: labs.Lab, launcher: Launcher) -> None:
    """AMD's by HIP_VISIBLE_DEVICES, Intel's by ZE_AFFINITY_MASK; a second run gets the other one."""
    launcher.inventory.write_text(_inventory(own))
    host = own.hosts["amd1"]
    hold = launcher.script(HOLD.replace("CUDA", "HIP").replace("'has'", "'has', os.getpid()"))
    first = launcher.start(
        "--hosts", "amd1", "--gpu-ids", "1", "--framework", "env", f"python3 {hold}"
    )
    try:
        pid, index = _line(first).split()[-2:]
        assert index == "1"
        second = launcher.run(
            "--hosts", "amd1", "--gpus", "1", "--framework", "env", "echo $HIP_VISIBLE_DEVICES"
        )
        assert second.out.split()[-1] == "0", second.err
        refused = launcher.run("--hosts", "amd1", "--gpus", "2", "--framework", "env", "true")
        assert "only 1 of 2 GPUs is free" in refused.err
        host.write("/run/fake-gpu-apps", f"{pid}, 1, 700\n".encode())
        found = list(launcher.home.glob("runs/*/events.jsonl"))
        labs.wait_until(
            lambda: any(b"GpusUsed" in one.read_bytes() for one in found), "a look at the GPUs", 60
        )
    finally:
        host.write("/tmp/go", b"")
        first.communicate(timeout=60)
    intel = launcher.run(
        "--hosts", "intel1", "--gpus", "1", "--framework", "env", "echo mask $ZE_AFFINITY_MASK"
    )
    assert "mask 0" in intel.out, intel.err
    checked = launcher.call("check", "-i", str(launcher.inventory), "--json", "--hosts", "intel1")
    assert "Fake GPU Max 1550" in checked.stdout, checked.stderr


@pytest.mark.parametrize("own", [FOUR], indirect=True)
def test_use_outside_launcher_is_seen_before_gpus_are_chosen(
    own: labs.Lab, launcher: Launcher
) -> None:
    """They are not free: the run says whose they are, waits for them, or shares them if it is told to."""
    launcher.inventory.write_text(_inventory(own))
    host = own.hosts["gpu1"]
    host.add_user("bob", "secret")
    pid = host.spawn("setpriv", "--reuid", "bob", "--clear-groups", "sleep", "1000")
    uuids = host.spec.gpu_uuids
    host.write("/run/fake-gpu-apps", f"{pid}, {uuids[0]}, 40960\n{pid}, {uuids[2]}, 0\n".encode())
    show = ("--framework", "env", "echo has $CUDA_VISIBLE_DEVICES")
    one = launcher.run("--gpus", "1", *show)
    assert "has 1\n" in one.out, one.err
    assert "GPU 0,2 are used outside launcher by " in one.err
    assert "left alone" in one.err
    refused = launcher.run("--gpus", "4", *show)
    assert refused.code == 75
    assert f"by bob (pid {pid} sleep, 40 GB, since " in refused.err
    assert "--ignore-foreign" in refused.err
    every = launcher.run("--gpus", "4", "--ignore-foreign", *show)
    assert "has 0,1,2,3" in every.out, every.err
    assert "taken all the same" in every.err
    waiting = launcher.start("--gpus", "4", "--wait", "forever", "--name", "waits", *show)
    try:
        found: list[Path] = []

        def waits() -> bool:
            found[:] = launcher.home.glob("runs/waits-*/events.jsonl")
            return bool(found) and b'"RunWaits"' in found[0].read_bytes()

        labs.wait_until(waits, "the run waits", 60)
        (events,) = found
        assert f"gpu1 GPU 0 by bob (pid {pid} sleep, ".encode() in events.read_bytes()
        queue = launcher.call("queue", "-i", str(launcher.inventory))
        assert "(not launcher)" in queue.stdout, queue.stderr
        host.write(gpu_tools.APPS, f"{pid}, {uuids[0]}, 40960\n".encode())
        host.write(gpu_tools.LOAD, b"1, 0, 30, 5000\n")
        labs.wait_until(lambda: b"by no process (5 GB)" in events.read_bytes(), "a new look", 60)
        host.write(gpu_tools.APPS, b"")
        host.write(gpu_tools.LOAD, b"")
        _, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, err
    finally:
        waiting.kill()
        waiting.communicate()
    host.write(gpu_tools.APPS, f"{pid}, {uuids[0]}, 40960\n{pid}, {uuids[2]}, 0\n".encode())
    shown = launcher.call("gpus", "-i", str(launcher.inventory))
    assert "4x Fake GPU 80 GB" in shown.stdout, shown.stderr
    assert "0,2 " in shown.stdout
    assert "40 GB (not launcher" in shown.stdout
    assert shown.stdout.endswith("4 GPUs, 2 free\n")


RACE = (labs.HostSpec("gpu1", gpus=2), labs.HostSpec("gpu2", gpus=1))


@pytest.mark.parametrize("own", [RACE], indirect=True)
def test_who_loses_the_race_for_gpus_takes_others(own: labs.Lab, launcher: Launcher) -> None:
    """First another one of the same host; then, where that has none left, one of another host."""
    launcher.inventory.write_text(_inventory(own))
    launcher.home.with_name("corpus").mkdir()
    (launcher.home.with_name("corpus") / "words").write_text("some")
    command = f"cat $LAUNCHER_DATA_CORPUS/words >&2 && exec python3 {launcher.script(HOLD)}"
    data = ("--data", f"corpus={launcher.home.with_name('corpus')}")
    hold = ("--gpus", "1", "--framework", "env", *data, command)
    running: list[subprocess.Popen[bytes]] = []

    def late(host: str, *more: str) -> subprocess.Popen[bytes]:
        """Plan for the first free GPU of a host, and be in the setup when it is taken: by a program that
        does not wait for its turn, as one of an earlier version."""
        slow = launcher.start("--setup", LONG_SETUP, *more, *hold)
        running.append(slow)
        there = own.hosts[host]
        labs.wait_until(lambda: there.exists("/tmp/in-setup"), "its setup", 60)
        there.write("/tmp/take.py", TAKE)
        there.spawn("python3", "/tmp/take.py")
        labs.wait_until(lambda: there.exists("/tmp/taken"), "the lock", 60)
        there.write("/tmp/setup-go", b"")
        return slow

    try:
        assert "has 1" in _line(late("gpu1", "--hosts", "gpu1"))
        own.hosts["gpu1"].write("/tmp/go", b"")
        for process in running:
            process.communicate(timeout=60)
        own.hosts["gpu1"].run("pkill", "-9", "-f", "take.py")
        labs.wait_until(
            lambda: b"@launcher/gpu/0" not in own.hosts["gpu1"].read("/proc/net/unix"), "the lock"
        )
        own.hosts["gpu1"].run("rm", "/tmp/go")
        moved = late("gpu2")
        assert "has 0" in _line(moved)
        own.hosts["gpu1"].write("/tmp/go", b"")
        _, shown = moved.communicate(timeout=60)
    finally:
        for host in own.hosts.values():
            host.write("/tmp/go", b"")
        for process in running:
            process.kill()
            process.communicate()
    assert moved.returncode == 0, shown.decode()
    assert b"gpu2: GPU 0 is in use by root (" in shown
    assert b"looking for other GPUs" in shown
    assert b"1 host, 1 rank: gpu2 [0] GPU 0" in shown
    assert b"1 host, 1 rank: gpu1 [0] GPU 0" in shown


OFF = (labs.HostSpec("gpu1", gpus=2), labs.HostSpec("gpu2", gpus=1))


@pytest.mark.parametrize("own", [OFF], indirect=True)
def test_a_host_that_is_off_keeps_nobody_waiting(own: labs.Lab, launcher: Launcher) -> None:
    """Whether its owner knows, and has written it down, or not."""
    launcher.inventory.write_text(_inventory(own))
    own.hosts["gpu2"].power_cut()
    show = ("--gpus", "1", "--framework", "env", "echo has $CUDA_VISIBLE_DEVICES")
    ran = launcher.run(*show)
    assert (ran.code, "has 0" in ran.out) == (0, True), ran.err
    # The kernel gives up after 3 s, too: either may be first.
    assert "gpu2 does not answer: continuing without" in ran.err or "gpu2: cannot reach" in ran.err
    named = yaml.safe_load(launcher.inventory.read_text())
    named["hosts"]["gpu2"] = {**(named["hosts"]["gpu2"] or {}), "off": "power supply"}
    launcher.inventory.write_text(yaml.safe_dump(named))
    silent = launcher.run(*show)
    assert (silent.code, "gpu2" in silent.err) == (0, False), silent.err
    refused = launcher.run("--hosts", "gpu2", *show)
    assert (refused.code, "gpu2 is off: power supply" in refused.err) == (2, True)
    shown = launcher.call("gpus", "-i", str(launcher.inventory))
    assert "off: power supply" in shown.stdout, shown.stderr
