"""The main job on real hosts: what arrives, what comes back, and what is said at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys

import pytest

from support import ROOT
from support import lab as labs
from support.command import Launcher


def test_ddp_trains_over_two_hosts_without_a_flag(launcher: Launcher, clean: labs.Lab) -> None:
    """Own names on loopback, interfaces named differently: parameters are equal on all ranks."""
    shutil.copytree(ROOT / "examples" / "ddp_digits", launcher.work / "ddp digits")
    ran = launcher.run(
        "--nodes", "2", "--nproc-per-node", "2", "ddp digits/train.py", "--epochs", "1"
    )
    assert ran.code == 0, ran.err
    assert ran.out.count("equal on all 4 ranks") >= 1
    for rank in range(4):
        assert b"equal on all 4 ranks" in ran.log(f"rank-{rank}.out")
    outputs = {output["path"] for output in ran.receipt["outputs"]}
    assert "checkpoint.pt" in outputs
    assert any(path.startswith("tensorboard/") for path in outputs)
    assert all(host["left"] == 0 and host["logs_complete"] for host in ran.receipt["hosts"])
    assert "succeeded" in ran.err
    assert "0 " in ran.err
    (recorded,) = launcher.home.glob("runs/*/packages.json")
    (installed,) = json.loads(recorded.read_text())["installed"]
    assert (installed["hosts"], "torch==" in " ".join(installed["packages"])) == (
        ["lab1", "lab2"],
        True,
    )


def test_unequal_hosts_behind_a_jump_on_another_port_with_another_python(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """1 and 3 processes; ranks are contiguous over hosts, and every rank reaches every other."""
    link = "/opt/our python/bin/python"
    clean.hosts["lab3"].run("mkdir", "-p", "/opt/our python/bin")
    wrapper = f'#!/bin/sh\nexec {sys.executable} "$@"\n'.encode()
    clean.hosts["lab3"].write(link, wrapper, 0o755)
    launcher.inventory.write_text(
        f"ssh_config: {clean.ssh_config}\n"
        "hosts:\n"
        f"  lab2: {{gpus: 1, python: {sys.executable}}}\n"
        f'  lab3: {{gpus: 3, python: "{link}"}}\n'
    )
    name = launcher.script(
        "import os, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "t = torch.tensor([float(dist.get_rank())])\n"
        "dist.all_reduce(t)\n"
        "print('sum', t.item(), os.environ['RANK'], os.environ['CUDA_VISIBLE_DEVICES'],\n"
        "      os.uname().nodename)\n"
        "dist.destroy_process_group()\n"
    )
    ran = launcher.run("--gpus", "4", name)
    assert ran.code == 0, ran.err
    assert ran.log("rank-0.out") == b"sum 6.0 0 0 lab2\n"
    for rank in (1, 2, 3):
        assert ran.log(f"rank-{rank}.out") == f"sum 6.0 {rank} 0,1,2 lab3\n".encode()
    hosts = {host["host"]: host for host in ran.receipt["hosts"]}
    assert hosts["lab3"]["ranks"] == [1, 2, 3]
    assert hosts["lab3"]["gpus"] == [0, 1, 2]


@pytest.mark.slow
def test_uv_in_front_of_torchrun_chooses_its_python(launcher: Launcher, clean: labs.Lab) -> None:
    """As READMEs have it. The hosts' own Python has no torch; each rank has a log of its own."""
    bare = os.path.realpath(sys.executable)
    launcher.inventory.write_text(labs.inventory(clean, bare))
    name = launcher.script(
        "import os, sys, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "t = torch.ones(1)\n"
        "dist.all_reduce(t)\n"
        "print('sum', t.item(), sys.prefix)\n"
        "dist.destroy_process_group()\n"
    )
    uv = f"{sys.prefix}/bin/uv run --no-project --offline"
    words = f"env VIRTUAL_ENV={sys.prefix} {uv} torchrun --nnodes 2 --nproc_per_node 1 {name}"
    ran = launcher.run(*words.split())
    assert ran.code == 0, ran.err
    assert ran.log("rank-0.out") == ran.log("rank-1.out") == f"sum 2.0 {sys.prefix}\n".encode()
    without = launcher.run("torchrun", "--nnodes", "2", name)
    assert without.code != 0 and "needs torch" in without.err, "as it is in front of nothing"


NASTY = [
    "two words",
    "it's",
    'say "hi"',
    "$HOME",
    "a\nb",
    "ünï→",
    "*",
    "",
    "\\",
    "`id`",
    "--flag=x y",
]


def test_arguments_and_values_arrive_exactly(launcher: Launcher, clean: labs.Lab) -> None:
    """Through our command line, ssh, sh, torchrun: a word is a word."""
    name = launcher.script(
        "import json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ['NASTY']]))\n",
        "my folder/it's $a script.py",
    )
    for framework, log in (
        ("torch", "rank-0.out"),
        ("torchrun", "rank-0.out"),
        ("env", "node-0.out"),
    ):
        shutil.rmtree(launcher.home, ignore_errors=True)
        words = [name, *NASTY] if framework != "env" else ["python3", name, *NASTY]
        ran = launcher.run("--framework", framework, "-e", "NASTY=" + "|".join(NASTY), *words)
        assert ran.code == 0, ran.err
        assert json.loads(ran.log(log)) == [NASTY, "|".join(NASTY)]


def test_setup_runs_once_on_every_host_and_its_failure_is_named(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """What setup leaves is there for the run; a failing one ends it with its own code."""
    name = launcher.script("print(open('prepared').read())")
    ran = launcher.run(
        "--nodes", "2", "--framework", "torch", "--setup", "echo $LAUNCHER_HOST >prepared", name
    )
    assert ran.code == 0, ran.err
    assert ran.log("rank-1.out") == b"lab2\n\n"
    shutil.rmtree(launcher.home)
    ran = launcher.run(
        "--nodes",
        "2",
        "--framework",
        "torch",
        "--setup",
        'if [ "$LAUNCHER_HOST" = lab2 ]; then echo no such wheel >&2; exit 9; fi',
        name,
    )
    assert ran.code == 9, ran.err
    assert ran.receipt["reason"] == "setup-exit-9"
    assert ran.receipt["failure"]["host"] == "lab2"
    assert "no such wheel" in ran.err


def test_outputs_of_all_hosts_come_back_and_never_overwrite(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Equal files once, different ones all; the job's own paths, too; nothing outside."""
    name = launcher.script(
        "import os, pathlib\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT_DIR'])\n"
        "host = os.environ['LAUNCHER_HOST']\n"
        "(out / 'same.txt').write_text('equal')\n"
        "(out / 'metrics.json').write_text(host)\n"
        "(out / f'only {host}.txt').write_text(host)\n"
        "pathlib.Path('ckpt').mkdir(exist_ok=True)\n"
        "pathlib.Path('ckpt/a.pt').write_text('x' * 100)\n"
        "os.symlink('/etc/passwd', out / 'link')\n"
    )
    ran = launcher.run("--nodes", "2", "--framework", "torch", "--output", "ckpt", name)
    assert ran.code == 0, ran.err
    outputs = ran.folder / "outputs"
    found = {
        p.relative_to(outputs).as_posix(): p.read_text() for p in outputs.rglob("*") if p.is_file()
    }
    assert found == {
        "same.txt": "equal",
        "metrics@lab1.json": "lab1",
        "metrics@lab2.json": "lab2",
        "only lab1.txt": "lab1",
        "only lab2.txt": "lab2",
        "ckpt/a.pt": "x" * 100,
    }
    listed = {o["path"]: (o["size"], o["hosts"]) for o in ran.receipt["outputs"]}
    assert listed["same.txt"] == (5, ["lab1", "lab2"])
    assert listed["metrics@lab2.json"] == (4, ["lab2"])


def test_a_run_keeps_its_snapshot_and_an_unchanged_one_is_linked(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """A later edit reaches only later runs; unchanged files are the same inodes on the host."""
    name = launcher.script("import helper; print(helper.word)")
    launcher.script("word = 'first'", "helper.py")
    launcher.script("ignored", "data/big.bin")
    launcher.script("data/\n", ".gitignore")
    first = launcher.run("--framework", "torch", "--nodes", "1", name)
    assert first.code == 0, first.err
    launcher.script("word = 'second, and longer'", "helper.py")
    names = {folder.name for folder in (launcher.home / "runs").iterdir()}
    second = launcher.run("--framework", "torch", "--nodes", "1", name)
    assert second.code == 0, second.err
    assert "second, and longer" in second.out
    (newer,) = {folder.name for folder in (launcher.home / "runs").iterdir()} - names
    (older,) = names
    runs = "/root/.launcher/host/runs"
    host = clean.hosts["lab1"]
    assert b"first" in host.read(f"{runs}/{older}/code/helper.py")
    inodes = [
        host.run("stat", "-c", "%i", f"{runs}/{run}/code/{name}").stdout for run in names | {newer}
    ]
    assert inodes[0] == inodes[1]
    assert not host.exists(f"{runs}/{newer}/code/data")


def test_an_edit_within_the_same_second_arrives(launcher: Launcher, clean: labs.Lab) -> None:
    """Also when its size is the same: that is all that rsync compares by itself."""
    for number in (1, 2):
        name = launcher.script(f"print('word {number}')\n")
        os.utime(launcher.work / name, ns=(0, 1_700_000_000_000_000_000 + number))
        ran = launcher.run("--framework", "torch", name)
        assert ran.code == 0, ran.err
        assert f"word {number}" in ran.out


def test_a_large_file_that_changes_a_little_arrives(launcher: Launcher, clean: labs.Lab) -> None:
    """And one that is only touched: rsync sends what differs from the version that is there."""
    data = "".join(f"line {number}\n" for number in range(20_000))
    name = launcher.script(
        "import hashlib, pathlib\n"
        "print(hashlib.sha256(pathlib.Path('data.txt').read_bytes()).hexdigest())\n"
    )
    for number, text in enumerate((data, data, f"{data}more\n", data.replace("line 77\n", "x\n"))):
        launcher.script(text, "data.txt")
        os.utime(launcher.work / "data.txt", (0, 1_700_000_000 + number))
        ran = launcher.run("--framework", "torch", name)
        assert ran.code == 0, ran.err
        assert hashlib.sha256(text.encode()).hexdigest() in ran.out


def test_outputs_come_back_during_the_run(launcher: Launcher, clean: labs.Lab) -> None:
    """Every so often, and only what is new; the rank goes on meanwhile."""
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/next", "/tmp/end")
    name = launcher.script(
        "import os, pathlib, time\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT_DIR'])\n"
        "for sign in ('next', 'end'):\n"
        "    (out / f'before-{sign}').write_text(sign)\n"
        "    while not pathlib.Path('/tmp', sign).exists():\n        time.sleep(0.02)\n"
    )
    process = launcher.start("--framework", "torch", "--pull-every", "200ms", name)
    try:
        for sign in ("next", "end"):
            wanted = f"runs/*/outputs/before-{sign}"
            labs.wait_until(lambda w=wanted: any(launcher.home.glob(w)), wanted, 30)
            assert process.poll() is None
            host.write(f"/tmp/{sign}", b"")
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.communicate()
